//! What one server's journal has told so far.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use neco_schema::journal::{Effect, Entry};
use neco_schema::{Lrn, NecoVersion, RequestId, Revision};

use super::state::State;
use super::trail::Trail;
use super::{Rules, Stamp};
use crate::JournalState;

/// One server beside etcd.
#[derive(Clone, Debug, Default)]
pub(super) struct Server {
    /// What follows from its journal.
    pub(super) journal: JournalState,
    /// Lines that wait for the log of etcd to catch up.
    pub(super) waiting: VecDeque<(Entry, Stamp)>,
    /// The version of the worker that writes the journal.
    pub(super) running: Option<NecoVersion>,
    /// Whether it has said that it is about to end: for a new binary, or because it was told to.
    pub(super) leaving: bool,
    /// Requests in which its worker died and came back.
    pub(super) came_back: BTreeSet<RequestId>,
    /// For requests that had ended: the views that allowed what it still began.
    pub(super) late: BTreeMap<RequestId, BTreeSet<Revision>>,
    /// Versions whose installation failed, with the request.
    pub(super) failed_installs: BTreeSet<(RequestId, NecoVersion)>,
}

impl Server {
    /// Takes in a line that has been judged.
    pub(super) fn apply(&mut self, entry: &Entry) {
        use neco_schema::journal::IntentEnd;
        match entry {
            Entry::ProcessStarted { version, .. } => {
                let running = |(id, state): (&RequestId, &crate::RequestState)| {
                    state.running.is_some().then(|| id.clone())
                };
                if !self.leaving {
                    self.came_back.extend(self.journal.requests.iter().filter_map(running));
                }
                self.leaving = false;
                self.running = Some(version.clone());
            }
            Entry::PlannedExit { .. } => self.leaving = true,
            Entry::IntentClosed { intent, end: IntentEnd::Failed { .. } } => {
                if let Some(open) = self.journal.intents.get(intent)
                    && let Effect::Install { to, .. } = &open.effect
                {
                    self.failed_installs.insert((open.request.clone(), to.clone()));
                }
            }
            _ => {}
        }
        self.journal.apply(entry);
    }
}

/// A journal line with everything it is judged by.
pub(super) struct Line<'a> {
    pub(super) lrn: Lrn,
    pub(super) entry: &'a Entry,
    pub(super) stamp: Stamp,
    pub(super) server: &'a Server,
    pub(super) state: &'a State,
    pub(super) rules: &'a Rules,
}

/// Something new that a journal line announces: for which request, and from which view it was allowed.
#[derive(Clone)]
pub(super) struct Begin {
    pub(super) request: RequestId,
    pub(super) view: Revision,
    pub(super) what: String,
}

impl Line<'_> {
    /// The revision of the view that allowed what the line announces.
    pub(super) fn view_of(entry: &Entry) -> Option<Revision> {
        match entry {
            Entry::StepBegun { revision, .. }
            | Entry::IntentBegun { revision, .. }
            | Entry::GroupOpened { revision, .. }
            | Entry::Effect { revision, .. } => Some(*revision),
            _ => None,
        }
    }

    /// What new thing the line begins; giving back what was taken is nothing new.
    pub(super) fn begins(&self) -> Option<Begin> {
        use neco_schema::journal::Phase;
        let (request, view, what) = match self.entry {
            Entry::StepBegun { request, step, revision, .. } => {
                (request.clone(), *revision, format!("began step {step}"))
            }
            Entry::GroupOpened { group, request, revision } => {
                (request.clone(), *revision, format!("opened group {group}"))
            }
            Entry::IntentBegun { intent, revision } => {
                let open = self.server.journal.intents.get(intent)?;
                let what = match &open.effect {
                    Effect::Restart { unit, .. } => format!("stopped {unit}"),
                    Effect::Install { to, .. } => format!("began to install {to}"),
                };
                (open.request.clone(), *revision, what)
            }
            Entry::Effect { request, what, phase: Phase::Begin, revision, .. } => {
                let journal = &self.server.journal;
                let gives_back = journal.groups.values().any(|open| open.request == *request)
                    || journal.intents.values().any(|open| open.begun);
                if gives_back {
                    return None;
                }
                (request.clone(), *revision, format!("began {what:?}"))
            }
            _ => return None,
        };
        Some(Begin { request, view, what })
    }

    /// The life of `request`, where the log knows it.
    pub(super) fn trail(&self, request: &RequestId) -> Option<&Trail> {
        self.state.trails.get(request)
    }

    /// The revision to name in a finding.
    pub(super) fn revision(&self) -> Revision {
        Self::view_of(self.entry).or(self.stamp.revision).unwrap_or(self.state.revision)
    }
}
