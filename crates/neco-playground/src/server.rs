//! One boot server: a root of its own, its daemons, its power switch.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use neco_host::journal::{self, Record};
use neco_host::{
    DetachedProcess, Expected, Installed, PackageManager, Root, Sandbox, TrustedKeys, Unsigned,
    verify_package,
};
use neco_process::ready::ReadyFile;
use neco_schema::Lrn;
use neco_systemd::Recorder;
use nix::sys::signal::Signal;

use crate::SiteError;
use crate::daemon::{Daemon, Program};
use crate::dir::{SiteDir, kill_detached};
use crate::disks::Disks;
use crate::layout::{Setup, boot_id, lay_out};

/// How many boot servers run an updater beside their worker.
pub(crate) const UPDATERS: u32 = 2;

/// How long the leadership of an updater outlasts its last sign of life.
pub const SESSION_TTL: Duration = Duration::from_secs(5);

/// How long a server is taken for alive after its worker's last sign of life.
pub const ALIVE_TTL: Duration = Duration::from_secs(10);

/// The name of the package.
const PACKAGE: &str = "neco";

/// A boot server of a site.
#[derive(Debug)]
pub struct BootServer {
    lrn: Lrn,
    root: PathBuf,
    worker: Daemon,
    updater: Option<Daemon>,
    // After the daemons: their processes end with it.
    disks: Arc<OnceLock<Disks>>,
}

impl BootServer {
    /// Makes the root of a machine with this rack number, and installs the first package as every later one will be:
    /// verified.
    pub(crate) async fn install(
        dir: &Arc<SiteDir>,
        machine: u32,
        lrn: u32,
        setup: &Setup<'_>,
    ) -> Result<PathBuf, SiteError> {
        let root = dir.root_of(machine);
        lay_out(&root, machine, lrn, setup)?;
        let below = Root::new(&root).map_err(SiteError::io("using", &root))?;
        let keys = TrustedKeys::load(&below).map_err(|source| SiteError::Keys { lrn, source })?;
        let signature = PathBuf::from(format!("{}.minisig", setup.package.display()));
        let expected = Expected::neco(setup.version.clone());
        let package =
            verify_package(setup.package, &[signature], &keys, &expected, Unsigned::default())
                .await?;
        Sandbox::new(below).install(&package).await?;
        Ok(root)
    }

    /// Starts the daemons of the server in `root`.
    pub(crate) fn start(
        dir: &Arc<SiteDir>,
        lrn: u32,
        root: PathBuf,
        loglevel: Option<&str>,
    ) -> Self {
        Self::with(dir, lrn, root, lrn < UPDATERS, loglevel, Daemon::start)
    }

    /// The server in `root`, switched off; it has no updater.
    pub(crate) fn spare(dir: &Arc<SiteDir>, lrn: u32, root: PathBuf) -> Self {
        Self::with(dir, lrn, root, false, None, Daemon::down_at_first)
    }

    fn with(
        dir: &Arc<SiteDir>,
        lrn: u32,
        root: PathBuf,
        updates: bool,
        loglevel: Option<&str>,
        begin: fn(Program, Arc<SiteDir>) -> Daemon,
    ) -> Self {
        let disks: Arc<OnceLock<Disks>> = Arc::default();
        let daemon = |name: &str, options: &[&str]| {
            let log = |name: String| root.join("var/log/neco").join(name);
            let mut args = vec!["--root".to_owned(), root.display().to_string()];
            args.extend(options.iter().map(|&word| word.to_owned()));
            args.extend(loglevel.map(|level| format!("--loglevel={level}")));
            let short = name.trim_start_matches("neco-");
            args.extend([
                "--logfile".to_owned(),
                log(format!("{short}.log")).display().to_string(),
            ]);
            let program = Program {
                name: format!("{short} of boot-{lrn}"),
                // Inside the root: after an installation the next start runs the new binary.
                path: root.join("usr/sbin").join(name),
                args,
                output: log(format!("{short}.out")),
                disks: Arc::clone(&disks),
            };
            begin(program, Arc::clone(dir))
        };
        let ttl = format!("{}s", SESSION_TTL.as_secs());
        let alive_ttl = format!("{}s", ALIVE_TTL.as_secs());
        let worker = daemon(
            "neco-worker",
            &["--sandbox", "--ready-within", "20s", "--alive-ttl", &alive_ttl],
        );
        let updater = updates.then(|| daemon("neco-updater", &["--session-ttl", &ttl]));
        Self { lrn: Lrn::new(lrn), root, worker, updater, disks }
    }

    /// Its logical rack number.
    pub fn lrn(&self) -> Lrn {
        self.lrn
    }

    /// The root of its file system, as this process sees it.
    pub fn root(&self) -> &Path {
        self.disks.get().map_or(&self.root, Disks::view)
    }

    /// The root of its file system, as its own programs are told.
    pub fn own_root(&self) -> &Path {
        &self.root
    }

    /// Gives it file systems of its own, one for its root and one for each of `places` below it, with what is there now. Its
    /// daemons are restarted for it. It has no power switch from then on.
    ///
    /// # Errors
    /// This user or this machine can make no namespaces.
    pub async fn give_disks(&self, places: &[&str]) -> Result<&Disks, SiteError> {
        self.stop().await;
        let (root, places) = (self.root.clone(), places.iter().map(|&place| place.to_owned()));
        let places: Vec<String> = places.collect();
        let mount = move || {
            let places: Vec<&str> = places.iter().map(String::as_str).collect();
            Disks::mount(&root, &places)
        };
        let disks = tokio::task::spawn_blocking(mount).await??;
        let disks = self.disks.get_or_init(|| disks);
        self.worker.up().await;
        if let Some(updater) = &self.updater {
            updater.up().await;
        }
        Ok(disks)
    }

    /// A command on this server: a program of its own, told where its root is.
    pub fn command(&self, program: &str) -> Command {
        let path = self.root.join(program);
        let mut command = match self.disks.get() {
            Some(disks) => disks.inside(path),
            None => Command::new(path),
        };
        command.arg("--root").arg(&self.root);
        command
    }

    /// Its worker.
    pub fn worker(&self) -> &Daemon {
        &self.worker
    }

    /// Its updater, on the servers that have one.
    pub fn updater(&self) -> Option<&Daemon> {
        self.updater.as_ref()
    }

    /// Sends a signal to its worker, and says to which process.
    pub async fn kill_worker(&self, signal: Signal) -> Option<u32> {
        self.worker.signal(signal).await
    }

    /// Its units, and what shall go wrong with them.
    pub fn units(&self) -> Recorder {
        Recorder::new(self.root())
    }

    /// Lets a call of its sandbox hang until [`release`](Self::release): `start UNIT`, `pull IMAGE`, `write PATH`,
    /// `step NAME` and more, see [`Faults`](neco_sandbox::Faults).
    ///
    /// # Errors
    /// The file of faults cannot be written.
    pub fn hold(&self, call: &str) -> Result<(), SiteError> {
        Ok(self.units().faults().hold(call)?)
    }

    /// Lets a call pass again.
    ///
    /// # Errors
    /// The file of faults cannot be written.
    pub fn release(&self, call: &str) -> Result<(), SiteError> {
        Ok(self.units().faults().clear(call)?)
    }

    /// What the `VERSION` file of its package says.
    pub fn version_on_disk(&self) -> Option<String> {
        neco_process::daemon::installed_version(self.root()).ok()
    }

    /// What its package manager says.
    ///
    /// # Errors
    /// The package manager's record cannot be read.
    pub async fn installed(&self) -> Result<Installed, SiteError> {
        let root = Root::new(self.root()).map_err(SiteError::io("using", self.root()))?;
        Ok(Sandbox::new(root).installed(PACKAGE).await?)
    }

    /// The process of a unit that outlives its starter, while it runs.
    pub fn detached(&self, unit: &str) -> Option<u32> {
        let engine = Root::new(self.root()).map(DetachedProcess::new).ok()?;
        engine.pid(unit).ok().flatten()
    }

    /// What a daemon says about itself, if it is alive: `neco-worker` or `neco-updater`.
    pub fn ready(&self, daemon: &str) -> Option<ReadyFile> {
        let file = ReadyFile::read(&ReadyFile::path(self.root(), daemon)).ok().flatten()?;
        file.is_alive().then_some(file)
    }

    /// Everything that its journal says.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn journal(&self) -> Result<Vec<Record>, SiteError> {
        let dir = self.root().join(journal::DIRECTORY.trim_start_matches('/'));
        match journal::read_all(&dir) {
            Ok((records, _)) => Ok(records),
            Err(source) => Err(SiteError::Journal { dir, source }),
        }
    }

    /// Everything that a daemon has logged: `neco-worker` or `neco-updater`. What it wrote before there was a log file,
    /// and as it died, stands in the end.
    pub fn log(&self, daemon: &str) -> String {
        let short = daemon.trim_start_matches("neco-");
        let read = |root: &Path, ending: &str| {
            let path = root.join("var/log/neco").join(format!("{short}.{ending}"));
            std::fs::read(path).map(|log| String::from_utf8_lossy(&log).into_owned())
        };
        // What a daemon prints goes to whoever supervises it, as it would go to the system's journal.
        read(self.root(), "log").unwrap_or_default() + &read(&self.root, "out").unwrap_or_default()
    }

    /// The last lines that its daemons have logged.
    pub fn log_tail(&self, lines: usize) -> String {
        let mut text = String::new();
        for name in ["worker.log", "worker.out", "updater.log", "updater.out"] {
            let root = if name.ends_with(".out") { &self.root } else { self.root() };
            let path = root.join("var/log/neco").join(name);
            let Ok(log) = std::fs::read_to_string(&path) else { continue };
            let all: Vec<&str> = log.lines().collect();
            for line in &all[all.len().saturating_sub(lines)..] {
                text.push_str(&format!("  {name}: {line}\n"));
            }
        }
        text
    }

    /// Takes its power away: every process dies at once, and what was in memory is gone.
    ///
    /// # Errors
    /// What was in memory cannot be removed.
    pub async fn power_off(&self) -> Result<(), SiteError> {
        self.worker.kill().await;
        if let Some(updater) = &self.updater {
            updater.kill().await;
        }
        let root = self.root.clone();
        tokio::task::spawn_blocking(move || kill_detached(&root)).await?;
        let run = self.root.join("run");
        std::fs::remove_dir_all(&run).map_err(SiteError::io("removing", &run))
    }

    /// Boots it.
    ///
    /// # Errors
    /// The files of the new boot cannot be written, or what is enabled cannot be started.
    pub async fn power_on(&self) -> Result<(), SiteError> {
        let lrn = self.lrn.get();
        let failed = |source| SiteError::Boot { lrn, source };
        boot_id(&self.root)?;
        self.units().boot().await.map_err(|error| failed(error.into()))?;
        let root = Root::new(self.root()).map_err(SiteError::io("using", self.root()))?;
        DetachedProcess::new(root).boot().await.map_err(|error| failed(error.into()))?;
        self.worker.up().await;
        if let Some(updater) = &self.updater {
            updater.up().await;
        }
        Ok(())
    }

    /// Ends its daemons in order.
    pub(crate) async fn stop(&self) {
        let updater = async {
            if let Some(updater) = &self.updater {
                updater.stop().await;
            }
        };
        tokio::join!(self.worker.stop(), updater);
    }
}
