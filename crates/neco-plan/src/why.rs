//! Why nothing moves: what stands in the way, since when, and the command that takes it away.
//!
//! [`explain`] asks [`next_action`] what the leader waits for and looks for the servers, turns, groups and records
//! behind it. It is for people: nothing decides from it.

mod finder;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use neco_schema::{Lrn, Timestamp};
use serde::Serialize;

use crate::{Action, Elapsed, Limits, View, Waiting, aborted_releases, next_action};
use finder::Finder;

/// What is known beside the view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// What bounds the leader, its release window and what probes have found.
    pub limits: Limits,
    /// Whether any updater leads.
    pub led: bool,
    /// The wall clock.
    pub now: Timestamp,
    /// What workers say about themselves, where they could be asked; it is not in etcd.
    pub words: BTreeMap<Lrn, WorkerWord>,
    /// What the leading updater says about itself, where it could be asked; it is not in etcd.
    pub leader: Option<LeaderWord>,
}

/// What the leading updater says about itself on its status page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderWord {
    /// What was wrong with releases at its last look, which may have found one all the same; empty if nothing was.
    pub release_trouble: String,
    /// What it waits for; empty while it acts.
    pub waiting_for: String,
}

/// What a worker says about itself on its status page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerWord {
    /// Whether it does not believe etcd, or is kept from acting by its own knowledge: row 5 of the worker's table.
    pub distrusts: bool,
    /// Why it rests.
    pub why: String,
    /// Since when.
    pub since: Timestamp,
}

/// One thing that stands in the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Blocker {
    /// What sort of thing.
    pub kind: BlockerKind,
    /// What it is, in words.
    pub what: String,
    /// The boot servers it is about.
    pub servers: Vec<Lrn>,
    /// The step it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<u32>,
    /// The key it is about, relative to the prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Since when, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// What takes it away, in words.
    pub remedy: String,
    /// The command that takes it away, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// What sort of thing stands in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlockerKind {
    /// A record that cannot be read.
    Unreadable,
    /// A request of a kind that this version does not know.
    UnknownKind,
    /// A worker does not believe etcd: another cluster, a restored one, another machine of its number.
    Distrust,
    /// No updater leads.
    NoLeader,
    /// An operator paused everything.
    Pause,
    /// No release is known.
    NoRelease,
    /// The leader cannot look for releases, or something is wrong with what it finds.
    Releases,
    /// The request was stopped.
    Stopped,
    /// A server has not settled, or is busy.
    NotSettled,
    /// A server without a living worker.
    DeadServer,
    /// A server says of itself that something is wrong with it, such as a full disk.
    Unfit,
    /// The first server installs the package.
    FirstServer,
    /// Servers install the package.
    Install,
    /// Servers have not published what they would change.
    Plan,
    /// A server works on a step.
    Step,
    /// A living server holds a turn.
    Turn,
    /// A dead server holds a turn.
    DeadHolder,
    /// An outage group goes back.
    Group,
    /// Something must be right before a request is made.
    Preflight,
    /// The release window is closed.
    Window,
    /// The request for this version was aborted before.
    AbortedBefore,
    /// The version was withdrawn.
    Withdrawn,
    /// The leader is due to act.
    LeaderDue,
}

/// Everything that stands in the way, the most telling first; nothing if all is done.
pub fn explain(view: &View, around: &Circumstances) -> Vec<Blocker> {
    let action = due(view, &around.limits);
    let mut found = Finder::new(view, around);
    found.unreadable();
    found.distrust();
    let idle = matches!(action, Action::Wait(Waiting::Idle));
    if !around.led {
        found.no_leader();
    }
    found.releases();
    if view.is_paused() && !idle {
        found.pause();
    }
    match action {
        Action::Wait(Waiting::Idle) => {
            // All have completed what is due; this is newer, and nobody goes there by itself.
            for version in aborted_releases(view) {
                found.aborted_before(version);
            }
        }
        Action::Wait(waiting) => found.waiting(waiting),
        _ if !around.led => {}
        action => found.leader_due(&action),
    }
    found.turns(idle);
    found.groups();
    found.blockers
}

/// What the leader does once it has written down what only needs to be written down.
fn due(view: &View, limits: &Limits) -> Action {
    let mut view = view.clone();
    loop {
        match next_action(&view, limits, &Elapsed::default()) {
            Action::NoteSeen { version } => {
                let at = crate::Versioned {
                    value: neco_schema::Seen::default(),
                    mod_revision: view.revision,
                    create_revision: view.revision,
                };
                view.seen.insert(version, at);
            }
            Action::Record { request } => {
                let started_at = view.current().map(|current| current.started_at);
                view.history.insert((started_at.unwrap_or_default(), request), None);
            }
            action => return action,
        }
    }
}
