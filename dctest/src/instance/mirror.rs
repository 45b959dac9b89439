//! The release mirror on the internet side: a folder of the data centre, served over GitHub's API by `neco_releases`.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use neco_releases::mirror::{ServeOptions, serve};
use tokio::net::TcpListener;
use tokio::process::Child;
use tokio::time::{Instant, sleep};

use super::dirs::Dirs;
use super::network::{Network, tool};
use crate::host::command::run;

/// Its name, in `/etc/hosts` of every machine.
pub const NAME: &str = "releases.test";

/// Where its interface begins, for the configuration of boot servers.
pub const API: &str = "http://releases.test/";

/// In which network space it is.
const SPACE: &str = "internet";
const PORT: u16 = 80;

const LIMIT: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Starts `program` as the mirror; it ends with what this gives.
///
/// # Errors
/// It does not answer in time.
pub async fn start(program: &Path, dirs: &Dirs, address: Ipv4Addr) -> Result<Child> {
    let dir = dirs.releases();
    fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    let log = dirs.routers().join("releases.log");
    let file = fs::File::create(&log).with_context(|| format!("making {}", log.display()))?;
    let address = SocketAddr::from((address, PORT));
    let words = [program.display().to_string(), "mirror".into(), dir.display().to_string()];
    let words = words.into_iter().chain([address.to_string()]).collect::<Vec<_>>();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut child = Network::within(SPACE, &words)
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .context("starting the mirror")?;
    let deadline = Instant::now() + LIMIT;
    let place = format!("http://{address}/repos/any/any/releases");
    let ask = ["curl", "--silent", "--show-error", "--fail", "--max-time", "10", &place];
    loop {
        match run(&mut tool(dirs, SPACE, &ask), LIMIT).await {
            Ok(_) => return Ok(child),
            Err(error) if Instant::now() >= deadline => {
                return Err(error.context("the mirror does not answer"));
            }
            Err(_) => {}
        }
        if let Some(status) = child.try_wait()? {
            bail!("the mirror has ended ({status}); see {}", log.display());
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Is the mirror: serves `dir` on `address` until it is killed.
///
/// # Errors
/// The address cannot be listened on.
pub async fn run_mirror(dir: &Path, address: SocketAddr) -> Result<()> {
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;
    let base = API.parse().context("the mirror's own address")?;
    #[allow(clippy::needless_update, reason = "tests of the whole workspace know of faults")]
    let options = ServeOptions { base_url: Some(base), ..ServeOptions::default() };
    let mut mirror = serve(dir, listener, options).context("serving")?;
    mirror.ended().await.context("serving")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interface_is_where_the_name_leads() {
        assert_eq!(API, format!("http://{NAME}/"));
    }
}
