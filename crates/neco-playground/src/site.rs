//! A whole data centre on one machine: etcd, a mirror, boot servers with their daemons.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use neco_etcd::{Cluster, ClusterOptions};
use neco_plan::{View, operator_ranges};
use neco_schema::{ConfigKey, Environment, Key, Lrn, NecoVersion, Op, Snapshot, Txn};
use neco_store::{Election, EtcdStore, Follower, Options, Store};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, timeout, timeout_at};

use crate::dir::SiteDir;
use crate::flawed::Flaw;
use crate::mirror::Publisher;
use crate::server::{BootServer, Setup};
use crate::state::{is_completed, is_stopped, state_text};
use crate::{Package, Packages, SiteError};

/// How many etcd members a site has.
const MEMBERS: usize = 3;

/// How many servers a site may have.
pub const SERVERS: std::ops::RangeInclusive<u32> = 2..=5;

/// How often the updaters look for a release.
const POLL: Duration = Duration::from_secs(1);

/// How long it may be quiet until a waiting look is taken anyway.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long the orderly end of a site may take; what is left is killed then.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// How many log lines of each daemon stand in a report of failure.
const TAIL: usize = 12;

/// How a site is built.
#[derive(Clone, Debug)]
pub struct SiteOptions {
    /// What can be published.
    pub packages: Packages,
    /// How many boot servers, of [`SERVERS`].
    pub servers: u32,
    /// Where its directory is made; where temporary ones are, if not given.
    pub parent: Option<PathBuf>,
}

/// Everything in etcd at one revision.
#[derive(Clone, Debug)]
pub struct Look {
    /// As it stands.
    pub snapshot: Snapshot,
    /// Parsed.
    pub view: View,
}

/// A running site. Whatever becomes of this value, no process and no file of the site stays behind.
#[derive(Debug)]
pub struct Site {
    // Daemons first: nothing that they use goes before them.
    servers: Vec<BootServer>,
    store: Arc<EtcdStore>,
    publisher: Publisher,
    etcd: Mutex<Cluster>,
    packages: Packages,
    dir: Arc<SiteDir>,
}

impl Site {
    /// Builds a site whose servers have the first package installed, and starts it. The updaters make the first request by
    /// themselves.
    ///
    /// # Errors
    /// Something is missing on this machine, or a part does not start.
    pub async fn start(options: SiteOptions) -> Result<Self, SiteError> {
        let SiteOptions { packages, servers: count, parent } = options;
        neco_process::crypto::install_crypto_provider();
        let dir = match parent {
            Some(parent) => SiteDir::within(&parent)?,
            None => SiteDir::temporary()?,
        };
        let publisher = Publisher::start(dir.path()).await?;
        let first = packages.of(packages.first())?.clone();
        let etcd = async {
            Cluster::start(MEMBERS, ClusterOptions::default()).await.map_err(SiteError::from)
        };
        let (etcd, package) = tokio::try_join!(etcd, publisher.publish(&first))?;
        let (endpoints, api_url) = (etcd.endpoints(), publisher.api_url());
        let setup = Setup {
            endpoints: &endpoints,
            api_url: &api_url,
            public_key: publisher.public_key(),
            package: &package,
            version: &first.version,
        };
        let install = |lrn| BootServer::install(&dir, lrn, &setup);
        let roots = try_join_all((0..count).map(install)).await?;
        let store = Arc::new(EtcdStore::connect(Options::new(endpoints.iter().cloned())).await?);
        store.commit(&first_keys(count, &first.version)).await?;
        let servers = (0..count).zip(roots);
        let servers = servers.map(|(lrn, root)| BootServer::start(&dir, lrn, root)).collect();
        Ok(Self { servers, store, publisher, etcd: Mutex::new(etcd), packages, dir })
    }

    /// Where everything of the site lies.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// What can be published.
    pub fn packages(&self) -> &Packages {
        &self.packages
    }

    /// The boot servers, by logical rack number.
    pub fn servers(&self) -> &[BootServer] {
        &self.servers
    }

    /// One boot server.
    ///
    /// # Panics
    /// If there is no such server.
    pub fn server(&self, lrn: u32) -> &BootServer {
        &self.servers[lrn as usize]
    }

    /// The servers that run an updater.
    pub fn updaters(&self) -> impl Iterator<Item = &BootServer> {
        self.servers.iter().filter(|server| server.updater().is_some())
    }

    /// A store on all members of etcd.
    pub fn store(&self) -> &Arc<EtcdStore> {
        &self.store
    }

    /// The etcd cluster.
    pub async fn etcd(&self) -> MutexGuard<'_, Cluster> {
        self.etcd.lock().await
    }

    /// Signs a package and publishes it.
    ///
    /// # Errors
    /// It cannot be signed or copied, or its version is published already.
    pub async fn publish(&self, package: &Package) -> Result<(), SiteError> {
        self.publisher.publish(package).await.map(drop)
    }

    /// Publishes a package that is not what it should be; returns where the mirror has it.
    ///
    /// # Errors
    /// It cannot be built, or its version is published already.
    pub async fn publish_flawed(
        &self,
        version: &NecoVersion,
        flaw: Flaw,
    ) -> Result<PathBuf, SiteError> {
        self.publisher.publish_flawed(version, flaw).await
    }

    /// What the mirror serves: a folder for each release, named by its tag.
    pub fn mirror_dir(&self) -> &Path {
        self.publisher.releases()
    }

    /// The public half of the publisher's other key, which servers do not trust unless they are told to.
    pub fn other_key(&self) -> &Path {
        self.publisher.other_public_key()
    }

    /// Everything in etcd, parsed.
    ///
    /// # Errors
    /// etcd does not answer.
    pub async fn view(&self) -> Result<View, SiteError> {
        Ok(self.look().await?.view)
    }

    /// Everything in etcd, as it stands and parsed.
    ///
    /// # Errors
    /// etcd does not answer.
    pub async fn look(&self) -> Result<Look, SiteError> {
        let snapshot = self.store.read(&operator_ranges(), None).await?;
        Ok(Look { view: View::assemble(&snapshot), snapshot })
    }

    /// The server whose updater leads, if one does.
    ///
    /// # Errors
    /// etcd does not answer.
    pub async fn leader(&self) -> Result<Option<&BootServer>, SiteError> {
        let store: Arc<dyn Store> = self.store.clone();
        let leader = Election::new(store, "updater").leader().await?;
        let host = leader.map(|leader| String::from_utf8_lossy(&leader.value).into_owned());
        let lrn = host.and_then(|host| host.strip_prefix("boot-")?.parse().ok());
        Ok(lrn.and_then(|lrn: Lrn| self.servers.iter().find(|server| server.lrn() == lrn)))
    }

    /// Waits until `holds` says so of a view. It is asked again whenever something changes, and at least twice a second.
    ///
    /// # Errors
    /// It did not come in time: with the last state, and the ends of the logs.
    pub async fn wait_for(
        &self,
        what: &str,
        within: Duration,
        mut holds: impl FnMut(&View) -> bool,
    ) -> Result<View, SiteError> {
        Ok(self.watch(what, within, |look| holds(&look.view)).await?.view)
    }

    /// The same, with everything in etcd as it stands beside the view.
    ///
    /// # Errors
    /// As [`wait_for`](Self::wait_for).
    pub async fn watch(
        &self,
        what: &str,
        within: Duration,
        mut holds: impl FnMut(&Look) -> bool,
    ) -> Result<Look, SiteError> {
        let deadline = Instant::now() + within;
        let store: Arc<dyn Store> = self.store.clone();
        let mut follower = Follower::every(store, operator_ranges(), LOOK_EVERY);
        let mut last = None;
        loop {
            // A read during an outage of etcd takes its own bound; the next may succeed.
            match timeout_at(deadline, self.look()).await {
                Ok(Ok(look)) if holds(&look) => return Ok(look),
                Ok(Ok(look)) => last = Some(look.view),
                Ok(Err(error)) => {
                    tracing::debug!(error = %neco_connect::one_line(&error), "looking again");
                }
                Err(_) => {}
            }
            if Instant::now() >= deadline {
                return Err(self.too_late(what, within, last.as_ref()));
            }
            let next = (Instant::now() + LOOK_EVERY).min(deadline);
            let _ = timeout_at(next, follower.changed()).await;
        }
    }

    /// Waits until all servers have completed a request for `version`, and until that is recorded.
    ///
    /// # Errors
    /// As [`wait_for`](Self::wait_for); the request was stopped, and nobody but an operator or a newer release goes on.
    pub async fn wait_completed(
        &self,
        version: &NecoVersion,
        within: Duration,
        mut draw: impl FnMut(&Look),
    ) -> Result<View, SiteError> {
        let what = format!("the completion of {version}");
        let look = self.watch(&what, within, |look| {
            draw(look);
            is_completed(&look.view, version) || is_stopped(&look.view, version)
        });
        let view = look.await?.view;
        if is_completed(&view, version) {
            return Ok(view);
        }
        Err(SiteError::Ended { version: version.to_string(), state: state_text(&view) })
    }

    /// The error of somebody who waited in vain.
    pub(crate) fn too_late(&self, what: &str, within: Duration, last: Option<&View>) -> SiteError {
        let mut state = last.map_or_else(|| "etcd did not answer\n".to_owned(), state_text);
        for server in &self.servers {
            let logged = server.log_tail(TAIL);
            state.push_str(&format!("boot-{} logged last:\n{logged}", server.lrn()));
        }
        SiteError::Deadline { what: what.to_owned(), within, state }
    }

    /// Ends everything in order.
    pub async fn stop(self) {
        let Self { servers, store, publisher, etcd, packages: _, dir } = self;
        let all = async {
            join_all(servers.iter().map(BootServer::stop)).await;
            drop((servers, store));
            publisher.stop().await;
            // Its data go with it, so there is nothing to be orderly about.
            drop(etcd);
        };
        let _ = timeout(STOP_WITHIN, all).await;
        let _ = tokio::task::spawn_blocking(move || drop(dir)).await;
    }
}

/// What setup would have written to etcd.
fn first_keys(servers: u32, version: &NecoVersion) -> Txn {
    let poll = POLL.as_nanos().to_string();
    let mut txn = Txn::default()
        .then(Op::put_bytes(&Key::Release, version.as_str()))
        .then(Op::put_bytes(&Key::Config(ConfigKey::Env), Environment::Prod.name()))
        .then(Op::put_bytes(&Key::Config(ConfigKey::CheckUpdateInterval), poll));
    for lrn in 0..servers {
        txn = txn.then(Op::put_bytes(&Key::BootServer(Lrn::new(lrn)), ""));
    }
    txn
}
