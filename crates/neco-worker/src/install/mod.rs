//! Installing the package of Neco itself: fetched and verified here, installed by a unit of its own, judged by whether the
//! new binaries say that they run.

mod daemons;
mod fetch;
mod stage;
mod unit;

use std::path::PathBuf;
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
use crate::shared::Shared;

pub use daemons::{Daemons, SandboxDaemons};
pub use fetch::{FetchError, Fetcher};
pub use unit::{UnitSetup, run_unit};

/// The name of the unit that installs.
pub const UNIT: &str = "neco-install";
/// How often the verdict of a running installation is asked for.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// How long a unit that does not end is waited for, in all.
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
}

/// How the unit that installs is run.
#[derive(Clone, Debug)]
pub struct Program {
    /// The binary of this process.
    pub executable: PathBuf,
    /// The arguments that make it the installing unit.
    pub arguments: Vec<String>,
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
        }
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

    /// Keeps a copy of this binary that no package replaces.
    fn keep_program(&self) -> Result<PathBuf, StepError> {
        let name = program_name(&self.shared.local().running);
        self.cache
            .keep_program(&self.program.executable, &name)
            .map_err(|error| StepError::failed("keeping a copy of this program", &error))
    }

    /// Starts the unit that installs.
    async fn start_unit(&self) -> Result<(), StepError> {
        let mut argv = vec![self.keep_program()?.display().to_string()];
        argv.extend(self.program.arguments.iter().cloned());
        let failed = |error| StepError::failed(format!("starting {UNIT}"), &error);
        // Enabled first: a power cut during the installation must not leave a bad binary without its judge.
        self.detached.enable(UNIT, &argv).await.map_err(failed)?;
        self.detached.start(UNIT, &argv).await.map_err(failed)
    }

    /// Whether there is a verdict; if not, sees to it that the unit runs.
    async fn judged(&self, intent: &IntentId) -> Result<bool, StepError> {
        let running = self.detached.is_running(UNIT).await;
        let running =
            running.map_err(|error| StepError::failed(format!("asking for {UNIT}"), &error))?;
        // Read after asking: a unit that ended has written its verdict before.
        self.shared.reload()?;
        if !self.shared.local().journal.intents.contains_key(intent) {
            return Ok(true);
        }
        if !running {
            self.start_unit().await?;
        }
        Ok(false)
    }
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
        };
        // What may fail for good fails before the begin.
        self.keep_program()?;
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
        self.await_verdict(&intent).await
    }

    async fn await_verdict(&self, intent: &IntentId) -> Result<(), StepError> {
        let waited = async {
            let mut retry = UNIT_AGAIN.retry();
            loop {
                match self.judged(intent).await {
                    Ok(true) => return,
                    Ok(false) => {
                        retry.reset();
                        tokio::time::sleep(ASK_EVERY).await;
                    }
                    // What has begun is not given up because something is away for a while.
                    Err(error) => {
                        let why = one_line(&error);
                        tracing::warn!(%why, "the installation waits");
                        self.shared.observe(|observation| observation.waiting_for = why);
                        tokio::time::sleep(retry.pause()).await;
                    }
                }
            }
        };
        match tokio::time::timeout(VERDICT_WITHIN, waited).await {
            Ok(()) => Ok(()),
            Err(_) => {
                let cause = format!("{UNIT} gave no verdict within {VERDICT_WITHIN:?}");
                self.shared.record(&[Entry::IntentClosed {
                    intent: intent.clone(),
                    end: IntentEnd::Failed { cause: cause.clone() },
                }])?;
                Err(StepError::Failed(cause))
            }
        }
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
