//! A boot server with a package manager, daemons that start or do not, and a repository of signed releases.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use neco_base::hex;
use neco_connect::{Settings, Sources};
use neco_host::journal::{JournalStore, MemoryJournal};
use neco_host::{
    DetachError, FakeDetached, FakePackages, Installed, PackageCache, PackageError, PackageManager,
    Root, RunDetached, Unsigned, VerifiedPackage,
};
use neco_plan::JournalState;
use neco_process::ready::Ready;
use neco_releases::ReleaseSource;
use neco_releases::mirror::sign::{Protection, SigningKey, generate_key, sign};
use neco_releases::testing::FakeReleases;
use neco_schema::journal::{Effect, Entry, IntentEnd, IntentId};
use neco_schema::{NecoVersion, PackageRef, RequestId, Revision};
use neco_worker::install::{Daemons, UnitSetup};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

pub(crate) const FROM: &str = "2026.11.20-1";
pub(crate) const TO: &str = "2026.11.21-1";
const NAMES: [&str; 2] = ["neco-updater", "neco-worker"];

pub(crate) fn version(text: &str) -> NecoVersion {
    text.parse().unwrap()
}

/// Where the power may be cut: every call of a driver, before and after its effect.
#[derive(Default)]
pub(crate) struct Fuse {
    passed: AtomicUsize,
    /// At which passage it blows; 0 for never.
    at: AtomicUsize,
    blown: Notify,
}

impl Fuse {
    /// From now on it blows at passage `at`, counted from 1.
    pub(crate) fn blow_at(&self, at: usize) {
        self.passed.store(0, Ordering::SeqCst);
        self.at.store(at, Ordering::SeqCst);
    }

    pub(crate) async fn blown(&self) {
        self.blown.notified().await;
    }

    async fn pass(&self) {
        if self.passed.fetch_add(1, Ordering::SeqCst) + 1 == self.at.load(Ordering::SeqCst) {
            self.blown.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

/// What happens beside.
type Happens = Box<dyn Fn() + Send + Sync>;

/// A package manager behind the fuse.
#[derive(Clone)]
pub(crate) struct Packages {
    pub(crate) fake: Arc<FakePackages>,
    real: Option<Arc<dyn PackageManager>>,
    fuse: Arc<Fuse>,
    /// What else installing a version does to the server.
    effects: Arc<Mutex<BTreeMap<NecoVersion, Happens>>>,
    /// Installations that find the package manager locked.
    pub(crate) locked: Arc<AtomicUsize>,
    pub(crate) repairs: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Packages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packages").field("fake", &self.fake).finish_non_exhaustive()
    }
}

impl Packages {
    fn engine(&self) -> &dyn PackageManager {
        self.real.as_deref().unwrap_or(&*self.fake)
    }

    /// The versions that were installed, in order.
    pub(crate) fn log(&self) -> Vec<String> {
        self.fake.log().into_iter().map(|(_, version)| version.to_string()).collect()
    }

    pub(crate) fn when_installed(&self, version: &str, effect: impl Fn() + Send + Sync + 'static) {
        let mut effects = self.effects.lock().unwrap();
        effects.insert(version.parse().unwrap(), Box::new(effect));
    }
}

#[async_trait]
impl PackageManager for Packages {
    async fn installed(&self, package: &str) -> Result<Installed, PackageError> {
        self.fuse.pass().await;
        self.engine().installed(package).await
    }

    async fn install(&self, package: &VerifiedPackage) -> Result<(), PackageError> {
        self.fuse.pass().await;
        let locked = self.locked.load(Ordering::SeqCst);
        if locked > 0 {
            self.locked.store(locked - 1, Ordering::SeqCst);
            let within = Duration::from_secs(1);
            return Err(PackageError::Locked { within, holder: "another program".to_owned() });
        }
        let result = self.engine().install(package).await;
        if let Some(effect) = self.effects.lock().unwrap().get(package.version()) {
            effect();
        }
        self.fuse.pass().await;
        result
    }

    async fn repair(&self) -> Result<(), PackageError> {
        self.repairs.fetch_add(1, Ordering::SeqCst);
        self.fuse.pass().await;
        self.engine().repair().await
    }
}

/// Daemons that, started, say that they are ready as what is installed, unless that version does not start.
pub(crate) struct FakeDaemons {
    root: PathBuf,
    packages: Packages,
    fuse: Arc<Fuse>,
    ready: Mutex<BTreeMap<String, Ready>>,
    /// Versions that do not start.
    pub(crate) bad: Mutex<BTreeSet<String>>,
    /// What was restarted, in order.
    pub(crate) restarts: Mutex<Vec<String>>,
}

impl FakeDaemons {
    pub(crate) fn end(&self, daemon: &str) {
        drop(self.ready.lock().unwrap().remove(daemon));
    }

    pub(crate) fn start(&self, daemon: &str, version: &str) {
        let mut ready = self.ready.lock().unwrap();
        ready.remove(daemon);
        ready.insert(daemon.to_owned(), Ready::announce(&self.root, daemon, version).unwrap());
    }
}

#[async_trait]
impl Daemons for FakeDaemons {
    async fn running(&self) -> Vec<String> {
        self.fuse.pass().await;
        self.ready.lock().unwrap().keys().cloned().collect()
    }

    async fn restart(&self, daemon: &str) -> Result<(), String> {
        self.fuse.pass().await;
        self.restarts.lock().unwrap().push(daemon.to_owned());
        let installed = self.packages.engine().installed("neco").await.unwrap();
        let bad = self.bad.lock().unwrap().clone();
        match installed {
            Installed::Yes(version) if !bad.contains(version.as_str()) => {
                self.start(daemon, version.as_str());
            }
            _ => drop(self.ready.lock().unwrap().remove(daemon)),
        }
        self.fuse.pass().await;
        Ok(())
    }
}

/// Units behind the fuse; starting one may be refused.
#[derive(Debug)]
pub(crate) struct Detached {
    pub(crate) fake: FakeDetached,
    fuse: Arc<Fuse>,
    /// So many starts are refused.
    pub(crate) refusals: AtomicUsize,
    pub(crate) asked: AtomicUsize,
    /// What was started, in order.
    pub(crate) commands: Mutex<Vec<Vec<String>>>,
}

impl std::fmt::Debug for Fuse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fuse")
    }
}

#[async_trait]
impl RunDetached for Detached {
    async fn start(&self, unit: &str, argv: &[String]) -> Result<(), DetachError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let left = self.refusals.load(Ordering::SeqCst);
        if left > 0 {
            self.refusals.store(left - 1, Ordering::SeqCst);
            let source = "the bus is away".into();
            return Err(DetachError::Manager { unit: unit.to_owned(), source });
        }
        self.commands.lock().unwrap().push(argv.to_vec());
        self.fake.start(unit, argv).await
    }

    async fn is_running(&self, unit: &str) -> Result<bool, DetachError> {
        self.fake.is_running(unit).await
    }

    async fn enable(&self, unit: &str, argv: &[String]) -> Result<(), DetachError> {
        self.fake.enable(unit, argv).await
    }

    async fn command(&self, unit: &str) -> Result<Option<Vec<String>>, DetachError> {
        self.fake.command(unit).await
    }

    async fn disable(&self, unit: &str) -> Result<(), DetachError> {
        self.fuse.pass().await;
        self.fake.disable(unit).await?;
        self.fuse.pass().await;
        Ok(())
    }
}

/// The repository, whatever the settings say.
pub(crate) struct Fixed(pub(crate) Arc<FakeReleases>);

#[async_trait]
impl Sources for Fixed {
    async fn source(&self, _settings: &Settings) -> Result<Arc<dyn ReleaseSource>, String> {
        Ok(Arc::clone(&self.0) as Arc<dyn ReleaseSource>)
    }
}

/// A boot server.
pub(crate) struct Site {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) root: Root,
    pub(crate) journal: Arc<MemoryJournal>,
    pub(crate) packages: Packages,
    pub(crate) cache: PackageCache,
    pub(crate) daemons: Arc<FakeDaemons>,
    pub(crate) detached: Arc<Detached>,
    pub(crate) releases: Arc<FakeReleases>,
    pub(crate) fuse: Arc<Fuse>,
    key: SigningKey,
}

impl Site {
    /// With version [`FROM`] installed and running.
    pub(crate) fn new() -> Self {
        Self::with(|_| None)
    }

    /// The same, with another package manager.
    pub(crate) fn with(real: impl FnOnce(&Root) -> Option<Arc<dyn PackageManager>>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root");
        std::fs::create_dir(&path).unwrap();
        let root = Root::new(&path).unwrap();
        let fuse = Arc::new(Fuse::default());
        let fake = Arc::new(FakePackages::new());
        fake.set("neco", Installed::Yes(version(FROM)));
        let packages = Packages {
            fake,
            real: real(&root),
            fuse: Arc::clone(&fuse),
            effects: Arc::default(),
            locked: Arc::default(),
            repairs: Arc::default(),
        };
        let daemons = Arc::new(FakeDaemons {
            root: path,
            packages: packages.clone(),
            fuse: Arc::clone(&fuse),
            ready: Mutex::default(),
            bad: Mutex::default(),
            restarts: Mutex::default(),
        });
        for name in NAMES {
            daemons.start(name, FROM);
        }
        let (secret, public) = (dir.path().join("key"), dir.path().join("key.pub"));
        generate_key(&secret, &public, &Protection::Unencrypted).unwrap();
        let key = SigningKey::load(&secret, None).unwrap();
        let cache = PackageCache::new(&root).unwrap();
        cache.create().unwrap();
        let detached = Arc::new(Detached {
            fake: FakeDetached::new(),
            fuse: Arc::clone(&fuse),
            refusals: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
            commands: Mutex::default(),
        });
        let site = Self {
            dir,
            root,
            journal: Arc::new(MemoryJournal::new()),
            packages,
            cache,
            daemons,
            detached,
            releases: Arc::new(FakeReleases::new()),
            fuse,
            key,
        };
        site.trust(&site.key, "test");
        site
    }

    pub(crate) fn keys(&self) -> PathBuf {
        self.root.join("/usr/share/neco/release-keys")
    }

    pub(crate) fn trust(&self, key: &SigningKey, name: &str) {
        std::fs::create_dir_all(self.keys()).unwrap();
        std::fs::write(self.keys().join(format!("{name}.pub")), key.public_key().unwrap()).unwrap();
    }

    pub(crate) fn other_key(&self) -> SigningKey {
        let (secret, public) = (self.dir.path().join("other"), self.dir.path().join("other.pub"));
        generate_key(&secret, &public, &Protection::Unencrypted).unwrap();
        SigningKey::load(&secret, None).unwrap()
    }

    /// Builds a package, signed by the key of the site or another one; returns its path.
    pub(crate) fn build(&self, text: &str, key: Option<&SigningKey>) -> PathBuf {
        let folder = self.dir.path().join(format!("build-{text}"));
        let tree = folder.join("tree");
        for part in ["DEBIAN", "usr/share/neco"] {
            std::fs::create_dir_all(tree.join(part)).unwrap();
        }
        let control = format!(
            "Package: neco\nVersion: {text}\nArchitecture: amd64\n\
             Maintainer: Neco <neco@example.com>\nDescription: made by a test\n"
        );
        std::fs::write(tree.join("DEBIAN/control"), control).unwrap();
        std::fs::write(tree.join("usr/share/neco/VERSION"), format!("{text}\n")).unwrap();
        let deb = folder.join(PackageCache::file_name(&version(text)));
        let built = Command::new("dpkg-deb")
            .args(["--root-owner-group", "-b", "-Zzstd", "-z1"])
            .args([&tree, &deb])
            .output()
            .unwrap();
        assert!(built.status.success(), "{built:?}");
        sign(&deb, key.unwrap_or(&self.key), &version(text)).unwrap();
        deb
    }

    /// Builds a package into the cache.
    pub(crate) fn keep(&self, text: &str) -> PackageRef {
        let deb = self.build(text, None);
        let file = PackageCache::file_name(&version(text));
        for suffix in ["", ".minisig"] {
            let from = format!("{}{suffix}", deb.display());
            std::fs::copy(from, self.cache.path(&format!("{file}{suffix}"))).unwrap();
        }
        package_ref(&deb)
    }

    /// Builds a package and publishes it.
    pub(crate) fn publish(&self, text: &str, key: Option<&SigningKey>) -> PackageRef {
        let deb = self.build(text, key);
        let file = PackageCache::file_name(&version(text));
        let signature = std::fs::read(format!("{}.minisig", deb.display())).unwrap();
        let content = std::fs::read(&deb).unwrap();
        let signature_name = format!("{file}.minisig");
        self.releases.publish(
            &format!("release-{text}"),
            &[(&*file, &*content), (&*signature_name, &*signature)],
        );
        package_ref(&deb)
    }

    /// The unit that installs, on this server.
    pub(crate) fn setup(&self) -> UnitSetup {
        UnitSetup {
            root: self.root.clone(),
            journal: self.journal.clone(),
            packages: Arc::new(self.packages.clone()),
            cache: self.cache.clone(),
            daemons: self.daemons.clone(),
            detached: self.detached.clone(),
            ready_within: Duration::from_millis(300),
            unsigned: Unsigned::Refuse,
        }
    }

    /// Writes down that the installation has begun, as a worker does.
    pub(crate) fn begin(&self, package: PackageRef, way_back: Option<String>) -> IntentId {
        let intent = IntentId("test-0-1-install".to_owned());
        let effect = Effect::Install { from: version(FROM), to: version(TO), package, way_back };
        let request = RequestId::claimed("43eef0a3d1a72173");
        let opened = Entry::IntentOpened { intent: intent.clone(), request, step: 0, effect };
        let begun = Entry::IntentBegun { intent: intent.clone(), revision: Revision(1) };
        self.journal.append(&[opened, begun]).unwrap();
        intent
    }

    /// The same, with both packages in the cache.
    pub(crate) fn ready_to_install(&self) {
        let way_back = self.keep(FROM);
        let package = self.keep(TO);
        self.begin(package, Some(way_back.file));
    }

    /// How the only installation of the journal ended.
    pub(crate) fn verdict(&self) -> Option<IntentEnd> {
        let records = self.journal.entries().unwrap();
        let ends: Vec<IntentEnd> = records
            .into_iter()
            .filter_map(|record| match record.entry {
                Entry::IntentClosed { end, .. } => Some(end),
                _ => None,
            })
            .collect();
        assert!(ends.len() <= 1, "one verdict: {ends:?}");
        ends.into_iter().next()
    }

    /// The verdict, which is a failure.
    pub(crate) fn cause(&self) -> String {
        match self.verdict() {
            Some(IntentEnd::Failed { cause }) => cause,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn state(&self) -> JournalState {
        let records = self.journal.entries().unwrap();
        JournalState::fold(records.iter().map(|record| &record.entry))
    }

    pub(crate) async fn installed(&self) -> Installed {
        self.packages.engine().installed("neco").await.unwrap()
    }
}

fn package_ref(deb: &std::path::Path) -> PackageRef {
    let content = std::fs::read(deb).unwrap();
    let sha256 = hex(&Sha256::digest(&content));
    let file = deb.file_name().unwrap().to_string_lossy().into_owned();
    PackageRef { file, size: content.len() as u64, sha256, unknown: Default::default() }
}
