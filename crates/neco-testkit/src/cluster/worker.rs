//! The worker process of one boot server: look, decide, look again, decide again, act.
//!
//! Each [`Worker::act`] is one atomic action, and anything may happen between two of them.

use std::rc::Rc;
use std::time::Duration;

use neco_plan::invariants::Daemon;
use neco_plan::{Doing, JournalState, Local, Move, StatusWrite, View, next_move_with_row};
use neco_schema::journal::{Entry, IntentEnd, Mark};
use neco_schema::{
    Alive, Compare, Key, LeaseId, NecoVersion, Op, Record as _, Revision, StepTimes, Txn,
};

use super::bugs::Bug;
use super::counts::Kind;
use super::evidence::Source;
use super::host::ETCD;
use super::step::{Progress, Task};
use super::world::{Reply, Tick, World};

/// How long a living server's record outlives it.
pub const ALIVE: Duration = Duration::from_secs(30);

/// What an actor may do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The main loop.
    Main,
    /// What runs beside it: a step, an installation, a completion, a restoration.
    Task,
    /// The record that the server lives.
    Alive,
}

/// How far the main loop is.
#[derive(Clone, Debug)]
pub enum Phase {
    /// About to look.
    Look,
    /// Decided from a view that may lag behind.
    Decided(Move),
    /// Decided again from a fresh view.
    Confirmed(Move, Rc<View>),
    /// Wrote down what it is about to write to etcd.
    Writing(Txn),
}

/// The worker process of one boot server.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Which machine it runs on.
    pub at: usize,
    /// What it knows about itself.
    pub local: Local,
    /// How far its main loop is.
    pub phase: Phase,
    /// What runs.
    pub task: Option<Task>,
    /// Until when it does not run although it lives.
    pub frozen_until: Duration,
    lease: Option<LeaseId>,
    alive_said: Option<Vec<String>>,
    seen: Revision,
    quiet: Option<Tick>,
    /// The move it rests in.
    pub resting: Option<Move>,
    answered: bool,
}

/// How a process goes on after an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It lives.
    On,
    /// It ended by itself, for a new binary.
    Exit,
    /// It died.
    Crash,
}

impl Worker {
    /// Starts the installed worker, unless it dies at once.
    pub fn start(world: &mut World, at: usize) -> Option<Self> {
        let host = &world.hosts[at];
        let version = host.installed.clone();
        if !host.powered
            || world.releases.get(&version).is_some_and(|release| release.dies_at_start)
        {
            return None;
        }
        let boot_id = format!("boot-{}", host.boots);
        let mut shape = world.recipe.shape(&version);
        if host.other_recipe {
            shape.digest.0.push_str(", changed here");
        }
        let mut local = Local::new(host.lrn, host.machine_id.clone(), version.clone(), shape);
        local.planted = Bug::planted(world.bug);
        local.journal = JournalState::fold(&host.journal);
        let mut worker = Self {
            at,
            local,
            phase: Phase::Look,
            task: None,
            frozen_until: Duration::ZERO,
            lease: None,
            alive_said: None,
            seen: Revision(0),
            quiet: None,
            resting: None,
            answered: false,
        };
        let units: Vec<(String, String)> = world.hosts[at]
            .units
            .iter()
            .filter_map(|(name, unit)| Some((name.clone(), unit.running.clone()?)))
            .collect();
        world.evidence.started(worker.local.lrn, &version);
        worker.write_down(world, &Entry::ProcessStarted { version, boot_id, pid: 1 });
        for (unit, digest) in units {
            if !worker.local.journal.started_with.contains_key(&unit) {
                worker.write_down(world, &Entry::Started { unit, digest, run: None });
            }
        }
        Some(worker)
    }

    /// Whether there is something to do.
    pub fn ready(&self, world: &World, part: Part) -> bool {
        if world.now < self.frozen_until {
            return false;
        }
        match part {
            Part::Main => match &self.phase {
                Phase::Look if self.starts_blind(world) => self.task.is_none(),
                Phase::Look => {
                    self.quiet.is_none_or(|quiet| !same_for_workers(quiet, world.tick))
                        && world.reachable(self.at)
                }
                Phase::Confirmed(..) => true,
                Phase::Decided(_) | Phase::Writing(_) => world.reachable(self.at),
            },
            Part::Task => self.task.as_ref().is_some_and(|task| task.is_ready(world)),
            Part::Alive => {
                world.reachable(self.at)
                    && (self.lease.is_none()
                        || self.alive_said.as_ref() != Some(&self.local.busy()))
            }
        }
    }

    /// Intents are completed before the first call to etcd.
    fn starts_blind(&self, world: &World) -> bool {
        !self.answered
            && !self.local.journal.intents.is_empty()
            && world.bug != Some(Bug::IntentsWaitForEtcd)
    }

    /// Does one atomic action.
    pub fn act(&mut self, world: &mut World, part: Part) -> Life {
        world.asked(self.at, Daemon::Worker);
        match part {
            Part::Main => self.main(world),
            Part::Task => self.task(world),
            Part::Alive => {
                self.say_alive(world);
                Life::On
            }
        }
    }

    /// Writes an entry into the journal and folds it.
    pub fn write_down(&mut self, world: &mut World, entry: &Entry) {
        world.journal(self.at, entry);
        self.local.journal.apply(entry);
        self.quiet = None;
    }

    /// Takes over what another process wrote into the journal.
    pub fn reread(&mut self, entry: &Entry) {
        self.local.journal.apply(entry);
        self.quiet = None;
        if let Some(task) = &mut self.task {
            task.wake();
        }
    }

    /// Who writes when this worker writes.
    pub fn source(&self) -> Source {
        Source::Worker(self.local.lrn)
    }

    /// What the row and the move of a decision are, counted.
    pub fn decide(&self, world: &mut World, view: &View) -> Move {
        let (row, decided) = next_move_with_row(view, &self.local);
        world.counts.add(Kind::WorkerRow, &format!("{:>2}", row.0));
        match (&decided, world.bug) {
            (Move::ReleaseTurn { .. }, Some(Bug::TurnKept)) => Move::Keep,
            (Move::DropIntent { intent }, Some(Bug::UnbegunCompleted)) => {
                Move::CompleteIntent { intent: intent.clone() }
            }
            (Move::Restore { group, request, .. }, Some(Bug::WayLeftOut)) => Move::Restore {
                group: group.clone(),
                request: request.clone(),
                way: neco_schema::Way::Back,
                decided: true,
            },
            _ => decided,
        }
    }

    fn main(&mut self, world: &mut World) -> Life {
        let phase = std::mem::replace(&mut self.phase, Phase::Look);
        match phase {
            Phase::Look => self.look(world),
            Phase::Decided(decided) => self.look_again(world, decided),
            Phase::Confirmed(decided, view) => return self.carry_out(world, decided, &view),
            Phase::Writing(txn) => {
                let reply = world.commit(self.source(), Some(self.at), &txn);
                if reply == Reply::Unreachable {
                    self.phase = Phase::Writing(txn);
                }
            }
        }
        Life::On
    }

    fn look(&mut self, world: &mut World) {
        if self.starts_blind(world) {
            let decided = self.decide(world, &View::default());
            self.begin_blind(world, decided);
            return;
        }
        self.answered = true;
        let tick = world.tick;
        let view = world.lagging_view(self.seen);
        let is_newest = view.revision == world.etcd.revision();
        self.seen = view.revision;
        if is_newest {
            self.note_ended(world, &view);
            // A backup of etcd may say something older than what was said last.
            let stands = view.alive.get(&self.local.lrn).map(|alive| &alive.value.busy);
            if stands != self.alive_said.as_ref() {
                self.alive_said = None;
            }
        }
        let decided = self.decide(world, &view);
        world.tell(|| format!("{} decides {decided:?}", self.local.lrn));
        match decided {
            Move::Rest(_) | Move::Keep | Move::Cancel { .. } => {
                self.resting = Some(decided);
                if is_newest {
                    self.quiet = Some(tick);
                }
            }
            // Its first effect asks a fence.
            Move::Run { .. } => self.phase = Phase::Confirmed(decided, view),
            _ => self.phase = Phase::Decided(decided),
        }
    }

    /// At start-up: gives back what was taken, without asking anybody.
    fn begin_blind(&mut self, world: &mut World, decided: Move) {
        match decided {
            Move::DropIntent { intent } => {
                let end = IntentEnd::Dropped;
                self.write_down(world, &Entry::IntentClosed { intent, end });
            }
            Move::CompleteIntent { intent } => self.complete(&intent),
            _ => {}
        }
    }

    fn complete(&mut self, intent: &neco_schema::journal::IntentId) {
        if let Some(state) = self.local.journal.intents.get(intent).cloned() {
            self.local.doing = Some(Doing::Complete { intent: intent.clone() });
            self.task = Some(Task::completing(intent, &state));
        }
    }

    /// Writes down which requests have ended, if the view is to be trusted.
    fn note_ended(&mut self, world: &mut World, view: &View) {
        let mark = self.local.journal.mark;
        let older = view.epoch < mark.epoch
            || (view.epoch == mark.epoch
                && (view.revision < mark.revision
                    || (mark.cluster_id != 0 && view.cluster_id != mark.cluster_id)));
        if older || view.problems.iter().any(|problem| problem.key == "status/current") {
            return;
        }
        let running = view.current().filter(|request| !request.stop).map(|request| request.id());
        let ended: Vec<_> = self
            .local
            .journal
            .requests
            .keys()
            .filter(|id| Some(*id) != running.as_ref() && !self.local.journal.ended.contains(id))
            .cloned()
            .collect();
        for request in ended {
            self.write_down(world, &Entry::RequestEnded { request });
        }
    }

    /// From here on nothing older is looked at.
    pub fn has_seen(&mut self, revision: Revision) {
        self.seen = self.seen.max(revision);
    }

    /// Writes down the newest state of etcd that was seen.
    pub fn mark(&mut self, world: &mut World, view: &View) {
        if view.unreadable.contains_key(&Key::Epoch) {
            return;
        }
        let mark = Mark { cluster_id: view.cluster_id, revision: view.revision, epoch: view.epoch };
        if self.local.journal.mark != mark {
            self.write_down(world, &Entry::Mark(mark));
        }
    }

    fn look_again(&mut self, world: &mut World, decided: Move) {
        let view = world.worker_view();
        let again = self.decide(world, &view);
        if again == decided || world.bug == Some(Bug::DecidedOnce) {
            self.phase = Phase::Confirmed(decided, view);
        } else {
            world.counts.add(Kind::State, "decided differently on a fresh view");
        }
    }

    fn carry_out(&mut self, world: &mut World, decided: Move, view: &View) -> Life {
        if !matches!(
            decided,
            Move::CompleteIntent { .. } | Move::DropIntent { .. } | Move::Restore { .. }
        ) {
            self.mark(world, view);
        }
        let write = StatusWrite {
            now: world.wall(0),
            changes: self.changes(world),
            steps: vec![StepTimes {
                step: 1,
                begun: world.wall(0),
                ended: None,
                unknown: Default::default(),
            }],
        };
        let txn = decided.txn(view, &self.local, &write);
        match decided {
            Move::Post(post) => {
                let own = view.statuses.get(&self.local.lrn);
                if matches!(self.local.doing, Some(Doing::Restore { .. })) {
                    world.counts.add(Kind::State, "failure told while a group is restored");
                } else if own.is_some_and(|own| {
                    own.value.request.as_ref() == Some(&post.request) && own.value.is_closed()
                }) {
                    world.counts.add(Kind::State, "abort told more of");
                }
                let entry = Entry::Posting {
                    request: post.request,
                    step: post.step,
                    cond: match post.kind {
                        neco_plan::PostKind::Settled => 0,
                        neco_plan::PostKind::Running => 1,
                        neco_plan::PostKind::Aborted(_) => 2,
                        neco_plan::PostKind::Complete => 3,
                    },
                };
                self.write_down(world, &entry);
                self.write(txn);
            }
            Move::PublishPlan { .. } | Move::ReleaseTurn { .. } => self.write(txn),
            Move::Restore { decided: false, .. } => self.write(txn),
            Move::Restore { group, request, way, decided: true } => {
                world.counts.add(
                    Kind::State,
                    match way {
                        neco_schema::Way::Forward => "group restored forward",
                        neco_schema::Way::Back => "group restored back",
                    },
                );
                self.local.doing = Some(Doing::Restore { group: group.clone() });
                self.task = Some(Task::restoring(&group, &request, way));
            }
            Move::Install { request, version, package, allow_no_way_back: _ } => {
                self.local.doing = Some(Doing::Install { request: request.clone() });
                let package = package.unwrap_or_else(|| super::release::package(&version));
                self.task = Some(Task::installing(request, version, package));
            }
            Move::ExitForNewBinary => {
                let why = "new binary".to_owned();
                self.write_down(world, &Entry::PlannedExit { why });
                return Life::Exit;
            }
            Move::Run { request, step, attempt } => {
                let revision = view.revision;
                let entry = Entry::StepBegun { request: request.clone(), step, attempt, revision };
                self.write_down(world, &entry);
                self.local.doing = Some(Doing::Step { request: request.clone(), step });
                self.task = Some(Task::running(world, self, view, request, step, attempt));
            }
            Move::CompleteIntent { intent } => self.complete(&intent),
            Move::DropIntent { intent } => {
                let end = IntentEnd::Dropped;
                self.write_down(world, &Entry::IntentClosed { intent, end });
            }
            Move::Cancel { .. } | Move::Keep | Move::Rest(_) => {}
        }
        Life::On
    }

    fn write(&mut self, txn: Option<Txn>) {
        if let Some(txn) = txn {
            self.phase = Phase::Writing(txn);
        }
    }

    /// The services whose definition the installed version would change here.
    fn changes(&self, world: &World) -> Vec<String> {
        let host = &world.hosts[self.at];
        let Some(release) = world.releases.get(&host.installed) else { return Vec::new() };
        let differs = |unit: &&String| host.running(unit) != release.units.get(*unit);
        release.units.keys().filter(differs).filter(|unit| *unit != ETCD).cloned().collect()
    }

    fn task(&mut self, world: &mut World) -> Life {
        let Some(mut task) = self.task.take() else { return Life::On };
        match task.advance(self, world) {
            Progress::Goes | Progress::Waits => self.task = Some(task),
            Progress::Over => self.over(world),
            Progress::Died => {
                world.counts.add(Kind::Fault, "step ends the worker");
                return Life::Crash;
            }
        }
        Life::On
    }

    fn over(&mut self, world: &mut World) {
        self.local.doing = None;
        self.quiet = None;
        world.note(("over", self.at));
    }

    fn say_alive(&mut self, world: &mut World) {
        let lrn = self.local.lrn;
        let key = Key::Alive(lrn);
        let lease = match self.lease {
            Some(lease) => lease,
            None => {
                let lease = world.grant(ALIVE);
                self.lease = Some(lease);
                lease
            }
        };
        let busy = self.local.busy();
        let record = Alive {
            machine_id: self.local.machine_id.clone(),
            boot_id: format!("boot-{}", world.hosts[self.at].boots),
            version: self.local.running.clone(),
            address: String::new(),
            busy: busy.clone(),
            unfit: Vec::new(),
            unknown: serde_json::Map::new(),
        };
        let guard = match world.etcd.get(&key.to_string()) {
            None => Compare::absent(&key),
            Some(kv) => {
                let ours = Alive::decode(&kv.value)
                    .is_ok_and(|alive| alive.machine_id == self.local.machine_id);
                if !ours {
                    self.alive_said = Some(busy);
                    return;
                }
                Compare::unchanged(&key, kv.mod_revision)
            }
        };
        let txn = Txn::default().when(guard).then(Op::put(&key, &record).with_lease(lease));
        match world.commit(self.source(), Some(self.at), &txn) {
            Reply::Done | Reply::Unknown => self.alive_said = Some(busy),
            Reply::Refused => self.lease = None,
            Reply::Unreachable => {}
        }
    }

    /// Renews the lease of the record that the server lives, if the process runs and etcd answers.
    pub fn keep_alive(&mut self, world: &mut World) {
        if world.now < self.frozen_until || !world.reachable(self.at) {
            return;
        }
        if let Some(lease) = self.lease
            && !world.keep_alive(lease)
        {
            world.counts.add(Kind::State, "alive record lapsed");
            self.lease = None;
            self.alive_said = None;
        }
    }

    /// Reads which package is installed.
    pub fn sees_installed(&mut self, installed: NecoVersion) {
        self.local.installed = installed;
        self.quiet = None;
    }
}

fn same_for_workers(one: Tick, other: Tick) -> bool {
    one.workers == other.workers
}
