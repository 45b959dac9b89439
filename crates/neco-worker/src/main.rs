//! The worker: brings one boot server to the requested state.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::{Parser, Subcommand};
use neco_base::Backoff;
use neco_components::Recipe;
use neco_connect::{ConfiguredSource, Sources, one_line, wait_for_store};
use neco_host::journal::{Checkpoint, DIRECTORY, Journal, JournalStore, Options, in_brief};
use neco_host::{PackageCache, Root, Unsigned, address, identity};
use neco_plan::{JournalState, Local};
use neco_process::clock::{Clock, SystemClock};
use neco_process::config::{self, Config};
use neco_process::daemon::{follow, installed_version, serve};
use neco_process::exit::{ExitCode, Failure};
use neco_process::frame::{self, DaemonCommand, DaemonOptions};
use neco_process::listener::Readiness;
use neco_process::lock::{LocalLock, LockError};
use neco_process::logs::LogFormat;
use neco_process::ready::Ready;
use neco_process::signals::Shutdown;
use neco_process::{notify, under};
use neco_schema::NecoVersion;
use neco_store::{Members, Store};
use neco_systemd::Systemd;
use neco_worker::install::{self, Fetcher, PackageInstaller, Program, UnitSetup};
use neco_worker::preview::{PREVIEWS, PreviewPackages, Previewer};
use neco_worker::sandbox::{self, SandboxSources, SandboxSteps};
use neco_worker::{
    About, Debs, Drivers, Engine, Exit, Identity, Patience, RecipeSteps, ReleasedDebs, SandboxDebs,
    Services, Shared, StepHost, Steps, kept, wall,
};
use tokio::sync::watch;

/// Delays while the journal cannot be read.
const READ_AGAIN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
/// Delays while another process installs.
const LOCK_AGAIN: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
/// Where packages lie below the configured cache.
const PACKAGES: &str = "packages";

/// Brings this boot server to the requested state, in lock-step with the others.
#[derive(Debug, Parser)]
#[command(name = "neco-worker", disable_version_flag = true)]
struct Cli {
    /// Unpack packages and record units and containers instead of running them.
    #[arg(long, global = true)]
    sandbox: bool,
    /// How long the daemons of a new package may take to say that they run.
    #[arg(long, default_value = "90s", value_parser = neco_process::duration::parse, global = true)]
    ready_within: Duration,
    /// How long the recorder of containers takes for an image, with --sandbox.
    #[arg(long, default_value = "300ms", value_parser = neco_process::duration::parse, global = true, hide = true)]
    pull_time: Duration,
    /// How long others take this server for alive after its last sign of life.
    #[arg(long, default_value = "30s", value_parser = neco_process::duration::parse, global = true, hide = true)]
    alive_ttl: Duration,
    #[command(flatten)]
    daemon: DaemonOptions,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring a begun installation to its verdict. Started by the worker itself, as a unit of its own.
    #[command(hide = true)]
    Install {
        /// Where the packages lie; the configuration may have become unreadable by the time it is needed.
        #[arg(long)]
        cache: Option<PathBuf>,
    },
}

impl DaemonCommand for Cli {
    fn options(&self) -> &DaemonOptions {
        &self.daemon
    }
}

fn main() {
    frame::run("neco-worker", env::args_os(), async |cli: Cli| match &cli.command {
        Some(Command::Install { cache }) => install_unit(&cli, cache.as_deref()).await,
        None => work(&cli).await,
    })
}

/// The root of the file system, and the journal below it.
fn journal(cli: &Cli, clock: &Arc<SystemClock>) -> Result<(Root, Arc<dyn JournalStore>), Failure> {
    let root = Root::new(&cli.daemon.root)?;
    if !cli.sandbox && !root.is_system() {
        let error =
            anyhow::anyhow!("--root names a part of this machine, whose systemd has one root");
        return Err(Failure::new(ExitCode::Usage, error)
            .with_hint("leave --root out, or add --sandbox to have everything recorded below it"));
    }
    if !cli.sandbox && !Path::new(Systemd::BOOTED).is_dir() {
        let error = anyhow::anyhow!("this machine was not booted by systemd");
        return Err(Failure::new(ExitCode::CannotRun, error)
            .with_hint("run with --sandbox and a --root of its own"));
    }
    let clock = Arc::clone(clock);
    let now = Arc::new(move || wall(&*clock));
    let checkpoint: Checkpoint = Arc::new(|records| {
        vec![JournalState::fold(records.iter().map(|record| &record.entry)).checkpoint()]
    });
    let (journal, _, damage) = Journal::open(root.join(DIRECTORY), Options::new(now, checkpoint))?;
    for damage in in_brief(&damage) {
        tracing::error!("{damage}");
    }
    Ok((root, Arc::new(journal)))
}

fn drivers(cli: &Cli, root: &Root, say: impl Fn(&str) + Send + Sync + 'static) -> Drivers {
    if cli.sandbox { Drivers::sandbox(root, cli.pull_time) } else { Drivers::real(root, say) }
}

fn unsigned(config: &Config) -> Unsigned {
    match config.release.unsigned {
        config::Unsigned::Allow => Unsigned::Allow,
        config::Unsigned::Refuse => Unsigned::Refuse,
    }
}

/// Waits until no other process holds a lock.
async fn alone(path: &Path) -> Result<LocalLock, LockError> {
    let mut retry = LOCK_AGAIN.retry();
    loop {
        match LocalLock::acquire(path) {
            Err(error @ LockError::Held { .. }) => {
                tracing::info!(why = %one_line(&error), "waiting for another installation");
                tokio::time::sleep(retry.pause()).await;
            }
            outcome => return outcome,
        }
    }
}

async fn install_unit(cli: &Cli, cache: Option<&Path>) -> Result<ExitCode, Failure> {
    // Another one may be about to come to its verdict: what is left after that is looked at then.
    let _lock = alone(&under(&cli.daemon.root, "/run/neco/neco-install.lock".as_ref())).await?;
    let (root, journal) = journal(cli, &Arc::new(SystemClock::default()))?;
    let drivers = drivers(cli, &root, |_: &str| {});
    // What has begun must come to its end whatever became of the file meanwhile; it is trusted with nothing then.
    let unsigned = match config::load(&cli.daemon.root) {
        Ok(loaded) => unsigned(&loaded.config),
        Err(error) => {
            tracing::error!(error = %one_line(&error), "going on without it; unsigned packages are refused");
            Unsigned::Refuse
        }
    };
    let cache = match cache {
        Some(dir) => PackageCache::in_dir(dir),
        None => PackageCache::new(&root)?,
    };
    let setup = UnitSetup {
        root,
        journal,
        packages: drivers.packages,
        cache,
        daemons: drivers.daemons,
        detached: drivers.detached,
        ready_within: cli.ready_within,
        unsigned,
    };
    install::run_unit(&setup).await.map_err(anyhow::Error::msg)?;
    Ok(ExitCode::Done)
}

async fn work(cli: &Cli) -> Result<ExitCode, Failure> {
    let shutdown = Shutdown::listen()?;
    let stop = shutdown.token();
    let version: NecoVersion = installed_version(&cli.daemon.root)?;
    let _lock = LocalLock::acquire(&under(&cli.daemon.root, "/run/neco/neco-worker.lock".as_ref()))
        .map_err(|error| match error {
            LockError::Held { .. } => Failure::from(error)
                .with_hint("one worker runs on a boot server: stop the other one"),
            LockError::Io { .. } => error.into(),
        })?;
    let clock = Arc::new(SystemClock::default());
    let (root, journal) = journal(cli, &clock)?;
    let recipe = Recipe::load(root.join(Recipe::FOLDER))?;
    let lrn = identity::lrn(&root)?;
    let boot_id = identity::boot_id(&root)?;
    // To systemd it runs from here on: a configuration may be a long time coming, and whoever starts the unit waits.
    notify::ready();
    let Some((config, store)) = wait_for_store(&cli.daemon.root, &stop).await else {
        return Ok(ExitCode::Done);
    };
    let members: Arc<dyn Members> = Arc::new(store.clone());
    let store: Arc<dyn Store> = Arc::new(store);

    let mut local = Local::new(lrn, identity::machine_id(&root)?, version.clone(), recipe.shape());
    let waits_for = Arc::new(OnceLock::<Arc<Shared>>::new());
    let shared = Arc::clone(&waits_for);
    let drivers = drivers(cli, &root, move |why| {
        if let Some(shared) = shared.get() {
            shared.note_waiting(why);
        }
    });
    if let Ok(neco_host::Installed::Yes(installed)) = drivers.packages.installed("neco").await {
        local.installed = installed;
    }
    let dynamic_clock: Arc<dyn Clock> = clock;
    let (mut retry, mut told) = (READ_AGAIN.retry(), String::new());
    let shared = loop {
        let (store, clock) = (Arc::clone(&store), Arc::clone(&dynamic_clock));
        match Shared::new(store, clock, Arc::clone(&journal), local.clone()) {
            Ok(shared) => break shared,
            // What is open stands there: without it nothing may begin.
            Err(error) => {
                let why = one_line(&error);
                if told != why {
                    tracing::error!(%why, "waiting for the journal");
                    told = why;
                }
            }
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(ExitCode::Done),
            () = tokio::time::sleep(retry.pause()) => {}
        }
    };
    let _ = waits_for.set(Arc::clone(&shared));
    let services = match cli.sandbox {
        true => Services::sandbox(&root, Arc::clone(&drivers.fs)),
        false => Services::real(Arc::clone(&store), Arc::clone(&drivers.logins)),
    };
    let debs = debs(cli, &root, &config, &store, &recipe);
    let host = Arc::new(StepHost {
        root: root.clone(),
        fs: drivers.fs,
        units: drivers.units,
        runtime: drivers.runtime,
        logins: drivers.logins,
        debs,
        members,
        sabakan: services.sabakan,
        cke: services.cke,
        outside: services.outside,
        patience: Patience::default(),
        shared: Arc::clone(&shared),
        about: about(&root, lrn),
    });
    let mut steps: Arc<dyn Steps> = Arc::new(RecipeSteps::new(recipe.clone(), Arc::clone(&host))?);
    let mut sources: Arc<dyn Sources> =
        Arc::new(ConfiguredSource::new(config.release.clone(), Arc::clone(&store)));
    if cli.sandbox {
        let faults = sandbox::faults(root.path());
        steps = Arc::new(SandboxSteps::new(steps, faults.clone()));
        sources = Arc::new(SandboxSources::new(sources, faults));
    }
    let cache = PackageCache::in_dir(config.cache.join(PACKAGES));
    let fetching_into = |cache: &PackageCache| {
        Fetcher::new(
            root.clone(),
            cache.clone(),
            Arc::clone(&store),
            Arc::clone(&sources),
            config.release.package.clone(),
            unsigned(&config),
        )
        .with_patience(config.release.timeout)
    };
    let fetcher = fetching_into(&cache);
    let looked_at = PackageCache::in_dir(config.cache.join(PREVIEWS));
    let packages =
        PreviewPackages::new(cache.clone(), looked_at.clone(), fetching_into(&looked_at));
    let previewer = Arc::new(Previewer::new(host, recipe, version.clone(), packages));
    let program = Program::of_this_process(unit_arguments(cli, cache.dir()));
    let installer = Arc::new(PackageInstaller::new(
        Arc::clone(&shared),
        root,
        drivers.packages,
        drivers.detached,
        fetcher,
        cache,
        program,
    ));

    let (_readiness, readiness) = watch::channel(Readiness::Ready);
    let (status, status_page) = watch::channel(serde_json::Value::Null);
    let mut tasks = tokio::task::JoinSet::new();
    let observed = shared.observed();
    tasks.spawn(kept("status page", move || follow(observed.clone(), status.clone())));
    let listener = config.listen.of("worker").map(|address| {
        serve(address, "neco-worker", version.as_str(), readiness, status_page, |_| {})
    });
    // Ready means: this binary runs, on the configuration that is there. etcd may be a long time coming, and a crash may have
    // left something to complete.
    let mut ready = Ready::announce(&cli.daemon.root, "neco-worker", version.as_str())?;
    if let Some(listener) = &listener {
        ready.follow(listener.bound());
    }
    tracing::info!(%lrn, %version, "started");
    let identity = Identity {
        boot_id,
        address: address::node0(lrn).map(|ip| ip.to_string()).unwrap_or_default(),
    };
    let keeper = Arc::clone(&installer);
    tasks.spawn(kept("way back", move || {
        let keeper = Arc::clone(&keeper);
        async move { keeper.keep_way_back().await }
    }));
    tasks.spawn(kept("previews", move || {
        let previewer = Arc::clone(&previewer);
        async move { previewer.run().await }
    }));
    let engine = Engine::new(shared, steps, installer, identity).with_alive_ttl(cli.alive_ttl);
    let exit = engine.run(stop).await;
    notify::stopping();
    tasks.shutdown().await;
    match exit {
        Exit::Stopped => {
            tracing::info!("stopped");
            Ok(ExitCode::Done)
        }
        Exit::NewBinary => {
            tracing::info!("ending for the new binary");
            // The original's code for it; its meaning on this program's own scale does not apply here.
            Ok(ExitCode::NothingYet)
        }
    }
}

/// The Debian packages beside Neco's own.
fn debs(
    cli: &Cli,
    root: &Root,
    config: &Config,
    store: &Arc<dyn Store>,
    recipe: &Recipe,
) -> Arc<dyn Debs> {
    if cli.sandbox {
        return Arc::new(SandboxDebs::new(root.clone()).bringing_units_of(recipe));
    }
    let cache = config.cache.join(PACKAGES);
    Arc::new(ReleasedDebs::new(config.release.clone(), Arc::clone(store), cache))
}

/// The arguments with which this program, copied aside, installs.
fn unit_arguments(cli: &Cli, cache: &Path) -> Vec<String> {
    let mut arguments =
        vec!["install".to_owned(), "--root".to_owned(), cli.daemon.root.display().to_string()];
    if cli.sandbox {
        arguments.push("--sandbox".to_owned());
    }
    arguments.extend(["--cache".to_owned(), cache.display().to_string()]);
    arguments.push("--ready-within".to_owned());
    arguments.push(format!("{}s", cli.ready_within.as_secs().max(1)));
    if let Some(file) = &cli.daemon.logfile {
        arguments.push("--logfile".to_owned());
        arguments.push(file.display().to_string());
    }
    if let Some(level) = &cli.daemon.loglevel {
        arguments.push(format!("--loglevel={level}"));
    }
    if let Some(format) = cli.daemon.logformat {
        let word = match format {
            LogFormat::Plain => "plain",
            LogFormat::Logfmt => "logfmt",
            LogFormat::Json => "json",
        };
        arguments.push(format!("--logformat={word}"));
    }
    arguments
}

/// What templates may ask about this server; what the machine does not tell is empty.
fn about(root: &Root, lrn: neco_schema::Lrn) -> About {
    let os = identity::os_release(root).ok();
    let field = |name: &str| os.as_ref().and_then(|os| os.get(name)).unwrap_or_default().to_owned();
    About {
        lrn,
        os_name: field("NAME"),
        os_version: field("VERSION_ID"),
        serial: std::fs::read_to_string(root.join("/sys/class/dmi/id/product_serial"))
            .map(|text| text.trim().to_owned())
            .unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cli(arguments: &[&str]) -> Cli {
        Cli::try_parse_from([&["neco-worker"], arguments].concat()).expect("known arguments")
    }

    #[test]
    fn the_installing_unit_runs_and_logs_as_the_worker_does() {
        for given in [
            &[][..],
            &["--root", "/tmp/a b", "--sandbox", "--ready-within", "7s"],
            &["--logfile", "/var/log/neco.log", "--loglevel", "info,neco_host=debug"],
            &["--loglevel=debug", "--logformat", "plain"],
            &["--loglevel", "", "--logformat", "logfmt"],
            &["--logformat", "json"],
        ] {
            let worker = cli(given);
            let arguments = unit_arguments(&worker, Path::new("/var/cache/neco/packages"));
            let unit = cli(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
            let of = |cli: &Cli| {
                let runs = (cli.daemon.root.clone(), cli.sandbox, cli.ready_within);
                (
                    runs,
                    cli.daemon.logfile.clone(),
                    cli.daemon.loglevel.clone(),
                    cli.daemon.logformat,
                )
            };
            assert_eq!(of(&unit), of(&worker), "{given:?}");
            let Some(Command::Install { cache }) = unit.command else { panic!("{arguments:?}") };
            assert_eq!(cache.as_deref(), Some(Path::new("/var/cache/neco/packages")));
        }
    }
}
