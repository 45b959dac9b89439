//! The report in the layout of the original's `neco status`, for scripts that read it.

use std::collections::BTreeSet;
use std::fmt::Write;

use neco_plan::{Slot, View};
use neco_process::exit::Failure;
use neco_schema::{Condition, Key, Lrn};

use crate::failure;
use crate::words::{moment, one_line};

/// The text; ends in a line feed.
///
/// # Errors
/// The request cannot be read.
pub fn text(view: &View) -> Result<String, Failure> {
    let mut text = format!("Boot servers: {}\nUpdate process\n", list(&view.registered));
    let request = match &view.request {
        Slot::Absent => {
            text.push_str("    status: clear\n");
            return Ok(text);
        }
        Slot::Unreadable { error, .. } => return Err(failure::malformed(Key::Request, error)),
        Slot::Present(request) => &request.value,
    };
    let id = request.id();
    let statuses: Vec<_> = view
        .statuses
        .iter()
        .map(|(lrn, status)| (lrn, &status.value))
        .filter(|(_, status)| status.belongs_to(&id, &request.version))
        .collect();
    let aborted = statuses.iter().any(|(_, status)| status.cond == Condition::Abort);
    let completed = request.members().iter().all(|member| {
        statuses.iter().any(|(lrn, status)| *lrn == member && status.cond == Condition::Complete)
    });
    let word = match (aborted, completed) {
        (true, _) => "aborted",
        (false, true) => "completed",
        (false, false) => "running",
    };
    let members: Vec<String> = request.servers.iter().map(ToString::to_string).collect();
    let _ = write!(
        text,
        "    status: {word}\n   version: {}\n   members: [{}]\n   started: {}\n",
        request.version,
        members.join(" "),
        moment(request.started_at),
    );
    for (lrn, status) in statuses {
        let _ = write!(
            text,
            "\nBoot server {lrn}\n    step: {}\n    condition: {}\n",
            status.step, status.cond
        );
        if !status.message.is_empty() {
            let _ = writeln!(text, "    message: {}", one_line(&status.message));
        }
    }
    Ok(text)
}

/// In the order of etcd's keys, by their text.
fn list(servers: &BTreeSet<Lrn>) -> String {
    let mut names: Vec<String> = servers.iter().map(ToString::to_string).collect();
    names.sort();
    format!("[{}]", names.join(" "))
}
