//! The updater: leads updates of the boot servers.

use std::env;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use neco_components::Recipe;
use neco_connect::{ConfiguredSource, wait_for_store};
use neco_host::Root;
use neco_process::clock::SystemClock;
use neco_process::config::Unsigned;
use neco_process::daemon::{follow, installed_version, serve};
use neco_process::exit::{ExitCode, Failure};
use neco_process::frame::{self, DaemonCommand, DaemonOptions};
use neco_process::listener::Readiness;
use neco_process::lock::LocalLock;
use neco_process::ready::Ready;
use neco_process::signals::Shutdown;
use neco_process::{notify, under};
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
    #[command(flatten)]
    daemon: DaemonOptions,
}

impl DaemonCommand for Cli {
    fn options(&self) -> &DaemonOptions {
        &self.daemon
    }
}

fn main() {
    frame::run("neco-updater", env::args_os(), run)
}

async fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let shutdown = Shutdown::listen()?;
    let stop = shutdown.token();
    let root = Root::new(&cli.daemon.root)?;
    let version: String = installed_version(&cli.daemon.root)?;
    let _lock =
        LocalLock::acquire(&under(&cli.daemon.root, "/run/neco/neco-updater.lock".as_ref()))?;
    // To systemd it runs from here on: a configuration may be a long time coming, and whoever starts the unit waits.
    notify::ready();
    let Some((config, store)) = wait_for_store(&cli.daemon.root, &stop).await else {
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
    let mut ready = Ready::announce(&cli.daemon.root, "neco-updater", &version)?;
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
    let recipe = Recipe::load(root.join(Recipe::FOLDER))?;
    let timeouts = recipe.steps().filter_map(|(number, step)| Some((number, step.timeout?)));
    Ok(Outline { groups: recipe.shape().groups, timeouts: timeouts.collect() })
}
