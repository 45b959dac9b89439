//! What the servers of a test see of the world: its time, etcd, their units, their package.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use neco_components::Deb;
use neco_process::clock::Clock;
use neco_releases::Progress;
use neco_runtime::{
    ContainerRuntime, ExecSpec, ImageRef, LogLines, LogSpec, Output, PullProgress, Pulled, RunSpec,
    RuntimeError,
};
use neco_schema::journal::IntentId;
use neco_schema::{LeaseId, NecoVersion, Op, PackageRef, Range, Revision, Snapshot, Txn};
use neco_store::{
    Added, ClusterHealth, Committed, KeepAlive, Member, Members, MemoryStore, Promoted, Store,
    StoreError, Watch,
};
use neco_systemd::{ActiveState, Recorder, UnitError, UnitName, UnitState, Units};
use neco_worker::{DebError, Debs, Installer, SandboxDebs, StepContext, StepError};

/// Tokio's time as a clock.
pub(crate) struct TestClock(pub(crate) tokio::time::Instant);

impl Clock for TestClock {
    fn wall(&self) -> Duration {
        Duration::from_secs(1_800_000_000) + self.monotonic()
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// The store as one server sees it: what it asks is counted.
pub(crate) struct Client {
    pub(crate) store: MemoryStore,
    pub(crate) calls: Arc<AtomicU64>,
    pub(crate) faults: Arc<Faults>,
}

/// Stands for new leases, in place of a key.
pub(crate) const LEASES: &str = "lease";

/// What is wrong with etcd and with units, for all servers.
#[derive(Default)]
pub(crate) struct Faults {
    /// A member that is ill.
    pub(crate) ill: Mutex<Option<String>>,
    /// How often it is asked for before it falls ill.
    pub(crate) still_well: AtomicU64,
    /// What tells whether a server is fit for an update panics once.
    pub(crate) panics: AtomicBool,
    /// A unit that does not become active once it is started.
    slow: Mutex<Option<String>>,
    /// Where it was started.
    unready: Mutex<BTreeSet<u32>>,
    /// Why Debian packages cannot be had from their releases.
    pub(crate) unreleased: Mutex<Option<fn() -> DebError>>,
    /// The servers whose Docker does not answer.
    pub(crate) no_docker: Mutex<BTreeSet<u32>>,
    /// Transactions that write a key beginning so are not answered; each entry counts for one.
    pub(crate) unanswered: Mutex<Vec<String>>,
    /// The same, but they happen.
    pub(crate) answer_lost: Mutex<Vec<String>>,
    /// Transactions that write a key beginning so are refused with this until somebody sees to it; [`LEASES`] are leases.
    pub(crate) refused: Mutex<Option<(String, StoreError)>>,
    /// What becomes of this server's etcd when its unit is started or stopped.
    pub(crate) runs_etcd: Mutex<Option<Arc<dyn RunsEtcd>>>,
}

/// An etcd whose members follow the units of servers.
#[async_trait]
pub(crate) trait RunsEtcd: Members {
    /// How the members are, under the addresses of the servers.
    async fn health(&self) -> Result<ClusterHealth, StoreError>;

    /// The unit of a server was started, with the configuration that lies below its root.
    async fn started(&self, lrn: u32) -> Result<(), UnitError>;

    /// It was stopped.
    async fn stopped(&self, lrn: u32);
}

impl Faults {
    /// From here on this unit starts and does not become active.
    pub(crate) fn start_slowly(&self, unit: &str) {
        *self.slow.lock().unwrap() = Some(unit.to_owned());
    }

    /// Now it does.
    pub(crate) fn become_ready(&self) {
        *self.slow.lock().unwrap() = None;
        self.unready.lock().unwrap().clear();
    }

    fn etcd(&self) -> Option<Arc<dyn RunsEtcd>> {
        self.runs_etcd.lock().unwrap().clone()
    }

    /// The same, when it is about the unit of etcd.
    fn etcd_of(&self, unit: &UnitName) -> Option<Arc<dyn RunsEtcd>> {
        self.etcd().filter(|_| unit.as_str() == "etcd-container.service")
    }

    fn is_slow(&self, unit: &UnitName) -> bool {
        self.slow.lock().unwrap().as_deref() == Some(unit.as_str())
    }
}

impl Client {
    /// Who changes the members: the etcd that follows units, or the store itself.
    fn etcd(&self) -> Arc<dyn Members> {
        match self.faults.etcd() {
            Some(etcd) => etcd,
            None => Arc::new(self.store.clone()),
        }
    }

    fn counted(&self) -> &MemoryStore {
        self.calls.fetch_add(1, Ordering::SeqCst);
        &self.store
    }
}

#[async_trait]
impl Store for Client {
    async fn read(&self, ranges: &[Range], at: Option<Revision>) -> Result<Snapshot, StoreError> {
        self.counted().read(ranges, at).await
    }

    async fn commit(&self, txn: &Txn) -> Result<Committed, StoreError> {
        let writes = |prefix: &String| {
            txn.ops
                .iter()
                .any(|op| matches!(op, Op::Put { key, .. } if key.starts_with(prefix.as_str())))
        };
        let once = |faults: &Mutex<Vec<String>>| {
            let mut faults = faults.lock().unwrap();
            let found = faults.iter().position(writes);
            found.map(|at| faults.remove(at)).is_some()
        };
        if let Some((prefix, error)) = &*self.faults.refused.lock().unwrap()
            && writes(prefix)
        {
            return Err(error.clone());
        }
        let reason = "by order of the test".to_owned();
        if once(&self.faults.unanswered) {
            let within = Duration::from_secs(5);
            return Err(StoreError::Unreachable {
                endpoints: Vec::new(),
                within,
                reason,
                source: None,
            });
        }
        let lost = once(&self.faults.answer_lost);
        let committed = self.counted().commit(txn).await?;
        if lost {
            return Err(StoreError::Unknown { endpoints: Vec::new(), reason, source: None });
        }
        Ok(committed)
    }

    async fn watch(&self, ranges: &[Range], from: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.counted().watch(ranges, from).await
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let refused = self.faults.refused.lock().unwrap().clone();
        if let Some((_, error)) = refused.filter(|(what, _)| what == LEASES) {
            return Err(error);
        }
        self.counted().grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<KeepAlive, StoreError> {
        self.counted().keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.counted().revoke(lease).await
    }

    async fn health(&self) -> Result<ClusterHealth, StoreError> {
        let mut health = match self.faults.etcd() {
            Some(etcd) => etcd.health().await?,
            None => self.counted().health().await?,
        };
        let less = |times: u64| times.checked_sub(1);
        let well = self.faults.still_well.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        if let (Some(name), Err(_)) = (&*self.faults.ill.lock().unwrap(), well) {
            let mut member = health.members[0].clone();
            (member.name, member.healthy) = (name.clone(), false);
            health.members.push(member);
        }
        Ok(health)
    }
}

#[async_trait]
impl Members for Client {
    async fn members(&self) -> Result<Vec<Member>, StoreError> {
        self.etcd().members().await
    }

    async fn add(&self, peer_url: &str) -> Result<Added, StoreError> {
        self.etcd().add(peer_url).await
    }

    async fn promote(&self, id: u64) -> Result<Promoted, StoreError> {
        self.etcd().promote(id).await
    }

    async fn remove(&self, id: u64) -> Result<(), StoreError> {
        self.etcd().remove(id).await
    }
}

/// The units of one server; what starts and stops them is told to the whole cluster in its order.
pub(crate) struct Told {
    pub(crate) lrn: u32,
    pub(crate) units: Recorder,
    pub(crate) order: Arc<Mutex<Vec<String>>>,
    pub(crate) faults: Arc<Faults>,
}

impl Told {
    async fn tell<T>(
        &self,
        job: impl Future<Output = Result<T, UnitError>>,
    ) -> Result<T, UnitError> {
        let before = self.units.effects()?.len();
        let result = job.await;
        for effect in self.units.effects()?.iter().skip(before) {
            self.order.lock().unwrap().push(format!("{}: {}", self.lrn, effect.effect.words()));
        }
        result
    }
}

#[async_trait]
impl Units for Told {
    async fn daemon_reload(&self) -> Result<(), UnitError> {
        self.units.daemon_reload().await
    }

    async fn enable(&self, unit: &UnitName) -> Result<(), UnitError> {
        self.tell(self.units.enable(unit)).await
    }

    async fn disable(&self, unit: &UnitName) -> Result<(), UnitError> {
        self.tell(self.units.disable(unit)).await
    }

    async fn start(&self, unit: &UnitName) -> Result<(), UnitError> {
        if self.faults.is_slow(unit) {
            self.faults.unready.lock().unwrap().insert(self.lrn);
        }
        self.tell(self.units.start(unit)).await?;
        match self.faults.etcd_of(unit) {
            Some(etcd) => etcd.started(self.lrn).await,
            None => Ok(()),
        }
    }

    async fn stop(&self, unit: &UnitName) -> Result<(), UnitError> {
        self.tell(self.units.stop(unit)).await?;
        if let Some(etcd) = self.faults.etcd_of(unit) {
            etcd.stopped(self.lrn).await;
        }
        Ok(())
    }

    async fn restart(&self, unit: &UnitName) -> Result<(), UnitError> {
        self.tell(self.units.restart(unit)).await
    }

    async fn reload(&self, unit: &UnitName) -> Result<(), UnitError> {
        self.tell(self.units.reload(unit)).await
    }

    async fn start_transient(&self, unit: &UnitName, argv: &[String]) -> Result<(), UnitError> {
        self.tell(self.units.start_transient(unit, argv)).await
    }

    async fn state(&self, unit: &UnitName) -> Result<UnitState, UnitError> {
        let mut state = self.units.state(unit).await?;
        let unready = self.faults.unready.lock().unwrap().contains(&self.lrn);
        if state.is_active() && unready && self.faults.is_slow(unit) {
            state.active = ActiveState::Activating;
        }
        Ok(state)
    }
}

/// The containers of a server whose Docker may be away. Units that run already are systemd's, and stay.
pub(crate) struct MayBeAway {
    pub(crate) faults: Arc<Faults>,
    pub(crate) lrn: u32,
    pub(crate) runtime: neco_runtime::Recorder,
}

impl MayBeAway {
    fn there(&self) -> Result<&neco_runtime::Recorder, RuntimeError> {
        if self.faults.no_docker.lock().unwrap().contains(&self.lrn) {
            let (socket, why) = ("/run/docker.sock".into(), "its socket is not there".to_owned());
            return Err(RuntimeError::Away { socket, why });
        }
        Ok(&self.runtime)
    }
}

#[async_trait]
impl ContainerRuntime for MayBeAway {
    async fn pull(
        &self,
        image: &ImageRef,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<Pulled, RuntimeError> {
        self.there()?.pull(image, progress).await
    }

    async fn has(&self, image: &ImageRef) -> Result<bool, RuntimeError> {
        self.there()?.has(image).await
    }

    async fn run(&self, spec: &RunSpec) -> Result<Output, RuntimeError> {
        self.there()?.run(spec).await
    }

    async fn exec(&self, spec: &ExecSpec) -> Result<Output, RuntimeError> {
        self.there()?.exec(spec).await
    }

    async fn logs(&self, name: &str, spec: LogSpec) -> Result<LogLines, RuntimeError> {
        self.there()?.logs(name, spec).await
    }

    async fn stop(&self, name: &str) -> Result<(), RuntimeError> {
        self.there()?.stop(name).await
    }

    async fn is_running(&self, image: &ImageRef) -> Result<bool, RuntimeError> {
        self.there()?.is_running(image).await
    }
}

/// Debian packages whose releases may be out of reach.
pub(crate) struct Released {
    pub(crate) faults: Arc<Faults>,
    pub(crate) debs: SandboxDebs,
}

#[async_trait]
impl Debs for Released {
    async fn is_installed(&self, name: &str) -> Result<bool, DebError> {
        self.debs.is_installed(name).await
    }

    async fn fetch(
        &self,
        package: &Deb,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<PathBuf, DebError> {
        let trouble = *self.faults.unreleased.lock().unwrap();
        match trouble {
            Some(trouble) => Err(trouble()),
            None => self.debs.fetch(package, progress).await,
        }
    }

    async fn install(&self, package: &Deb, file: &Path) -> Result<(), DebError> {
        self.debs.install(package, file).await
    }
}

/// Every version is installed already.
pub(crate) struct NothingToInstall(pub(crate) NecoVersion, pub(crate) Arc<Faults>);

#[async_trait]
impl Installer for NothingToInstall {
    async fn installed(&self) -> Result<NecoVersion, String> {
        Ok(self.0.clone())
    }

    async fn install(
        &self,
        _context: &StepContext,
        version: &NecoVersion,
        _package: Option<PackageRef>,
        _allow_no_way_back: bool,
    ) -> Result<(), StepError> {
        Err(StepError::Failed(format!("{version} is not installed and cannot be")))
    }

    async fn await_verdict(&self, _intent: &IntentId) -> Result<(), StepError> {
        Ok(())
    }

    async fn unfit(&self) -> Vec<String> {
        assert!(!self.1.panics.swap(false, Ordering::SeqCst), "by order of the test");
        Vec::new()
    }
}
