//! The updater: leads updates of the boot servers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use neco_components::Recipe;
use neco_connect::{ConfiguredSource, wait_for_store};
use neco_host::Root;
use neco_process::clock::SystemClock;
use neco_process::config::Unsigned;
use neco_process::daemon::{follow, installed_version, serve};
use neco_process::exit::{self, ExitCode, Failure};
use neco_process::listener::Readiness;
use neco_process::lock::LocalLock;
use neco_process::logs::{self, LogFormat, LogOptions};
use neco_process::ready::Ready;
use neco_process::signals::Shutdown;
use neco_process::{crypto, man, notify, under};
use neco_store::Store;
use neco_updater::{Context, Engine, EtcdProbe, Local, Outline, Slack};
use tokio::sync::watch;

/// Leads updates: watches releases and moves all boot servers to the newest one in lock-step.
#[derive(Debug, Parser)]
#[command(name = "neco-updater", disable_version_flag = true)]
struct Cli {
    /// How long leadership outlasts the last sign of life, such as 60s.
    #[arg(long, default_value = "60s", value_parser = neco_process::duration::parse)]
    session_ttl: Duration,
    /// Treat this folder as the root of the file system.
    #[arg(long, default_value = "/")]
    root: PathBuf,
    /// Append logs to this file.
    #[arg(long)]
    logfile: Option<PathBuf>,
    /// critical, error, warning, info, debug.
    #[arg(long)]
    loglevel: Option<String>,
    /// plain, logfmt, json.
    #[arg(long)]
    logformat: Option<LogFormat>,
    /// Write the pages of the manual into a folder and end.
    #[arg(long, hide = true, value_name = "DIR")]
    man: Option<PathBuf>,
}

fn main() {
    exit::run(|| {
        let cli = Cli::try_parse().unwrap_or_else(|error| {
            let _ = error.print();
            std::process::exit(if error.use_stderr() { ExitCode::Usage as i32 } else { 0 })
        });
        if let Some(dir) = &cli.man {
            man::write(Cli::command(), dir)?;
            return Ok(ExitCode::Done);
        }
        let logs = LogOptions {
            file: cli.logfile.clone(),
            level: cli.loglevel.clone(),
            format: cli.logformat,
        };
        logs::init("neco-updater", &logs)?;
        crypto::install_crypto_provider();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(notify::watched(run(cli)))
    })
}

async fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let shutdown = Shutdown::listen()?;
    let stop = shutdown.token();
    let root = Root::new(&cli.root)?;
    let version = installed_version(&cli.root)?;
    let _lock = LocalLock::acquire(&under(&cli.root, "/run/neco/neco-updater.lock".as_ref()))?;
    // To systemd it runs from here on: a configuration may be a long time coming, and whoever starts the unit waits.
    notify::ready();
    let Some((config, store)) = wait_for_store(&cli.root, &stop).await else {
        return Ok(ExitCode::Done);
    };
    let store: Arc<dyn Store> = Arc::new(store);
    let cluster = neco_host::identity::cluster(&root).unwrap_or_else(|error| {
        tracing::warn!(error = %neco_connect::one_line(&error), "notices will not name the cluster");
        "unknown".to_owned()
    });
    let local = Local {
        host: neco_host::identity::hostname(&root)?,
        package: config.release.package.clone(),
        needs_signature: config.release.unsigned == Unsigned::Refuse,
        recipe: outline(&root)?,
    };
    let context = Arc::new(Context::new(
        Arc::clone(&store),
        Arc::new(SystemClock::default()),
        Arc::new(ConfiguredSource::new(config.release.clone(), Arc::clone(&store))),
        vec![Arc::new(EtcdProbe::new(Arc::clone(&store)))],
        Arc::new(Slack::new(Arc::clone(&store), cluster)),
        local,
    ));
    let (_readiness, readiness) = watch::channel(Readiness::Ready);
    let (status, status_page) = watch::channel(serde_json::Value::Null);
    let pages = tokio::spawn(follow(context.observed(), status));
    let listener = config
        .listen
        .of("updater")
        .map(|address| serve(address, "neco-updater", &version, readiness, status_page, |_| {}));
    // Ready means: this binary runs. etcd and leadership may be a long time coming.
    let mut ready = Ready::announce(&cli.root, "neco-updater", &version)?;
    if let Some(listener) = &listener {
        ready.follow(listener.bound());
    }
    tracing::info!(%version, "started");
    Engine::new(context, cli.session_ttl).run(stop).await;
    notify::stopping();
    pages.abort();
    tracing::info!("stopped");
    Ok(ExitCode::Done)
}

/// What the installed recipe says that matters to a leader.
fn outline(root: &Root) -> Result<Outline, neco_components::LoadError> {
    let recipe = Recipe::load(root.join("/usr/share/neco"))?;
    let timeouts = recipe.steps().filter_map(|(number, step)| Some((number, step.timeout?)));
    Ok(Outline { groups: recipe.shape().groups, timeouts: timeouts.collect() })
}
