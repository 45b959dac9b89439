//! A whole data centre on one machine: etcd, a mirror, boot servers with their daemons.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use neco_etcd::Cluster;
use neco_schema::{ConfigKey, Environment, Key, Lrn, NecoVersion, Op, Txn};
use neco_store::{Election, EtcdStore, Store};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;

use crate::access::Access;
use crate::dir::SiteDir;
use crate::flawed::Flaw;
use crate::layout::Setup;
use crate::mirror::{Host, Publisher};
use crate::server::BootServer;
use crate::{Package, Packages, SiteError};

/// How many etcd members a site has.
const MEMBERS: usize = 3;

/// How many servers a site may have.
pub const SERVERS: std::ops::RangeInclusive<u32> = 2..=5;

/// How often the updaters look for a release.
const POLL: Duration = Duration::from_secs(1);

/// How long the orderly end of a site may take; what is left is killed then.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// How a site is built.
#[derive(Clone, Debug)]
pub struct SiteOptions {
    /// What can be published.
    pub packages: Packages,
    /// How many boot servers, of [`SERVERS`].
    pub servers: u32,
    /// Where its directory is made; where temporary ones are, if not given.
    pub parent: Option<PathBuf>,
    /// Who is let into etcd; everybody, if not given.
    pub access: Option<Access>,
    /// What the daemons log, as their `--loglevel` takes it.
    pub loglevel: Option<&'static str>,
}

impl SiteOptions {
    /// A site of `servers` boot servers, all else at its default.
    pub fn new(packages: Packages, servers: u32) -> Self {
        Self { packages, servers, parent: None, access: None, loglevel: None }
    }
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
    /// The first package, signed.
    first: PathBuf,
    /// How many machines there are, spares included.
    machines: AtomicU32,
    access: Option<Access>,
    dir: Arc<SiteDir>,
}

impl Site {
    /// Builds a site whose servers have the first package installed, and starts it. The updaters make the first request by
    /// themselves.
    ///
    /// # Errors
    /// Something is missing on this machine, or a part does not start.
    pub async fn start(options: SiteOptions) -> Result<Self, SiteError> {
        let SiteOptions { packages, servers: count, parent, access, loglevel } = options;
        neco_process::crypto::install_crypto_provider();
        let dir = match parent {
            Some(parent) => SiteDir::within(&parent)?,
            None => SiteDir::temporary()?,
        };
        let publisher = Publisher::start(dir.path()).await?;
        let first = packages.of(packages.first())?.clone();
        let etcd = async {
            Cluster::start(MEMBERS, Access::cluster(access.as_ref())).await.map_err(SiteError::from)
        };
        let (etcd, package) = tokio::try_join!(etcd, publisher.publish(&first))?;
        let (endpoints, api_url) = (etcd.endpoints(), publisher.api_url());
        let setup = Setup {
            endpoints: &endpoints,
            api_url: &api_url,
            public_key: publisher.public_key(),
            package: &package,
            version: &first.version,
            access: access.as_ref().map_or("", |access| &access.config),
        };
        let install = |lrn| BootServer::install(&dir, lrn, lrn, &setup);
        let roots = try_join_all((0..count).map(install)).await?;
        let store =
            Arc::new(EtcdStore::connect(Access::client(access.as_ref(), &endpoints)).await?);
        store.commit(&first_keys(count, &first.version)).await?;
        let servers = (0..count).zip(roots);
        let servers =
            servers.map(|(lrn, root)| BootServer::start(&dir, lrn, root, loglevel)).collect();
        let etcd = Mutex::new(etcd);
        let (first, machines) = (package, AtomicU32::new(count));
        Ok(Self { servers, store, publisher, etcd, packages, first, machines, access, dir })
    }

    /// Installs the first package on one more machine with this rack number, and leaves it switched off:
    /// [`BootServer::power_on`] starts it. It runs no updater, is not registered, and is none of
    /// [`servers`](Self::servers) until it is [added](Self::add). Another server may have the same number: such mistakes
    /// are made.
    ///
    /// # Errors
    /// The package cannot be installed.
    pub async fn install_spare(&self, lrn: u32) -> Result<BootServer, SiteError> {
        let machine = self.machines.fetch_add(1, Ordering::Relaxed);
        let (endpoints, api_url) = (self.etcd().await.endpoints(), self.publisher.api_url());
        let setup = Setup {
            endpoints: &endpoints,
            api_url: &api_url,
            public_key: self.publisher.public_key(),
            package: &self.first,
            version: self.packages.first(),
            access: self.access.as_ref().map_or("", |access| &access.config),
        };
        let root = BootServer::install(&self.dir, machine, lrn, &setup).await?;
        Ok(BootServer::spare(&self.dir, lrn, root))
    }

    /// Counts a spare among the servers of the site.
    pub fn add(&mut self, spare: BootServer) {
        self.servers.push(spare);
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
        let found = self.servers.iter().find(|server| server.lrn() == Lrn::new(lrn));
        found.unwrap_or_else(|| panic!("the site has no boot server {lrn}"))
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

    /// The mirror that the daemons ask for releases.
    pub fn mirror(&self) -> &Host {
        self.publisher.home()
    }

    /// Another host that serves the same releases; no daemon is told of it.
    pub fn other_mirror(&self) -> &Host {
        self.publisher.elsewhere()
    }

    /// What the mirror serves: a folder for each release, named by its tag.
    pub fn mirror_dir(&self) -> &Path {
        self.publisher.releases()
    }

    /// The public half of the publisher's other key, which servers do not trust unless they are told to.
    pub fn other_key(&self) -> &Path {
        self.publisher.other_public_key()
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

    /// Ends everything in order.
    pub async fn stop(self) {
        let Self { servers, store, publisher, etcd, dir, .. } = self;
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
