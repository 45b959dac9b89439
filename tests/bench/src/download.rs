//! How fast a package of 1 GiB comes from a mirror on loopback, until it is verified and durable, and what that takes of
//! memory; beside `curl | tee FILE | sha256sum` and fsync of the same address.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use anyhow::Context;
use neco_etcd::{Cluster, ClusterOptions};
use neco_playground::SiteError;
use neco_process::exit::{ExitCode, Failure};
use neco_releases::mirror::{Mirror, ServeOptions, serve};
use neco_releases::{GithubClient, Options, ReleaseSource};
use neco_schema::Environment;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::timeout;

use crate::fetch::Fetched;
use crate::figure::{Budget, Figure, Unit};
use crate::part::Process;
use crate::payload::{self, SIZE, Stage};
use crate::proc_status::megabytes;
use crate::workbench::{LONG, failure};

/// How often each of both is done; the order alternates.
const RUNS: usize = 5;

/// The design's budgets.
const RATIO: f64 = 0.8;
const GROWTH: f64 = 16.0;

/// The package in the mirror, one that is fetched, and some air.
const ROOM: u64 = 3 * SIZE;

/// Fails unless there is room for two packages.
pub(crate) fn need_room() -> Result<(), Failure> {
    let dir = std::env::temp_dir();
    let free = free_bytes(&dir).with_context(|| format!("looking at {}", dir.display()))?;
    room(&dir, free)
}

fn room(dir: &Path, free: u64) -> Result<(), Failure> {
    if free >= ROOM {
        return Ok(());
    }
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let error = anyhow::anyhow!(
        "there are {:.1} GiB free in {}, and {:.0} are needed for a package of 1 GiB and its copies",
        gib(free),
        dir.display(),
        gib(ROOM)
    );
    let hint = "make room, set TMPDIR to another disk, or name other measurements";
    Err(Failure::new(ExitCode::CannotRun, error).with_hint(hint))
}

fn free_bytes(dir: &Path) -> io::Result<u64> {
    let found = nix::sys::statvfs::statvfs(dir)?;
    Ok(found.blocks_available() * found.fragment_size())
}

/// Measures both, side by side.
pub(crate) async fn measure() -> Result<Vec<Figure>, Failure> {
    let race = Race::begin().await?;
    let (mut ours, mut theirs, mut growth) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..RUNS {
        for turn in [run % 2, (run + 1) % 2] {
            if turn == 0 {
                let (rate, grown) = race.ours().await?;
                ours.push(rate);
                growth.push(grown);
            } else {
                theirs.push(race.theirs().await?);
            }
        }
    }
    race.mirror.stop().await;
    let what = "a package of 1 GiB, verified and durable";
    let pipe = "`curl | tee FILE | sha256sum`, fsync";
    Ok(vec![
        Figure::beside(what, Unit::MegabytesPerSecond, &ours, pipe, &theirs)?
            .judged(Budget::RatioAtLeast(RATIO)),
        Figure::of("growth of RssAnon meanwhile", Unit::Megabytes, &growth)?
            .judged(Budget::AtMost(GROWTH)),
    ])
}

/// A package in a mirror, and two ways to fetch it.
struct Race {
    mirror: Mirror,
    stage: Stage,
    /// Where the mirror has the package.
    url: String,
    sha256: String,
    size: u64,
    _etcd: Cluster,
    dir: tempfile::TempDir,
}

impl Race {
    async fn begin() -> Result<Self, Failure> {
        neco_process::crypto::install_crypto_provider();
        let dir = tempfile::Builder::new().prefix("neco-bench-").tempdir()?;
        let at = dir.path().to_owned();
        let stage = tokio::task::spawn_blocking(move || payload::lay(&at)).await??;
        let etcd = Cluster::start(1, ClusterOptions::default()).await;
        let etcd = etcd.map_err(|error| failure(SiteError::from(error)))?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mirror = serve(&stage.mirror, listener, ServeOptions::default())?;
        let mut options = Options::new("cybozu-go", "neco");
        options.api_url = mirror.api_url();
        let client = GithubClient::new(options)?;
        let version = payload::VERSION.parse()?;
        let release = client.by_version(Environment::Prod, &version).await?;
        let release = release.context("the mirror does not show the release")?;
        // The mirror hashes a file once; that is not what is measured, and it warms the page cache for both.
        let package = client.resolve(&release, "neco").await?;
        let asset = release.package("neco").context("the release has no package")?;
        let mut config = String::from("endpoints:\n");
        for endpoint in etcd.endpoints() {
            config.push_str(&format!("  - {endpoint}\n"));
        }
        config.push_str(&format!(
            "release:\n  owner: cybozu-go\n  repository: neco\n  api_url: {}\n",
            mirror.api_url()
        ));
        std::fs::write(stage.root.join("etc/neco/config.yml"), config)?;
        let (sha256, size) = (package.sha256.clone(), package.size);
        let url = asset.url.to_string();
        Ok(Self { mirror, stage, url, sha256, size, _etcd: etcd, dir })
    }

    /// As a worker does it; how fast that was, and by how much its memory grew.
    async fn ours(&self) -> anyhow::Result<(f64, f64)> {
        let cached = self.cached();
        settle(&cached).await?;
        let words = ["fetch", "--version", payload::VERSION, "--root"].map(std::ffi::OsStr::new);
        let words = words.into_iter().chain([self.stage.root.as_os_str()]);
        let (fetched, grown): (Fetched, f64) = Process::start(words)?.run().await?;
        anyhow::ensure!(fetched.sha256 == self.sha256, "the package came as {}", fetched.sha256);
        std::fs::remove_file(&cached)?;
        Ok((megabytes(fetched.size) / fetched.seconds, grown))
    }

    /// By the tools of the system; how fast that was.
    async fn theirs(&self) -> anyhow::Result<f64> {
        let file = self.dir.path().join("theirs");
        settle(&file).await?;
        let mut command = pipe(&self.url, &file);
        let began = Instant::now();
        let output = timeout(LONG, command.output()).await.context("curl hangs")??;
        let synced = file.clone();
        tokio::task::spawn_blocking(move || std::fs::File::open(synced)?.sync_all()).await??;
        let seconds = began.elapsed().as_secs_f64();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        anyhow::ensure!(said.starts_with(&self.sha256), "curl brought something else: {said}");
        std::fs::remove_file(&file)?;
        Ok(megabytes(self.size) / seconds)
    }

    /// Where the package comes to lie.
    fn cached(&self) -> PathBuf {
        let name = self.stage.deb.file_name().unwrap_or_default();
        self.stage.root.join("var/cache/neco/packages").join(name)
    }
}

/// Fetches `url` into `file` and says its digest. The exit status of curl is that of what it has brought: the digest is
/// compared. Neither a proxy nor the settings of whoever measures are to be measured.
fn pipe(url: &str, file: &Path) -> Command {
    const PIPE: &str = "curl -q --noproxy '*' -sSfL -H 'Accept: application/octet-stream' \"$1\" \
                        | tee \"$2\" | sha256sum";
    let mut command = Command::new("sh");
    command.args(["-c", PIPE, "sh", url]).arg(file);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    command
}

/// Removes what an earlier run left, and waits until the disk has nothing to write.
async fn settle(file: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        removed => removed?,
    }
    tokio::task::spawn_blocking(nix::unistd::sync).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_room_is_told_before_anything_is_written() {
        let dir = Path::new("/some/disk");
        assert!(room(dir, ROOM).is_ok());
        let failure = room(dir, ROOM - 1).expect_err("a byte is missing");
        assert_eq!(failure.code, ExitCode::CannotRun);
        let text = failure.to_string();
        assert!(text.contains("/some/disk") && text.contains("TMPDIR"), "{text}");
    }

    #[tokio::test]
    async fn curl_asks_the_mirror_itself_and_nobody_in_between() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut path = std::ffi::OsString::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fakes"));
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let file = dir.path().join("file");
        let ran = pipe("http://127.0.0.1:1/x", &file).env("PATH", path).output().await;
        assert!(ran.expect("a shell").status.success());
        let words = std::fs::read_to_string(&file).expect("what curl was told");
        // `-q` counts as the first word only.
        assert!(words.starts_with("-q\n--noproxy\n*\n"), "{words}");
        assert!(words.ends_with("http://127.0.0.1:1/x\n"), "{words}");
    }

    #[test]
    fn free_room_is_told_of_a_real_disk() {
        assert!(free_bytes(&std::env::temp_dir()).is_ok());
        assert!(free_bytes(Path::new("/nonexistent")).is_err());
    }
}
