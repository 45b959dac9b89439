//! The cluster as the log has shown it so far.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use neco_schema::{
    Alive, Condition, ConfigKey, HistoryRecord, Key, KeyValue, Lrn, MemberPlan, NecoVersion,
    Outcome, Record, RequestId, Revision, Seen, Snapshot, Timestamp, Turn, UpdateRequest,
    UpdateStatus, stored_duration,
};

use super::Writer;
use super::event::Event;
use super::trail::Trail;
use crate::{Slot, Versioned, View};

/// A turn that somebody held, from its first revision to the one that deleted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) lrn: Lrn,
    pub(super) from: Revision,
    pub(super) until: Option<Revision>,
    /// Whether an operator released it.
    pub(super) by_operator: bool,
    /// Whether that was done although the holder lived.
    pub(super) by_force: bool,
}

/// The cluster before the event that is being judged.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// The first revision that the log tells about.
    pub(super) first: Revision,
    /// The last one.
    pub(super) revision: Revision,
    pub(super) kvs: BTreeMap<String, KeyValue>,
    pub(super) request: Slot<UpdateRequest>,
    pub(super) statuses: BTreeMap<Lrn, Versioned<UpdateStatus>>,
    pub(super) alive: BTreeMap<Lrn, Versioned<Alive>>,
    pub(super) plans: BTreeMap<Lrn, MemberPlan>,
    pub(super) turns: BTreeMap<String, Turn>,
    pub(super) withdrawn: BTreeSet<NecoVersion>,
    pub(super) seen: BTreeMap<NecoVersion, Seen>,
    pub(super) history: BTreeSet<(Timestamp, RequestId)>,
    /// The candidates for leadership, with their create-revisions.
    pub(super) candidates: BTreeMap<String, Revision>,
    /// Those of the original's updaters.
    go_candidates: BTreeSet<String>,
    /// Whether the log shows elections at all.
    pub(super) shows_elections: bool,
    /// Servers that a worker of ours has written for.
    pub(super) ours: BTreeSet<Lrn>,
    /// Servers that are known to run the original's worker.
    pub(super) go_peers: BTreeSet<Lrn>,
    /// Every request of the log.
    pub(super) trails: BTreeMap<RequestId, Trail>,
    /// The one in force.
    pub(super) current: Option<RequestId>,
    /// When each server was registered (`true`) and left.
    registrations: BTreeMap<Lrn, Vec<(Revision, bool)>>,
    /// Every pause, from and until.
    pub(super) pauses: Vec<(Revision, Option<Revision>)>,
    /// Everybody who held a turn.
    pub(super) held: BTreeMap<String, Vec<Held>>,
    /// The time, where the harness tells it.
    pub(super) now: Option<Duration>,
}

impl State {
    /// The state of a log that begins with `snapshot`.
    pub(super) fn start_from(snapshot: &Snapshot) -> Self {
        let mut state = Self::default();
        for kv in snapshot.kvs.values() {
            state.put(kv);
        }
        if let Slot::Present(current) = &state.request {
            let trail = state.trail_before(current);
            state.current = Some(trail.id.clone());
            state.trails.insert(trail.id.clone(), trail);
        }
        (state.first, state.revision) = (snapshot.revision, snapshot.revision);
        state
    }

    /// What the request in force, published before the log, has left behind.
    fn trail_before(&self, current: &Versioned<UpdateRequest>) -> Trail {
        let request = &current.value;
        let mut trail = Trail::new(request, Revision(0), None);
        trail.stopped_at = request.stop.then_some(current.mod_revision);
        for (lrn, status) in &self.statuses {
            if status.value.belongs_to(&trail.id, &request.version) {
                trail.seed(*lrn, &status.value, status.mod_revision);
            }
        }
        let has_left = |lrn: &Lrn| {
            !self.registrations.is_empty()
                && !self.registrations.contains_key(lrn)
                && !self.statuses.contains_key(lrn)
        };
        trail.left_before = request.members().into_iter().filter(has_left).collect();
        let record = Key::History(request.started_at, trail.id.clone()).to_string();
        if let Some(kv) = self.kvs.get(&record)
            && HistoryRecord::decode(&kv.value)
                .is_ok_and(|record| record.outcome == Outcome::Completed)
        {
            trail.finished_at.get_or_insert(kv.mod_revision);
        }
        trail
    }

    /// Whether a worker of ours runs on `lrn`, as far as the log tells: one of the original may have taken its place.
    pub(super) fn runs_ours(&self, lrn: Lrn) -> bool {
        self.ours.contains(&lrn) && self.alive.contains_key(&lrn)
    }

    /// The request in force.
    pub(super) fn trail(&self) -> Option<&Trail> {
        self.trails.get(self.current.as_ref()?)
    }

    /// Whether the log knows what held at `revision`.
    pub(super) fn covers(&self, revision: Revision) -> bool {
        self.first <= revision
    }

    /// Whether `lrn` was registered at `revision`; `None` when the log has never shown it.
    pub(super) fn was_registered(&self, lrn: Lrn, revision: Revision) -> Option<bool> {
        let changes = self.registrations.get(&lrn)?;
        Some(changes.iter().rev().find(|(at, _)| *at <= revision).is_some_and(|(_, there)| *there))
    }

    /// The begin of the pause that was in force at `revision`.
    pub(super) fn pause_at(&self, revision: Revision) -> Option<Revision> {
        self.pauses
            .iter()
            .find(|(from, until)| *from <= revision && until.is_none_or(|until| revision < until))
            .map(|(from, _)| *from)
    }

    /// The deadline that an operator has set under `key`, else `unless_set`.
    pub(super) fn deadline(&self, key: ConfigKey, unless_set: Duration) -> Duration {
        let set = self.kvs.get(&Key::Config(key).to_string());
        set.and_then(|kv| stored_duration(key, &kv.value).ok()).unwrap_or(unless_set)
    }

    /// Whether `lrn` held the turn `name` at `revision`.
    pub(super) fn held_turn(&self, name: &str, lrn: Lrn, revision: Revision) -> bool {
        self.held.get(name).is_some_and(|held| {
            held.iter().any(|held| {
                held.lrn == lrn
                    && held.from <= revision
                    && held.until.is_none_or(|until| revision < until)
            })
        })
    }

    /// Whether an updater of the original leads: it has a deadline by the wall clock only, and knows nothing of `control/`.
    pub(super) fn go_leads(&self) -> bool {
        let oldest = self.candidates.iter().min_by_key(|(_, created)| **created);
        oldest.is_some_and(|(name, _)| self.go_candidates.contains(name))
    }

    /// Whether the turn `name` was taken from `lrn` by force, and `lrn` has not taken it again.
    pub(super) fn lost_turn_by_force(&self, name: &str, lrn: Lrn) -> bool {
        let held = self.held.get(name).into_iter().flatten();
        held.rev().find(|held| held.lrn == lrn).is_some_and(|held| held.by_force)
    }

    /// Whether an operator released the turn `name` of `lrn` after `since`, and `lrn` has not taken it again.
    pub(super) fn lost_turn_to_operator(&self, name: &str, lrn: Lrn, since: Revision) -> bool {
        let held = self.held.get(name).into_iter().flatten();
        let last = held.rev().find(|held| held.lrn == lrn);
        last.is_some_and(|last| last.by_operator && last.until.is_some_and(|until| until > since))
    }

    /// The whole, as decisions see it.
    pub(super) fn view(&self) -> View {
        View::assemble(&Snapshot { revision: self.revision, cluster_id: 0, kvs: self.kvs.clone() })
    }

    /// Moves on to what holds after `event`.
    pub(super) fn apply(&mut self, event: &Event) {
        let by_force = event.writer() == Some(Writer::Operator { forced: true });
        // Nobody else writes into the book of orders.
        let ordered = event.changes.iter().any(|change| matches!(change.key, Some(Key::Order(_))));
        let by_operator = ordered || matches!(event.writer(), Some(Writer::Operator { .. }));
        for change in event.changes.iter().filter(|change| change.is_deleted()) {
            if let Some(Key::Turn(name)) = &change.key
                && let Some(last) = self.held.get_mut(name).and_then(|held| held.last_mut())
            {
                (last.by_operator, last.by_force) = (by_operator, by_force);
            }
            self.delete(&change.name, change.key.as_ref(), event.revision);
        }
        for kv in event.changes.iter().filter_map(|change| change.after.as_ref()) {
            self.put(kv);
            if event.writer() == Some(Writer::Go) && self.candidates.contains_key(&kv.key) {
                self.go_candidates.insert(kv.key.clone());
            }
        }
        if let Some(change) = event.request() {
            self.follow_request(change.after.as_ref(), change.deleted, event.revision);
        }
        for put in event.statuses() {
            let current = self.current.as_ref().and_then(|id| self.trails.get_mut(id));
            if let Some(trail) = current
                && put.after.belongs_to(&trail.id, &trail.request.version)
            {
                trail.take(put.lrn, &put.after, event.revision, false);
            }
        }
        self.revision = event.revision;
    }

    /// Counts how often members went on after an abort, and in a pause.
    pub(super) fn note_who_went_on(&mut self, event: &Event) {
        let pause = self.pause_at(event.revision);
        let Some(trail) = self.current.as_ref().and_then(|id| self.trails.get_mut(id)) else {
            return;
        };
        for put in event.statuses() {
            if !matches!(put.after.cond, Condition::Running | Condition::Complete) {
                continue;
            }
            let aborted = trail.aborted_at.filter(|aborted| *aborted < event.revision);
            for since in aborted.into_iter().chain(pause) {
                *trail.went_on.entry((put.lrn, since)).or_default() += 1;
            }
        }
    }

    fn follow_request(&mut self, after: Option<&UpdateRequest>, deleted: bool, revision: Revision) {
        let id = after.map(UpdateRequest::id);
        if !deleted && id.is_none() {
            // Unreadable: nobody acts on it, nobody has ended it.
            return;
        }
        if self.current != id
            && let Some(trail) = self.current.take().and_then(|id| self.trails.get_mut(&id))
        {
            trail.ended_at.get_or_insert(revision);
        }
        self.current = id.clone();
        let (Some(request), Some(id)) = (after, id) else { return };
        let (now, statuses) = (self.now, &self.statuses);
        let trail = self.trails.entry(id).or_insert_with(|| {
            let mut trail = Trail::new(request, revision, now);
            for (lrn, status) in statuses {
                if status.value.belongs_to(&trail.id, &request.version) {
                    trail.take(*lrn, &status.value, revision, true);
                }
            }
            trail
        });
        if request.stop {
            trail.stopped_at.get_or_insert(revision);
        }
    }

    fn put(&mut self, kv: &KeyValue) {
        self.kvs.insert(kv.key.clone(), kv.clone());
        let Ok(key) = kv.key.parse::<Key>() else { return };
        let at = kv.mod_revision;
        match key {
            Key::Request => {
                self.request = match UpdateRequest::decode(&kv.value) {
                    Ok(request) => Slot::Present(versioned(kv, request)),
                    Err(error) => Slot::Unreadable { mod_revision: at, error: error.to_string() },
                }
            }
            Key::Status(lrn) => {
                self.statuses.remove(&lrn);
                if let Ok(status) = UpdateStatus::decode(&kv.value) {
                    if status.request.is_some() {
                        self.ours.insert(lrn);
                    }
                    self.statuses.insert(lrn, versioned(kv, status));
                }
            }
            Key::Alive(lrn) => {
                self.ours.insert(lrn);
                if let Ok(alive) = Alive::decode(&kv.value) {
                    self.alive.insert(lrn, versioned(kv, alive));
                }
            }
            Key::Plan(lrn) => {
                if let Ok(plan) = MemberPlan::decode(&kv.value) {
                    self.plans.insert(lrn, plan);
                }
            }
            Key::Turn(name) => {
                if let Ok(turn) = Turn::decode(&kv.value) {
                    let held = self.held.entry(name.clone()).or_default();
                    if let Some(last) = held.last_mut().filter(|last| last.until.is_none())
                        && last.lrn != turn.lrn
                    {
                        last.until = Some(at);
                    }
                    if held.last().is_none_or(|last| last.until.is_some()) {
                        held.push(Held {
                            lrn: turn.lrn,
                            from: at,
                            until: None,
                            by_operator: false,
                            by_force: false,
                        });
                    }
                    self.turns.insert(name, turn);
                }
            }
            Key::Seen(version) => {
                self.seen.insert(version, Seen::decode(&kv.value).unwrap_or_default());
            }
            Key::Withdrawn(version) => {
                self.withdrawn.insert(version);
            }
            Key::History(time, id) => {
                self.history.insert((time, id));
            }
            Key::Candidate { election, .. } if election == "updater" => {
                self.shows_elections = true;
                self.candidates.insert(kv.key.clone(), kv.create_revision);
            }
            Key::BootServer(lrn) => self.registrations.entry(lrn).or_default().push((at, true)),
            Key::Pause if self.pauses.last().is_none_or(|(_, until)| until.is_some()) => {
                self.pauses.push((at, None));
            }
            _ => {}
        }
    }

    fn delete(&mut self, name: &str, key: Option<&Key>, at: Revision) {
        self.kvs.remove(name);
        match key {
            Some(Key::Request) => self.request = Slot::Absent,
            Some(Key::Status(lrn)) => drop(self.statuses.remove(lrn)),
            Some(Key::Alive(lrn)) => drop(self.alive.remove(lrn)),
            Some(Key::Plan(lrn)) => drop(self.plans.remove(lrn)),
            Some(Key::Turn(name)) => {
                self.turns.remove(name);
                if let Some(last) = self.held.get_mut(name).and_then(|held| held.last_mut()) {
                    last.until.get_or_insert(at);
                }
            }
            Some(Key::Seen(version)) => drop(self.seen.remove(version)),
            Some(Key::Withdrawn(version)) => drop(self.withdrawn.remove(version)),
            Some(Key::History(time, id)) => drop(self.history.remove(&(*time, id.clone()))),
            Some(Key::Candidate { .. }) => {
                self.candidates.remove(name);
                self.go_candidates.remove(name);
            }
            Some(Key::BootServer(lrn)) => {
                self.registrations.entry(*lrn).or_default().push((at, false));
            }
            Some(Key::Pause) => {
                if let Some((_, until)) = self.pauses.last_mut() {
                    until.get_or_insert(at);
                }
            }
            _ => {}
        }
    }
}

fn versioned<T>(kv: &KeyValue, value: T) -> Versioned<T> {
    Versioned { value, mod_revision: kv.mod_revision, create_revision: kv.create_revision }
}
