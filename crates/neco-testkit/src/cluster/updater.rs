//! The updater process: stands for election, and leads while its key is the oldest.

use std::time::Duration;

use neco_plan::invariants::Daemon;
use neco_plan::testing::{GoAction, go_next_action, go_txn};
use neco_plan::{
    Action, Elapsed, Limits, Stopwatch, View, Waiting, Window, next_action, publish_release,
};
use neco_schema::{
    Compare, Key, LeaseId, Lrn, NecoVersion, Op, Range, RequestKind, Revision, Txn, prefixes,
};

use super::bugs::Bug;
use super::counts::Kind;
use super::evidence::Source;
use super::release::package;
use super::world::{Reply, Tick, World};

/// How long a leader keeps its office without renewal.
pub const OFFICE: Duration = Duration::from_secs(60);
/// How long a request may take.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(3600);
/// How long a step may go without progress.
pub const STEP_LIMIT: Duration = Duration::from_secs(900);
/// How often the elapsed time is written down.
const CLOCK_EVERY: Duration = Duration::from_secs(10);
/// How often a leader looks although nothing changed.
const POLL: Duration = Duration::from_secs(30);

/// An updater process.
#[derive(Clone, Debug)]
pub struct Updater {
    /// Which machine it runs on.
    pub at: usize,
    /// Whether it behaves like the original's.
    pub is_go: bool,
    /// By how many seconds its wall clock is off.
    pub skew: i64,
    /// Whether the process runs.
    pub running: bool,
    /// Until when it does not run although it lives.
    pub frozen_until: Duration,
    /// What it waits for, as of its last look.
    pub waiting: Option<Waiting>,
    office: Option<(LeaseId, Revision)>,
    stopwatch: Stopwatch,
    looked_at: Duration,
    wrote_clock_at: Duration,
    writing: Option<Txn>,
    quiet: Option<(Tick, Duration)>,
}

impl Updater {
    /// An updater on the machine `at`.
    pub fn new(at: usize, is_go: bool, skew: i64) -> Self {
        Self {
            at,
            is_go,
            skew,
            running: true,
            frozen_until: Duration::ZERO,
            waiting: None,
            office: None,
            stopwatch: Stopwatch::default(),
            looked_at: Duration::ZERO,
            wrote_clock_at: Duration::ZERO,
            writing: None,
            quiet: None,
        }
    }

    /// The process dies; its election key stays until the lease runs out.
    pub fn crash(&mut self) {
        *self = Self { running: false, ..Self::new(self.at, self.is_go, self.skew) };
    }

    /// Whether it has something to do.
    pub fn ready(&self, world: &World) -> bool {
        self.running
            && world.now >= self.frozen_until
            && world.hosts[self.at].powered
            && (self.writing.is_some() || world.reachable(self.at))
            && (self.writing.is_some()
                || self.quiet.is_none_or(|(tick, until)| {
                    tick.leaders != world.tick.leaders || world.now >= until
                }))
    }

    /// When it looks again by itself.
    pub fn wakes_at(&self) -> Option<Duration> {
        self.quiet.map(|(_, until)| until).filter(|_| self.running)
    }

    /// Whether a write is decided and not sent.
    pub fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// Does one atomic action.
    pub fn act(&mut self, world: &mut World) {
        world.asked(self.at, Daemon::Updater);
        if let Some(txn) = self.writing.take() {
            let source = if self.is_go { Source::Go } else { Source::Leader };
            let leads = self.leads(world);
            let reply = world.commit(source, Some(self.at), &txn);
            // A write that does not get through in time is forgotten: the next look decides anew.
            if reply == Reply::Refused && !leads {
                world.counts.add(Kind::State, "write of a former leader refused");
            }
            return;
        }
        if self.office.is_none() {
            self.campaign(world);
        } else if self.leads(world) {
            self.look(world);
        } else {
            self.rest(world);
        }
    }

    fn rest(&mut self, world: &World) {
        self.quiet = Some((world.tick, world.now + POLL));
    }

    fn key(lease: LeaseId) -> Key {
        Key::Candidate { election: "updater".to_owned(), lease: lease.0.unsigned_abs() }
    }

    fn campaign(&mut self, world: &mut World) {
        self.stopwatch = Stopwatch::default();
        self.waiting = None;
        let lease = world.grant(OFFICE);
        let key = Self::key(lease);
        let value = format!("boot-{}", world.hosts[self.at].lrn);
        let txn = Txn::default()
            .when(Compare::absent(&key))
            .then(Op::put_bytes(&key, value).with_lease(lease));
        let source = if self.is_go { Source::Go } else { Source::Setup };
        world.commit(source, Some(self.at), &txn);
        let created = world.etcd.get(&key.to_string()).map(|kv| kv.create_revision);
        self.office = created.map(|created| (lease, created));
        self.looked_at = world.now;
    }

    /// Whether its key is the oldest.
    pub fn leads(&self, world: &World) -> bool {
        let Some((_, own)) = self.office else { return false };
        let range = Range::Prefix(prefixes::LEADER_UPDATER.to_owned());
        let candidates = world.read(std::slice::from_ref(&range)).kvs;
        candidates.values().map(|kv| kv.create_revision).min() == Some(own)
    }

    fn look(&mut self, world: &mut World) {
        let view = world.leader_view();
        let passed = world.now - self.looked_at;
        self.looked_at = world.now;
        if let Some(latest) = world.latest.clone()
            && self.publish(world, &view, &latest)
        {
            return;
        }
        if self.is_go {
            self.go_look(world, &view);
        } else {
            self.our_look(world, &view, passed);
        }
    }

    fn leadership(&self) -> Option<(Key, Compare)> {
        let (lease, created) = self.office?;
        let key = Self::key(lease);
        let compare = Compare::same(&key, created);
        Some((key, compare))
    }

    fn context(
        &self,
        world: &World,
        version: Option<&NecoVersion>,
    ) -> Option<neco_plan::LeaderContext> {
        let (_, leadership) = self.leadership()?;
        Some(neco_plan::LeaderContext {
            leadership,
            now: world.wall(self.skew),
            host: format!("boot-{}", world.hosts[self.at].lrn),
            package: version.map(package),
        })
    }

    fn publish(&mut self, world: &mut World, view: &View, latest: &NecoVersion) -> bool {
        let Some(context) = self.context(world, None) else { return false };
        self.writing = publish_release(view, &context, latest);
        self.writing.is_some()
    }

    fn our_look(&mut self, world: &mut World, view: &View, passed: Duration) {
        let groups = view
            .current()
            .map(|request| world.recipe.shape(&request.version).groups)
            .unwrap_or_default();
        let mut elapsed = self.stopwatch.look(view, &groups, passed);
        if world.bug == Some(Bug::WallClockDeadline)
            && let Some(request) = view.current()
        {
            let seconds = world.wall(self.skew).seconds_since(request.started_at);
            elapsed.request = Duration::from_secs(seconds.max(0).unsigned_abs());
        }
        if world.bug == Some(Bug::DeadlineLeftOut) {
            elapsed = Elapsed::default();
        }
        let ignored = world.bug == Some(Bug::WindowIgnored);
        let window = if world.now < world.window_closed_until && !ignored {
            Window::Closed(Some(world.wall(0)))
        } else {
            Window::Open
        };
        let probes = if world.now < world.trouble_until {
            vec!["vault is sealed".to_owned()]
        } else {
            Vec::new()
        };
        let limits = Limits { request: REQUEST_LIMIT, step: STEP_LIMIT, window, probes };
        let action = next_action(view, &limits, &elapsed);
        world.counts.add(Kind::LeaderAction, action.name());
        world.tell(|| format!("leader on {} decides {action:?}", self.at));
        self.waiting = None;
        if let Action::Wait(waiting) = action {
            world.counts.add(Kind::LeaderWait, name_of(&waiting));
            self.waiting = Some(waiting);
            let counts = view.current().is_some_and(|request| !request.stop);
            if counts && world.now >= self.wrote_clock_at + CLOCK_EVERY {
                self.wrote_clock_at = world.now;
                let txn = self.stopwatch.txn(view);
                self.writing =
                    txn.zip(self.leadership()).map(|(txn, (_, compare))| txn.when(compare));
            }
            self.rest(world);
            return;
        }
        let version = match &action {
            Action::Request(request) if request.kind != RequestKind::Reconfigure => {
                Some(request.version.clone())
            }
            _ => None,
        };
        let context = self.context(world, version.as_ref());
        self.writing = context.and_then(|context| action.txn(view, &context));
        if world.bug == Some(Bug::LeaderUnguarded)
            && let Some(txn) = &mut self.writing
        {
            txn.compares.clear();
        }
    }

    fn go_look(&mut self, world: &mut World, view: &View) {
        let now = world.wall(self.skew);
        let action = go_next_action(view, now, REQUEST_LIMIT);
        world.counts.add(Kind::GoWriter, action.name());
        world.tell(|| format!("Go leader on {} decides {action:?}", self.at));
        self.waiting = match action {
            GoAction::WaitClear => Some(Waiting::Recovery { cause: String::new() }),
            GoAction::WaitInfo if view.release.is_none() => Some(Waiting::Release),
            GoAction::WaitInfo => Some(Waiting::Idle),
            _ => None,
        };
        let own = self.leadership().map(|(key, _)| key);
        self.writing = own.and_then(|own| go_txn(&action, view, &own, now));
        if self.writing.is_none() {
            self.rest(world);
        }
    }

    /// Renews the office, if the process runs and etcd answers.
    pub fn keep_alive(&mut self, world: &mut World) {
        if !self.running
            || world.now < self.frozen_until
            || !world.hosts[self.at].powered
            || !world.reachable(self.at)
        {
            return;
        }
        if let Some((lease, _)) = self.office
            && !world.keep_alive(lease)
        {
            world.counts.add(Kind::State, "office lapsed");
            // A write decided before is still on its way.
            self.office = None;
        }
    }

    /// The server it runs on.
    pub fn lrn(&self, world: &World) -> Lrn {
        world.hosts[self.at].lrn
    }
}

fn name_of(waiting: &Waiting) -> &'static str {
    match waiting {
        Waiting::Release => "release",
        Waiting::Recovery { .. } => "recovery",
        Waiting::Settling { .. } => "settling",
        Waiting::Workers { .. } => "workers",
        Waiting::Preflight { .. } => "preflight",
        Waiting::Window { .. } => "window",
        Waiting::Paused { .. } => "paused",
        Waiting::AbortedBefore { .. } => "aborted before",
        Waiting::Withdrawn { .. } => "withdrawn",
        Waiting::Unreadable { .. } => "unreadable",
        Waiting::Idle => "idle",
    }
}
