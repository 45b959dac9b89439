//! The judge of what only a simulation sees: the machines themselves beside the records about them.

use std::collections::{BTreeMap, BTreeSet};

use neco_schema::journal::{Effect, Entry, IntentId};
use neco_schema::{Condition, Key, Lrn, Record as _, RequestId, UpdateRequest, UpdateStatus};
use neco_store::Change;

use super::evidence::Source;
use super::host::ETCD;
use super::release::StepKind;
use super::world::World;

/// Watches a run and objects.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    /// What was wrong, oldest first.
    pub objections: Vec<String>,
    /// The requests there were.
    requests: BTreeMap<RequestId, UpdateRequest>,
    /// The current one.
    current: Option<UpdateRequest>,
    /// The newest one, also when it is gone.
    newest: Option<RequestId>,
    /// The highest step at which members have arrived, by request.
    arrived: BTreeMap<RequestId, BTreeMap<Lrn, u32>>,
    /// Requests that were seen stopped, aborted or replaced.
    over: BTreeSet<RequestId>,
    /// Requests from before etcd went back in time: their records say nothing any more.
    tainted: BTreeSet<RequestId>,
    /// Installations under way.
    installs: BTreeMap<(Lrn, IntentId), RequestId>,
    /// Requests that every member has completed.
    pub completed: BTreeSet<RequestId>,
    /// Whether an operator has overruled a safety rule.
    pub overruled: bool,
    /// How often a machine lost its power.
    power_cuts: u64,
    /// What that was when a machine last proved that all others were healthy.
    proofs: BTreeMap<usize, u64>,
}

impl Oracle {
    /// Objects.
    pub fn object(&mut self, what: String) {
        if !self.objections.contains(&what) {
            self.objections.push(what);
        }
    }

    /// etcd went back in time.
    pub fn rewound(&mut self, current: Option<UpdateRequest>) {
        self.tainted.extend(self.requests.keys().cloned());
        self.newest = current.as_ref().map(UpdateRequest::id);
        self.current = current;
    }

    /// A machine lost its power.
    pub fn power_cut(&mut self) {
        self.power_cuts += 1;
    }

    /// A machine found all others healthy and is about to stop its etcd.
    pub fn proved(&mut self, at: usize) {
        self.proofs.insert(at, self.power_cuts);
    }

    /// etcd changed.
    pub fn changed(&mut self, world: &World, change: &Change, source: &Source) {
        match change.key.parse() {
            Ok(Key::Request) => self.request_changed(change, source),
            Ok(Key::Status(lrn)) => self.status_changed(world, lrn, change, source),
            _ => {}
        }
    }

    fn request_changed(&mut self, change: &Change, source: &Source) {
        let before = self.current.take();
        let now = change.kv.as_ref().and_then(|kv| UpdateRequest::decode(&kv.value).ok());
        if let (Some(before), Some(now)) = (&before, &now)
            && before.id() == now.id()
            && before.stop
            && !now.stop
        {
            self.object(format!("request {} was stopped and runs again", now.id()));
        }
        if let Some(before) = &before
            && now.as_ref().is_none_or(|now| now.id() != before.id())
        {
            let finished = self.completed.contains(&before.id());
            let is_gone = now.is_none();
            let tainted = self.tainted.contains(&before.id());
            if !before.stop
                && !finished
                && !tainted
                && !matches!(source, Source::Operator { forced: true } | Source::Go | Source::Setup)
            {
                let how = if is_gone { "removed" } else { "replaced" };
                self.object(format!("request {} was {how} while it ran", before.id()));
            }
            self.over.insert(before.id());
        }
        if let Some(now) = &now {
            // The original's stop compares nothing and may bring a removed request back: stopped, so harmless.
            let by_go = *source == Source::Go && now.stop;
            if self.over.contains(&now.id()) && !self.tainted.contains(&now.id()) && !by_go {
                self.object(format!("request {} came back", now.id()));
            }
            self.requests.insert(now.id(), now.clone());
            self.newest = Some(now.id());
        }
        self.current = now;
    }

    fn status_changed(&mut self, world: &World, lrn: Lrn, change: &Change, source: &Source) {
        let Some(kv) = &change.kv else { return };
        let Ok(status) = UpdateStatus::decode(&kv.value) else { return };
        if *source == Source::Go {
            return;
        }
        if *source != Source::Worker(lrn) {
            self.object(format!("the status of boot server {lrn} was written by {source:?}"));
        }
        let Some(id) = status.request.clone() else { return };
        let Some(current) = self.current.as_ref().filter(|current| current.id() == id).cloned()
        else {
            self.object(format!(
                "boot server {lrn} posted step {} of request {id}, which is not the current one",
                status.step
            ));
            return;
        };
        if !current.is_member(lrn) {
            self.object(format!("boot server {lrn} posted for {id} and is no member"));
        }
        let running = matches!(status.cond, Condition::Running | Condition::Complete);
        if running && current.stop {
            self.object(format!("boot server {lrn} went on to step {} after a stop", status.step));
        }
        if !running || self.tainted.contains(&id) {
            return;
        }
        let arrived = self.arrived.entry(id.clone()).or_default();
        let before = arrived.get(&lrn).copied().unwrap_or_default();
        if status.step > before + 1 {
            self.object(format!("boot server {lrn} jumped from step {before} to {}", status.step));
        }
        self.arrived.entry(id.clone()).or_default().insert(lrn, status.step);
        let done_before = match status.cond {
            Condition::Complete => status.step,
            _ => status.step.saturating_sub(1),
        };
        self.work_is_done(world, lrn, &current, done_before);
        if status.cond == Condition::Complete {
            self.completed_by(world, &current);
        }
    }

    /// What is posted as done is done.
    fn work_is_done(&mut self, world: &World, lrn: Lrn, request: &UpdateRequest, step: u32) {
        let Some(host) = world.hosts.iter().find(|host| host.lrn == lrn) else { return };
        let plain = matches!(world.recipe.kind(step), StepKind::Plain | StepKind::Slow(_));
        if step > 0 && plain && host.files.get(&step) != Some(&request.version) {
            self.object(format!("boot server {lrn} posted step {step} as done, and it is not"));
        }
        if host.installed != request.version {
            self.object(format!(
                "boot server {lrn} runs {} in step {step} of an update to {}",
                host.installed, request.version
            ));
        }
    }

    /// The last `complete`: everything runs what it should.
    fn completed_by(&mut self, world: &World, request: &UpdateRequest) {
        let key = |lrn: &Lrn| world.etcd.get(&Key::Status(*lrn).to_string());
        let complete = request.members().iter().all(|lrn| {
            key(lrn).and_then(|kv| UpdateStatus::decode(&kv.value).ok()).is_some_and(|status| {
                status.belongs_to(&request.id(), &request.version)
                    && status.cond == Condition::Complete
            })
        });
        if !complete {
            return;
        }
        self.completed.insert(request.id());
        let Some(release) = world.releases.get(&request.version) else { return };
        for host in world.hosts.iter().filter(|host| request.is_member(host.lrn) && host.powered) {
            for (unit, definition) in &release.units {
                let restarted = world.recipe.steps.iter().any(|kind| match kind {
                    StepKind::GroupApply(group) => group == unit,
                    StepKind::EtcdRestart => unit == ETCD,
                    _ => false,
                });
                let started = host.running(unit);
                if restarted && started.is_some_and(|started| started != definition) {
                    self.object(format!(
                        "request {} is complete, but {unit} on boot server {} still runs {}",
                        request.id(),
                        host.lrn,
                        host.running(unit).map_or("nothing", String::as_str)
                    ));
                }
            }
        }
    }

    /// A journal entry was written.
    pub fn journalled(&mut self, world: &World, at: usize, entry: &Entry) {
        let lrn = world.hosts[at].lrn;
        match entry {
            Entry::StepBegun { request, step, .. } => self.step_begun(world, lrn, request, *step),
            Entry::IntentOpened { intent, request, effect: Effect::Install { .. }, .. } => {
                self.installs.insert((lrn, intent.clone()), request.clone());
            }
            _ => {}
        }
    }

    fn step_begun(&mut self, world: &World, lrn: Lrn, id: &RequestId, step: u32) {
        let Some(request) = self.requests.get(id).cloned() else { return };
        if self.tainted.contains(id) {
            return;
        }
        let stored = |lrn: Lrn| world.etcd.get(&Key::Status(lrn).to_string());
        let missing: Vec<String> = request
            .members()
            .into_iter()
            .filter(|member| {
                let arrived = self.arrived.get(id).and_then(|arrived| arrived.get(member));
                // A member of the original posts without the request.
                let by_version = stored(*member)
                    .and_then(|kv| UpdateStatus::decode(&kv.value).ok())
                    .is_some_and(|status| {
                        status.request.is_none()
                            && status.version == request.version
                            && status.step >= step
                    });
                arrived.copied().unwrap_or_default() < step && !by_version
            })
            .map(|lrn| lrn.to_string())
            .collect();
        if !missing.is_empty() {
            self.object(format!(
                "boot server {lrn} began step {step} before boot servers {} arrived",
                missing.join(", ")
            ));
        }
    }

    /// dpkg is about to run for an intent.
    pub fn dpkg_begins(&mut self, world: &World, at: usize, request: &RequestId) {
        let host = &world.hosts[at];
        let Some(request) = self.requests.get(request).cloned() else { return };
        // A server that left while it installed is on its own.
        let registered = |lrn: Lrn| world.etcd.get(&Key::BootServer(lrn).to_string()).is_some();
        let bad = |other: &super::host::Host| {
            other.installed == request.version
                && registered(other.lrn)
                && world.releases.get(&request.version).is_some_and(|release| release.dies_at_start)
        };
        let others: Vec<String> = world
            .hosts
            .iter()
            .filter(|other| other.lrn != host.lrn && bad(other))
            .map(|other| other.lrn.to_string())
            .collect();
        if !others.is_empty() {
            self.object(format!(
                "boot server {} installs a package that just fails on {}",
                host.lrn,
                others.join(", ")
            ));
        }
    }

    /// A service was started, by Neco or at boot. What members of one request run must not differ; a server that was taken
    /// out while it lived and was registered again is on its own until a request includes it.
    pub fn service_started(&mut self, world: &World, at: usize, unit: &str) {
        let host = &world.hosts[at];
        let grouped = world.recipe.groups().iter().any(|group| group == unit);
        let Some(started) = host.running(unit).filter(|_| grouped && !self.overruled) else {
            return;
        };
        let registered = |lrn: Lrn| world.etcd.get(&Key::BootServer(lrn).to_string()).is_some();
        for other in world.hosts.iter().filter(|other| other.lrn != host.lrn && other.powered) {
            let newest = self.newest.as_ref().filter(|id| !self.tainted.contains(*id));
            let together = newest
                .and_then(|id| self.requests.get(id))
                .is_some_and(|request| request.is_member(host.lrn) && request.is_member(other.lrn));
            if let Some(runs) = other.running(unit)
                && runs != started
                && together
                && registered(host.lrn)
                && registered(other.lrn)
            {
                self.object(format!(
                    "{unit} was started as {started} on boot server {} beside {runs} on boot server {}",
                    host.lrn, other.lrn
                ));
            }
        }
    }

    /// Neco stopped a service.
    pub fn service_stopped(&mut self, world: &World, at: usize, unit: &str) {
        if unit != ETCD || self.overruled {
            return;
        }
        for (other, host) in world.hosts.iter().enumerate() {
            if other != at && world.members.contains(&other) && host.restarting {
                self.object(format!(
                    "boot servers {} and {} restart etcd at the same time",
                    world.hosts[at].lrn, host.lrn
                ));
            }
        }
        let left = world.members.iter().filter(|member| **member != at && world.serves(**member));
        let (left, all) = (left.count(), world.members.len());
        // A machine that loses its power after the proof is nobody's fault.
        let surprised = self.proofs.get(&at).is_some_and(|proof| *proof != self.power_cuts);
        if all > 2 && left * 2 <= all && world.members.contains(&at) && !surprised {
            self.object(format!(
                "boot server {} stopped its etcd with {left} of {all} members running",
                world.hosts[at].lrn
            ));
        }
    }

    /// The current request, as the oracle saw it written.
    pub fn current(&self) -> Option<&UpdateRequest> {
        self.current.as_ref()
    }
}
