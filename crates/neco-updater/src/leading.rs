//! One term of leadership: look, decide, write.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use neco_base::{Backoff, Retry};
use neco_connect::{Outage, Settings, Sources};
use neco_plan::{
    Action, GroupShape, LeaderContext, Limits, NewRequest, Stopwatch, View, Window, choose_target,
    leader_ranges, next_action, publish_release,
};
use neco_process::clock::Clock;
use neco_releases::WindowState;
use neco_schema::{Environment, NecoVersion, PackageRef, Timestamp};
use neco_store::{Committed, Follower, Leadership, Store, StoreError};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::notify::{Notifier, Notify, Told};
use crate::observation::Observation;
use crate::probe::Probe;
use crate::releases::resolve;
use crate::strays::watch_strays;

/// How often a leader looks although nothing changed: deadlines are counted by it.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often counted time is written down.
const CLOCK_EVERY: Duration = Duration::from_secs(10);
/// How long probes may take before their answer counts as trouble.
const PROBES_WITHIN: Duration = Duration::from_secs(10);
/// Delays after something did not work.
const TRY_AGAIN: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));

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
    /// The name of this host, which stands in the election and in the history.
    pub host: String,
    /// The name of the package.
    pub package: String,
    /// The outage groups of the installed recipe.
    pub groups: Vec<GroupShape>,
    observed: watch::Sender<Observation>,
    outage: Outage,
}

impl Context {
    /// The surroundings of an updater on `host`.
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        sources: Arc<dyn Sources>,
        probes: Vec<Arc<dyn Probe>>,
        notify: Arc<dyn Notify>,
        host: String,
        package: String,
        groups: Vec<GroupShape>,
    ) -> Self {
        let observed = watch::Sender::new(Observation::default());
        let outage = Outage::default();
        Self { store, clock, sources, probes, notify, host, package, groups, observed, outage }
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

    async fn look(&self) -> Result<View, StoreError> {
        Ok(View::assemble(&self.store.read(&leader_ranges(), None).await?))
    }

    fn leader(&self, leadership: &Leadership, package: Option<PackageRef>) -> LeaderContext {
        LeaderContext {
            leadership: leadership.compare(),
            now: self.now(),
            host: self.host.clone(),
            package,
        }
    }
}

/// Leads until leadership turns out to be lost; says how that showed.
pub(crate) async fn lead(context: &Arc<Context>, leadership: &Leadership) -> String {
    let settings = Arc::new(Mutex::new(None));
    let mut tasks = JoinSet::new();
    tasks.spawn(watch_releases(Arc::clone(context), leadership.clone(), Arc::clone(&settings)));
    tasks.spawn(watch_strays(Arc::clone(context)));
    tasks.spawn(Notifier::new(Arc::clone(context)).run());
    let mut term = Term {
        context,
        leadership,
        settings,
        stopwatch: Stopwatch::default(),
        looked: context.clock.monotonic(),
        clock_written: context.clock.monotonic(),
        retry: TRY_AGAIN.retry(),
        last: None,
    };
    let mut follower = Follower::every(Arc::clone(&context.store), leader_ranges(), LOOK_EVERY);
    loop {
        match term.turn().await {
            Next::Wait => {
                term.retry.reset();
                follower.changed().await;
            }
            Next::Look => term.retry.reset(),
            Next::Again => tokio::time::sleep(term.retry.pause()).await,
            Next::Lost => return "the election key is gone".to_owned(),
        }
    }
}

type SharedSettings = Arc<Mutex<Option<Settings>>>;

struct Term<'a> {
    context: &'a Arc<Context>,
    leadership: &'a Leadership,
    settings: SharedSettings,
    stopwatch: Stopwatch,
    looked: Duration,
    clock_written: Duration,
    retry: Retry,
    last: Option<Action>,
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
    async fn turn(&mut self) -> Next {
        let view = match self.context.look().await {
            Ok(view) => view,
            Err(error) => {
                self.context.without_etcd(&error);
                return Next::Again;
            }
        };
        self.context.etcd_answered();
        let settings = Settings::read(&view.config);
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = Some(settings.clone());
        let now = self.context.clock.monotonic();
        let elapsed =
            self.stopwatch.look(&view, &self.context.groups, now.saturating_sub(self.looked));
        self.looked = now;
        let mut limits = self.limits(&view, &settings);
        let mut action = next_action(&view, &limits, &elapsed);
        if matches!(action, Action::Request(_)) {
            // Asked only now: probes cost calls, and the answer matters for a new request alone.
            limits.probes.extend(self.probe().await);
            action = next_action(&view, &limits, &elapsed);
        }
        self.note(&view, &settings, &action);
        if let Err(next) = self.write_clock(&view, now).await {
            return next;
        }
        match &action {
            Action::Wait(_) => Next::Wait,
            Action::Request(request) => match self.package_for(&view, &settings, request).await {
                Ok(package) => self.commit(&view, &action, package).await,
                Err(why) => {
                    self.waiting(format!("{} cannot be requested: {why}", request.version));
                    Next::Again
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
        Limits { request: settings.worker_timeout, step: settings.step_timeout, window, probes }
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

    fn note(&mut self, view: &View, settings: &Settings, action: &Action) {
        let waiting_for = match action {
            Action::Wait(waiting) => waiting.to_string(),
            _ => String::new(),
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

    fn waiting(&self, why: String) {
        self.context.observe(|observation| {
            if observation.waiting_for != why {
                tracing::warn!(%why, "waiting");
                observation.waiting_for = why;
            }
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
    ) -> Result<Option<PackageRef>, String> {
        let known = view.current().filter(|current| current.version == request.version);
        if let Some(package) = known.and_then(|current| current.package.clone()) {
            return Ok(Some(package));
        }
        let resolved =
            resolve(&*self.context.sources, settings, &self.context.package, &request.version)
                .await;
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
                    self.context.notify.tell(Told::Begun {
                        version: request.version.clone(),
                        servers: request.servers.clone(),
                        kind: request.kind.clone(),
                        at: self.context.now(),
                    });
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

/// Looks for releases as often as the setting says and makes the newest one known.
async fn watch_releases(context: Arc<Context>, leadership: Leadership, settings: SharedSettings) {
    let mut retry = TRY_AGAIN.retry();
    loop {
        let current = settings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(settings) = current else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let pause = match publish_newest(&context, &leadership, &settings).await {
            Ok(()) => {
                retry.reset();
                context.observe(|observation| observation.release_trouble.clear());
                settings.check_update_interval
            }
            Err(why) => {
                context.observe(|observation| {
                    if observation.release_trouble != why {
                        tracing::warn!(%why, "looking for releases failed");
                        observation.release_trouble = why;
                    }
                });
                settings.check_update_interval.max(retry.pause())
            }
        };
        tokio::time::sleep(pause).await;
    }
}

async fn publish_newest(
    context: &Context,
    leadership: &Leadership,
    settings: &Settings,
) -> Result<(), String> {
    if settings.env == Environment::None {
        return Ok(());
    }
    let source = context.sources.source(settings).await?;
    let newest =
        source.newest(settings.env).await.map_err(|error| neco_connect::one_line(&error))?;
    let Some(version) = newest.map(|release| release.version) else { return Ok(()) };
    publish(context, leadership, &version).await.map_err(|error| neco_connect::one_line(&error))
}

async fn publish(
    context: &Context,
    leadership: &Leadership,
    version: &NecoVersion,
) -> Result<(), StoreError> {
    let view = context.look().await?;
    if let Some(txn) = publish_release(&view, &context.leader(leadership, None), version)
        && let Committed::Done(_) = context.store.commit(&txn).await?
    {
        tracing::info!(%version, "a newer release");
    }
    Ok(())
}
