//! What runs beside a worker's main loop, cut into atomic operations.

use neco_plan::{Fence, IntentState, View, decide_way, fence, release_turn, take_turn};
use neco_schema::journal::{Effect, Entry, IntentEnd, IntentId, Phase};
use neco_schema::{
    Compare, ContentsStatus, Key, LeaseId, Lrn, NecoVersion, Op, PackageRef, Range, Record as _,
    RequestId, Revision, Txn, Way, prefixes,
};

use super::bugs::Bug;
use super::counts::Kind;
use super::host::{ETCD, Installer, Stage};
use super::release::StepKind;
use super::worker::Worker;
use super::world::{Reply, Tick, World};

/// How long an elected worker keeps its office without renewal.
const OFFICE: std::time::Duration = std::time::Duration::from_secs(15);

/// Something done to the machine: announced, done, reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// A piece of work without trace.
    Work,
    /// Writes the file of a step.
    WriteFile(u32),
    /// Writes the unit of a service as the installed version defines it.
    Define(String),
    /// Stops the service of a group for good: disabled, too.
    Stop(String),
    /// Starts a service as defined, enabled.
    Start(String),
    /// Starts a service as it was before.
    StartOld(String),
    /// Stops etcd for a restart.
    StopEtcd,
}

impl Act {
    fn what(&self) -> String {
        match self {
            Self::Work => "work".to_owned(),
            Self::WriteFile(step) => format!("write /etc/step-{step}"),
            Self::Define(unit) => format!("write unit {unit}"),
            Self::Stop(unit) => format!("stop {unit}"),
            Self::Start(unit) | Self::StartOld(unit) => format!("start {unit}"),
            Self::StopEtcd => format!("stop {ETCD}"),
        }
    }
}

/// One atomic operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A safe point.
    Fence,
    /// An effect.
    Do(Act),
    /// Fails.
    Fail(String),
    /// Ends the worker.
    Die,
    /// Announces that a group acts on this server.
    OpenGroup(String),
    /// Decides that a group goes forward.
    Forward(String),
    /// The group is over here.
    CloseGroup(String, Way),
    /// Jumps unless etcd is to be restarted or its membership to be changed.
    UnlessEtcd(usize),
    /// Jumps unless etcd is to be restarted.
    UnlessRestart(usize),
    /// Takes the turn for etcd.
    TakeTurn,
    /// Removes members of etcd that are not members of the request.
    RemoveMembers,
    /// Adds the own member of etcd.
    AddMember,
    /// Announces the restart.
    OpenIntent,
    /// Asks once more whether the turn is ours and all others are healthy.
    Prove,
    /// From here the restart must be completed.
    BeginIntent,
    /// Waits until the own etcd has caught up.
    Healthy,
    /// Gives the turn back.
    GiveTurn,
    /// The restart is over.
    CloseIntent,
    /// Stands for election.
    Elect,
    /// Does what is done once per cluster, and says so.
    Once(String),
    /// Leaves office.
    Resign,
    /// Announces the installation.
    OpenInstall,
    /// From here the installation must be completed.
    BeginInstall,
    /// Enables and starts the unit that installs.
    StartInstaller,
    /// Waits until that unit has closed the intent.
    AwaitVerdict,
    /// The step is done.
    Done,
}

/// How a task goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It has more to do.
    Goes,
    /// It waits for a change.
    Waits,
    /// It is over, however it ended.
    Over,
    /// The process died of it.
    Died,
}

/// What runs beside a worker's main loop.
#[derive(Clone, Debug)]
pub struct Task {
    pieces: Vec<Piece>,
    next: usize,
    phase: u8,
    waits: Option<Tick>,
    request: RequestId,
    step: u32,
    attempt: u32,
    revision: Revision,
    intent: Option<IntentId>,
    install: Option<(NecoVersion, PackageRef)>,
    office: Option<(LeaseId, Revision)>,
    disk_changed: bool,
    is_step: bool,
}

impl Task {
    fn new(request: RequestId, step: u32, pieces: Vec<Piece>) -> Self {
        Self {
            pieces,
            next: 0,
            phase: 0,
            waits: None,
            request,
            step,
            attempt: 1,
            revision: Revision(0),
            intent: None,
            install: None,
            office: None,
            disk_changed: false,
            is_step: false,
        }
    }

    /// A step, as the view and the release shape it.
    pub fn running(
        world: &World,
        worker: &Worker,
        view: &View,
        request: RequestId,
        step: u32,
        attempt: u32,
    ) -> Self {
        let release = world.releases.get(&worker.local.running);
        let fails = release.is_some_and(|release| release.fails.contains(&(worker.at, step)));
        let kills = release.is_some_and(|release| release.kills.contains(&(worker.at, step)));
        let mut pieces = match world.recipe.kind(step) {
            StepKind::Plain => vec![Piece::Fence, Piece::Do(Act::WriteFile(step)), Piece::Done],
            StepKind::Slow(times) => {
                let mut pieces = Vec::new();
                for _ in 0..times {
                    pieces.extend([Piece::Fence, Piece::Do(Act::Work)]);
                }
                pieces.extend([Piece::Fence, Piece::Do(Act::WriteFile(step)), Piece::Done]);
                pieces
            }
            StepKind::GroupStop(group) if acts(view, &request, &group) => vec![
                Piece::Fence,
                Piece::OpenGroup(group.clone()),
                Piece::Do(Act::Stop(group)),
                Piece::Done,
            ],
            StepKind::GroupApply(group) if worker.local.journal.groups.contains_key(&group) => {
                let decide = if world.bug == Some(Bug::WayLeftOut) {
                    Piece::Fence
                } else {
                    Piece::Forward(group.clone())
                };
                vec![
                    Piece::Fence,
                    decide,
                    Piece::Do(Act::Define(group.clone())),
                    Piece::Do(Act::Start(group.clone())),
                    Piece::CloseGroup(group, Way::Forward),
                    Piece::Done,
                ]
            }
            StepKind::GroupStop(_) | StepKind::GroupApply(_) => vec![Piece::Fence, Piece::Done],
            StepKind::EtcdRestart => vec![
                Piece::Fence,
                Piece::Do(Act::Define(ETCD.to_owned())),
                Piece::UnlessEtcd(15),
                Piece::TakeTurn,
                Piece::RemoveMembers,
                Piece::UnlessRestart(11),
                Piece::OpenIntent,
                Piece::Prove,
                Piece::BeginIntent,
                Piece::Do(Act::StopEtcd),
                Piece::Do(Act::Start(ETCD.to_owned())),
                Piece::Healthy,
                Piece::AddMember,
                Piece::GiveTurn,
                Piece::CloseIntent,
                Piece::Done,
            ],
            StepKind::Once(name) => {
                vec![Piece::Fence, Piece::Elect, Piece::Once(name), Piece::Resign, Piece::Done]
            }
        };
        if kills {
            pieces.insert(1, Piece::Die);
        } else if fails {
            pieces.insert(1, Piece::Fail("scripted".to_owned()));
        }
        let mut task = Self::new(request, step, pieces);
        (task.attempt, task.revision, task.is_step) = (attempt, view.revision, true);
        task
    }

    /// An installation.
    pub fn installing(request: RequestId, to: NecoVersion, package: PackageRef) -> Self {
        let pieces = vec![
            Piece::Fence,
            Piece::Do(Act::Work),
            Piece::Fence,
            Piece::OpenInstall,
            Piece::Fence,
            Piece::BeginInstall,
            Piece::StartInstaller,
            Piece::AwaitVerdict,
        ];
        Self { install: Some((to, package)), ..Self::new(request, 0, pieces) }
    }

    /// The completion of an intent of an earlier process.
    pub fn completing(intent: &IntentId, state: &IntentState) -> Self {
        let (pieces, install) = match &state.effect {
            Effect::Restart { unit, .. } => (
                vec![Piece::Do(Act::Start(unit.clone())), Piece::Healthy, Piece::CloseIntent],
                None,
            ),
            Effect::Install { to, package, .. } => (
                vec![Piece::StartInstaller, Piece::AwaitVerdict],
                Some((to.clone(), package.clone())),
            ),
        };
        let task = Self::new(state.request.clone(), state.step, pieces);
        Self { install, intent: Some(intent.clone()), ..task }
    }

    /// The restoration of a group.
    pub fn restoring(group: &str, request: &RequestId, way: Way) -> Self {
        let mut pieces = match way {
            Way::Forward => {
                vec![
                    Piece::Do(Act::Define(group.to_owned())),
                    Piece::Do(Act::Start(group.to_owned())),
                ]
            }
            Way::Back => vec![Piece::Do(Act::StartOld(group.to_owned()))],
        };
        pieces.push(Piece::CloseGroup(group.to_owned(), way));
        Self::new(request.clone(), 0, pieces)
    }

    /// Whether it brings a group back.
    fn restores(&self) -> bool {
        matches!(self.pieces.last(), Some(Piece::CloseGroup(..)))
    }

    /// What comes next.
    pub fn next(&self) -> Option<&Piece> {
        self.pieces.get(self.next)
    }

    /// Whether it could go on.
    pub fn is_ready(&self, world: &World) -> bool {
        self.waits.is_none_or(|waits| waits != world.tick)
    }

    /// Lets it look again.
    pub fn wake(&mut self) {
        self.waits = None;
    }

    fn wait(&mut self, world: &World) -> Progress {
        self.waits = Some(world.tick);
        Progress::Waits
    }

    fn go(&mut self) -> Progress {
        self.next += 1;
        self.phase = 0;
        if self.next < self.pieces.len() { Progress::Goes } else { Progress::Over }
    }

    /// Does one atomic operation.
    pub fn advance(&mut self, worker: &mut Worker, world: &mut World) -> Progress {
        self.waits = None;
        let Some(piece) = self.pieces.get(self.next).cloned() else { return Progress::Over };
        world.tell(|| format!("{} does {piece:?}", worker.local.lrn));
        match piece {
            Piece::Fence => match self.fence(worker, world) {
                Ok(_) => self.go(),
                Err(progress) => progress,
            },
            Piece::Do(act) => self.effect(worker, world, &act),
            Piece::Fail(cause) => self.failed(worker, world, cause),
            Piece::Die => Progress::Died,
            Piece::OpenGroup(group) => {
                let (request, revision) = (self.request.clone(), self.revision);
                worker.write_down(world, &Entry::GroupOpened { group, request, revision });
                self.go()
            }
            Piece::Forward(group) => self.forward(worker, world, &group),
            Piece::CloseGroup(group, way) => {
                let request = self.request.clone();
                worker.write_down(world, &Entry::GroupClosed { group, request, way });
                self.go()
            }
            Piece::UnlessEtcd(past) => {
                let outsiders = !self.outsiders(world).is_empty();
                let stranger = !world.members.contains(&worker.at);
                if outsiders || stranger || self.etcd_changed(worker, world) {
                    self.go()
                } else {
                    self.jump(past)
                }
            }
            Piece::UnlessRestart(past) => {
                if self.etcd_changed(worker, world) {
                    self.go()
                } else {
                    self.jump(past)
                }
            }
            Piece::TakeTurn => self.take_turn(worker, world),
            Piece::RemoveMembers => self.remove_members(worker, world),
            Piece::AddMember => {
                if !world.reachable(worker.at) {
                    return self.wait(world);
                }
                if world.members.insert(worker.at) {
                    world.counts.add(Kind::State, "member of etcd added");
                    world.machines_changed();
                }
                self.go()
            }
            Piece::OpenIntent => {
                let intent = IntentId(format!("{}-{}-{}", self.request, self.step, self.attempt));
                self.intent = Some(intent.clone());
                let unit = ETCD.to_owned();
                let units = &world.hosts[worker.at].units;
                let digest = units.get(ETCD).map(|unit| unit.definition.clone());
                let effect = Effect::Restart { unit, digest };
                let (request, step) = (self.request.clone(), self.step);
                worker.write_down(world, &Entry::IntentOpened { intent, request, step, effect });
                self.go()
            }
            Piece::Prove => self.prove(worker, world),
            Piece::BeginIntent | Piece::BeginInstall => {
                if let Some(intent) = self.intent.clone() {
                    let revision = self.revision;
                    worker.write_down(world, &Entry::IntentBegun { intent, revision });
                }
                self.go()
            }
            Piece::Healthy => {
                if world.serves(worker.at) && world.quorum() {
                    self.go()
                } else {
                    self.wait(world)
                }
            }
            Piece::GiveTurn => self.give_turn(worker, world),
            Piece::CloseIntent => {
                if let Some(intent) = self.intent.take() {
                    let end = IntentEnd::Completed;
                    worker.write_down(world, &Entry::IntentClosed { intent, end });
                }
                self.go()
            }
            Piece::Elect => self.elect(worker, world),
            Piece::Once(name) => self.once(worker, world, &name),
            Piece::Resign => {
                self.resign(worker, world);
                self.go()
            }
            Piece::OpenInstall => {
                let Some((to, package)) = self.install.clone() else { return Progress::Over };
                let intent = IntentId(format!("{}-package", self.request));
                self.intent = Some(intent.clone());
                let from = worker.local.installed.clone();
                let way_back = Some(super::release::package(&from).file);
                let effect = Effect::Install { from, to, package, way_back };
                let request = self.request.clone();
                worker.write_down(world, &Entry::IntentOpened { intent, request, step: 0, effect });
                self.go()
            }
            Piece::StartInstaller => {
                self.start_installer(worker, world);
                self.go()
            }
            Piece::AwaitVerdict => {
                let open = self
                    .intent
                    .as_ref()
                    .is_some_and(|intent| worker.local.journal.intents.contains_key(intent));
                if open { self.wait(world) } else { self.go() }
            }
            Piece::Done => {
                let (request, step) = (self.request.clone(), self.step);
                worker.write_down(world, &Entry::StepDone { request, step });
                Progress::Over
            }
        }
    }

    fn jump(&mut self, to: usize) -> Progress {
        // Counted without what a fault inserted.
        let inserted =
            self.pieces.iter().filter(|piece| matches!(piece, Piece::Die | Piece::Fail(_))).count();
        self.next = to + inserted;
        self.phase = 0;
        Progress::Goes
    }

    /// May the next effect begin? A fresh view, and everything decided again.
    fn fence(
        &mut self,
        worker: &mut Worker,
        world: &mut World,
    ) -> Result<std::rc::Rc<View>, Progress> {
        if !world.reachable(worker.at) {
            return Err(self.wait(world));
        }
        let view = world.worker_view();
        self.revision = view.revision;
        if world.bug == Some(Bug::FenceLeftOut) {
            return Ok(view);
        }
        match fence(&view, &worker.local) {
            Fence::Go => {
                worker.mark(world, &view);
                Ok(view)
            }
            Fence::Wait(_) => {
                world.counts.add(Kind::State, "fence waits");
                Err(self.wait(world))
            }
            Fence::Cancel(why) => {
                world.counts.add(Kind::State, "fence cancels");
                world.tell(|| format!("{} cancels: {why}", worker.local.lrn));
                self.cancelled(worker, world);
                Err(Progress::Over)
            }
        }
    }

    fn cancelled(&mut self, worker: &mut Worker, world: &mut World) {
        self.drop_intent(worker, world);
        self.resign(worker, world);
        // The next look is not older than what the fence has seen.
        worker.has_seen(self.revision);
        if self.is_step {
            let (request, step) = (self.request.clone(), self.step);
            worker.write_down(world, &Entry::StepCancelled { request, step });
        }
    }

    fn drop_intent(&mut self, worker: &mut Worker, world: &mut World) {
        if let Some(intent) = self.intent.take()
            && worker.local.journal.intents.contains_key(&intent)
        {
            let end = IntentEnd::Dropped;
            worker.write_down(world, &Entry::IntentClosed { intent, end });
        }
    }

    fn failed(&mut self, worker: &mut Worker, world: &mut World, cause: String) -> Progress {
        world.counts.add(Kind::Fault, "step fails");
        self.drop_intent(worker, world);
        self.resign(worker, world);
        let (request, step) = (self.request.clone(), self.step);
        worker.write_down(world, &Entry::StepFailed { request, step, cause });
        Progress::Over
    }

    /// Announced, done, reported: three actions.
    fn effect(&mut self, worker: &mut Worker, world: &mut World, act: &Act) -> Progress {
        self.phase += 1;
        let report = |phase: Phase| Entry::Effect {
            request: self.request.clone(),
            step: self.step,
            attempt: self.attempt,
            what: act.what(),
            phase,
            revision: self.revision,
        };
        match self.phase {
            1 => {
                let entry = report(Phase::Begin);
                worker.write_down(world, &entry);
                Progress::Goes
            }
            2 => {
                if self.apply(worker, world, act) {
                    Progress::Goes
                } else if self.is_step {
                    self.failed(worker, world, format!("{} failed", act.what()))
                } else {
                    // What cannot be restored stays stopped, and the status says so.
                    if self.restores() {
                        let cause = format!("{} failed: it stays stopped", act.what());
                        let request = self.request.clone();
                        let entry = Entry::StepFailed { request, step: 0, cause };
                        worker.write_down(world, &entry);
                    }
                    self.go()
                }
            }
            _ => {
                let entry = report(Phase::End);
                worker.write_down(world, &entry);
                if let Act::Start(unit) | Act::StartOld(unit) = act
                    && let Some(digest) = world.hosts[worker.at].running(unit).cloned()
                {
                    worker.write_down(
                        world,
                        &Entry::Started { unit: unit.clone(), digest, run: None },
                    );
                }
                self.go()
            }
        }
    }

    /// The effect itself; false if it failed.
    fn apply(&mut self, worker: &Worker, world: &mut World, act: &Act) -> bool {
        let at = worker.at;
        let installed = world.hosts[at].installed.clone();
        let defined =
            |world: &World, unit: &str| world.releases.get(&installed)?.units.get(unit).cloned();
        match act {
            Act::Work => {}
            Act::WriteFile(step) => {
                world.hosts[at].files.insert(*step, worker.local.running.clone());
            }
            Act::Define(unit) => {
                if let Some(definition) = defined(world, unit) {
                    let unit = world.hosts[at].units.entry(unit.clone()).or_default();
                    self.disk_changed |= unit.definition != definition;
                    unit.definition = definition;
                }
            }
            Act::Stop(unit) => {
                let stays = world.bug == Some(Bug::UnitStaysEnabled);
                world.hosts[at].units.entry(unit.clone()).or_default().enabled = stays;
                world.service(at, unit, None, true);
            }
            Act::StopEtcd => {
                world.counts.add(Kind::State, "etcd restarted");
                world.hosts[at].restarting = true;
                world.service(at, ETCD, None, true);
            }
            Act::Start(unit) => {
                let broken = unit != ETCD
                    && world
                        .releases
                        .get(&installed)
                        .is_some_and(|release| release.broken_services.contains(&at));
                if broken {
                    world.counts.add(Kind::Fault, "service does not start");
                    return false;
                }
                let definition = world.hosts[at].units.entry(unit.clone()).or_default();
                definition.enabled = true;
                let definition = definition.definition.clone();
                if world.hosts[at].running(unit) != Some(&definition) {
                    world.service(at, unit, Some(definition), true);
                }
                if unit == ETCD {
                    world.hosts[at].restarting = false;
                } else {
                    world.hosts[at].fresh = false;
                }
            }
            Act::StartOld(unit) => {
                // As it stands on the disk: nothing of the group has been applied, or the way would be forward.
                let old = world.hosts[at].units.entry(unit.clone()).or_default();
                // What was never set up here is not set up by going back.
                let definition = Some(old.definition.clone()).filter(|text| !text.is_empty());
                if let Some(definition) = definition {
                    old.enabled = true;
                    if old.running.as_ref() != Some(&definition) {
                        world.service(at, unit, Some(definition), true);
                    }
                }
            }
        }
        true
    }

    fn forward(&mut self, worker: &mut Worker, world: &mut World, group: &str) -> Progress {
        let view = match self.fence(worker, world) {
            Ok(view) => view,
            Err(progress) => return progress,
        };
        if view.unreadable.contains_key(&Key::Group(group.to_owned())) {
            return self.wait(world);
        }
        match view.groups.get(group).filter(|record| record.value.request == self.request) {
            Some(record) if record.value.way == Way::Forward => self.go(),
            // Others go back: the request is stopped or aborted, and the next look says so.
            Some(_) => self.wait(world),
            None => {
                let txn = decide_way(&view, group, &self.request, Way::Forward);
                match world.commit(worker.source(), Some(worker.at), &txn) {
                    Reply::Done => self.go(),
                    _ => Progress::Goes,
                }
            }
        }
    }

    fn etcd_changed(&self, worker: &Worker, world: &World) -> bool {
        if world.bug == Some(Bug::ComparedWithDisk) {
            return self.disk_changed;
        }
        let defined = world.hosts[worker.at].units.get(ETCD).map(|unit| &unit.definition);
        worker.local.journal.started_with.get(ETCD) != defined
    }

    /// Members of etcd that are no members of the request, by index.
    fn outsiders(&self, world: &World) -> Vec<usize> {
        let Some(request) = world.oracle.current().filter(|current| current.id() == self.request)
        else {
            return Vec::new();
        };
        let outside = |at: &usize| !request.is_member(world.hosts[*at].lrn);
        world.members.iter().copied().filter(outside).collect()
    }

    fn take_turn(&mut self, worker: &mut Worker, world: &mut World) -> Progress {
        if world.bug == Some(Bug::TurnLeftOut) {
            return self.go();
        }
        let view = match self.fence(worker, world) {
            Ok(view) => view,
            Err(progress) => return progress,
        };
        if view.unreadable.contains_key(&Key::Turn(ETCD.to_owned())) {
            return self.wait(world);
        }
        match view.turns.get(ETCD) {
            Some(turn) if turn.value.lrn == worker.local.lrn => self.go(),
            Some(turn) => {
                world.counts.add(Kind::State, "turn is held by another");
                if world.bug == Some(Bug::TurnByLease) && !view.is_alive(turn.value.lrn) {
                    let txn = release_turn(ETCD, turn.create_revision);
                    world.commit(worker.source(), Some(worker.at), &txn);
                    return Progress::Goes;
                }
                self.wait(world)
            }
            None => {
                let now = world.wall(0);
                let txn = take_turn(&view, ETCD, worker.local.lrn, &self.request, now);
                // Whatever the answer: the next look tells who holds it.
                world.commit(worker.source(), Some(worker.at), &txn);
                Progress::Goes
            }
        }
    }

    fn remove_members(&mut self, worker: &mut Worker, world: &mut World) -> Progress {
        if let Err(progress) = self.fence(worker, world) {
            return progress;
        }
        let outsiders = self.outsiders(world);
        if outsiders.is_empty() {
            return self.go();
        }
        let old_size = world.bug == Some(Bug::OldSizeMajority);
        let removable = |outsider: &usize| {
            let left = world.members.iter().filter(|member| *member != outsider);
            let (size, healthy) = left.fold((0, 0), |(size, healthy), member| {
                (size + 1, healthy + usize::from(world.serves(*member)))
            });
            healthy * 2 > size + usize::from(old_size)
        };
        // Those that do not answer go first: taking away one that does may cost the majority.
        let mut outsiders = outsiders;
        outsiders.sort_by_key(|outsider| world.serves(*outsider));
        let outsider = outsiders.into_iter().find(removable);
        match outsider.filter(|_| world.quorum()) {
            Some(outsider) => {
                world.members.remove(&outsider);
                world.counts.add(Kind::State, "member of etcd removed");
                world.machines_changed();
                Progress::Goes
            }
            None => {
                world.counts.add(Kind::State, "member of etcd cannot be removed now");
                self.wait(world)
            }
        }
    }

    fn prove(&mut self, worker: &mut Worker, world: &mut World) -> Progress {
        let view = match self.fence(worker, world) {
            Ok(view) => view,
            Err(progress) => return progress,
        };
        let mine = view.turns.get(ETCD).is_some_and(|turn| turn.value.lrn == worker.local.lrn);
        let asked = !matches!(world.bug, Some(Bug::TurnLeftOut | Bug::TurnNotReread));
        if !mine && asked {
            // Somebody released it: take it again.
            world.counts.add(Kind::State, "turn was taken away");
            self.drop_intent(worker, world);
            let take = self.pieces.iter().position(|piece| *piece == Piece::TakeTurn);
            self.next = take.unwrap_or(self.next);
            return Progress::Goes;
        }
        let others = world.members.iter().filter(|member| **member != worker.at);
        let sick = others.into_iter().any(|member| !world.serves(*member));
        if sick && world.bug != Some(Bug::HealthLeftOut) {
            world.counts.add(Kind::State, "another etcd is not healthy");
            return self.wait(world);
        }
        world.oracle.proved(worker.at);
        self.go()
    }

    fn give_turn(&mut self, worker: &mut Worker, world: &mut World) -> Progress {
        if !world.reachable(worker.at) {
            return self.wait(world);
        }
        let view = world.worker_view();
        match view.turns.get(ETCD).filter(|turn| turn.value.lrn == worker.local.lrn) {
            None => self.go(),
            Some(turn) => {
                let txn = release_turn(ETCD, turn.create_revision);
                match world.commit(worker.source(), Some(worker.at), &txn) {
                    Reply::Done => self.go(),
                    _ => Progress::Goes,
                }
            }
        }
    }

    fn elect(&mut self, worker: &mut Worker, world: &mut World) -> Progress {
        if let Err(progress) = self.fence(worker, world) {
            return progress;
        }
        let lease = match self.office {
            Some((lease, _)) if world.keep_alive(lease) => lease,
            _ => world.grant(OFFICE),
        };
        let key = candidate(lease);
        let range = Range::Prefix(prefixes::LEADER_WORKER.to_owned());
        let candidates = world.read(std::slice::from_ref(&range)).kvs;
        match candidates.get(&key.to_string()) {
            Some(own) => {
                self.office = Some((lease, own.create_revision));
                let first = candidates.values().map(|kv| kv.create_revision).min();
                if first == Some(own.create_revision) { self.go() } else { self.wait(world) }
            }
            None => {
                self.office = Some((lease, Revision(0)));
                let value = worker.local.lrn.to_string();
                let txn = Txn::default()
                    .when(Compare::absent(&key))
                    .then(Op::put_bytes(&key, value).with_lease(lease));
                if world.commit(worker.source(), Some(worker.at), &txn) == Reply::Refused {
                    self.office = None;
                }
                Progress::Goes
            }
        }
    }

    fn once(&mut self, worker: &mut Worker, world: &mut World, name: &str) -> Progress {
        if !world.reachable(worker.at) {
            return self.wait(world);
        }
        let Some((lease, created)) = self.office else { return Progress::Over };
        if !world.keep_alive(lease) {
            // Lost the office: stand again.
            self.office = None;
            self.next -= 1;
            return Progress::Goes;
        }
        let view = match self.fence(worker, world) {
            Ok(view) => view,
            Err(progress) => return progress,
        };
        let version = worker.local.running.clone();
        let inputs = Some("inputs".to_owned());
        let done = view.contents.get(name).is_some_and(|status| {
            let status = &status.value;
            status.success && status.version == version && status.inputs == inputs
        });
        if done {
            return self.go();
        }
        world.counts.add(Kind::State, "done once per cluster");
        let status = ContentsStatus {
            version,
            success: true,
            request: Some(self.request.clone()),
            inputs,
            unknown: serde_json::Map::new(),
        };
        let before = view.contents.get(name).map(|status| status.mod_revision).unwrap_or_default();
        let key = Key::Contents(name.to_owned());
        let txn = Txn::default()
            .when(Compare::same(&candidate(lease), created))
            .when(Compare::unchanged(&key, before))
            .then(Op::put(&key, &status));
        match world.commit(worker.source(), Some(worker.at), &txn) {
            Reply::Done => self.go(),
            _ => Progress::Goes,
        }
    }

    fn resign(&mut self, worker: &Worker, world: &mut World) {
        if let Some((lease, _)) = self.office.take()
            && world.reachable(worker.at)
        {
            world.revoke(lease, &worker.source());
        }
    }

    fn start_installer(&self, worker: &Worker, world: &mut World) {
        let Some((to, _)) = self.install.clone() else { return };
        let Some(intent) = self.intent.clone() else { return };
        let host = &mut world.hosts[worker.at];
        if host.installer.is_some()
            || world.bug == Some(Bug::InstallForgotten) && self.is_completion()
        {
            return;
        }
        let from = match worker.local.journal.intents.get(&intent).map(|state| &state.effect) {
            Some(Effect::Install { from, .. }) => from.clone(),
            _ => worker.local.installed.clone(),
        };
        let request = self.request.clone();
        let revision = host.allowed_by(&intent);
        let stage = Stage::Unpack;
        host.installer = Some(Installer { intent, request, from, to, revision, stage });
        world.machines_changed();
    }

    fn is_completion(&self) -> bool {
        self.pieces.first() == Some(&Piece::StartInstaller)
    }
}

fn candidate(lease: LeaseId) -> Key {
    Key::Candidate { election: "worker".to_owned(), lease: lease.0.unsigned_abs() }
}

/// Whether a group acts: its service changes on any member.
fn acts(view: &View, request: &RequestId, group: &str) -> bool {
    let listed = |changes: &[String]| changes.iter().any(|change| change == group);
    view.plans.values().any(|plan| plan.value.request == *request && listed(&plan.value.changes))
}

/// The turn's holder, for tests.
pub fn turn_holder(world: &World) -> Option<Lrn> {
    let kv = world.etcd.get(&Key::Turn(ETCD.to_owned()).to_string())?;
    neco_schema::Turn::decode(&kv.value).ok().map(|turn| turn.lrn)
}
