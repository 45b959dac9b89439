//! The report as it changes: a picture that is drawn over itself on a terminal, appended lines elsewhere.

use std::collections::BTreeMap;
use std::fmt::Write;

use neco_schema::{Lrn, Timestamp};

use super::human::{condition, doing, step};
use super::{Report, ServerReport};
use crate::words::{bar, moment, span};

/// How wide a server's bar is.
const BAR: usize = 24;

/// A picture on a terminal that replaces the one before it.
#[derive(Debug, Default)]
pub struct Screen {
    lines: usize,
}

impl Screen {
    /// What to write so that the picture shows this report.
    pub fn redraw(&mut self, report: &Report, now: Timestamp) -> String {
        let picture = picture(report, now);
        let mut text = String::new();
        if self.lines > 0 {
            let _ = write!(text, "\u{1b}[{}A", self.lines);
        }
        // Everything below goes; long lines are cut at the edge instead of being wrapped, so that they can be counted.
        text.push_str("\r\u{1b}[J\u{1b}[?7l");
        for line in &picture {
            text.push_str(line);
            text.push('\n');
        }
        text.push_str("\u{1b}[?7h");
        self.lines = picture.len();
        text
    }
}

/// The lines of the picture: one for the update, one for each server.
pub fn picture(report: &Report, now: Timestamp) -> Vec<String> {
    let mut lines = vec![head(report, now)];
    let steps = report.request.as_ref().and_then(|request| request.steps);
    let name_width =
        report.servers.iter().map(|server| server.lrn.to_string().len()).max().unwrap_or(1);
    let steps_width =
        report.servers.iter().map(|server| step(server, steps).chars().count()).max().unwrap_or(0);
    for server in &report.servers {
        let mut line = format!("boot server {:<name_width$}", server.lrn);
        if let Some(steps) = steps {
            let _ = write!(line, "  {}", bar(done(server, steps), u64::from(steps), BAR));
        }
        let _ = write!(line, "  {:<steps_width$}", step(server, steps));
        let dead = if server.alive { "" } else { ", no living worker" };
        let _ = write!(line, "  {}{dead}", condition(server));
        let doing = doing(server);
        if !doing.is_empty() {
            let _ = write!(line, ": {doing}");
        }
        lines.push(line);
    }
    lines
}

/// The steps a server is through with.
fn done(server: &ServerReport, steps: u32) -> u64 {
    match (&server.condition, server.step) {
        (Some(condition), _) if condition == "completed" => u64::from(steps),
        (_, Some(step)) => u64::from(step.saturating_sub(1)),
        (_, None) => 0,
    }
}

fn head(report: &Report, now: Timestamp) -> String {
    let mut head = match &report.request {
        Some(request) => {
            let mut head = format!("update to {}: {}", request.version, report.state.word());
            if let Ok(seconds) = u64::try_from(now.seconds_since(request.started_at))
                && !request.started_at.is_zero()
            {
                let since = span(std::time::Duration::from_secs(seconds));
                let _ = write!(head, ", made {since} ago");
            }
            head
        }
        None => report.state.word().to_owned(),
    };
    if let Some(paused) = &report.paused {
        let _ = write!(head, "; paused by {}: {}", paused.by, paused.reason);
    }
    if report.leader.is_none() {
        head.push_str("; no updater leads");
    }
    head
}

/// What was told last, so that only news is told.
#[derive(Debug, Default)]
pub struct Trail {
    head: String,
    servers: BTreeMap<Lrn, String>,
}

impl Trail {
    /// One line for everything that is new since the last report.
    pub fn news(&mut self, report: &Report, now: Timestamp) -> Vec<String> {
        let mut news = Vec::new();
        let at = moment(now);
        let head = match &report.request {
            Some(request) => format!("update to {}: {}", request.version, report.state.word()),
            None => report.state.word().to_owned(),
        };
        let head = match &report.paused {
            Some(paused) => format!("{head}; paused by {}: {}", paused.by, paused.reason),
            None => head,
        };
        if head != self.head {
            news.push(format!("{at} {head}"));
            self.head = head;
        }
        let steps = report.request.as_ref().and_then(|request| request.steps);
        for server in &report.servers {
            let dead = if server.alive { "" } else { ", no living worker" };
            let doing = match &server.progress {
                Some(progress) => format!(": {}", progress.doing),
                None if server.message.is_empty() => String::new(),
                None => format!(": {}", server.message),
            };
            let line = format!(
                "boot server {}: step {}, {}{dead}{doing}",
                server.lrn,
                step(server, steps),
                condition(server)
            );
            if self.servers.get(&server.lrn) != Some(&line) {
                news.push(format!("{at} {line}"));
                self.servers.insert(server.lrn, line);
            }
        }
        self.servers.retain(|lrn, _| report.servers.iter().any(|server| server.lrn == *lrn));
        news
    }
}
