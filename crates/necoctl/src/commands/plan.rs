//! `plan`: what an update would change.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use neco_plan::View;
use neco_process::exit::{ExitCode, Failure};
use neco_schema::{Lrn, NecoVersion, Snapshot};

use crate::cli::duration;
use crate::failure;
use crate::preview::{Report, ask, show};
use crate::session::Session;

/// Show what an update would change on each server, and change nothing.
///
/// The worker of every boot server fetches the package of the version, verifies it, and compares what it describes with what
/// is there: files, units, images, packages; services that would be down; steps that an older version cannot undo; how long
/// it might take. Files that not everybody may read are not shown, and in the others passwords and tokens are masked.
#[derive(Debug, Args)]
pub struct Plan {
    /// Of an update to this version [default: what would be updated to now]
    #[arg(long, value_name = "VERSION")]
    to: Option<NecoVersion>,
    #[command(flatten)]
    waiting: Waiting,
}

/// How long answers are waited for.
#[derive(Debug, Args)]
pub struct Waiting {
    /// How long to wait for the answers of the servers
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    wait: Duration,
}

impl Plan {
    /// Shows it.
    ///
    /// # Errors
    /// No version is known; etcd does not answer.
    pub async fn run(self, session: &mut Session<'_, '_>) -> Result<ExitCode, Failure> {
        let (snapshot, view) = session.look().await?;
        let version = match self.to {
            Some(version) => version,
            None => next_version(&view)?,
        };
        let report = look(session, &snapshot, &view, version, &self.waiting).await?;
        tell(session, &report)
    }
}

/// What the leader would go for now; the newest that is known, where it waits.
fn next_version(view: &View) -> Result<NecoVersion, Failure> {
    if let Ok(goal) = neco_plan::choose_target(view) {
        return Ok(goal.version);
    }
    let known = view.release.clone();
    known.ok_or_else(|| failure::nothing_yet("no release is known yet; name a version with --to"))
}

/// Asks every server what an update to `version` would change there.
///
/// # Errors
/// There is no boot server; etcd does not answer.
pub(crate) async fn look(
    session: &mut Session<'_, '_>,
    snapshot: &Snapshot,
    view: &View,
    version: NecoVersion,
    waiting: &Waiting,
) -> Result<Report, Failure> {
    let servers: BTreeSet<Lrn> = view.registered.clone();
    if servers.is_empty() {
        return Err(failure::nothing_yet("no boot server is registered yet"));
    }
    let answers = ask(session, view, &version, &servers, &servers, waiting.wait).await?;
    Ok(Report::new(version, answers, snapshot))
}

/// Writes the report; whether all is known, and nothing would keep the update from being done, is the exit code.
///
/// # Errors
/// The output is closed.
pub(crate) fn tell(session: &mut Session<'_, '_>, report: &Report) -> Result<ExitCode, Failure> {
    if session.io.is_json() {
        session.io.json(report)?;
    } else {
        show(session.io, report)?;
    }
    let failed = report
        .servers
        .iter()
        .any(|server| server.answer.as_ref().is_some_and(|answer| !answer.error.is_empty()));
    Ok(if failed || report.recipes.len() > 1 {
        ExitCode::No
    } else if report.servers.iter().any(|server| server.answer.is_none()) {
        ExitCode::Unknown
    } else {
        ExitCode::Done
    })
}
