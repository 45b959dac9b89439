//! One term of leadership: look, decide, write.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use neco_base::{Backoff, Retry};
use neco_connect::{Outage, Settings, Sources};
use neco_plan::{
    Action, GroupShape, LeaderContext, Limits, NewRequest, Stopwatch, View, Window, choose_target,
    leader_ranges, lowest_step, next_action,
};
use neco_process::clock::Clock;
use neco_releases::WindowState;
use neco_schema::{NecoVersion, PackageRef, Revision, Timestamp};
use neco_store::{Committed, Follower, Leadership, Over, Store, StoreError};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::newest::watch_releases;
use crate::notify::{Notifier, Notify, Told, send_news};
use crate::observation::Observation;
use crate::probe::Probe;
use crate::releases::{Unresolved, resolve};
use crate::strays::watch_strays;

/// How often a leader looks although nothing changed: deadlines are counted by it.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a leader is away from etcd after a look, however much changes: servers that step together change much at once.
const LOOKS_APART: Duration = Duration::from_millis(50);
/// How often counted time is written down.
const CLOCK_EVERY: Duration = Duration::from_secs(10);
/// How long probes may take before their answer counts as trouble.
const PROBES_WITHIN: Duration = Duration::from_secs(10);
/// Delays after something did not work.
const TRY_AGAIN: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));

/// How much news may wait for a webhook that hangs; more would be stale.
const NEWS_KEPT: usize = 16;

/// What an updater knows from its own server.
#[derive(Clone, Debug)]
pub struct Local {
    /// The name of this host, which stands in the election and in the history.
    pub host: String,
    /// The name of the package.
    pub package: String,
    /// Whether this server refuses unsigned packages: then no release is requested before its signature is there.
    pub needs_signature: bool,
    /// What the installed recipe says.
    pub recipe: Outline,
}

/// What a leader needs to know of a recipe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// The outage groups: deadlines count in them also while paused.
    pub groups: Vec<GroupShape>,
    /// How long a step may go without progress, where that differs from `config/step-timeout`.
    pub timeouts: BTreeMap<u32, Duration>,
}

/// The surroundings of an updater.
pub struct Context {
    /// etcd.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where releases come from.
    pub sources: Arc<dyn Sources>,
    /// What must be healthy before a request is made.
    pub probes: Vec<Arc<dyn Probe>>,
    /// Where notices go.
    pub notify: Arc<dyn Notify>,
    /// What this updater knows from its own server.
    pub local: Local,
    observed: watch::Sender<Observation>,
    outage: Outage,
}

impl Context {
    /// The surroundings of an updater.
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        sources: Arc<dyn Sources>,
        probes: Vec<Arc<dyn Probe>>,
        notify: Arc<dyn Notify>,
        local: Local,
    ) -> Self {
        let observed = watch::Sender::new(Observation::default());
        let outage = Outage::default();
        Self { store, clock, sources, probes, notify, local, observed, outage }
    }

    /// What this updater sees and does.
    pub fn observed(&self) -> watch::Receiver<Observation> {
        self.observed.subscribe()
    }

    pub(crate) fn observe(&self, change: impl FnOnce(&mut Observation)) {
        self.observed.send_modify(change);
    }

    /// etcd does not answer: that is said once, though the words change from try to try.
    pub(crate) fn without_etcd(&self, error: &StoreError) {
        let why = self.outage.failed(error);
        self.observe(|observation| observation.waiting_for = why);
    }

    pub(crate) fn etcd_answered(&self) {
        self.outage.answered();
    }

    pub(crate) fn now(&self) -> Timestamp {
        let since = self.clock.wall();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        Timestamp::from_unix(seconds).plus_nanos(i64::from(since.subsec_nanos()))
    }

    pub(crate) async fn look(&self) -> Result<View, StoreError> {
        Ok(View::assemble(&self.store.read(&leader_ranges(), None).await?))
    }

    pub(crate) fn leader(
        &self,
        leadership: &Leadership,
        package: Option<PackageRef>,
    ) -> LeaderContext {
        LeaderContext {
            leadership: leadership.compare(),
            now: self.now(),
            host: self.local.host.clone(),
            package,
        }
    }
}

/// Leads until leadership turns out to be lost, or a part of it breaks: then another term begins all of them anew.
pub(crate) async fn lead(context: &Arc<Context>, leadership: &Leadership) -> Over {
    let settings = Arc::new(Mutex::new(None));
    let (news, to_be_sent) = mpsc::channel(NEWS_KEPT);
    let mut tasks = JoinSet::new();
    tasks.spawn(watch_releases(Arc::clone(context), leadership.clone(), Arc::clone(&settings)));
    tasks.spawn(watch_strays(Arc::clone(context)));
    tasks.spawn(Notifier::new(Arc::clone(context)).run());
    tasks.spawn(send_news(Arc::clone(&context.notify), to_be_sent));
    let term = Term {
        context,
        leadership,
        settings,
        news,
        stopwatch: Stopwatch::default(),
        looked: context.clock.monotonic(),
        clock_written: context.clock.monotonic(),
        seen: Revision(0),
        retry: TRY_AGAIN.retry(),
        unresolved: TRY_AGAIN.retry(),
        put_off: None,
        last: None,
    };
    tokio::select! {
        biased;
        ended = tasks.join_next() => Over::Broken(match ended {
            Some(Err(error)) => error.to_string(),
            Some(Ok(())) | None => "it ended".to_owned(),
        }),
        why = term.run() => Over::Lost(why),
    }
}

/// The settings as the newest look has shown them.
pub(crate) type SharedSettings = Arc<Mutex<Option<Settings>>>;

struct Term<'a> {
    context: &'a Arc<Context>,
    leadership: &'a Leadership,
    settings: SharedSettings,
    news: mpsc::Sender<Told>,
    stopwatch: Stopwatch,
    looked: Duration,
    clock_written: Duration,
    /// Of which revision the last look was.
    seen: Revision,
    retry: Retry,
    /// Delays after versions whose bits could not be found out.
    unresolved: Retry,
    put_off: Option<PutOff>,
    last: Option<Action>,
}

/// A version that could not be requested; not asked for again before some time, or another order, has come.
struct PutOff {
    version: NecoVersion,
    /// The revision of `control/target`: naming the version again asks again.
    ordered: Revision,
    until: Duration,
    why: String,
}

enum Next {
    /// Nothing to do until something changes.
    Wait,
    /// Something changed by our own doing.
    Look,
    /// It did not work; try again after a while.
    Again,
    /// Somebody else leads.
    Lost,
}

impl Term<'_> {
    /// Leads until leadership is lost; says how that showed.
    async fn run(mut self) -> String {
        let store = Arc::clone(&self.context.store);
        let mut follower = Follower::every(store, leader_ranges(), LOOK_EVERY);
        loop {
            match self.turn().await {
                Next::Wait => {
                    self.retry.reset();
                    tokio::time::sleep(LOOKS_APART).await;
                    follower.changed_since(self.seen).await;
                }
                Next::Look => self.retry.reset(),
                Next::Again => tokio::time::sleep(self.retry.pause()).await,
                Next::Lost => return "the election key is gone".to_owned(),
            }
        }
    }

    async fn turn(&mut self) -> Next {
        let view = match self.context.look().await {
            Ok(view) => view,
            Err(error) => {
                self.context.without_etcd(&error);
                return Next::Again;
            }
        };
        self.context.etcd_answered();
        self.seen = view.revision;
        let settings = Settings::read(&view.config);
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = Some(settings.clone());
        let now = self.context.clock.monotonic();
        let passed = now.saturating_sub(self.looked);
        let elapsed = self.stopwatch.look(&view, &self.context.local.recipe.groups, passed);
        self.looked = now;
        let mut limits = self.limits(&view, &settings);
        let mut action = next_action(&view, &limits, &elapsed);
        let put_off = match &action {
            Action::Request(request) => self.put_off(&view, request, now),
            _ => None,
        };
        if matches!(action, Action::Request(_)) && put_off.is_none() {
            // Asked only now: probes cost calls, and the answer matters for a new request alone.
            limits.probes.extend(self.probe().await);
            action = next_action(&view, &limits, &elapsed);
        }
        self.note(&view, &settings, &action, put_off.as_deref());
        if let Err(next) = self.write_clock(&view, now).await {
            return next;
        }
        match &action {
            Action::Wait(_) => Next::Wait,
            Action::Request(_) if put_off.is_some() => Next::Wait,
            Action::Request(request) => match self.package_for(&view, &settings, request).await {
                Ok(package) => {
                    self.unresolved.reset();
                    self.put_off = None;
                    self.commit(&view, &action, package).await
                }
                Err(unresolved) => {
                    self.wait_for_bits(&view, &settings, request, unresolved);
                    Next::Wait
                }
            },
            Action::NoteSeen { .. } | Action::Record { .. } | Action::Stop { .. } => {
                self.commit(&view, &action, None).await
            }
        }
    }

    fn limits(&self, view: &View, settings: &Settings) -> Limits {
        let seen = choose_target(view)
            .ok()
            .and_then(|goal| view.seen.get(&goal.version).map(|seen| seen.value.at))
            .unwrap_or_else(|| self.context.now());
        let (window, probes) = match &settings.windows {
            Some(windows) => match windows.state(seen, self.context.now(), settings.release_window)
            {
                WindowState::Open => (Window::Open, Vec::new()),
                WindowState::Closed { next } => (Window::Closed(next), Vec::new()),
            },
            // When releases may begin cannot be told, so none does.
            None => {
                (Window::Closed(None), settings.problems.iter().map(ToString::to_string).collect())
            }
        };
        let step = view.current().map(|request| lowest_step(view, request));
        let own = step.and_then(|step| self.context.local.recipe.timeouts.get(&step));
        let step = own.copied().unwrap_or(settings.step_timeout);
        Limits { request: settings.worker_timeout, step, window, probes }
    }

    async fn probe(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for probe in &self.context.probes {
            match tokio::time::timeout(PROBES_WITHIN, probe.check()).await {
                Ok(found) => problems.extend(found),
                Err(_) => problems.push(format!("a probe did not answer within {PROBES_WITHIN:?}")),
            }
        }
        problems
    }

    fn note(&mut self, view: &View, settings: &Settings, action: &Action, put_off: Option<&str>) {
        let waiting_for = match action {
            Action::Wait(waiting) => waiting.to_string(),
            _ => put_off.unwrap_or_default().to_owned(),
        };
        let problems = view
            .problems
            .iter()
            .map(ToString::to_string)
            .chain(settings.problems.iter().map(ToString::to_string))
            .collect::<Vec<_>>();
        let changed = self.last.as_ref() != Some(action);
        let now = self.context.now();
        self.context.observe(|observation| {
            observation.looks += 1;
            observation.revision = view.revision.0;
            action.name().clone_into(&mut observation.decided);
            observation.waiting_for.clone_from(&waiting_for);
            if observation.problems != problems {
                for problem in
                    problems.iter().filter(|problem| !observation.problems.contains(problem))
                {
                    tracing::warn!("{problem}");
                }
                observation.problems = problems;
            }
            if changed {
                observation.since = now;
            }
        });
        if changed {
            tracing::info!(revision = view.revision.0, why = %waiting_for, "decided: {}", action.name());
            self.last = Some(action.clone());
        }
    }

    /// Why `request` is not made now although it is due.
    fn put_off(&self, view: &View, request: &NewRequest, now: Duration) -> Option<String> {
        let put_off = self.put_off.as_ref()?;
        let same =
            put_off.version == request.version && put_off.ordered == view.target.mod_revision();
        (same && now < put_off.until).then(|| put_off.why.clone())
    }

    /// Puts `request` off, because it is not known which bits it is about.
    fn wait_for_bits(
        &mut self,
        view: &View,
        settings: &Settings,
        request: &NewRequest,
        unresolved: Unresolved,
    ) {
        let soon = self.unresolved.pause();
        let (why, pause) = match unresolved {
            Unresolved::Unknown(why) => (why, soon),
            // Asking costs calls, and what is not there does not come by asking.
            Unresolved::Unpublished(why) => (why, settings.check_update_interval.max(soon)),
        };
        let why = format!("{} cannot be requested: {why}", request.version);
        if self.put_off.as_ref().is_none_or(|before| before.why != why) {
            tracing::warn!(%why, "waiting");
        }
        self.context.observe(|observation| observation.waiting_for.clone_from(&why));
        self.put_off = Some(PutOff {
            version: request.version.clone(),
            ordered: view.target.mod_revision(),
            until: self.context.clock.monotonic() + pause,
            why,
        });
    }

    /// Writes the counted time down, now and then while a request runs.
    async fn write_clock(&mut self, view: &View, now: Duration) -> Result<(), Next> {
        let runs = view.current().is_some_and(|request| !request.stop)
            && self.last.as_ref().is_some_and(|action| action.name() == "wait-for-workers");
        if !runs || now.saturating_sub(self.clock_written) < CLOCK_EVERY {
            return Ok(());
        }
        let Some(txn) = self.stopwatch.txn(view) else { return Ok(()) };
        match self.context.store.commit(&txn.when(self.leadership.compare())).await {
            Ok(Committed::Done(_)) => {
                self.clock_written = now;
                Ok(())
            }
            Ok(Committed::Refused) => self.still_leading().await,
            Err(_) => Err(Next::Again),
        }
    }

    /// Which bits the request is about. A reconfiguration keeps those of the request before it.
    async fn package_for(
        &self,
        view: &View,
        settings: &Settings,
        request: &NewRequest,
    ) -> Result<Option<PackageRef>, Unresolved> {
        let known = view.current().filter(|current| current.version == request.version);
        if let Some(package) = known.and_then(|current| current.package.clone()) {
            return Ok(Some(package));
        }
        let context = self.context;
        let resolved = resolve(&*context.sources, settings, &context.local, &request.version).await;
        let everybody_has_it = request.servers.iter().all(|lrn| {
            view.alive.get(lrn).is_some_and(|alive| alive.value.version == request.version)
        });
        match resolved {
            Ok(package) => Ok(Some(package)),
            // Nothing is to be installed, so nothing needs to be had.
            Err(_) if everybody_has_it => Ok(None),
            Err(why) => Err(why),
        }
    }

    async fn commit(&self, view: &View, action: &Action, package: Option<PackageRef>) -> Next {
        let Some(txn) = action.txn(view, &self.context.leader(self.leadership, package)) else {
            return Next::Again;
        };
        match self.context.store.commit(&txn).await {
            Ok(Committed::Done(revision)) => {
                tracing::info!(%revision, "did: {}", action.name());
                if let Action::Request(request) = action {
                    let begun = Told::Begun {
                        version: request.version.clone(),
                        servers: request.servers.clone(),
                        kind: request.kind.clone(),
                        at: self.context.now(),
                    };
                    if self.news.try_send(begun).is_err() {
                        tracing::warn!("a notice was dropped: the webhook is slow");
                    }
                }
                Next::Look
            }
            Ok(Committed::Refused) => match self.still_leading().await {
                Ok(()) => Next::Again,
                Err(next) => next,
            },
            Err(error) => {
                self.context.without_etcd(&error);
                Next::Again
            }
        }
    }

    /// After a refusal: was it the leadership?
    async fn still_leading(&self) -> Result<(), Next> {
        let key = neco_schema::Range::from(self.leadership.key());
        match self.context.store.read(&[key], None).await {
            Ok(snapshot) => {
                let ours = snapshot
                    .kvs
                    .values()
                    .any(|kv| kv.create_revision == self.leadership.create_revision());
                if ours { Ok(()) } else { Err(Next::Lost) }
            }
            Err(_) => Err(Next::Again),
        }
    }
}
