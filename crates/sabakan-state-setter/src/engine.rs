//! The life of the daemon: stand for election, lead, stand again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use neco_base::Backoff;
use neco_connect::{Outage, one_line};
use neco_process::clock::Clock;
use neco_sabakan::{MachineState, Sabakan, SabakanError};
use neco_schema::Timestamp;
use neco_serf::Serf;
use neco_store::{Candidate, Leadership, Over, Stage, Store, TermError};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::alerts::Alerts;
use crate::files::ListFiles;
use crate::grace::{Move, Now};
use crate::hardware::Hardware;
use crate::keys::DiskKeys;
use crate::list::List;
use crate::look::watch_machines;
use crate::observation::{CHANGES_KEPT, Change, InState, Metrics, Observation};
use crate::power::Power;
use crate::retire::retire_machines;
use crate::said::Said;
use crate::shutdown::shut_down_machines;

/// The name of the election, which the original takes part in, too.
const ELECTION: &str = "sabakan-state-setter";
/// Delays after an election that failed.
const TRY_AGAIN: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
/// How often a list that cannot be used is read again.
const READ_AGAIN: Duration = Duration::from_secs(2);

/// What can be set.
#[derive(Clone, Debug)]
pub struct Options {
    /// The name of this host, which stands in the election.
    pub host: String,
    /// How long leadership outlasts its last sign of life; whole seconds.
    pub session_ttl: Duration,
    /// How often the machines are looked at.
    pub interval: Duration,
    /// How many machines are asked for their metrics at once.
    pub parallel: usize,
    /// How long a mass of losses must last until it is told.
    pub mass_loss_after: Duration,
}

/// Whom the daemon asks, and through whom it acts.
pub struct Drivers {
    /// etcd.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The serf agent of this server.
    pub serf: Arc<dyn Serf>,
    /// The sabakan of this server.
    pub sabakan: Arc<dyn Sabakan>,
    /// The exporters of hardware metrics.
    pub hardware: Arc<dyn Hardware>,
    /// Alertmanager.
    pub alerts: Arc<dyn Alerts>,
    /// The keys of disks.
    pub keys: Arc<dyn DiskKeys>,
    /// Management controllers.
    pub power: Arc<dyn Power>,
}

/// The surroundings of the daemon.
pub struct Context {
    pub(crate) drivers: Drivers,
    pub(crate) options: Options,
    pub(crate) said: Said,
    files: ListFiles,
    metrics: Metrics,
    observed: watch::Sender<Observation>,
    outage: Outage,
}

impl Context {
    /// The surroundings of a daemon.
    pub fn new(drivers: Drivers, options: Options, files: ListFiles) -> Self {
        let observed = watch::Sender::new(Observation::default());
        let (said, metrics, outage) = (Said::default(), Metrics::default(), Outage::default());
        Self { drivers, options, said, files, metrics, observed, outage }
    }

    /// What this daemon sees and does.
    pub fn observed(&self) -> watch::Receiver<Observation> {
        self.observed.subscribe()
    }

    /// The numbers for `/metrics`.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn observe(&self, change: impl FnOnce(&mut Observation)) {
        self.observed.send_modify(|observation| {
            change(observation);
            observation.troubles = self.said.troubles();
            observation.troubles.extend(self.files.trouble());
        });
    }

    pub(crate) fn now(&self) -> Now {
        let since = self.drivers.clock.wall();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let wall = Timestamp::from_unix(seconds).plus_nanos(i64::from(since.subsec_nanos()));
        Now { monotonic: self.drivers.clock.monotonic(), wall }
    }

    /// The list in force.
    pub(crate) fn list(&self) -> Result<Arc<List>, String> {
        self.files.current()
    }

    /// Tells sabakan a state. One that it does not know a way to any more is no failure: somebody was quicker.
    pub(crate) async fn set_state(&self, to: &Move) -> Result<(), SabakanError> {
        let Move { serial, from, to, why } = to;
        match self.drivers.sabakan.set_machine_state(serial, *to).await {
            Ok(_) => {}
            Err(error) if error.is_invalid_transition() || error.is_not_found() => {
                tracing::debug!(%serial, %to, error = %one_line(&error), "the machine has moved on");
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        tracing::info!(%serial, "{from} → {to}: {why}");
        self.metrics.changes.get_or_create(&InState { state: to.as_str() }).inc();
        let change = Change {
            at: self.now().wall,
            serial: serial.to_string(),
            from: from.to_string(),
            to: to.to_string(),
            why: why.clone(),
        };
        self.observe(|observation| {
            observation.changes.push(change);
            let surplus = observation.changes.len().saturating_sub(CHANGES_KEPT);
            observation.changes.drain(..surplus);
        });
        Ok(())
    }

    /// How many machines there are in each state.
    pub(crate) fn count(&self, states: impl Iterator<Item = MachineState> + Clone) {
        let count = |wanted: MachineState| states.clone().filter(|state| *state == wanted).count();
        let counts = MachineState::ALL.map(|state| (state, count(state) as u64));
        for (state, count) in counts {
            let gauge = self.metrics.machines.get_or_create(&InState { state: state.as_str() });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.observe(|observation| {
            observation.machines = counts
                .into_iter()
                .filter(|(_, count)| *count > 0)
                .map(|(state, count)| (state.to_string(), count))
                .collect();
        });
    }

    fn leads(&self, leads: bool) {
        self.metrics.leader.set(i64::from(leads));
        self.observe(|observation| {
            observation.leads = leads;
            if leads {
                observation.waiting_for.clear();
            } else {
                // Who leads now knows better.
                observation.machines.clear();
                observation.grace.clear();
                observation.remarks.clear();
                observation.held = 0;
            }
        });
        if !leads {
            self.metrics.machines.clear();
            self.metrics.held.set(0);
            self.metrics.grace.set(0);
            self.said.forget(|_| false);
        }
    }

    fn waits_for(&self, what: impl Into<String>) {
        self.observe(|observation| observation.waiting_for = what.into());
    }
}

/// One daemon.
pub struct Engine {
    context: Arc<Context>,
}

impl Engine {
    /// A daemon in these surroundings.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// Runs until `stop` is cancelled. Nothing that is wrong with the list, etcd, serf or sabakan ends it.
    pub async fn run(self, stop: CancellationToken) {
        let mut retry = TRY_AGAIN.retry();
        while !stop.is_cancelled() {
            // Who has no list leaves leadership to those that have one.
            if !self.has_list(&stop).await {
                return;
            }
            let ended = self.term(&stop).await;
            self.context.leads(false);
            let Err(trouble) = ended else {
                retry.reset();
                continue;
            };
            match trouble {
                TermError::Store(error) => {
                    let why = self.context.outage.failed(&error);
                    self.context.waits_for(why);
                }
                TermError::Broken(why) => {
                    tracing::error!(%why, "a part of the leader broke: a new term begins");
                    self.context.waits_for(why);
                }
                TermError::Campaign(error) => {
                    let why = one_line(&error);
                    tracing::debug!(%why, "standing again");
                    self.context.waits_for(why);
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(retry.pause()) => {}
            }
        }
    }

    /// Waits for a list that can be used; false when it is to stop before.
    async fn has_list(&self, stop: &CancellationToken) -> bool {
        while self.context.list().is_err() {
            self.context.waits_for("a list of machine types that can be used");
            tokio::select! {
                biased;
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(READ_AGAIN) => {}
            }
        }
        true
    }

    /// One term: stands for election, and leads until leadership is lost or `stop`.
    async fn term(&self, stop: &CancellationToken) -> Result<(), TermError> {
        let context = &self.context;
        let candidate = Candidate {
            store: Arc::clone(&context.drivers.store),
            election: ELECTION,
            value: context.options.host.clone(),
            session_ttl: context.options.session_ttl,
        };
        let told = |stage| match stage {
            // A lease is granted to anybody: etcd has answered once it has taken the candidate.
            Stage::Stands => {
                context.outage.answered();
                context.waits_for("the sabakan-state-setter of another server leads");
            }
            Stage::Leads => context.leads(true),
            Stage::Ended => context.leads(false),
        };
        let leading = async |leadership| lead(context, &leadership).await;
        candidate.term(stop, told, leading).await
    }
}

/// Leads until a part of it breaks: then another term begins all of them anew. Health is looked at beside what is slow.
async fn lead(context: &Arc<Context>, leadership: &Leadership) -> Over {
    let mut tasks = JoinSet::new();
    tasks.spawn(retire_machines(Arc::clone(context)));
    tasks.spawn(shut_down_machines(Arc::clone(context)));
    let health = tasks.spawn(watch_machines(Arc::clone(context), leadership.clone())).id();
    match tasks.join_next_with_id().await {
        Some(Ok((id, why))) if id == health => Over::Lost(why),
        Some(Ok((_, why))) => Over::Broken(why),
        Some(Err(error)) => Over::Broken(error.to_string()),
        None => Over::Broken("it ended".to_owned()),
    }
}

/// Where the site lays its own list over that of the package.
pub fn site_list() -> PathBuf {
    PathBuf::from("/etc/neco/sabakan-state-setter.yml")
}
