//! The report as text.

use std::fmt::Write;

use neco_schema::Timestamp;

use super::{Notice, Progress, Report, ServerReport, State};
use crate::words::{ago, bar, bytes, since, table};

/// The report as text; ends in a line feed.
pub fn text(report: &Report, now: Timestamp) -> String {
    let mut text = table(&head(report, now));
    if !report.servers.is_empty() {
        text.push('\n');
        text.push_str(&table(&servers(report)));
    }
    if !report.turns.is_empty() {
        text.push_str("\nTurns\n");
        for turn in &report.turns {
            let dead = if turn.alive { "" } else { ", which has no living worker," };
            let since = since(turn.since, now);
            let _ = writeln!(
                text,
                "  {} is held by boot server {}{dead} since {since}",
                turn.name, turn.lrn
            );
        }
    }
    if !report.problems.is_empty() {
        text.push_str("\nProblems\n");
        for problem in &report.problems {
            let _ = writeln!(text, "  key {}: {}; {}", problem.key, problem.error, problem.remedy);
        }
    }
    if !matches!(report.state, State::Clear | State::Completed) {
        text.push_str("\n'necoctl why' tells what stands in the way.\n");
    }
    text
}

fn row(name: &str, value: impl Into<String>) -> Vec<String> {
    vec![name.to_owned(), value.into()]
}

/// `by alice, 3m 2s ago: reason`.
fn order(notice: &Notice, now: Timestamp) -> String {
    let mut text = format!("by {}", if notice.by.is_empty() { "somebody" } else { &notice.by });
    if !notice.at.is_zero() {
        let _ = write!(text, ", {}", ago(notice.at, now));
    }
    if !notice.reason.is_empty() {
        let _ = write!(text, ": {}", notice.reason);
    }
    text
}

fn head(report: &Report, now: Timestamp) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    match &report.request {
        Some(request) => {
            rows.push(row("Update", format!("to {}: {}", request.version, report.state.word())));
            let kind = request.kind.as_deref().unwrap_or("made by the original");
            let started = since(request.started_at, now);
            rows.push(row("Request", format!("{} ({kind}), since {started}", request.id)));
            if let Some(note) = &request.stopped {
                rows.push(row("Stopped", order(note, now)));
            } else if request.stop {
                rows.push(row("Stopped", "by a leader that gave no reason"));
            }
        }
        None => rows.push(row("Update", report.state.word())),
    }
    let release = report.release.as_ref().map_or("none is known", |release| release.as_str());
    rows.push(row("Release", release));
    if let Some(trouble) = &report.release_trouble {
        rows.push(row("Trouble", format!("no newer release is found: {trouble}")));
    }
    if let Some(target) = &report.target {
        let notice = Notice {
            version: None,
            by: target.by.clone(),
            reason: target.reason.clone(),
            at: target.at,
        };
        let pinned = if target.pinned { "pinned " } else { "" };
        rows.push(row("Target", format!("{}, {pinned}{}", target.version, order(&notice, now))));
    }
    if let Some(paused) = &report.paused {
        rows.push(row("Paused", order(paused, now)));
    }
    for withdrawn in &report.withdrawn {
        let version = withdrawn.version.as_ref().map(ToString::to_string).unwrap_or_default();
        rows.push(row("Withdrawn", format!("{version} {}", order(withdrawn, now))));
    }
    for version in &report.aborted {
        let said = "its update was aborted; it is not chosen again by itself";
        rows.push(row("Not taken", format!("{version}: {said}")));
    }
    let others = match report.candidates.as_slice() {
        [] => String::new(),
        others => format!(" (then {})", others.join(", ")),
    };
    let leader = report.leader.as_deref().unwrap_or("none: no updater leads");
    rows.push(row("Leader", format!("{leader}{others}")));
    rows
}

fn servers(report: &Report) -> Vec<Vec<String>> {
    let title = ["SERVER", "ALIVE", "RUNS", "STEP", "CONDITION", "DOING"];
    let mut rows = vec![title.map(str::to_owned).to_vec()];
    let steps = report.request.as_ref().and_then(|request| request.steps);
    for server in &report.servers {
        rows.push(vec![
            server.lrn.to_string(),
            if server.alive { "yes" } else { "no" }.to_owned(),
            server.version.as_ref().map_or("-", |version| version.as_str()).to_owned(),
            step(server, steps),
            condition(server).to_owned(),
            doing(server),
        ]);
    }
    rows
}

/// `5/18 serf`.
pub(super) fn step(server: &ServerReport, steps: Option<u32>) -> String {
    let Some(step) = server.step else { return "-".to_owned() };
    let of = steps.map_or_else(String::new, |steps| format!("/{steps}"));
    let name = server.step_name.as_deref().map_or_else(String::new, |name| format!(" {name}"));
    format!("{step}{of}{name}")
}

/// How a server stands.
pub(super) fn condition(server: &ServerReport) -> &str {
    match &server.condition {
        Some(condition) => condition,
        None if !server.member => "no member",
        None => "not begun",
    }
}

/// What a server does, or why it does not.
pub(super) fn doing(server: &ServerReport) -> String {
    let mut parts = Vec::new();
    if let Some(progress) = &server.progress {
        parts.push(progress_text(progress));
    }
    if !server.message.is_empty() {
        parts.push(server.message.clone());
    }
    if server.progress.is_none() && !server.busy.is_empty() {
        parts.push(format!("busy: {}", server.busy.join(", ")));
    }
    parts.extend(server.unfit.iter().map(|why| format!("not ready for an update: {why}")));
    if !server.registered {
        parts.push("not registered".to_owned());
    }
    parts.join("; ")
}

fn progress_text(progress: &Progress) -> String {
    let mut text = progress.doing.clone();
    match (progress.bytes, progress.total_bytes) {
        (Some(done), Some(total)) => {
            let bar = bar(done, total, 20);
            let _ = write!(text, " {bar} {} of {}", bytes(done), bytes(total));
        }
        (Some(done), None) => {
            let _ = write!(text, " {}", bytes(done));
        }
        _ => {}
    }
    if progress.attempt > 1 {
        let _ = write!(text, " (attempt {})", progress.attempt);
    }
    text
}
