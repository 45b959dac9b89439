//! `sabakan` and `sabactl`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use neco_process::signals::Shutdown;
use neco_sabakan::Url;
use neco_sabakan::fake::{FakeSabakan, ServeOptions, TlsOptions};

use super::{are_there, settings, text};

/// sabakan's own ports and folders (external-apis §1.1).
const HTTP: u16 = 10080;
const HTTPS: u16 = 10443;
const STATE: &str = "/var/lib/sabakan";
const CERTIFICATE: &str = "/etc/sabakan/server.crt";
const KEY: &str = "/etc/sabakan/server.key";

/// The options by which the configuration is named.
const CONFIG: &str = "--config-file=";

/// Serves until it is asked to end.
pub(super) async fn serve(words: &[&str]) -> Result<()> {
    let shutdown = Shutdown::listen().context("listening for signals")?;
    let file = words.iter().find_map(|word| word.strip_prefix(CONFIG));
    let config = settings(Path::new(file.context("--config-file= is missing")?))?;
    let advertised = text(&config, "advertise-url").context("advertise-url is missing")?;
    let advertised: Url = advertised.parse().context("advertise-url is no URL")?;
    are_there(&["/etc/sabakan/etcd.crt", "/etc/sabakan/etcd.key"])?;
    let options = ServeOptions {
        http: SocketAddr::from((Ipv4Addr::UNSPECIFIED, HTTP)),
        https: keys()?,
        directory: Some(STATE.into()),
        advertised: Some(advertised),
        control: true,
        ..ServeOptions::default()
    };
    let mut sabakan = FakeSabakan::start(options).await.context("listening")?;
    let token = shutdown.token();
    tokio::select! {
        biased;
        () = token.cancelled() => {}
        () = sabakan.ended() => bail!("it has ended by itself"),
    }
    sabakan.stop().await;
    Ok(())
}

/// How disk keys are served, where there is a certificate for that.
fn keys() -> Result<Option<TlsOptions>> {
    if !Path::new(CERTIFICATE).exists() {
        return Ok(None);
    }
    let read = |file: &str| std::fs::read(file).with_context(|| format!("reading {file}"));
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, HTTPS));
    Ok(Some(TlsOptions { address, certificates: read(CERTIFICATE)?, key: read(KEY)? }))
}

/// `sabactl`, as far as boot servers call it: its version and its completion.
pub(super) fn control(words: &[&str]) -> Result<ExitCode> {
    match words {
        ["--version"] => println!("sabactl version {}", ServeOptions::default().version),
        ["completion", ..] => println!("complete -W 'assets images machines' sabactl"),
        _ => bail!("this stand-in knows --version and completion"),
    }
    Ok(ExitCode::SUCCESS)
}
