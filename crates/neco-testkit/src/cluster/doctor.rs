//! Brings a cluster to rest after the last fault, with the remedies that operators are told.

use std::collections::BTreeMap;
use std::time::Duration;

use neco_plan::invariants::Daemon;
use neco_plan::{Move, Rest, Waiting};
use neco_schema::{Key, Record as _, UpdateRequest};

use super::counts::Kind;
use super::fault::Quality;
use super::operator::{Command, Operator};
use super::step::turn_holder;
use super::{Bug, Cluster};

/// How many atomic actions a run may take to come to rest.
const ACTIONS: u64 = 30_000;
/// How many remedies it may need.
const REMEDIES: u32 = 30;
/// After how long a silence without remedy it is stuck: longer than every deadline. That of the original is an hour by a
/// wall clock that may be two hours behind the one by which the request was made.
const SILENCE: Duration = Duration::from_secs(4 * 3600);
/// After how long a silence is counted how often everybody asked etcd.
const MINUTE: Duration = Duration::from_secs(60);
/// Every lease of a dead process has run out after this.
const LEASES: Duration = Duration::from_secs(70);

impl Cluster {
    /// Ends all faults.
    pub fn end_faults(&mut self) {
        self.world.tell(|| "the faults end".to_owned());
        self.world.evidence.faults_ended();
        let now = self.world.now;
        self.world.outage_until = now;
        self.world.window_closed_until = now;
        self.world.trouble_until = now;
        self.world.lost_answers = 0;
        self.world.mend();
        self.boots.clear();
        for at in 0..self.world.hosts.len() {
            self.world.hosts[at].cut_until = now;
            if let Some(worker) = &mut self.workers[at] {
                worker.frozen_until = now;
            }
            self.boot(at);
            if std::mem::take(&mut self.world.hosts[at].other_recipe) {
                self.crash(at);
            }
        }
        for updater in &mut self.updaters {
            updater.frozen_until = now;
            updater.running = self.world.hosts[updater.at].powered;
        }
        self.world.machines_changed();
    }

    /// Lets everything come to rest; what is wrong if it does not.
    pub fn come_to_rest(&mut self) -> Result<(), String> {
        let mut remedies = 0;
        let mut actions = 0;
        let mut silent_since = self.world.now;
        let mut last = String::new();
        let mut waiting = None;
        let is_patient = self.is_patient();
        loop {
            let ready = self.ready();
            if !ready.is_empty() {
                let chosen = ready[self.world.random(ready.len())];
                self.act(chosen);
                actions += 1;
                if actions > ACTIONS {
                    return Err(format!("no end after {ACTIONS} actions: {}", self.who_waits()));
                }
                if self.world.one_in(8) {
                    self.pass(Duration::from_millis(500));
                }
                continue;
            }
            let state = self.who_waits();
            if state != last {
                (last, silent_since) = (state, self.world.now);
            }
            self.tell_requests(&mut waiting);
            let silence = self.world.now - silent_since;
            if silence >= LEASES {
                if self.is_done() {
                    self.world.evidence.over();
                    return Ok(());
                }
                if self.operators.is_empty()
                    && let Some(remedy) = self.remedy(is_patient)
                {
                    remedies += 1;
                    if remedies > REMEDIES {
                        return Err(format!("{REMEDIES} remedies did not help: {last}"));
                    }
                    self.apply_remedy(remedy);
                    silent_since = self.world.now;
                    continue;
                }
                if silence > SILENCE {
                    return Err(format!("stuck: {last}"));
                }
            }
            self.pass(Duration::from_secs(10));
        }
    }

    fn apply_remedy(&mut self, remedy: Remedy) {
        self.world.tell(|| format!("REMEDY {remedy:?}"));
        match remedy {
            Remedy::Release => {
                self.world.counts.add(Kind::Order, "remedy: newer release");
                self.release(Quality::Good, 1);
            }
            Remedy::Order(command) => {
                self.world.counts.add(Kind::Order, &format!("remedy: {}", command.name()));
                let operator = Operator::new(&self.world, command);
                self.operators.push(operator);
            }
        }
    }

    /// Whether operators wait until a leader has noticed that a member is dead. One of the original's takes long to.
    fn is_patient(&self) -> bool {
        self.updaters.iter().all(|updater| !updater.is_go)
            && self.world.event_hash().is_multiple_of(2)
    }

    /// Tells how often everybody asked etcd in a minute in which nothing changed that workers look at.
    fn tell_requests(&mut self, waiting: &mut Option<Wait>) {
        let tick = (self.world.tick.workers, self.world.tick.machines);
        if waiting.as_ref().is_none_or(|wait| wait.tick != tick) {
            let asked = self.world.requests.clone();
            *waiting = Some(Wait { tick, since: self.world.now, asked, told: false });
        }
        let Some(wait) = waiting.as_mut().filter(|wait| !wait.told) else { return };
        let waited = self.world.now - wait.since;
        if waited < MINUTE {
            return;
        }
        wait.told = true;
        for ((at, daemon), times) in &self.world.requests {
            let before = wait.asked.get(&(*at, *daemon)).copied().unwrap_or_default();
            let per_minute = (times - before) * MINUTE.as_secs() / waited.as_secs();
            let lrn = self.world.hosts[*at].lrn;
            self.world.evidence.requests(lrn, *daemon, per_minute);
        }
    }

    /// What operators are told to do about what is seen.
    fn remedy(&mut self, is_patient: bool) -> Option<Remedy> {
        let view = self.world.leader_view();
        let dead = self
            .world
            .hosts
            .iter()
            .find(|host| !host.powered && view.registered.contains(&host.lrn));
        if is_patient
            && dead.is_some()
            && matches!(self.leader_waits(), Some(Waiting::Workers { .. }))
            && !view.is_paused()
        {
            return None;
        }
        if let Some(dead) = dead {
            return Some(Remedy::Order(Command::Leave { lrn: dead.lrn, force: false }));
        }
        if view.is_paused() {
            return Some(Remedy::Order(Command::Resume));
        }
        if let Some(holder) = turn_holder(&self.world)
            && !view.is_alive(holder)
        {
            return Some(Remedy::Order(Command::ReleaseTurn { force: false }));
        }
        let distrusts = self.workers.iter().flatten().any(|worker| {
            matches!(
                worker.resting,
                Some(Move::Rest(
                    Rest::OtherCluster
                        | Rest::OlderRevision { .. }
                        | Rest::OlderEpoch { .. }
                        | Rest::Ended
                ))
            )
        });
        let recover = |force| Remedy::Order(Command::Recover { force, retry: true });
        if distrusts && view.current().is_some() {
            return Some(recover(true));
        }
        match self.leader_waits()? {
            Waiting::Recovery { .. } => {
                let request = view.current()?;
                let releases = &self.world.releases;
                let is_good = |version: &neco_schema::NecoVersion| {
                    releases.get(version).is_some_and(super::Release::is_good)
                        && !view.withdrawn.contains_key(version)
                };
                Some(if is_good(&request.version) {
                    recover(true)
                } else if view.target.value().is_some() {
                    Remedy::Order(Command::Unpin)
                } else if self.world.latest.as_ref().is_some_and(is_good) {
                    // A leader of the original does not leave a stopped request by itself.
                    recover(true)
                } else {
                    Remedy::Release
                })
            }
            Waiting::AbortedBefore { version } | Waiting::Withdrawn { version } => {
                let version = version.clone();
                let good = self.world.releases.get(&version).is_some_and(super::Release::is_good);
                let withdrawn = view.withdrawn.contains_key(&version);
                let pinned = view.target.value().is_some();
                Some(if pinned {
                    Remedy::Order(Command::Unpin)
                } else if good && !withdrawn {
                    Remedy::Order(Command::UpdateTo { version, downgrade: true })
                } else {
                    Remedy::Release
                })
            }
            Waiting::Preflight { problems }
                if problems.iter().any(|problem| problem.contains("newer than")) =>
            {
                // As the problem says: name the version that is to be gone back to, or publish a newer one.
                let target = view.target.value();
                let back = match (target, view.current()) {
                    (Some(target), _) if !target.allow_downgrade => Some(target.version.clone()),
                    (None, Some(request)) => Some(request.version.clone()),
                    _ => None,
                };
                Some(match back.filter(|_| self.world.event_hash().is_multiple_of(2)) {
                    Some(version) => Remedy::Order(Command::UpdateTo { version, downgrade: true }),
                    None if target.is_some() => Remedy::Order(Command::Unpin),
                    None => Remedy::Release,
                })
            }
            Waiting::Release => Some(Remedy::Release),
            _ => None,
        }
    }

    /// Whether everything is done and as it should be.
    fn is_done(&self) -> bool {
        matches!(self.leader_waits(), Some(Waiting::Idle)) && self.request_is_complete()
    }

    fn request_is_complete(&self) -> bool {
        let stored = self.world.etcd.get(&Key::Request.to_string());
        let request = stored.and_then(|kv| UpdateRequest::decode(&kv.value).ok());
        request.is_some_and(|request| !self.unfinished_members(&request))
    }

    fn unfinished_members(&self, request: &UpdateRequest) -> bool {
        request.members().into_iter().any(|lrn| {
            let stored = self.world.etcd.get(&Key::Status(lrn).to_string());
            let status = stored.and_then(|kv| neco_schema::UpdateStatus::decode(&kv.value).ok());
            status.is_none_or(|status| status.cond != neco_schema::Condition::Complete)
        })
    }

    /// What is left over although everything is done.
    pub fn leftovers(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (at, host) in self.world.hosts.iter().enumerate() {
            if !host.powered {
                continue;
            }
            let lrn = host.lrn;
            if let Some(worker) = &self.workers[at] {
                let journal = &worker.local.journal;
                found.extend(
                    journal.groups.keys().map(|group| format!("group {group} is open on {lrn}")),
                );
                found.extend(
                    journal
                        .intents
                        .keys()
                        .map(|intent| format!("intent {intent} is open on {lrn}")),
                );
            } else {
                found.push(format!("no worker runs on {lrn}"));
            }
            if self.is_registered(at) && !host.fresh {
                let stopped = host.units.iter().filter(|(_, unit)| unit.running.is_none());
                found.extend(stopped.map(|(unit, _)| format!("{unit} is stopped on {lrn}")));
            }
            if host.installer.is_some() {
                found.push(format!("an installation is under way on {lrn}"));
            }
        }
        if let Some(holder) = turn_holder(&self.world) {
            found.push(format!("the turn is held by {holder}"));
        }
        if self.world.bug == Some(Bug::OldSizeMajority) {
            let outside = |at: &&usize| !self.is_registered(**at);
            found.extend(
                self.world
                    .members
                    .iter()
                    .filter(outside)
                    .map(|at| format!("machine {at} left and is still a member of etcd")),
            );
        }
        found
    }

    /// Who waits for what, in words.
    pub fn who_waits(&self) -> String {
        let mut parts = Vec::new();
        for (at, worker) in self.workers.iter().enumerate() {
            let lrn = self.world.hosts[at].lrn;
            let part = match worker {
                None => format!("{lrn}: no worker"),
                Some(worker) => {
                    let doing = worker.local.doing.as_ref().map(ToString::to_string);
                    let piece = worker.task.as_ref().and_then(|task| task.next().cloned());
                    let resting = match &worker.resting {
                        Some(Move::Rest(rest)) => rest.to_string(),
                        Some(other) => other.name().to_owned(),
                        None => "nothing".to_owned(),
                    };
                    format!("{lrn}: {} {piece:?} ({resting})", doing.unwrap_or_default())
                }
            };
            parts.push(part);
        }
        let leader = self.leader_waits().map_or("nobody leads".to_owned(), ToString::to_string);
        parts.push(format!("leader: {leader}"));
        parts.extend(self.operators.iter().map(|operator| operator.command.name().to_owned()));
        parts.join("; ")
    }
}

/// A time in which nothing changes that workers look at.
struct Wait {
    tick: (u64, u64),
    since: Duration,
    asked: BTreeMap<(usize, Daemon), u64>,
    told: bool,
}

/// What an operator does about a cluster that waits for one.
#[derive(Clone, Debug)]
enum Remedy {
    /// Publishes a newer release that works.
    Release,
    /// Gives an order.
    Order(Command),
}
