//! Packages of boot servers that run everything, and what the stand-ins of their programs begin with.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use neco_sabakan::fake::{FakeSabakan, ServeOptions};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Machine, Site, shown, until};
use crate::host::command::{command, run};
use crate::instance::dirs::{TOP_VARIABLE, Top};
use crate::instance::{client, outside};

/// What lies over the package: pins, Vault's own storage, units of programs that come with the package of a site.
const OVERLAY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/full");

/// What a site brings of its own, as the package shows it, and where that goes.
const EXAMPLES: &str = "usr/share/doc/neco/examples/site";
const DATA: &str = "usr/share/neco";

/// Programs of the package that are stood in for.
const PROGRAMS: [&str; 3] = ["usr/bin/ckecli", "usr/sbin/cke", "usr/sbin/cke-localproxy"];

/// The package that brings a program of its own, as `dpkg-deb` takes it.
const ETCDPASSWD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/etcdpasswd");

/// Its release: the folder of the mirror, and its file there.
const RELEASE: &str = "v1.4.9";
const RELEASED: &str = "etcdpasswd_1.4.9_amd64.deb";

/// A host of the web, and what worker servers boot there; it is named by the pins.
const WEB: &str = "stable.release.flatcar-linux.net";
const OS_IMAGE: &str = "amd64-usr/4152.2.1";

const LIMIT: Duration = Duration::from_secs(60);

/// The containers of a server that runs everything.
const CONTAINERS: [&str; 6] = ["etcd", "promtail", "sabakan", "serf", "setup-hw", "vault"];

/// Its units that run, and start at boot.
const UNITS: [&str; 12] = [
    "cke-localproxy.service",
    "cke.service",
    "ep-agent.service",
    "etcd-container.service",
    "promtail.service",
    "sabakan-state-setter.service",
    "sabakan.service",
    "serf.service",
    "setup-hw.service",
    "setup-serf-tags.timer",
    "ssh.service",
    "vault.service",
];

/// Lays what a site adds over the unpacked package.
///
/// # Errors
/// The disk is full, or there is no stand-in.
pub(super) async fn overlay(top: &Top, tree: &Path) -> Result<()> {
    copy(Path::new(OVERLAY), tree).await?;
    copy(&tree.join(EXAMPLES), &tree.join(DATA)).await?;
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
    name_units(tree)
}

/// Has the script that runs before the package is there know all units that are in it.
fn name_units(tree: &Path) -> Result<()> {
    let dir = tree.join("lib/systemd/system");
    let entries = fs::read_dir(&dir).with_context(|| format!("reading {}", dir.display()))?;
    let units = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut units: Vec<String> = units.collect();
    units.sort();
    let script = tree.join("DEBIAN/preinst");
    let text =
        fs::read_to_string(&script).with_context(|| format!("reading {}", script.display()))?;
    let text = with_units(&text, &units)?;
    fs::write(&script, text).with_context(|| format!("writing {}", script.display()))
}

/// A script that names these units as those of its package.
fn with_units(script: &str, units: &[String]) -> Result<String> {
    const NAMED: &str = "provided='";
    let named = script.lines().filter(|line| line.starts_with(NAMED)).count();
    ensure!(named == 1, "the preinst names its units {named} times");
    let lines = script.lines().map(|line| match line.starts_with(NAMED) {
        true => format!("{NAMED} {} '\n", units.join(" ")),
        false => format!("{line}\n"),
    });
    Ok(lines.collect())
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

/// Lays the stand-in somewhere; what it stands in for is said by the name.
///
/// # Errors
/// There is none, or the disk is full.
pub(super) fn stand_in(top: &Top, to: &Path) -> Result<()> {
    folder_of(to)?;
    let from = top.programs().join("stand-in");
    fs::copy(&from, to)
        .and_then(|_| fs::set_permissions(to, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("copying {} to {}", from.display(), to.display()))
}

impl Site {
    /// Sees that everything runs on all servers: units, containers, Vault with a leader, all members of etcd.
    ///
    /// # Errors
    /// Something does not, or not in time.
    pub async fn everything_runs(&self) -> Result<()> {
        for machine in &self.machines {
            for unit in UNITS {
                self.is_up(machine, unit).await?;
                let enabled = self.unit(machine, unit, "UnitFileState").await?;
                ensure!(enabled == "enabled", "{}: {unit} is {enabled}", machine.name);
            }
            let running = self.containers(machine).await?;
            let missing = CONTAINERS.iter().filter(|name| !running.contains_key(**name));
            let missing: Vec<_> = missing.collect();
            ensure!(missing.is_empty(), "{}: {missing:?} do not run", machine.name);
            self.is_whole(machine).await?;
        }
        self.vault_is_up().await?;
        self.etcd_is_healthy().await
    }

    /// What the sabakan of a server says of something below `api/v1/`.
    ///
    /// # Errors
    /// It does not answer with success.
    pub async fn ask_sabakan(&self, machine: &Machine, path: &str) -> Result<Value> {
        let url = format!("http://127.0.0.1:10080/api/v1/{path}");
        let words = ["curl", "--silent", "--show-error", "--fail", "--max-time", "5", &url];
        let told = self.ask(machine, &words).await?;
        serde_json::from_str(&told).with_context(|| format!("{}: {url}: {told}", machine.name))
    }

    /// Has sabakan answer with these faults from now on, everywhere.
    ///
    /// # Errors
    /// The stand-in does not understand them.
    pub async fn break_sabakan(&self, faults: &Value) -> Result<()> {
        let url = format!("http://{}/stand-in/faults", outside::SABAKAN);
        let words = ["curl", "--silent", "--show-error", "--fail", "--max-time", "5"];
        let rest = ["--request", "PUT", "--header", "Content-Type: application/json"];
        let words = [&words[..], &rest, &["--data-binary", "@-", &url]].concat();
        self.tell(self.machine(0), &words, &faults.to_string()).await.map(drop)
    }

    /// Starts what boot servers find on the internet side; it ends with the data centre.
    ///
    /// # Errors
    /// It does not answer in time.
    pub(super) async fn start_outside(&mut self) -> Result<()> {
        let dir = self.dirs.dir.join("outside");
        let os = dir.join(outside::FILES).join(OS_IMAGE);
        fs::create_dir_all(&os).with_context(|| format!("making {}", os.display()))?;
        let authorities = self.authorities.as_ref().context("this site has no authorities")?;
        let (certificate, key) = authorities.server.issue(WEB, &[WEB])?;
        for (path, text) in [
            (dir.join(outside::CERTIFICATE), certificate),
            (dir.join(outside::KEY), key),
            (os.join("flatcar_production_pxe.vmlinuz"), "a kernel\n".repeat(10_000)),
            (os.join("flatcar_production_pxe_image.cpio.gz"), "an initrd\n".repeat(100_000)),
        ] {
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        }
        self.seed_sabakan(&dir.join(outside::STATE)).await?;
        let place = format!("{}/32", outside::ADDRESS);
        let words = ["ip", "addr", "replace", &place, "dev", "lo"];
        run(&mut command(self.on_the_internet(words.map(str::to_owned))?), LIMIT).await?;
        let log = self.dirs.routers().join("outside.log");
        let log = fs::File::create(&log).with_context(|| format!("making {}", log.display()))?;
        let words = [shown(&self.tools.program), "outside".to_owned(), shown(&dir)];
        let racks = 0..self.centre().addresses.racks;
        let writers = racks.map(|rack| self.machine_of_rack(rack).address.to_string());
        let all = self.on_the_internet(words.into_iter().chain(writers))?;
        let mut program = command(all);
        program.env(TOP_VARIABLE, &self.tools.top.0);
        program.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.outside = Some(program.spawn().context("starting what is outside")?);
        for machine in &self.machines {
            self.knows_the_web(machine).await?;
        }
        let url = format!("https://{WEB}/{OS_IMAGE}/flatcar_production_pxe.vmlinuz");
        let words = ["curl", "--silent", "--show-error", "--fail", "--head", "--cacert"];
        until("the web to answer", LIMIT, async || {
            let words = [&words[..], &[super::bootstrap::CA, &url]].concat();
            self.ask(self.machine(0), &words).await.map(Some)
        })
        .await
        .map(drop)
    }

    /// Has a server find the web by its name.
    ///
    /// # Errors
    /// It is off.
    pub(super) async fn knows_the_web(&self, machine: &Machine) -> Result<()> {
        let line = format!("{} {WEB}\n", outside::ADDRESS);
        self.tell(machine, &["sh", "-c", "cat >> /etc/hosts"], &line).await.map(drop)
    }

    /// The words of a command that runs on the internet side.
    fn on_the_internet(&self, words: impl IntoIterator<Item = String>) -> Result<Vec<String>> {
        let mut all = client::enter(&self.dirs)?;
        all.extend(["ip", "netns", "exec", "internet"].map(str::to_owned));
        all.extend(words);
        Ok(all)
    }

    /// Has sabakan know the boot servers, as `neco init-data` and the operators have it.
    async fn seed_sabakan(&self, dir: &Path) -> Result<()> {
        let directory = Some(dir.to_owned());
        let options = ServeOptions { directory, ..ServeOptions::default() };
        let sabakan =
            FakeSabakan::start(options).await.context("starting a stand-in of sabakan")?;
        let port = sabakan.url().port().context("its address has no port")?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        put(address, "PUT", "/api/v1/config/ipam", &self.ipam()).await?;
        let racks = 0..self.centre().addresses.racks;
        let machines = racks.map(|rack| {
            json!({ "serial": format!("boot-{rack}"), "rack": rack, "role": "boot",
                    "labels": { "product": "stand-in" }, "bmc": { "type": "IPMI-2.0" } })
        });
        put(address, "POST", "/api/v1/machines", &machines.collect()).await?;
        sabakan.stop().await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_keeps_the_units_that_a_site_adds() {
        let script = include_str!("../../../debian/DEBIAN/preinst.in");
        let units = ["cke.service".to_owned(), "neco-worker.service".to_owned()];
        let changed = with_units(script, &units).unwrap();
        let named = "\nprovided=' cke.service neco-worker.service '\n";
        assert!(changed.contains(named), "{changed}");
        assert_eq!(changed.replace(named, "\nprovided=' @UNITS@ '\n"), script);
        assert!(with_units("#!/bin/sh\n", &units).is_err());
    }
}
