//! `sabakan` and `sabactl`. The sabakans of a cluster know the same, which the real ones keep in etcd; those here pass on
//! what they are asked to one that is nobody's.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use neco_process::signals::Shutdown;
use tokio::io::{AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::{are_there, settings, text};
use crate::instance::outside::SABAKAN;

/// sabakan's own port (external-apis §1.1).
const HTTP: u16 = 10080;

/// The option by which the configuration is named.
const CONFIG: &str = "--config-file=";

const VERSION: &str = "3.1.4";

/// How `sabactl` completes words, as it says itself.
pub const COMPLETION: &str = "complete -W 'assets images machines' sabactl";

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);

/// What is read from everywhere; all else is for this server alone.
const READS: [&[u8]; 2] = [b"GET ", b"HEAD"];

/// Serves until it is asked to end.
pub(super) async fn serve(words: &[&str]) -> Result<()> {
    let shutdown = Shutdown::listen().context("listening for signals")?;
    let file = words.iter().find_map(|word| word.strip_prefix(CONFIG));
    let config = settings(Path::new(file.context("--config-file= is missing")?))?;
    text(&config, "advertise-url").context("advertise-url is missing")?;
    are_there(&["/etc/sabakan/etcd.crt", "/etc/sabakan/etcd.key"])?;
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, HTTP));
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;
    let token = shutdown.token();
    loop {
        let accepted = tokio::select! {
            biased;
            () = token.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else { continue };
        tokio::spawn(async move {
            if let Err(error) = pass_on(stream, peer).await {
                eprintln!("sabakan: {peer}: {error:#}");
            }
        });
    }
}

/// Passes a connection on. Of one from elsewhere the first request must be one that only reads.
async fn pass_on(mut stream: TcpStream, peer: SocketAddr) -> Result<()> {
    if !peer.ip().is_loopback() {
        let mut begin = [0; 4];
        stream.peek(&mut begin).await.context("reading")?;
        if !READS.contains(&&begin[..]) {
            let refusal =
                "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            return stream.write_all(refusal.as_bytes()).await.context("refusing");
        }
    }
    let mut other = timeout(CONNECT, TcpStream::connect(SABAKAN)).await.context("connecting")??;
    // Either side may go away at any time.
    let _ = copy_bidirectional(&mut stream, &mut other).await;
    Ok(())
}

/// `sabactl`, as far as boot servers call it: its version and its completion.
pub(super) fn control(words: &[&str]) -> Result<ExitCode> {
    match words {
        ["--version"] => println!("sabactl version {VERSION}"),
        ["completion", ..] => println!("{COMPLETION}"),
        _ => bail!("this stand-in knows --version and completion"),
    }
    Ok(ExitCode::SUCCESS)
}
