//! The daemon that tells sabakan how machines are.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use jiff::tz::TimeZone;
use neco_connect::wait_for_store;
use neco_host::{Root, SITE_CA, identity};
use neco_http::Url;
use neco_process::clock::SystemClock;
use neco_process::daemon::{follow, installed_version, serve};
use neco_process::exit::{ExitCode, Failure, OrFail as _};
use neco_process::frame::{self, DaemonCommand, DaemonOptions};
use neco_process::listener::Readiness;
use neco_process::lock::LocalLock;
use neco_process::ready::Ready;
use neco_process::signals::Shutdown;
use neco_process::{notify, under};
use neco_sabakan::SabakanClient;
use neco_serf::SerfClient;
use sabakan_state_setter::alerts::Alertmanager;
use sabakan_state_setter::hardware::{Exporters, PORT};
use sabakan_state_setter::keys::SabakanKeys;
use sabakan_state_setter::power::NecoCommands;
use sabakan_state_setter::{Context, Drivers, Engine, ListFiles, Options, site_list};
use tokio::sync::watch;

/// How this daemon is called: its file, its key of the election, its name for sabakan's audit log.
const NAME: &str = "sabakan-state-setter";

/// Tells sabakan how machines are, by what serf, alerts and their hardware say; retires machines and switches them off.
#[derive(Debug, Parser)]
#[command(name = "sabakan-state-setter", disable_version_flag = true)]
struct Cli {
    /// The list of machine types; what /etc/neco/sabakan-state-setter.yml says is laid over it.
    #[arg(long, default_value = "/usr/share/neco/sabakan-state-setter.yml", value_name = "FILE")]
    config_file: PathBuf,
    /// How long leadership outlasts the last sign of life, in whole seconds such as 60s.
    #[arg(long, default_value = "1m", value_name = "TIME", value_parser = neco_process::duration::parse)]
    etcd_session_ttl: Duration,
    /// How often the machines are looked at.
    #[arg(long, default_value = "1m", value_name = "TIME", value_parser = neco_process::duration::parse)]
    interval: Duration,
    /// How many machines are asked for their metrics at once.
    #[arg(long, default_value = "30", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    parallel: u16,
    /// How long a loss of more than half of the machines at once must last until it is told.
    #[arg(long, default_value = "10m", value_name = "TIME", value_parser = neco_process::duration::parse)]
    mass_loss_after: Duration,
    /// Where sabakan listens for HTTP.
    #[arg(long, default_value = "http://localhost:10080", value_name = "URL")]
    sabakan_url: Url,
    /// Where sabakan listens for HTTPS.
    #[arg(long, default_value = "https://localhost:10443", value_name = "URL")]
    sabakan_url_https: Url,
    /// The authority that sabakan's certificate must come from.
    #[arg(long, default_value = SITE_CA, value_name = "FILE")]
    sabakan_ca: PathBuf,
    /// Where the serf agent listens for its RPC.
    #[arg(long, default_value = "127.0.0.1:7373", value_name = "HOST:PORT")]
    serf_address: String,
    /// The program whose verbs 'tpm' and 'power' act on machines.
    #[arg(long, default_value = "/usr/bin/neco", value_name = "FILE")]
    neco: PathBuf,
    #[command(flatten)]
    daemon: DaemonOptions,
}

/// The original takes options after one dash, too, and units of a site may have them.
fn with_two_dashes(word: OsString) -> OsString {
    match word.to_str().and_then(|word| word.strip_prefix('-')) {
        Some(rest) if rest.len() > 1 && !rest.starts_with('-') => format!("--{rest}").into(),
        _ => word,
    }
}

impl DaemonCommand for Cli {
    fn options(&self) -> &DaemonOptions {
        &self.daemon
    }
}

fn main() {
    frame::run(NAME, env::args_os().map(with_two_dashes), run)
}

async fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let shutdown = Shutdown::listen()?;
    let stop = shutdown.token();
    let root = Root::new(&cli.daemon.root)?;
    let version: String = installed_version(&cli.daemon.root)?;
    let at_root = |path: &PathBuf| under(&cli.daemon.root, path);
    let _lock = LocalLock::acquire(&at_root(&format!("/run/neco/{NAME}.lock").into()))?;
    let sabakan = neco_sabakan::Options::new(cli.sabakan_url.clone(), NAME);
    let sabakan = SabakanClient::new(&sabakan).or_exit(ExitCode::Usage)?;
    // To systemd it runs from here on: a configuration may be a long time coming, and whoever starts the unit waits.
    notify::ready();
    let Some((config, store)) = wait_for_store(&cli.daemon.root, &stop).await else {
        return Ok(ExitCode::Done);
    };
    let drivers = Drivers {
        store: Arc::new(store),
        clock: Arc::new(SystemClock::default()),
        serf: Arc::new(SerfClient::new(neco_serf::Options::new(&cli.serf_address))),
        sabakan: Arc::new(sabakan),
        hardware: Arc::new(Exporters::new(PORT)?),
        alerts: Arc::new(Alertmanager::new()?),
        keys: Arc::new(SabakanKeys {
            url: cli.sabakan_url.clone(),
            https: cli.sabakan_url_https.clone(),
            ca: at_root(&cli.sabakan_ca),
            user: NAME.to_owned(),
        }),
        power: Arc::new(NecoCommands::new(cli.neco.clone())),
    };
    let options = Options {
        host: identity::hostname(&root)?,
        session_ttl: cli.etcd_session_ttl,
        interval: cli.interval,
        parallel: usize::from(cli.parallel),
        mass_loss_after: cli.mass_loss_after,
    };
    let site = Some(at_root(&site_list()));
    let files = ListFiles::new(at_root(&cli.config_file), site, TimeZone::system());
    let context = Arc::new(Context::new(drivers, options, files));
    let (_readiness, readiness) = watch::channel(Readiness::Ready);
    let (status, status_page) = watch::channel(serde_json::Value::Null);
    let pages = tokio::spawn(follow(context.observed(), status));
    let listener = config.listen.of(NAME).map(|address| {
        let register = |registry: &mut _| context.metrics().register(registry);
        serve(address, NAME, &version, readiness, status_page, register)
    });
    // Ready means: this binary runs. A list, etcd and leadership may be a long time coming.
    let mut ready = Ready::announce(&cli.daemon.root, NAME, &version)?;
    if let Some(listener) = &listener {
        ready.follow(listener.bound());
    }
    tracing::info!(%version, "started");
    Engine::new(context).run(stop).await;
    notify::stopping();
    pages.abort();
    tracing::info!("stopped");
    Ok(ExitCode::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Cli {
        let words = [NAME].iter().chain(words).map(|word| with_two_dashes(word.into()));
        Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn options_of_the_original_are_taken_after_one_dash_and_after_two() {
        let cli = parsed(&[]);
        assert_eq!(
            (cli.interval, cli.etcd_session_ttl),
            (Duration::from_secs(60), Duration::from_secs(60))
        );
        assert_eq!((cli.parallel, cli.serf_address.as_str()), (30, "127.0.0.1:7373"));
        assert_eq!(cli.sabakan_url.as_str(), "http://localhost:10080/");
        assert_eq!(cli.sabakan_url_https.as_str(), "https://localhost:10443/");
        let one = [
            "-config-file",
            "/a.yml",
            "-interval=30s",
            "-parallel",
            "3",
            "-etcd-session-ttl",
            "2m",
        ];
        let two =
            ["--config-file", "/a.yml", "--interval=30s", "--parallel=3", "--etcd-session-ttl=2m"];
        for cli in [parsed(&one), parsed(&two)] {
            assert_eq!(cli.config_file, PathBuf::from("/a.yml"));
            assert_eq!(
                (cli.interval.as_secs(), cli.parallel, cli.etcd_session_ttl.as_secs()),
                (30, 3, 120)
            );
        }
        for wrong in ["-parallel=0", "-interval=0s", "-sabakan-url=here", "-x"] {
            let words = [NAME, wrong].map(|word| with_two_dashes(word.into()));
            assert!(Cli::try_parse_from(words).is_err(), "{wrong}");
        }
    }
}
