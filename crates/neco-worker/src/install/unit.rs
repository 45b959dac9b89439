//! The unit that installs: a copy of the old binary, which outlives the daemons it replaces.
//!
//! It takes everything it needs from the journal, and goes on where it was after a power cut. Its verdict closes the
//! intent: installed, or failed with the old package back in place.

use std::sync::Arc;
use std::time::Duration;

use neco_connect::one_line;
use neco_host::journal::JournalStore;
use neco_host::{Installed, PackageCache, PackageManager, Root, RunDetached, Unsigned};
use neco_plan::JournalState;
use neco_process::backoff::Backoff;
use neco_schema::journal::{Effect, Entry, IntentEnd, IntentId};
use neco_schema::{NecoVersion, PackageRef};

use super::UNIT;
use super::daemons::{Daemons, ready};
use super::fetch::verify_cached;
use super::stage::Stage;

/// Delays while the disk refuses the journal.
const WRITE_AGAIN: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
/// How often the journal is tried to be written before the unit gives up; it is started again then.
const WRITE_TRIES: u32 = 50;

/// The surroundings of the installing unit.
pub struct UnitSetup {
    /// The root of the file system.
    pub root: Root,
    /// The journal of this server.
    pub journal: Arc<dyn JournalStore>,
    /// Installs packages.
    pub packages: Arc<dyn PackageManager>,
    /// Where the packages lie.
    pub cache: PackageCache,
    /// Restarts daemons.
    pub daemons: Arc<dyn Daemons>,
    /// This unit's own engine, to disable it.
    pub detached: Arc<dyn RunDetached>,
    /// How long the new daemons may take to say that they run.
    pub ready_within: Duration,
    /// Whether packages without signature are allowed.
    pub unsigned: Unsigned,
}

struct Job {
    intent: IntentId,
    from: NecoVersion,
    to: NecoVersion,
    package: PackageRef,
    way_back: Option<String>,
}

/// Runs the unit: brings every begun installation of the journal to its verdict.
///
/// # Errors
/// The journal cannot be read or written; in words.
pub async fn run_unit(setup: &UnitSetup) -> Result<(), String> {
    while let Some(job) = next_job(setup)? {
        tracing::info!(from = %job.from, to = %job.to, "installing");
        let end = carry_out(setup, &job).await?;
        match &end {
            IntentEnd::Completed => tracing::info!(version = %job.to, "installed and running"),
            IntentEnd::Failed { cause } => tracing::error!(%cause, "not installed"),
            IntentEnd::Dropped => {}
        }
        write(setup, &[Entry::IntentClosed { intent: job.intent, end }]).await?;
    }
    setup.detached.disable(UNIT).await.map_err(|error| one_line(&error))
}

fn next_job(setup: &UnitSetup) -> Result<Option<Job>, String> {
    let records = setup.journal.entries().map_err(|error| one_line(&error))?;
    let state = JournalState::fold(records.iter().map(|record| &record.entry));
    let job =
        state.intents.into_iter().filter(|(_, open)| open.begun).find_map(|(intent, open)| {
            match open.effect {
                Effect::Install { from, to, package, way_back } => {
                    Some(Job { intent, from, to, package, way_back })
                }
                Effect::Restart { .. } => None,
            }
        });
    Ok(job)
}

async fn write(setup: &UnitSetup, entries: &[Entry]) -> Result<(), String> {
    let mut retry = WRITE_AGAIN.retry();
    loop {
        match setup.journal.append(entries) {
            Ok(()) => return Ok(()),
            Err(error) if retry.failures() >= WRITE_TRIES => return Err(one_line(&error)),
            Err(error) => {
                tracing::error!(error = %one_line(&error), "the journal cannot be written, trying again")
            }
        }
        tokio::time::sleep(retry.pause()).await;
    }
}

async fn carry_out(setup: &UnitSetup, job: &Job) -> Result<IntentEnd, String> {
    let mut stage = match Stage::load(&setup.root, &job.intent) {
        Some(stage) => stage,
        None => {
            let mut daemons = setup.daemons.running().await;
            // The worker asked for this and must be there afterwards, also if it just died.
            if !daemons.iter().any(|name| name == "neco-worker") {
                daemons.push("neco-worker".to_owned());
            }
            let stage = Stage { intent: job.intent.clone(), daemons, failed: None };
            stage.save(&setup.root).map_err(|error| one_line(&error))?;
            stage
        }
    };
    if stage.failed.is_none() {
        match forward(setup, job, &stage).await {
            Ok(()) => return Ok(IntentEnd::Completed),
            Err(cause) => {
                stage.failed = Some(cause);
                stage.save(&setup.root).map_err(|error| one_line(&error))?;
            }
        }
    }
    let cause = stage.failed.clone().unwrap_or_default();
    tracing::error!(%cause, "going back to {}", job.from);
    let cause = match back(setup, job, &stage).await {
        Ok(()) => cause,
        Err(why) => format!("{cause}; going back to {} failed too: {why}", job.from),
    };
    Ok(IntentEnd::Failed { cause })
}

async fn forward(setup: &UnitSetup, job: &Job, stage: &Stage) -> Result<(), String> {
    install(setup, &job.to, &job.package.file, Some(&job.package)).await?;
    let daemons = restart(setup, stage).await?;
    ready(setup.root.path(), &daemons, &job.to, setup.ready_within).await
}

async fn back(setup: &UnitSetup, job: &Job, stage: &Stage) -> Result<(), String> {
    let Some(file) = &job.way_back else {
        return Err("the request allowed to install without a way back".to_owned());
    };
    install(setup, &job.from, file, None).await?;
    let daemons = restart(setup, stage).await?;
    ready(setup.root.path(), &daemons, &job.from, setup.ready_within).await
}

/// Installs a package of the cache, unless exactly this version is installed already.
async fn install(
    setup: &UnitSetup,
    version: &NecoVersion,
    file: &str,
    pinned: Option<&PackageRef>,
) -> Result<(), String> {
    match setup.packages.installed("neco").await.map_err(|error| one_line(&error))? {
        Installed::Yes(installed) if installed == *version => return Ok(()),
        Installed::Broken { .. } => {
            if let Err(error) = setup.packages.repair().await {
                tracing::warn!(error = %one_line(&error), "the package manager could not be repaired");
            }
        }
        Installed::Yes(_) | Installed::No => {}
    }
    let package = verify_cached(&setup.root, &setup.cache, file, version, pinned, setup.unsigned)
        .await
        .map_err(|error| one_line(&error))?;
    setup.packages.install(&package).await.map_err(|error| one_line(&error))
}

/// Restarts the daemons that ran when the installation began, and those that came up since: at boot this unit may be
/// quicker than they are. Returns which.
async fn restart(setup: &UnitSetup, stage: &Stage) -> Result<Vec<String>, String> {
    let mut daemons = stage.daemons.clone();
    for daemon in setup.daemons.running().await {
        if !daemons.contains(&daemon) {
            daemons.push(daemon);
        }
    }
    for daemon in &daemons {
        setup.daemons.restart(daemon).await?;
    }
    Ok(daemons)
}
