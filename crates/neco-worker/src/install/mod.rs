//! Installing the package of Neco itself: fetched and verified here, installed by a unit of its own, judged by whether the
//! new binaries say that they run.

mod daemons;
mod fetch;
mod stage;
mod systemd;
mod systemd_daemons;
mod unit;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use neco_base::Backoff;
use neco_connect::one_line;
use neco_host::{Installed, PackageCache, PackageManager, Root, RunDetached, VerifiedPackage};
use neco_schema::journal::{Effect, Entry, IntentEnd, IntentId};
use neco_schema::{Alive, NecoVersion, PackageRef};

use crate::context::{StepContext, StepError};
use crate::installer::Installer;
use crate::shared::{Refused, Shared};

pub use daemons::{Daemons, SandboxDaemons};
pub use fetch::{FetchError, Fetcher};
pub use systemd::SystemdDetached;
pub use systemd_daemons::SystemdDaemons;
pub use unit::{UnitSetup, run_unit};

/// The name of the unit that installs.
pub const UNIT: &str = "neco-install";
/// How often the verdict of a running installation is asked for.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// How long a unit may take to give its verdict before that is told, and given up where it has changed nothing.
const VERDICT_WITHIN: Duration = Duration::from_secs(20 * 60);
/// Less free space than this in the cache makes a server unfit for an update.
const FREE_BYTES: u64 = 256 << 20;
/// Delays between tries to fetch the way back ahead of time.
const FETCH_AGAIN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
/// Delays between tries to fetch what a request needs.
const DOWNLOAD_AGAIN: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
/// Delays while the unit cannot be started or its verdict not be read.
const UNIT_AGAIN: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
/// What the names of copies of this program begin with.
const PROGRAM: &str = "neco-worker-";

/// Installs packages of Neco on this server.
pub struct PackageInstaller {
    shared: Arc<Shared>,
    root: Root,
    packages: Arc<dyn PackageManager>,
    detached: Arc<dyn RunDetached>,
    fetcher: Fetcher,
    cache: PackageCache,
    program: Program,
    way_back: AtomicBool,
    way_back_trouble: Mutex<String>,
    verdict_within: Duration,
}

/// How the unit that installs is run.
#[derive(Clone, Debug)]
pub struct Program {
    /// The binary of this process, also after a package has replaced it on the disk.
    pub executable: PathBuf,
    /// The arguments that make it the installing unit.
    pub arguments: Vec<String>,
}

impl Program {
    /// This very process: its path may be that of another binary by the time it is read.
    pub fn of_this_process(arguments: Vec<String>) -> Self {
        Self { executable: "/proc/self/exe".into(), arguments }
    }
}

impl PackageInstaller {
    /// Installs below `root`.
    pub fn new(
        shared: Arc<Shared>,
        root: Root,
        packages: Arc<dyn PackageManager>,
        detached: Arc<dyn RunDetached>,
        fetcher: Fetcher,
        cache: PackageCache,
        program: Program,
    ) -> Self {
        Self {
            shared,
            root,
            packages,
            detached,
            fetcher,
            cache,
            program,
            way_back: AtomicBool::new(false),
            way_back_trouble: Mutex::new("it is being looked for".to_owned()),
            verdict_within: VERDICT_WITHIN,
        }
    }

    /// Waits for a unit that gives no verdict for so long before it says so.
    #[must_use]
    pub fn with_verdict_within(mut self, within: Duration) -> Self {
        self.verdict_within = within;
        self
    }

    /// Sees to it that the package of the installed version lies in the cache, verified, before it is needed. Runs until it
    /// does.
    pub async fn keep_way_back(&self) {
        let mut retry = FETCH_AGAIN.retry();
        loop {
            let version = self.shared.local().installed;
            match self.fetcher.fetch(&version, None, &|_, _| {}).await {
                Ok(_) => {
                    self.way_back.store(true, Ordering::Relaxed);
                    return;
                }
                Err(error) => {
                    let why = error.to_string();
                    let mut told =
                        self.way_back_trouble.lock().unwrap_or_else(PoisonError::into_inner);
                    if *told != why {
                        tracing::warn!(%version, %why, "the way back cannot be had yet");
                        *told = why;
                    }
                }
            }
            tokio::time::sleep(retry.pause()).await;
        }
    }

    /// Makes room: of the packages only those that are needed now stay, of the programs only the present one.
    fn make_room(&self, keep: &[&str]) {
        let program = program_name(&self.shared.local().running);
        if let Err(error) = self.cache.prune(keep) {
            tracing::warn!(error = %one_line(&error), "old packages stay");
        }
        for entry in std::fs::read_dir(self.cache.dir()).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(PROGRAM) && name != program {
                // One that stays costs some room, nothing else.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// The package of `version`. Trouble is waited out; so is a release that is not published yet, if `wait` says so.
    async fn fetched(
        &self,
        context: &StepContext,
        version: &NecoVersion,
        package: Option<&PackageRef>,
        wait: bool,
    ) -> Result<VerifiedPackage, StepError> {
        let mut retry = DOWNLOAD_AGAIN.retry();
        let mut told = String::new();
        loop {
            context.doing(format!("fetching {version}"));
            let progress = |done: u64, total: Option<u64>| context.bytes(done, total);
            let fetched = tokio::select! {
                biased;
                () = context.cancel().cancelled() => {
                    return Err(StepError::Cancelled(format!("while fetching {version}")));
                }
                fetched = self.fetcher.fetch(version, package, &progress) => fetched,
            };
            match fetched {
                Ok(package) => return Ok(package),
                Err(error @ FetchError::NotPublished(_)) if !wait => {
                    return Err(StepError::Failed(error.to_string()));
                }
                Err(error) if error.may_pass() => {
                    let delay = retry.pause();
                    let why = error.to_string();
                    if told != why {
                        tracing::warn!(%version, %why, "fetching failed, trying again");
                        told = why;
                    }
                    context.doing(format!("waiting to fetch {version} again: {error}"));
                    tokio::select! {
                        biased;
                        () = context.cancel().cancelled() => {}
                        () = tokio::time::sleep(delay) => {}
                    }
                }
                // What is requested, not the way back: there is one thing to do about it.
                Err(error) if wait => {
                    return Err(StepError::Failed(format!(
                        "{error}; nothing of it was installed, a sound package in a newer release goes on"
                    )));
                }
                Err(error) => return Err(StepError::Failed(error.to_string())),
            }
        }
    }

    /// Keeps a copy of this binary that no package replaces, and says how it is run to install. Only before anything is
    /// installed: afterwards this may be the very binary that is to be judged.
    fn keep_program(&self) -> Result<Vec<String>, StepError> {
        let name = program_name(&self.shared.local().running);
        let copy = self
            .cache
            .keep_program(&self.program.executable, &name)
            .map_err(|error| StepError::failed("keeping a copy of this program", &error))?;
        let mut argv = vec![copy.display().to_string()];
        argv.extend(self.program.arguments.iter().cloned());
        Ok(argv)
    }

    /// Starts the unit that installs: with `command` if this process has begun the installation, else with what the
    /// process that began it has enabled.
    async fn start_unit(&self, command: Option<&[String]>) -> Result<(), StepError> {
        let failed = |error| StepError::failed(format!("starting {UNIT}"), &error);
        let argv = match command {
            Some(argv) => argv.to_vec(),
            None => {
                let enabled = self.detached.command(UNIT).await.map_err(failed)?;
                let there = |argv: &Vec<String>| {
                    argv.first().is_some_and(|program| Path::new(program).exists())
                };
                match enabled.filter(there) {
                    // Whoever enabled it may not have come to the end of that.
                    Some(argv) => argv,
                    // It was never enabled, so nothing was changed: this is the old binary still.
                    None => self.keep_program()?,
                }
            }
        };
        // Enabled first: a power cut during the installation must not leave a bad binary without its judge.
        self.detached.enable(UNIT, &argv).await.map_err(failed)?;
        self.detached.start(UNIT, &argv).await.map_err(failed)
    }

    /// How the installation stands; if nobody carries it out, sees to it that the unit runs.
    async fn standing(
        &self,
        intent: &IntentId,
        command: Option<&[String]>,
        overdue: bool,
    ) -> Result<Standing, StepError> {
        let running = self.detached.is_running(UNIT).await;
        let running =
            running.map_err(|error| StepError::failed(format!("asking for {UNIT}"), &error))?;
        // Read after asking: a unit that ended has written its verdict before.
        self.shared.reload()?;
        let Some(open) = self.shared.local().journal.intents.get(intent).cloned() else {
            return Ok(Standing::Judged);
        };
        if running {
            return Ok(Standing::Runs);
        }
        if overdue
            && let Effect::Install { from, .. } = &open.effect
            && matches!(self.packages.installed("neco").await, Ok(Installed::Yes(found)) if found == *from)
        {
            return Ok(Standing::NothingChanged);
        }
        self.start_unit(command).await?;
        Ok(Standing::Started)
    }

    /// Waits for the verdict of the unit. Without one the installation stays open: only a unit that has gone back may
    /// say that it failed. But where nothing was changed there is nothing to go back from.
    async fn verdict(
        &self,
        intent: &IntentId,
        command: Option<&[String]>,
    ) -> Result<(), StepError> {
        let began = self.shared.clock.monotonic();
        let mut retry = UNIT_AGAIN.retry();
        let (mut told, mut said_overdue) = (String::new(), false);
        loop {
            let overdue = self.shared.clock.monotonic() >= began + self.verdict_within;
            let standing = self.standing(intent, command, overdue).await;
            if standing.is_ok() {
                self.shared.note_refused(Refused::Work, None);
            }
            let pause = match standing {
                Ok(Standing::Judged) => return Ok(()),
                Ok(Standing::NothingChanged) => break,
                Ok(Standing::Runs) => ASK_EVERY,
                // One that ends at once would be started again and again.
                Ok(Standing::Started) => retry.pause(),
                // What has begun is not given up because something is away for a while.
                Err(error) => {
                    let why = one_line(&error);
                    if let StepError::Disk(why) = &error {
                        self.shared.note_refused(Refused::Work, Some(why.clone()));
                    } else if told != why {
                        tracing::warn!(%why, "the installation waits");
                        told.clone_from(&why);
                    }
                    self.shared.observe(|observation| observation.waiting_for = why);
                    retry.pause()
                }
            };
            if overdue {
                let why = format!(
                    "{UNIT} has given no verdict within {:?}: see what it says in its log",
                    self.verdict_within
                );
                if !std::mem::replace(&mut said_overdue, true) {
                    tracing::error!(%why, "the installation waits");
                }
                self.shared.observe(|observation| observation.waiting_for = why);
            }
            tokio::time::sleep(pause).await;
        }
        let cause = format!(
            "{UNIT} gave no verdict within {:?} and has changed nothing: see what it says in its log",
            self.verdict_within
        );
        self.detached
            .disable(UNIT)
            .await
            .map_err(|error| StepError::failed(format!("disabling {UNIT}"), &error))?;
        let end = IntentEnd::Failed { cause: cause.clone() };
        self.shared.record(&[Entry::IntentClosed { intent: intent.clone(), end }])?;
        Err(StepError::Failed(cause))
    }
}

/// How an installation that has begun stands.
enum Standing {
    /// There is a verdict.
    Judged,
    /// The unit runs.
    Runs,
    /// The unit had ended without a verdict and was started.
    Started,
    /// It had ended without a verdict for too long, and what is installed is what was.
    NothingChanged,
}

fn program_name(version: &NecoVersion) -> String {
    format!("{PROGRAM}{version}")
}

#[async_trait]
impl Installer for PackageInstaller {
    async fn installed(&self) -> Result<NecoVersion, String> {
        match self.packages.installed("neco").await {
            Ok(Installed::Yes(version)) => Ok(version),
            // Not installed as that version, then: what this process runs is what there is to go back to.
            Ok(Installed::Broken { version, state }) => {
                tracing::warn!(%version, %state, "the package neco is not completely installed");
                Ok(self.shared.local().running)
            }
            Ok(Installed::No) => {
                Err("the package neco is not installed: install it by hand once".to_owned())
            }
            Err(error) => Err(one_line(&error)),
        }
    }

    async fn install(
        &self,
        context: &StepContext,
        version: &NecoVersion,
        package: Option<PackageRef>,
        allow_no_way_back: bool,
    ) -> Result<(), StepError> {
        let from = self.shared.local().installed;
        let wanted = package
            .as_ref()
            .map_or_else(|| PackageCache::file_name(version), |package| package.file.clone());
        self.make_room(&[&wanted, &PackageCache::file_name(&from)]);
        let verified = self.fetched(context, version, package.as_ref(), true).await?;
        let way_back = match self.fetched(context, &from, None, false).await {
            Ok(package) => Some(file_name(&package)),
            Err(StepError::Failed(why)) if allow_no_way_back => {
                tracing::warn!(%from, %why, "installing without a way back, as the request allows");
                None
            }
            Err(StepError::Failed(why)) => {
                return Err(StepError::Failed(format!(
                    "refused to install {version} without a way back: the package of {from} cannot be had ({why}); \
                     'necoctl update --to {version} --allow-no-way-back' does it all the same"
                )));
            }
            Err(error) => return Err(error),
        };
        let package = PackageRef {
            file: file_name(&verified),
            size: verified.size(),
            sha256: verified.sha256().to_owned(),
            unknown: Default::default(),
        };
        // What may fail for good fails before the begin.
        let command = self.keep_program()?;
        let effect = Effect::Install { from, to: version.clone(), package, way_back };
        let intent = context.open_intent("install", effect)?;
        let view = match context.fence().await {
            Ok(view) => view,
            Err(error) => {
                context.close_intent(&intent, IntentEnd::Dropped)?;
                return Err(error);
            }
        };
        context.begin_intent(&intent, &format!("install {version}"), &view)?;
        context.doing(format!("installing {version}"));
        self.verdict(&intent, Some(&command)).await
    }

    async fn await_verdict(&self, intent: &IntentId) -> Result<(), StepError> {
        self.verdict(intent, None).await
    }

    async fn unfit(&self) -> Vec<String> {
        let mut unfit = Vec::new();
        if let Some(free) = free_bytes(&self.root, &self.cache)
            && free < FREE_BYTES
        {
            unfit.push(format!(
                "only {} MiB are free in {}: make room for at least {} MiB",
                free >> 20,
                self.cache.dir().display(),
                FREE_BYTES >> 20
            ));
        }
        if !self.way_back.load(Ordering::Relaxed) {
            let why = self.way_back_trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
            unfit.push(format!(
                "{}: the package of the installed version is not in the cache ({why})",
                Alive::NO_WAY_BACK
            ));
        }
        unfit
    }
}

fn file_name(package: &VerifiedPackage) -> String {
    package.path().file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn free_bytes(root: &Root, cache: &PackageCache) -> Option<u64> {
    let dir = if cache.dir().exists() { cache.dir() } else { root.path() };
    let stat = nix::sys::statvfs::statvfs(dir).ok()?;
    Some(stat.blocks_available().saturating_mul(stat.fragment_size()))
}
