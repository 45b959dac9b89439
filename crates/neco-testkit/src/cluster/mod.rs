//! Whole clusters in one thread: the very functions that decide in production, driven atomic action by atomic action.
//!
//! [`Cluster`] holds everything. Each actor (workers, install units, updaters, operators) is a state machine; between
//! any two of their actions anything may happen. [`Plan`] is a random schedule from a seed, with faults and orders;
//! [`Plan::run`] plays it, lets everything come to rest with the remedies that operators are told, and says what was
//! wrong. Tests that want one certain interleaving drive the actors by hand.

mod audit;
mod bugs;
mod counts;
mod doctor;
mod evidence;
mod fault;
mod host;
mod installer;
mod operator;
mod oracle;
mod plan;
mod release;
mod script;
mod step;
mod updater;
mod worker;
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use neco_plan::Waiting;
use neco_schema::{Key, Lrn, NecoVersion, Op, Txn};

pub use bugs::Bug;
pub use counts::{Counts, Kind};
pub use evidence::{Evidence, Item, Source};
pub use fault::{Fault, Quality};
pub use host::{ETCD, Host, Installer, Stage, Unit};
pub use operator::{Command, Operator};
pub use oracle::Oracle;
pub use plan::{Outcome, Plan, shrink};
pub use release::{Recipe, Release, StepKind, package, version};
pub use step::{Act, Piece, Progress, Task, turn_holder};
pub use updater::{OFFICE, REQUEST_LIMIT, STEP_LIMIT, Updater};
pub use worker::{ALIVE, Life, Part, Phase, Worker};
pub use world::{Reply, Tick, World};

/// The longest that time passes without anybody renewing a lease.
const RENEWED_EVERY: Duration = Duration::from_secs(5);

/// Who may do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Actor {
    /// A part of the worker on a machine.
    Worker(usize, Part),
    /// The service manager of a machine, which starts the worker.
    Manager(usize),
    /// The unit that installs the package on a machine.
    Installer(usize),
    /// An updater.
    Updater(usize),
    /// An operator.
    Operator(usize),
}

/// A whole cluster.
pub struct Cluster {
    /// What all share.
    pub world: World,
    /// The workers, by machine.
    pub workers: Vec<Option<Worker>>,
    /// The updaters.
    pub updaters: Vec<Updater>,
    /// Operators with orders.
    pub operators: Vec<Operator>,
    /// Machines that get their power back.
    pub boots: Vec<(Duration, usize)>,
    releases: u32,
}

impl Cluster {
    /// A cluster of `servers` registered boot servers with these numbers, and `spare` machines that may join; all run
    /// version 0, and nothing is requested yet.
    pub fn new(seed: u64, recipe: Recipe, numbers: &[u32], servers: usize) -> Self {
        let units: BTreeMap<String, String> = recipe
            .groups()
            .into_iter()
            .chain([ETCD.to_owned()])
            .map(|name| {
                let definition = format!("{name} 0");
                (name, definition)
            })
            .collect();
        let hosts: Vec<Host> =
            numbers.iter().map(|lrn| Host::new(Lrn::new(*lrn), version(0), &units)).collect();
        let count = hosts.len();
        let mut world = World::new(seed, recipe, hosts, servers);
        let release = Release { units, ..Release::default() };
        world.releases.insert(version(0), release);
        for at in servers..count {
            world.hosts[at].make_fresh();
            world.hosts[at].power_cut();
        }
        world.evidence.wanted = true;
        let registration = (0..servers).fold(Txn::default(), |txn, at| {
            txn.then(Op::put_bytes(&Key::BootServer(world.hosts[at].lrn), Vec::new()))
        });
        world.commit(Source::Setup, None, &registration);
        let mut cluster = Self {
            world,
            workers: (0..count).map(|_| None).collect(),
            updaters: Vec::new(),
            operators: Vec::new(),
            boots: Vec::new(),
            releases: 0,
        };
        for at in 0..servers {
            cluster.start_worker(at);
        }
        cluster
    }

    /// Adds an updater on a machine.
    pub fn add_updater(&mut self, at: usize, is_go: bool, skew: i64) {
        self.updaters.push(Updater::new(at, is_go, skew));
    }

    /// Publishes a newer release; `change` says what is wrong with it, and which units it leaves as they were.
    pub fn publish(&mut self, change: impl FnOnce(&mut Release)) -> NecoVersion {
        self.releases += 1;
        let number = self.releases;
        let newest = self.world.releases.values().next_back().cloned().unwrap_or_default();
        let units =
            newest.units.keys().map(|name| (name.clone(), format!("{name} {number}"))).collect();
        let mut release = Release { units, ..Release::default() };
        change(&mut release);
        let version = version(number);
        self.world.tell(|| format!("release {version} is published: {release:?}"));
        self.world.releases.insert(version.clone(), release);
        self.world.latest = Some(version.clone());
        self.world.tick.leaders += 1;
        version
    }

    /// The index of the machine with this number.
    pub fn index(&self, lrn: Lrn) -> Option<usize> {
        self.world.hosts.iter().position(|host| host.lrn == lrn)
    }

    /// Whether the machine at this index is registered as a boot server.
    pub fn is_registered(&self, at: usize) -> bool {
        let key = Key::BootServer(self.world.hosts[at].lrn);
        self.world.etcd.get(&key.to_string()).is_some()
    }

    /// Everybody who could do something now.
    pub fn ready(&self) -> Vec<Actor> {
        let mut ready = Vec::new();
        for (at, worker) in self.workers.iter().enumerate() {
            match worker {
                Some(worker) => {
                    for part in [Part::Main, Part::Task, Part::Alive] {
                        if worker.ready(&self.world, part) {
                            ready.push(Actor::Worker(at, part));
                        }
                    }
                }
                None if self.may_start(at) => ready.push(Actor::Manager(at)),
                None => {}
            }
            if installer::is_ready(&self.world, at, worker.as_ref()) {
                ready.push(Actor::Installer(at));
            }
        }
        for (at, updater) in self.updaters.iter().enumerate() {
            if updater.ready(&self.world) {
                ready.push(Actor::Updater(at));
            }
        }
        for (at, operator) in self.operators.iter().enumerate() {
            if operator.ready(&self.world) {
                ready.push(Actor::Operator(at));
            }
        }
        ready
    }

    fn may_start(&self, at: usize) -> bool {
        let host = &self.world.hosts[at];
        let dies = self.world.releases.get(&host.installed).is_some_and(|r| r.dies_at_start);
        host.powered && !dies
    }

    /// Does one atomic action of `actor`.
    pub fn act(&mut self, actor: Actor) {
        self.world.note(actor);
        match actor {
            Actor::Worker(at, part) => {
                let Some(mut worker) = self.workers[at].take() else { return };
                match worker.act(&mut self.world, part) {
                    Life::On => self.workers[at] = Some(worker),
                    life => {
                        self.world.tell(|| format!("worker {at} ends"));
                        let lrn = self.world.hosts[at].lrn;
                        self.world.evidence.ended(lrn, life == Life::Exit);
                    }
                }
            }
            Actor::Manager(at) => self.start_worker(at),
            Actor::Installer(at) => {
                let mut worker = self.workers[at].take();
                let order = installer::act(&mut self.world, at, &mut worker);
                self.workers[at] = worker;
                if order == installer::Order::Restart {
                    self.end_worker(at);
                    self.start_worker(at);
                    for updater in self.updaters.iter_mut().filter(|updater| updater.at == at) {
                        updater.crash();
                        updater.running = true;
                    }
                }
            }
            Actor::Updater(at) => self.updaters[at].act(&mut self.world),
            Actor::Operator(at) => {
                if self.operators[at].act(&mut self.world) {
                    self.operators.remove(at);
                }
            }
        }
    }

    /// Starts the worker of a machine, if it has power and the installed one lives.
    pub fn start_worker(&mut self, at: usize) {
        self.workers[at] = Worker::start(&mut self.world, at);
    }

    /// Kills the worker of a machine.
    pub fn crash(&mut self, at: usize) {
        self.world.tell(|| format!("the worker on machine {at} is killed"));
        self.end_worker(at);
    }

    fn end_worker(&mut self, at: usize) {
        if self.workers[at].take().is_some() {
            let lrn = self.world.hosts[at].lrn;
            self.world.evidence.ended(lrn, false);
        }
    }

    /// Takes the power of a machine away.
    pub fn power_cut(&mut self, at: usize) {
        self.world.tell(|| format!("machine {at} loses its power"));
        self.end_worker(at);
        let running: Vec<String> = self.world.hosts[at]
            .units
            .iter()
            .filter(|(_, unit)| unit.running.is_some())
            .map(|(name, _)| name.clone())
            .collect();
        if self.world.hosts[at].restarting {
            // From here it is down by a fault, and no restart any more.
            self.world.evidence.service(self.world.hosts[at].lrn, ETCD, true, false);
        }
        for unit in running {
            self.world.service(at, &unit, None, false);
        }
        self.world.hosts[at].power_cut();
        if self.world.bug == Some(Bug::InstallForgotten) {
            self.world.hosts[at].installer = None;
        }
        self.world.oracle.power_cut();
        self.world.machines_changed();
        for updater in self.updaters.iter_mut().filter(|updater| updater.at == at) {
            updater.crash();
        }
    }

    /// Gives a machine its power back, unless it is dead.
    pub fn boot(&mut self, at: usize) {
        if self.world.hosts[at].powered || self.world.hosts[at].dead {
            return;
        }
        self.world.tell(|| format!("machine {at} boots"));
        self.world.hosts[at].boot();
        let units: Vec<(String, String)> = self.world.hosts[at]
            .units
            .iter()
            .filter_map(|(name, unit)| Some((name.clone(), unit.running.clone()?)))
            .collect();
        for (unit, definition) in units {
            self.world.service(at, &unit, Some(definition), false);
        }
        self.world.machines_changed();
        for updater in self.updaters.iter_mut().filter(|updater| updater.at == at) {
            updater.running = true;
        }
        self.start_worker(at);
    }

    /// Lets time pass; whoever lives renews its leases.
    pub fn pass(&mut self, time: Duration) {
        let until = self.world.now + time;
        loop {
            for worker in self.workers.iter_mut().flatten() {
                worker.keep_alive(&mut self.world);
            }
            for updater in &mut self.updaters {
                updater.keep_alive(&mut self.world);
            }
            let left = until.saturating_sub(self.world.now);
            if left.is_zero() {
                break;
            }
            self.world.pass(left.min(RENEWED_EVERY));
            let now = self.world.now;
            let due: Vec<usize> =
                self.boots.iter().filter(|(at, _)| *at <= now).map(|(_, at)| *at).collect();
            self.boots.retain(|(at, _)| *at > now);
            for at in due {
                self.boot(at);
            }
        }
    }

    /// What the leader waits for, if somebody leads.
    pub fn leader_waits(&self) -> Option<&Waiting> {
        let leader =
            self.updaters.iter().find(|updater| updater.running && updater.leads(&self.world))?;
        leader.waiting.as_ref()
    }
}
