//! The unit that installs: a copy of the old binary, which outlives the daemons it replaces.
//!
//! It takes everything it needs from the journal, and goes on where it was after a power cut. Its verdict closes the
//! intent: installed, or failed with the old package back in place.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use neco_base::Backoff;
use neco_components::Recipe;
use neco_connect::one_line;
use neco_host::journal::JournalStore;
use neco_host::{
    Expected, Installed, PackageCache, PackageManager, Root, RunDetached, TrustedKeys, Unsigned,
    VerifiedPackage, verify_package,
};
use neco_plan::JournalState;
use neco_process::under;
use neco_schema::journal::{Effect, Entry, IntentEnd, IntentId};
use neco_schema::{NecoVersion, PackageRef, abridged};

use super::UNIT;
use super::daemons::{Daemons, ready};
use super::fetch::verify_cached;
use super::stage::Stage;
use crate::steps::RecipeSteps;

/// Delays while the disk refuses the journal.
const WRITE_AGAIN: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
/// How often the journal is tried to be written before the unit gives up; it is started again then.
const WRITE_TRIES: u32 = 50;
/// Delays while the package manager is locked or the disk full.
const INSTALL_AGAIN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
/// How often an installation is tried in that case, before it counts as failed.
const INSTALL_TRIES: u32 = 5;
/// The same for a disk that refuses, which a person has to do something about: some minutes.
const DISK_TRIES: u32 = 20;
/// So many problems of a recipe are told, and so many characters of each: the cause stands in etcd.
const PROBLEMS: usize = 3;
const PROBLEM_LENGTH: usize = 400;

/// The surroundings of the installing unit.
pub struct UnitSetup {
    /// The root of the file system.
    pub root: Root,
    /// The journal of this server.
    pub journal: Arc<dyn JournalStore>,
    /// Installs packages.
    pub packages: Arc<dyn PackageManager>,
    /// Where the packages lie.
    pub cache: PackageCache,
    /// Restarts daemons.
    pub daemons: Arc<dyn Daemons>,
    /// This unit's own engine, to disable it.
    pub detached: Arc<dyn RunDetached>,
    /// How long the new daemons may take to say that they run.
    pub ready_within: Duration,
    /// Whether packages without signature are allowed.
    pub unsigned: Unsigned,
}

struct Job {
    intent: IntentId,
    from: NecoVersion,
    to: NecoVersion,
    package: PackageRef,
    way_back: Option<String>,
}

/// Runs the unit: brings every begun installation of the journal to its verdict.
///
/// # Errors
/// The journal cannot be read or written; in words.
pub async fn run_unit(setup: &UnitSetup) -> Result<(), String> {
    while let Some(job) = next_job(setup)? {
        tracing::info!(from = %job.from, to = %job.to, "installing");
        let end = carry_out(setup, &job).await?;
        match &end {
            IntentEnd::Completed => tracing::info!(version = %job.to, "installed and running"),
            IntentEnd::Failed { cause } => tracing::error!(%cause, "not installed"),
            IntentEnd::Dropped => {}
        }
        write(setup, &[Entry::IntentClosed { intent: job.intent, end }]).await?;
    }
    setup.detached.disable(UNIT).await.map_err(|error| one_line(&error))
}

fn next_job(setup: &UnitSetup) -> Result<Option<Job>, String> {
    let records = setup.journal.entries().map_err(|error| one_line(&error))?;
    let state = JournalState::fold(records.iter().map(|record| &record.entry));
    let job =
        state.intents.into_iter().filter(|(_, open)| open.begun).find_map(|(intent, open)| {
            match open.effect {
                Effect::Install { from, to, package, way_back } => {
                    Some(Job { intent, from, to, package, way_back })
                }
                Effect::Restart { .. } => None,
            }
        });
    Ok(job)
}

async fn write(setup: &UnitSetup, entries: &[Entry]) -> Result<(), String> {
    until_done(|| setup.journal.append(entries)).await
}

async fn save(setup: &UnitSetup, stage: &Stage) -> Result<(), String> {
    until_done(|| stage.save(&setup.root)).await
}

/// Tries to read or write something until the disk lets it, for some minutes; what is new about the trouble is logged.
async fn until_done<T, E: std::error::Error>(
    mut try_it: impl FnMut() -> Result<T, E>,
) -> Result<T, String> {
    let (mut retry, mut told) = (WRITE_AGAIN.retry(), String::new());
    loop {
        let why = match try_it() {
            Ok(done) => return Ok(done),
            Err(error) => one_line(&error),
        };
        if retry.failures() >= WRITE_TRIES {
            return Err(why);
        }
        if told != why {
            tracing::error!(%why, "the installation waits for the disk");
            told = why;
        }
        tokio::time::sleep(retry.pause()).await;
    }
}

async fn carry_out(setup: &UnitSetup, job: &Job) -> Result<IntentEnd, String> {
    let mut stage = match until_done(|| Stage::load(&setup.root, &job.intent)).await? {
        Some(stage) => stage,
        None => {
            let stage = begin(setup, job).await;
            save(setup, &stage).await?;
            stage
        }
    };
    if stage.failed.is_none() {
        match forward(setup, job, &stage).await {
            Ok(()) => return Ok(IntentEnd::Completed),
            Err(cause) => {
                stage.failed = Some(cause);
                save(setup, &stage).await?;
            }
        }
    }
    let cause = stage.failed.clone().unwrap_or_default();
    tracing::error!(%cause, "going back to {}", job.from);
    let cause = match back(setup, job, &stage).await {
        Ok(()) => cause,
        Err(why) => format!("{cause}; going back to {} failed too: {why}", job.from),
    };
    Ok(IntentEnd::Failed { cause })
}

/// Looks at everything that is needed, before anything is changed.
async fn begin(setup: &UnitSetup, job: &Job) -> Stage {
    let mut daemons = setup.daemons.running().await;
    // The worker asked for this and must be there afterwards, also if it just died.
    if !daemons.iter().any(|name| name == "neco-worker") {
        daemons.push("neco-worker".to_owned());
    }
    let (mut way_back, mut failed) = (None, None);
    if let Some(file) = &job.way_back {
        let (root, cache) = (&setup.root, &setup.cache);
        match verify_cached(root, cache, file, &job.from, None, setup.unsigned).await {
            Ok(found) => {
                let (size, sha256) = (found.size(), found.sha256().to_owned());
                way_back = Some(PackageRef {
                    file: file.clone(),
                    size,
                    sha256,
                    unknown: Default::default(),
                });
            }
            Err(error) => {
                failed = Some(format!("the way back cannot be used: {}", one_line(&error)));
            }
        }
    }
    Stage { intent: job.intent.clone(), daemons, way_back, failed }
}

async fn forward(setup: &UnitSetup, job: &Job, stage: &Stage) -> Result<(), String> {
    if !is_installed(setup, &job.to).await? {
        let (root, cache, package) = (&setup.root, &setup.cache, &job.package);
        let file = &package.file;
        let verified =
            verify_cached(root, cache, file, &job.to, Some(package), setup.unsigned).await;
        install(setup, &verified.map_err(|error| one_line(&error))?).await?;
    }
    let ready = run_as(setup, stage, &job.to).await;
    ready.map_err(|why| match unusable_recipe(setup.root.path(), &job.from) {
        Some(reason) => format!("{why}; {reason}"),
        None => why,
    })
}

/// Why the daemons of what is installed may not run, where its recipe is to blame. A daemon tells its log alone, and going
/// back takes the files away. The recipe is read by `reader`, the version of this unit; whoever wrote a newer one for newer
/// daemons will see that.
fn unusable_recipe(root: &Path, reader: &NecoVersion) -> Option<String> {
    let problems = RecipeSteps::unusable(&under(root, Path::new(Recipe::FOLDER)));
    let first: Vec<String> =
        problems.iter().take(PROBLEMS).map(|problem| abridged(problem, PROBLEM_LENGTH)).collect();
    let more = match problems.len().saturating_sub(PROBLEMS) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    let first = first.join("; ");
    (!first.is_empty()).then(|| format!("{reader} cannot use its recipe: {first}{more}"))
}

async fn back(setup: &UnitSetup, job: &Job, stage: &Stage) -> Result<(), String> {
    if !is_installed(setup, &job.from).await? {
        let Some(package) = &stage.way_back else {
            return Err("it was to be installed without a way back".to_owned());
        };
        // Its signature was checked before anything was changed. By now the keys may be those of the bad package; what
        // counts is that the bits are the same.
        let expected = Expected::neco(job.from.clone()).pinned(package);
        let path = setup.cache.path(&package.file);
        let none = TrustedKeys::default();
        let verified = verify_package(&path, &[], &none, &expected, Unsigned::Allow).await;
        install(setup, &verified.map_err(|error| one_line(&error))?).await?;
    }
    run_as(setup, stage, &job.from).await
}

/// Whether exactly this version is installed; one that was interrupted is completed.
async fn is_installed(setup: &UnitSetup, version: &NecoVersion) -> Result<bool, String> {
    let found = setup.packages.installed("neco").await.map_err(|error| one_line(&error))?;
    if let Installed::Broken { version: begun, .. } = &found {
        if begun != version.as_str() {
            return Ok(false);
        }
        if let Err(error) = setup.packages.repair().await {
            tracing::warn!(error = %one_line(&error), "the installation could not be completed");
            return Ok(false);
        }
        let found = setup.packages.installed("neco").await.map_err(|error| one_line(&error))?;
        return Ok(found == Installed::Yes(version.clone()));
    }
    Ok(found == Installed::Yes(version.clone()))
}

/// Installs a package, waiting for a while for what passes by itself.
async fn install(setup: &UnitSetup, package: &VerifiedPackage) -> Result<(), String> {
    let (mut retry, mut told) = (INSTALL_AGAIN.retry(), String::new());
    loop {
        let error = match setup.packages.install(package).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let why = one_line(&error);
        let tries = if error.is_disk_trouble() { DISK_TRIES } else { INSTALL_TRIES };
        if !error.is_transient() || retry.failures() >= tries {
            return Err(why);
        }
        if told != why {
            tracing::warn!(%why, "not installed yet, trying again");
            told = why;
        }
        tokio::time::sleep(retry.pause()).await;
    }
}

/// Has the daemons run as `version`: those that ran when the installation began, and those that came up since, for at
/// boot this unit may be quicker than they are. One that says so already is restarted too: if it came up while the files
/// were replaced, it may be the old program with the new version's name.
async fn run_as(setup: &UnitSetup, stage: &Stage, version: &NecoVersion) -> Result<(), String> {
    let mut daemons = stage.daemons.clone();
    for daemon in setup.daemons.running().await {
        if !daemons.contains(&daemon) {
            daemons.push(daemon);
        }
    }
    for daemon in &daemons {
        setup.daemons.restart(daemon).await?;
    }
    ready(setup.root.path(), &daemons, version, setup.ready_within).await
}
