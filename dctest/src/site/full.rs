//! Packages of boot servers that run everything, and what the stand-ins of their programs begin with.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use neco_sabakan::fake::{FakeSabakan, ServeOptions};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Site, shown};
use crate::host::command::{command, run};
use crate::instance::dirs::Top;

/// What lies over the package: pins, Vault's own storage, units of programs that come with the package of a site.
const OVERLAY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/full");

/// Programs of the package that are stood in for.
const PROGRAMS: [&str; 4] =
    ["usr/bin/ckecli", "usr/bin/sabakan-state-setter", "usr/sbin/cke", "usr/sbin/cke-localproxy"];

/// The package that brings a program of its own, as `dpkg-deb` takes it.
const ETCDPASSWD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/etcdpasswd");

/// Its release: the folder of the mirror, and its file there.
const RELEASE: &str = "v1.4.9";
const RELEASED: &str = "etcdpasswd_1.4.9_amd64.deb";

const LIMIT: Duration = Duration::from_secs(60);

/// Lays what a site adds over the unpacked package.
///
/// # Errors
/// The disk is full, or there is no stand-in.
pub(super) async fn overlay(top: &Top, tree: &Path) -> Result<()> {
    copy(Path::new(OVERLAY), tree).await?;
    let mut first = None;
    for program in PROGRAMS {
        let path = tree.join(program);
        match &first {
            None => stand_in(top, &path)?,
            // One content for all of them.
            Some(first) => {
                folder_of(&path)?;
                fs::hard_link(first, &path)
                    .with_context(|| format!("making {}", path.display()))?;
            }
        }
        first.get_or_insert(path);
    }
    Ok(())
}

/// Offers the release of etcdpasswd on a mirror; `dir` is for work.
///
/// # Errors
/// The disk is full, or there is no stand-in.
pub(super) async fn release_etcdpasswd(top: &Top, dir: &Path, mirror: &Path) -> Result<()> {
    let tree = dir.join("etcdpasswd");
    fs::create_dir_all(&tree).with_context(|| format!("making {}", tree.display()))?;
    copy(Path::new(ETCDPASSWD), &tree).await?;
    stand_in(top, &tree.join("usr/bin/ep-agent"))?;
    // What is half there would be offered as it is.
    let incoming = mirror.join(format!(".incoming-{RELEASE}"));
    fs::create_dir_all(&incoming).with_context(|| format!("making {}", incoming.display()))?;
    let deb = shown(&incoming.join(RELEASED));
    let words = ["dpkg-deb", "--root-owner-group", "-Zzstd", "-z1", "-b", &shown(&tree), &deb];
    run(&mut command(words), LIMIT).await?;
    // It is not to be taken for a release of Neco.
    let about = incoming.join("release.json");
    fs::write(&about, "{ \"prerelease\": true }\n")
        .with_context(|| format!("writing {}", about.display()))?;
    let offered = mirror.join(RELEASE);
    fs::rename(&incoming, &offered).with_context(|| format!("naming {}", offered.display()))
}

async fn copy(from: &Path, to: &Path) -> Result<()> {
    let from = format!("{}/.", from.display());
    let words = ["cp", "-r", "--preserve=mode", &from, &shown(to)];
    run(&mut command(words), LIMIT).await.map(drop)
}

fn folder_of(path: &Path) -> Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))
}

fn stand_in(top: &Top, to: &Path) -> Result<()> {
    folder_of(to)?;
    let from = top.programs().join("stand-in");
    fs::copy(&from, to)
        .and_then(|_| fs::set_permissions(to, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("copying {} to {}", from.display(), to.display()))
}

impl Site {
    /// Has sabakan of each server know the boot servers from its first start on, as `neco init-data` and the operators have it.
    ///
    /// # Errors
    /// The stand-in refuses them.
    pub(super) async fn seed_sabakan(&self) -> Result<()> {
        let dir = self.dirs.dir.join("sabakan");
        let options = ServeOptions { directory: Some(dir.clone()), ..ServeOptions::default() };
        let sabakan =
            FakeSabakan::start(options).await.context("starting a stand-in of sabakan")?;
        let url = sabakan.url();
        let port = url.port().context("its address has no port")?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        put(address, "PUT", "/api/v1/config/ipam", &self.ipam()).await?;
        let racks = 0..self.centre().addresses.racks;
        let machines = racks.map(|rack| {
            json!({ "serial": format!("boot-{rack}"), "rack": rack, "role": "boot",
                    "labels": { "product": "stand-in" }, "bmc": { "type": "IPMI-2.0" } })
        });
        put(address, "POST", "/api/v1/machines", &machines.collect()).await?;
        sabakan.stop().await;
        let state = dir.join("state.json");
        let state =
            fs::read_to_string(&state).with_context(|| format!("reading {}", state.display()))?;
        for machine in &self.machines {
            self.write(machine, "/var/lib/sabakan/state.json", 0o600, &state).await?;
        }
        Ok(())
    }

    /// How sabakan gives addresses to machines, so that boot servers have those that they have (neco-dctest §1.2).
    fn ipam(&self) -> Value {
        json!({
            "max-nodes-in-rack": 28,
            "node-ipv4-pool": self.centre().addresses.pools.node,
            "node-ipv4-range-size": 6,
            "node-ipv4-range-mask": 26,
            "node-ip-per-node": 3,
            "node-index-offset": 3,
            "node-gateway-offset": 1,
            "bmc-ipv4-pool": "10.72.16.0/20",
            "bmc-ipv4-offset": "0.0.1.0",
            "bmc-ipv4-range-size": 5,
            "bmc-ipv4-range-mask": 20,
            "bmc-ipv4-gateway-offset": 1,
        })
    }
}

/// Sends something to a stand-in in this process.
async fn put(address: SocketAddr, method: &str, path: &str, body: &Value) -> Result<()> {
    let body = body.to_string();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await.context("reaching the stand-in")?;
    stream.write_all(request.as_bytes()).await.context("telling the stand-in")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.context("hearing the stand-in")?;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    if !status.starts_with('2') {
        bail!("the stand-in of sabakan refuses {path}: {answer}");
    }
    Ok(())
}
