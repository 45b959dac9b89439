//! What one request went through, by revisions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use neco_schema::{Condition, Lrn, RequestId, Revision, UpdateRequest, UpdateStatus};

use crate::GroupShape;

/// The life of one request.
#[derive(Clone, Debug)]
pub(super) struct Trail {
    /// As it was published.
    pub(super) request: UpdateRequest,
    /// Its identity.
    pub(super) id: RequestId,
    /// When it was published; 0 when that was before the log.
    pub(super) published_at: Revision,
    /// The same in time, where the harness tells time.
    pub(super) published_time: Option<Duration>,
    /// When it was first stopped.
    pub(super) stopped_at: Option<Revision>,
    /// When it was deleted or replaced.
    pub(super) ended_at: Option<Revision>,
    /// When the first member aborted.
    pub(super) aborted_at: Option<Revision>,
    /// When the last member completed it.
    pub(super) finished_at: Option<Revision>,
    /// When each member first stood at each step, running or complete.
    arrivals: BTreeMap<Lrn, BTreeMap<u32, Revision>>,
    /// The highest step each member has written itself.
    pub(super) highest: BTreeMap<Lrn, u32>,
    /// When each member completed it.
    pub(super) completed: BTreeMap<Lrn, Revision>,
    /// How often each member went on after the first abort and in each pause.
    pub(super) went_on: BTreeMap<(Lrn, Revision), u32>,
    /// The digest of the package that each member began to install.
    pub(super) packages: BTreeMap<Lrn, String>,
    /// Members that left before the log begins, and whose statuses went with them: how far they came is not known.
    pub(super) left_before: BTreeSet<Lrn>,
}

impl Trail {
    pub(super) fn new(request: &UpdateRequest, at: Revision, time: Option<Duration>) -> Self {
        Self {
            id: request.id(),
            request: request.clone(),
            published_at: at,
            published_time: time,
            stopped_at: request.stop.then_some(at),
            ended_at: None,
            aborted_at: None,
            finished_at: None,
            arrivals: BTreeMap::new(),
            highest: BTreeMap::new(),
            completed: BTreeMap::new(),
            went_on: BTreeMap::new(),
            packages: BTreeMap::new(),
            left_before: BTreeSet::new(),
        }
    }

    pub(super) fn members(&self) -> BTreeSet<Lrn> {
        self.request.members()
    }

    /// Takes in a status that belongs to this request. One that stood there `before` it was published, which only a
    /// Go worker's can, counts at the barrier as it does in the original, and for nothing else.
    pub(super) fn take(&mut self, lrn: Lrn, status: &UpdateStatus, at: Revision, before: bool) {
        if !self.request.is_member(lrn) {
            return;
        }
        match status.cond {
            Condition::Running | Condition::Complete => {
                let steps = self.arrivals.entry(lrn).or_default();
                for step in 1..=status.step {
                    steps.entry(step).or_insert(at);
                }
            }
            Condition::Abort if !before => {
                self.aborted_at.get_or_insert(at);
            }
            Condition::Abort | Condition::NotRunning | Condition::Other(_) => {}
        }
        if before {
            return;
        }
        let highest = self.highest.entry(lrn).or_default();
        *highest = status.step.max(*highest);
        if status.cond == Condition::Complete {
            self.completed.entry(lrn).or_insert(at);
            if self.completed.len() == self.members().len() {
                self.finished_at.get_or_insert(at);
            }
        }
    }

    /// Takes over what stood in etcd when the log began. When it came about is not known, and neither is what stood there
    /// before: who has closed its status at a step is taken to have come to it.
    pub(super) fn seed(&mut self, lrn: Lrn, status: &UpdateStatus, at: Revision) {
        let arrived_before = match status.cond {
            Condition::Running | Condition::Complete => status.step.saturating_sub(1),
            Condition::Abort | Condition::NotRunning => status.step,
            Condition::Other(_) => 0,
        };
        if self.request.is_member(lrn) {
            let steps = self.arrivals.entry(lrn).or_default();
            steps.extend((1..=arrived_before).map(|step| (step, Revision(0))));
        }
        self.take(lrn, status, at, false);
    }

    /// The members that did not stand at `step` yet at revision `at`.
    pub(super) fn missing_at(&self, step: u32, at: Revision) -> Vec<Lrn> {
        let stood = |lrn: &Lrn| {
            let arrived = self.arrivals.get(lrn).and_then(|steps| steps.get(&step));
            arrived.is_some_and(|arrived| *arrived <= at)
        };
        let missing = |lrn: &Lrn| !self.left_before.contains(lrn) && !stood(lrn);
        self.members().into_iter().filter(missing).collect()
    }

    /// The members that have not completed it.
    pub(super) fn incomplete(&self) -> Vec<Lrn> {
        let open = |lrn: &Lrn| !self.left_before.contains(lrn) && !self.completed.contains_key(lrn);
        self.members().into_iter().filter(open).collect()
    }

    /// Whether it was the request in force at revision `at`.
    pub(super) fn is_current_at(&self, at: Revision) -> bool {
        self.published_at <= at && self.ended_at.is_none_or(|ended| at < ended)
    }

    /// Whether it was stopped at revision `at`.
    pub(super) fn is_stopped_at(&self, at: Revision) -> bool {
        self.stopped_at.is_some_and(|stopped| stopped <= at)
    }

    /// Whether a member had aborted at revision `at`.
    pub(super) fn is_aborted_at(&self, at: Revision) -> bool {
        self.aborted_at.is_some_and(|aborted| aborted <= at)
    }

    /// Whether one of `groups` was open at revision `at`.
    pub(super) fn has_open_group_at(&self, groups: &[GroupShape], at: Revision) -> bool {
        let past = |step: u32| {
            self.missing_at(step + 1, at)
                .iter()
                .all(|lrn| self.completed.get(lrn).is_some_and(|completed| *completed <= at))
        };
        groups.iter().any(|group| self.missing_at(group.stop, at).is_empty() && !past(group.apply))
    }
}
