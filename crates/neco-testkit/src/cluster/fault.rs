//! What may go wrong, and what operators may want, at any moment of a run.

use std::collections::BTreeMap;
use std::time::Duration;

use neco_schema::{Key, Op, Range, Txn};

use super::counts::Kind;
use super::evidence::Source;
use super::operator::{Command, Operator};
use super::release::StepKind;
use super::{Bug, Cluster, version};

/// What a published release is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quality {
    /// It works.
    Good,
    /// Its daemons end as soon as they are started.
    DiesAtStart,
    /// A step fails on one server.
    Fails,
    /// A step ends the worker of one server, each time.
    Kills,
    /// Services of groups do not start on one server.
    BrokenServices,
}

/// Something that happens at a certain moment. Numbers choose among what there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A worker is killed.
    Crash(usize),
    /// An updater is killed and started again.
    CrashUpdater(usize),
    /// A machine loses its power and gets it back after so many seconds.
    PowerCut(usize, u64),
    /// All machines lose their power.
    PowerCutAll(u64),
    /// A worker does not run for so many seconds although it lives.
    Freeze(usize, u64),
    /// The same for an updater.
    FreezeUpdater(usize, u64),
    /// A machine does not reach etcd for so many seconds.
    Cut(usize, u64),
    /// etcd answers nobody for so many seconds.
    Outage(u64),
    /// etcd forgets its history.
    Compact,
    /// Somebody takes a backup of etcd.
    Backup,
    /// Somebody puts the backup back; as another cluster or as the same.
    Restore(bool),
    /// A machine gets an empty disk.
    NewDisk(usize),
    /// A machine dies for ever.
    Death(usize),
    /// So many of a thousand answers of etcd are lost from now on.
    LostAnswers(u32),
    /// The release window is closed for so many seconds.
    Window(u64),
    /// A probe finds something wrong for so many seconds.
    Trouble(u64),
    /// A person deletes the request by hand, and nothing else.
    RequestDeleted,
    /// A server is taken out by force and registered again at once.
    Rejoin(usize),
    /// The recipe of one machine differs from now on.
    OtherRecipe(usize),
    /// A release is published.
    Release(Quality, usize),
    /// An operator gives an order; the number chooses the server or the version.
    Order(usize, usize),
    /// Nothing happens for so many seconds.
    Silence(u64),
    /// One of the records that decisions need cannot be read for so many seconds; the number chooses which.
    Garbled(usize, u64),
}

/// How many orders there are to choose from.
pub(super) const ORDERS: usize = 13;

impl Fault {
    /// Its name, for the counters.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Crash(_) => "worker killed",
            Self::CrashUpdater(_) => "updater killed",
            Self::PowerCut(..) => "power cut",
            Self::PowerCutAll(_) => "power cut of all",
            Self::Freeze(..) => "worker frozen",
            Self::FreezeUpdater(..) => "updater frozen",
            Self::Cut(..) => "cut off from etcd",
            Self::Outage(_) => "etcd outage",
            Self::Compact => "compaction",
            Self::Backup => "backup",
            Self::Restore(true) => "restored as another cluster",
            Self::Restore(false) => "restored as the same cluster",
            Self::NewDisk(_) => "disk replaced",
            Self::Death(_) => "dead for ever",
            Self::LostAnswers(_) => "answers get lost",
            Self::Window(_) => "window closed",
            Self::Trouble(_) => "probe finds trouble",
            Self::Rejoin(_) => "taken out and registered again",
            Self::RequestDeleted => "request deleted by hand",
            Self::OtherRecipe(_) => "recipe of one server changed",
            Self::Release(Quality::Good, _) => "good release",
            Self::Release(Quality::DiesAtStart, _) => "release that dies at start",
            Self::Release(Quality::Fails, _) => "release with a failing step",
            Self::Release(Quality::Kills, _) => "release with a killing step",
            Self::Release(Quality::BrokenServices, _) => "release with a broken service",
            Self::Order(..) => "order",
            Self::Silence(_) => "silence",
            Self::Garbled(..) => "record garbled",
        }
    }
}

impl Cluster {
    /// Lets something happen.
    pub fn strike(&mut self, fault: &Fault) {
        self.world.tell(|| format!("FAULT {fault:?}"));
        let count = self.world.hosts.len();
        let seconds = Duration::from_secs;
        let now = self.world.now;
        let fired = match *fault {
            Fault::Crash(at) => {
                let at = at % count;
                let lived = self.workers[at].is_some();
                self.crash(at);
                lived
            }
            Fault::CrashUpdater(at) => {
                let at = at % self.updaters.len().max(1);
                let Some(updater) = self.updaters.get_mut(at) else { return };
                let powered = self.world.hosts[updater.at].powered;
                updater.crash();
                updater.running = powered;
                true
            }
            Fault::PowerCut(at, back) => self.lose_power(at % count, back),
            Fault::PowerCutAll(back) => {
                let spread = |at: usize| back + u64::try_from(at).unwrap_or_default() * 7;
                (0..count).filter(|&at| self.lose_power(at, spread(at))).count() > 0
            }
            Fault::Freeze(at, time) => match &mut self.workers[at % count] {
                Some(worker) => {
                    worker.frozen_until = now + seconds(time);
                    true
                }
                None => false,
            },
            Fault::FreezeUpdater(at, time) => {
                let at = at % self.updaters.len().max(1);
                let Some(updater) = self.updaters.get_mut(at) else { return };
                if updater.is_writing() {
                    self.world.counts.add(Kind::State, "updater frozen with a write in flight");
                }
                updater.frozen_until = now + seconds(time);
                true
            }
            Fault::Cut(at, time) => {
                self.world.hosts[at % count].cut_until = now + seconds(time);
                true
            }
            Fault::Outage(time) => {
                self.world.outage_until = now + seconds(time);
                true
            }
            Fault::Compact => {
                self.world.compact();
                true
            }
            Fault::Backup => {
                self.world.backup = Some(self.world.etcd.clone());
                true
            }
            Fault::Restore(other) => self.world.restore_backup(other),
            Fault::NewDisk(at) => self.new_disk(at % count),
            Fault::Death(at) => self.die(at % count),
            Fault::LostAnswers(times) => {
                self.world.lost_answers = times;
                true
            }
            Fault::Window(time) => {
                self.world.window_closed_until = now + seconds(time);
                true
            }
            Fault::Trouble(time) => {
                self.world.trouble_until = now + seconds(time);
                true
            }
            Fault::Rejoin(at) => self.rejoin(at % count),
            Fault::RequestDeleted => {
                let gone = Txn::default().then(Op::delete(&Key::Request));
                let before = self.world.etcd.revision();
                self.world.commit(Source::Setup, None, &gone);
                self.world.etcd.revision() > before
            }
            Fault::OtherRecipe(at) => {
                let at = at % count;
                self.world.hosts[at].other_recipe = true;
                let lived = self.workers[at].is_some();
                self.crash(at);
                lived
            }
            Fault::Release(quality, number) => {
                self.release(quality, number);
                true
            }
            Fault::Order(which, number) => {
                let Some(command) = self.command(which, number) else { return };
                let operator = Operator::new(&self.world, command);
                self.operators.push(operator);
                true
            }
            Fault::Silence(time) => {
                self.live_on(seconds(time));
                true
            }
            Fault::Garbled(number, time) => {
                let Some((kind, key)) = self.some_record(number) else { return };
                self.world.garble(&key, now + seconds(time));
                self.world.counts.add(Kind::State, &format!("{kind} could not be read"));
                true
            }
        };
        self.world.machines_changed();
        if fired {
            self.world.counts.add(Kind::Fault, fault.name());
        }
    }

    /// Everybody works, and nothing else happens.
    fn live_on(&mut self, time: Duration) {
        let until = self.world.now + time;
        while self.world.now < until {
            for _ in 0..20 {
                let ready = self.ready();
                if ready.is_empty() {
                    break;
                }
                let chosen = ready[self.world.random(ready.len())];
                self.act(chosen);
            }
            self.pass(Duration::from_secs(10));
        }
    }

    /// One of the records that decisions need and nobody writes anew by himself, with its kind.
    fn some_record(&self, number: usize) -> Option<(&'static str, String)> {
        let everything = self.world.read(&[Range::Prefix(String::new())]).kvs;
        let mut kinds = BTreeMap::<&str, Vec<String>>::new();
        for key in everything.into_keys() {
            let kind = match key.parse() {
                Ok(Key::Request) => "request",
                Ok(Key::Status(_)) => "status",
                Ok(Key::Turn(_)) => "turn",
                Ok(Key::Group(_)) => "way of a group",
                Ok(Key::Epoch) => "epoch",
                Ok(Key::Target) => "target",
                Ok(Key::Seen(_)) => "note of a release",
                _ => continue,
            };
            kinds.entry(kind).or_default().push(key);
        }
        let (kind, keys) = kinds.iter().nth(number % kinds.len().max(1))?;
        Some((kind, keys[(number / 8) % keys.len()].clone()))
    }

    fn lose_power(&mut self, at: usize, back: u64) -> bool {
        if !self.world.hosts[at].powered {
            return false;
        }
        self.power_cut(at);
        self.boots.push((self.world.now + Duration::from_secs(back), at));
        true
    }

    /// One at most, and only where the others can go on without it.
    fn die(&mut self, at: usize) -> bool {
        let others = self.world.members.iter().filter(|member| **member != at).count();
        let dead = self.world.hosts.iter().any(|host| host.dead);
        if dead || others < 2 || !self.world.members.contains(&at) || !self.world.hosts[at].powered
        {
            return false;
        }
        self.power_cut(at);
        self.world.hosts[at].dead = true;
        true
    }

    fn rejoin(&mut self, at: usize) -> bool {
        let lrn = self.world.hosts[at].lrn;
        let left = self.order(Command::Leave { lrn, force: true });
        left && self.order(Command::Join(lrn))
    }

    fn new_disk(&mut self, at: usize) -> bool {
        if self.world.hosts[at].dead || !self.is_registered(at) {
            return false;
        }
        let installed = self.world.hosts[at].installed.clone();
        let release = self.world.releases.get(&installed).cloned().unwrap_or_default();
        if release.dies_at_start {
            return false;
        }
        if self.world.hosts[at].powered {
            self.power_cut(at);
        }
        self.boots.retain(|(_, other)| *other != at);
        self.world.hosts[at].replace_disk(installed, &release.units);
        self.world.evidence.journal_lost(self.world.hosts[at].lrn);
        self.world.machines_changed();
        self.start_worker(at);
        true
    }

    /// Publishes a release of this quality.
    pub fn release(&mut self, quality: Quality, number: usize) {
        let count = self.world.hosts.len();
        let steps = self.world.recipe.steps.len();
        let step = u32::try_from(1 + number % steps).unwrap_or(1);
        let at = (number / 7) % count;
        let unchanged = number.is_multiple_of(5);
        let newest = self.world.releases.values().next_back().cloned().unwrap_or_default();
        let groups = self.world.recipe.steps.clone();
        self.publish(|release| {
            if unchanged {
                release.units = newest.units;
            }
            match quality {
                Quality::Good => {}
                Quality::DiesAtStart => release.dies_at_start = true,
                Quality::Fails => {
                    release.fails.insert((at, step));
                }
                Quality::Kills => {
                    release.kills.insert((at, step));
                }
                Quality::BrokenServices => {
                    if groups.iter().any(|kind| matches!(kind, StepKind::GroupApply(_))) {
                        release.broken_services.insert(at);
                    }
                }
            }
        });
    }

    fn command(&mut self, which: usize, number: usize) -> Option<Command> {
        let at = number % self.world.hosts.len();
        let lrn = self.world.hosts[at].lrn;
        let some_version = version(u32::try_from(number).unwrap_or(0) % (self.releases + 1));
        Some(match which % ORDERS {
            0 | 1 => Command::Stop,
            2 => Command::Recover { force: false, retry: number.is_multiple_of(2) },
            3 => Command::Recover { force: true, retry: number.is_multiple_of(2) },
            4 => Command::Pause,
            5 => Command::Resume,
            6 => {
                // Below this there is no majority that could remove it.
                if self.world.members.len() < 3 || self.world.bug == Some(Bug::OldSizeMajority) {
                    return None;
                }
                Command::Leave { lrn, force: number.is_multiple_of(3) }
            }
            7 => {
                if self.world.hosts[at].dead {
                    return None;
                }
                if !self.world.hosts[at].powered
                    && !self.boots.iter().any(|(_, other)| *other == at)
                {
                    self.boot(at);
                }
                Command::Join(lrn)
            }
            8 => Command::Withdraw(some_version),
            9 => Command::UpdateTo { version: some_version, downgrade: number.is_multiple_of(2) },
            10 => Command::Unpin,
            11 => Command::ReleaseTurn { force: number.is_multiple_of(4) },
            _ => Command::GoRecover,
        })
    }
}
