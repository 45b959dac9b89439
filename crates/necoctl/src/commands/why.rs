//! `why`: what stands in the way.

use std::collections::BTreeMap;

use clap::Args;
use neco_connect::Settings;
use neco_host::{Root, identity};
use neco_plan::why::{Blocker, Circumstances, WorkerWord, explain};
use neco_plan::{Limits, Problem, View, Window, choose_target};
use neco_process::exit::{ExitCode, Failure};
use neco_releases::WindowState;
use neco_schema::{Key, Lrn, Timestamp};
use serde::Serialize;

use crate::session::Session;
use crate::status::stale::{Daemon, StaleReport, leader_word};
use crate::status::{Report, State};
use crate::words::{one_line, since};

/// Tell what stands in the way of an update, since when, and what takes it away.
///
/// Reads etcd, asks its members how they are, and asks the worker on this server.
#[derive(Debug, Args)]
pub struct Why {}

/// The answer, as JSON.
#[derive(Debug, Serialize)]
struct Answer {
    format: u32,
    revision: i64,
    state: State,
    blockers: Vec<Blocker>,
}

impl Why {
    /// Tells it.
    ///
    /// # Errors
    /// etcd does not answer; what is known without it is told first.
    pub async fn run(self, session: &mut Session<'_, '_>) -> Result<ExitCode, Failure> {
        let (snapshot, view) = match session.look().await {
            Ok(seen) => seen,
            Err(failure) => return Err(StaleReport::tell(session, failure).await?),
        };
        let now = (session.now)();
        let settings = Settings::read(&view.config);
        let around = Circumstances {
            limits: Limits {
                request: settings.worker_timeout,
                step: settings.step_timeout,
                window: window(&view, &settings, now),
                probes: probes(session, &view).await,
            },
            led: Report::new(&view, &snapshot, None).leader.is_some(),
            now,
            words: words(session).await,
            leader: leader_word(&session.root).await,
        };
        let blockers: Vec<Blocker> = explain(&view, &around).into_iter().map(printable).collect();
        let state = State::of(&view);
        let io = &mut *session.io;
        for problem in &settings.problems {
            io.remark(format_args!("warning: {problem}"));
        }
        let of_secrets = |problem: &&Problem| matches!(problem.key.parse(), Ok(Key::Config(_)));
        for problem in view.problems.iter().filter(of_secrets) {
            io.remark(format_args!("warning: {problem}"));
        }
        if io.is_json() {
            io.json(&Answer { format: 1, revision: view.revision.0, state, blockers })?;
            return Ok(ExitCode::Done);
        }
        if blockers.is_empty() {
            io.line("Nothing stands in the way: everything is up to date.")?;
        }
        for blocker in &blockers {
            let since = blocker
                .since
                .map_or_else(String::new, |at| format!("\n  since   {}", since(at, now)));
            io.line(format_args!("{}{since}\n  remedy  {}", blocker.what, blocker.remedy))?;
            if let Some(command) = &blocker.command {
                io.line(format_args!("  command {command}"))?;
            }
        }
        Ok(ExitCode::Done)
    }
}

/// Texts from etcd go to a terminal.
fn printable(blocker: Blocker) -> Blocker {
    Blocker {
        what: one_line(&blocker.what),
        key: blocker.key.as_deref().map(one_line),
        command: blocker.command.as_deref().map(one_line),
        ..blocker
    }
}

/// The release window of the target, as the leader sees it.
fn window(view: &View, settings: &Settings, now: Timestamp) -> Window {
    let Ok(goal) = choose_target(view) else { return Window::Open };
    let Some(windows) = &settings.windows else { return Window::Closed(None) };
    let seen = view.seen.get(&goal.version).map_or(now, |seen| seen.value.at);
    match windows.state(seen, now, settings.release_window) {
        WindowState::Open => Window::Open,
        WindowState::Closed { next } => Window::Closed(next),
    }
}

/// Members of etcd that are not well.
async fn probes(session: &Session<'_, '_>, view: &View) -> Vec<String> {
    match session.store.health().await {
        Ok(health) => {
            let troubles = neco_connect::etcd_troubles(&health, &view.registered);
            troubles.iter().map(|trouble| one_line(trouble)).collect()
        }
        Err(error) => vec![format!("the health of etcd is not known: {error}")],
    }
}

/// What the worker on this server says about itself.
async fn words(session: &Session<'_, '_>) -> BTreeMap<Lrn, WorkerWord> {
    let lrn = Root::new(&session.root).ok().and_then(|root| identity::lrn(&root).ok());
    let Some(lrn) = lrn else { return BTreeMap::new() };
    let daemon = Daemon::ask(&session.root, "neco-worker").await;
    let word = daemon.status.and_then(|page| {
        Some(WorkerWord {
            distrusts: page.get("row")?.as_u64()? == 5,
            why: page.get("waiting_for")?.as_str()?.to_owned(),
            since: page.get("since")?.as_str()?.parse().ok()?,
        })
    });
    word.map(|word| (lrn, word)).into_iter().collect()
}
