//! What must happen once faults have stopped: L1 to L6 and L8, and 31 and 42 as far as they are promises.
//!
//! Judged at the end of the log, and only if a harness has said when the faults stopped ([`Fact::FaultsEnded`]) and has
//! gone on for the bound after that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use neco_schema::{Condition, Key, Lrn, NecoVersion, RequestId, Revision};

use super::event::Event;
use super::server::Server;
use super::state::State;
use super::trail::Trail;
use super::verdict::Verdicts;
use super::{Change, Daemon, Fact, HowEnded, Rules};
use crate::words::named;
use crate::{choose_target, leader};

/// What facts have told so far, and when things happened.
#[derive(Clone, Debug, Default)]
pub(super) struct World {
    processes: BTreeMap<(Lrn, Daemon), BTreeMap<u64, NecoVersion>>,
    installed: BTreeMap<Lrn, NecoVersion>,
    digests: BTreeMap<(Lrn, NecoVersion), String>,
    window: Option<(bool, Option<Duration>)>,
    /// Where a unit was taken down and has not come back, and the revision that etcd had come to by then.
    taken_down: BTreeMap<String, BTreeMap<Lrn, Revision>>,
    quorum_lost: bool,
    /// When quorum came back for the last time.
    quorum_back: Option<Option<Duration>>,
    notices: BTreeSet<RequestId>,
    faults_ended: Option<Option<Duration>>,
    /// When the `alive` record of a server went.
    dead_since: BTreeMap<Lrn, Duration>,
    /// When the time of a request was last written.
    counted: BTreeMap<RequestId, Duration>,
    /// When the target or the state of the request last changed.
    last_turn_of_events: Option<Duration>,
}

impl World {
    /// The installed version, as facts tell.
    pub(super) fn installed(&self, lrn: Lrn) -> Option<&NecoVersion> {
        self.installed.get(&lrn)
    }

    /// The version of the worker that runs on `lrn`, as facts tell.
    pub(super) fn worker_version(&self, lrn: Lrn) -> Option<&NecoVersion> {
        self.processes.get(&(lrn, Daemon::Worker))?.values().next_back()
    }

    pub(super) fn runs_worker(&self, lrn: Lrn) -> bool {
        self.worker_version(lrn).is_some()
    }

    /// The digest of the package of `version` that is installed on `lrn`.
    pub(super) fn digest(&self, lrn: Lrn, version: &NecoVersion) -> Option<&String> {
        self.digests.get(&(lrn, version.clone()))
    }

    /// Whether the window is open, and since when it is so.
    pub(super) fn window(&self) -> Option<(bool, Option<Duration>)> {
        self.window
    }

    /// Where `unit` was taken down and has not come back, and as of which revision.
    pub(super) fn taken_down(&self, unit: &str) -> impl Iterator<Item = (Lrn, Revision)> {
        self.taken_down.get(unit).into_iter().flatten().map(|(lrn, at)| (*lrn, *at))
    }

    /// When the time of `request` was last written.
    pub(super) fn counted(&self, request: &RequestId) -> Option<Duration> {
        self.counted.get(request).copied()
    }

    pub(super) fn learn(&mut self, fact: &Fact, now: Option<Duration>, at: Revision) {
        match fact {
            Fact::Started { lrn, daemon, instance, version } => {
                let running = self.processes.entry((*lrn, *daemon)).or_default();
                running.insert(*instance, version.clone());
            }
            Fact::Ended { lrn, daemon, instance, .. } => {
                if let Some(running) = self.processes.get_mut(&(*lrn, *daemon)) {
                    running.remove(instance);
                }
            }
            Fact::Installed { lrn, version, sha256, .. } => {
                self.installed.insert(*lrn, version.clone());
                if let Some(sha256) = sha256 {
                    self.digests.insert((*lrn, version.clone()), sha256.clone());
                }
            }
            Fact::Found { lrn, version: Some(version) } => {
                let before = self.installed.insert(*lrn, version.clone());
                if before.as_ref() != Some(version) {
                    // Whose bits these are is not known.
                    self.digests.remove(&(*lrn, version.clone()));
                }
            }
            Fact::Found { lrn, version: None } => drop(self.installed.remove(lrn)),
            Fact::Window { open } if self.window.is_none_or(|(was, _)| was != *open) => {
                self.last_turn_of_events = now;
                self.window = Some((*open, now));
            }
            Fact::Service { lrn, unit, up, planned } => {
                let down = self.taken_down.entry(unit.clone()).or_default();
                if *up {
                    down.remove(lrn);
                } else if *planned {
                    down.insert(*lrn, at);
                }
            }
            Fact::Quorum { stands } => {
                if *stands && self.quorum_lost {
                    self.quorum_back = Some(now);
                }
                self.quorum_lost = !stands;
            }
            Fact::NoticeSent { request } => drop(self.notices.insert(request.clone())),
            Fact::FaultsEnded => self.faults_ended = Some(now),
            _ => {}
        }
    }

    /// Notes when things changed in etcd.
    pub(super) fn follow(&mut self, event: &Event, now: Option<Duration>) {
        let Some(now) = now else { return };
        for changed in &event.changes {
            match &changed.key {
                Some(Key::Alive(lrn)) if changed.is_deleted() => {
                    self.dead_since.insert(*lrn, now);
                }
                Some(Key::Alive(lrn)) => {
                    self.dead_since.remove(lrn);
                    self.last_turn_of_events = Some(now);
                }
                Some(Key::Clock(id)) if !changed.is_deleted() => {
                    self.counted.insert(id.clone(), now);
                }
                Some(
                    Key::Request
                    | Key::Status(_)
                    | Key::Release
                    | Key::Target
                    | Key::Pause
                    | Key::Withdrawn(_)
                    | Key::Seen(_)
                    | Key::BootServer(_),
                ) => self.last_turn_of_events = Some(now),
                _ => {}
            }
        }
    }
}

pub(super) fn judge_fact(
    fact: &Fact,
    world: &World,
    state: &State,
    rules: &Rules,
    verdicts: &mut Verdicts,
) {
    match fact {
        Fact::Time(_) => dead_members_are_noticed(state, world, rules, verdicts),
        // L8: who waits asks etcd a bounded number of times.
        Fact::Requests { lrn, daemon, per_minute } => {
            let allowed = rules.requests_per_minute;
            let wrong = (*per_minute > allowed).then(|| {
                format!("the {daemon:?} of boot server {lrn} asked etcd {per_minute} times in a minute, allowed are {allowed}")
            });
            verdicts.liveness(8, state.revision, &[], wrong);
        }
        // L4: no process gives up because etcd is away.
        Fact::Ended { lrn, daemon, how, .. } if world.quorum_lost => {
            let wrong = (*how == HowEnded::ByItself).then(|| {
                format!("the {daemon:?} of boot server {lrn} gave up while etcd had no quorum")
            });
            verdicts.liveness(4, state.revision, &[], wrong);
        }
        _ => {}
    }
}

const REQUEST: &str = "status/current";

/// The end of the log.
pub(super) fn judge_end(
    state: &State,
    servers: &BTreeMap<Lrn, Server>,
    world: &World,
    rules: &Rules,
    verdicts: &mut Verdicts,
) {
    let Some(ended) = world.faults_ended else { return };
    let waited = state.now.zip(ended).map(|(now, ended)| now.saturating_sub(ended));
    if waited.is_some_and(|waited| waited < rules.bound) {
        return;
    }
    let end = End { state, servers, world, rules };
    every_request_ends(&end, verdicts);
    crashed_workers_join_again(&end, verdicts);
    work_goes_on_after_quorum(&end, verdicts);
    turns_are_given_back(&end, verdicts);
    newer_release_is_started(&end, verdicts);
    withdrawn_is_stopped(&end, verdicts);
    notices_were_sent(&end, verdicts);
}

struct End<'a> {
    state: &'a State,
    servers: &'a BTreeMap<Lrn, Server>,
    world: &'a World,
    rules: &'a Rules,
}

impl End<'_> {
    /// The request in force, if it runs: neither finished nor stopped, and nothing is paused.
    fn running(&self) -> Option<&Trail> {
        running(self.state)
    }
}

fn running(state: &State) -> Option<&Trail> {
    let paused = state.pause_at(state.revision).is_some();
    let open = |trail: &&Trail| trail.finished_at.is_none() && trail.stopped_at.is_none();
    state.trail().filter(open).filter(|_| !paused)
}

/// L1: after the bound no request runs any more, every member that lives has closed a stopped one, and nobody has a group
/// open whose request is over.
fn every_request_ends(end: &End<'_>, verdicts: &mut Verdicts) {
    let state = end.state;
    if let Some(trail) = state.trail() {
        let wrong = end.running().map(|trail| format!("request {} has not ended", trail.id));
        verdicts.liveness(1, state.revision, &[REQUEST], wrong);
        if trail.stopped_at.is_some() && trail.finished_at.is_none() {
            let open: Vec<_> = trail
                .members()
                .into_iter()
                .filter(|lrn| state.alive.contains_key(lrn))
                .filter(|lrn| {
                    state.statuses.get(lrn).is_none_or(|status| {
                        !status.value.belongs_to(&trail.id, &trail.request.version)
                            || !status.value.is_closed()
                    })
                })
                .collect();
            let wrong = (!open.is_empty())
                .then(|| format!("{} never settled in request {}", named(open), trail.id));
            verdicts.liveness(1, state.revision, &[REQUEST], wrong);
        }
    }
    for (lrn, server) in end.servers.iter().filter(|(lrn, _)| state.alive.contains_key(lrn)) {
        let running = end.running().map(|trail| &trail.id);
        let left = server.journal.groups.iter().find(|(_, open)| Some(&open.request) != running);
        if let Some((group, _)) = left.filter(|_| state.pause_at(state.revision).is_none()) {
            let wrong =
                Some(format!("boot server {lrn} left group {group} open: its service stays down"));
            verdicts.liveness(1, state.revision, &[], wrong);
        }
    }
}

/// L2: a worker that crashed and came back neither blocks its request nor aborts it because of the crash.
fn crashed_workers_join_again(end: &End<'_>, verdicts: &mut Verdicts) {
    for (lrn, server) in end.servers {
        for id in &server.came_back {
            let Some(trail) = end.state.trails.get(id) else { continue };
            let state = server.journal.of(id);
            let status = end.state.statuses.get(lrn).map(|status| &status.value);
            let own_abort = status
                .filter(|status| status.request.as_ref() == Some(id))
                .filter(|status| status.cond == Condition::Abort)
                .and_then(|status| status.origin.as_ref())
                .is_some_and(|origin| origin.lrn == *lrn);
            let plans: BTreeSet<_> = end
                .state
                .plans
                .values()
                .filter(|plan| plan.request == *id)
                .map(|plan| &plan.recipe)
                .collect();
            let has_cause = state.failed.is_some() || state.crashes > 2 || plans.len() > 1;
            let runs = end.running().is_some_and(|running| running.id == *id);
            let lowest = trail.members().iter().filter_map(|lrn| trail.highest.get(lrn)).min();
            let blocks = runs && trail.highest.get(lrn) <= lowest;
            let wrong = if own_abort && !has_cause {
                Some(format!(
                    "boot server {lrn} aborted request {id} because its worker had been restarted"
                ))
            } else {
                blocks.then(|| {
                    format!("boot server {lrn} came back and did not go on with request {id}")
                })
            };
            verdicts.liveness(2, end.state.revision, &[REQUEST], wrong);
        }
    }
}

/// The members of `trail` that are dead, if nothing has happened for longer than `patience` since they died and the faults
/// ended.
fn dead_for(trail: &Trail, state: &State, world: &World, patience: Duration) -> Vec<Lrn> {
    let (Some(now), Some(Some(ended))) = (state.now, world.faults_ended) else { return Vec::new() };
    let quiet_since = world.last_turn_of_events.map_or(ended, |last| last.max(ended));
    let dead = |lrn: &Lrn| {
        let died = world.dead_since.get(lrn);
        died.is_some_and(|died| now.saturating_sub(quiet_since.max(*died)) > patience)
    };
    trail.members().into_iter().filter(dead).collect()
}

/// L3: a member that has been dead for longer than a step may take leads to a stop.
fn dead_members_are_noticed(state: &State, world: &World, rules: &Rules, verdicts: &mut Verdicts) {
    let Some(trail) = running(state).filter(|_| !state.go_leads()) else { return };
    let dead = dead_for(trail, state, world, rules.step_timeout + rules.grace);
    if !dead.is_empty() {
        let wrong = format!("{} died and request {} says nothing", named(dead), trail.id);
        verdicts.liveness(3, state.revision, &[REQUEST], Some(wrong));
    }
}

/// L3: the stop that a dead member leads to.
pub(super) fn judge_change(change: &Change<'_>, verdicts: &mut Verdicts) {
    let Some(request) = change.event.request() else { return };
    let stopped = request.after.as_ref().is_some_and(|after| after.stop);
    let Some(trail) = running(change.state).filter(|_| stopped) else { return };
    // Less than a step: it may have died after the step began.
    let patience = change.rules.step_timeout.saturating_sub(change.rules.grace);
    if !dead_for(trail, change.state, change.world, patience).is_empty() {
        verdicts.liveness(3, change.revision(), &[REQUEST], None);
    }
}

/// L4: after quorum came back the request that ran goes on to its end.
fn work_goes_on_after_quorum(end: &End<'_>, verdicts: &mut Verdicts) {
    let Some(_) = end.world.quorum_back.filter(|_| !end.world.quorum_lost) else { return };
    let wrong = end
        .running()
        .map(|trail| format!("request {} stands still since quorum came back", trail.id));
    verdicts.liveness(4, end.state.revision, &[REQUEST], wrong);
}

/// L5: no living server keeps a turn of a request that is over, so the next one gets it.
fn turns_are_given_back(end: &End<'_>, verdicts: &mut Verdicts) {
    let running = end.running().map(|trail| &trail.id);
    let given_back = end.state.held.values().flatten().filter(|held| held.until.is_some());
    given_back.for_each(|_| verdicts.liveness(5, end.state.revision, &[], None));
    for (name, turn) in &end.state.turns {
        let kept = end.state.alive.contains_key(&turn.lrn) && running != Some(&turn.request);
        let wrong =
            kept.then(|| format!("boot server {} keeps the turn {name} for nothing", turn.lrn));
        verdicts.liveness(5, end.state.revision, &[&format!("turn/{name}")], wrong);
    }
}

/// L6: a finished request is followed by the version that is due, within the time of a poll and the bound.
fn newer_release_is_started(end: &End<'_>, verdicts: &mut Verdicts) {
    let view = end.state.view();
    let Some(request) = view.current().filter(|request| leader::is_finished(&view, request)) else {
        return;
    };
    let Ok(goal) = choose_target(&view) else { return };
    let due = goal.version != request.version && goal.follows(request);
    let window = goal.manual || end.world.window.is_none_or(|(open, _)| open);
    let ready = request.members().iter().all(|lrn| {
        view.alive
            .get(lrn)
            .is_none_or(|alive| alive.value.busy.is_empty() && alive.value.unfit.is_empty())
            && (view.is_alive(*lrn) || !view.speaks_our_protocol(*lrn))
    });
    let patience = end.rules.poll + end.rules.grace;
    let since = end.world.last_turn_of_events;
    let waited = end.state.now.zip(since).is_none_or(|(now, since)| now - since > patience);
    let leads = !end.state.shows_elections || !end.state.candidates.is_empty();
    if view.is_paused() || !window || !ready || !leads || end.state.go_leads() {
        return;
    }
    let wrong = (due && waited)
        .then(|| format!("{} is due and was not started after {}", goal.version, request.version));
    verdicts.liveness(6, end.state.revision, &[REQUEST, "info/neco-release"], wrong);
}

/// 31: a running version that was withdrawn is stopped.
fn withdrawn_is_stopped(end: &End<'_>, verdicts: &mut Verdicts) {
    let Some(trail) = end.state.trail() else { return };
    if !end.state.withdrawn.contains(&trail.request.version) {
        return;
    }
    let wrong = end
        .running()
        .map(|trail| format!("{} was withdrawn and still runs", trail.request.version));
    verdicts.safety(31, end.state.revision, &[REQUEST], wrong);
}

/// 42: about every request in the history a notice was sent.
fn notices_were_sent(end: &End<'_>, verdicts: &mut Verdicts) {
    if !end.rules.notices {
        return;
    }
    for (_, id) in &end.state.history {
        let sent = end.world.notices.contains(id);
        let wrong = (!sent).then(|| format!("no notice was sent about request {id}"));
        verdicts.safety(42, end.state.revision, &[], wrong);
    }
}
