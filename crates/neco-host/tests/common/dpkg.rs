//! The bench of dpkg, on the machine or below a root of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use neco_host::package::contract::{Bench, Held, PACKAGE};
use neco_host::{Dpkg, DpkgOptions, PackageManager, VerifiedPackage};
use neco_schema::NecoVersion;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::child::{OtherProcess, ready};
use super::workshop::{Workshop, end};

/// What dpkg needs to install below another root as any user, and not to change to that root for scripts.
const BELOW: [&str; 3] = ["--force-not-root", "--force-script-chrootless", "--log=/dev/null"];

/// Both of dpkg's locks, below its root.
pub(crate) const LOCKS: [&str; 2] = ["var/lib/dpkg/lock-frontend", "var/lib/dpkg/lock"];

/// How dpkg is run below `root`, or on the machine.
pub(crate) fn options(root: Option<&Path>) -> DpkgOptions {
    let arguments = if root.is_some() { &BELOW[..] } else { &[] };
    DpkgOptions {
        root: root.map(Path::to_owned),
        arguments: arguments.iter().map(|&word| word.to_owned()).collect(),
        lock_within: Duration::from_secs(60),
        within: Duration::from_secs(120),
    }
}

/// An empty data base below `root`.
pub(crate) fn prepare(root: &Path) {
    let admin = root.join("var/lib/dpkg");
    for dir in ["info", "updates"] {
        std::fs::create_dir_all(admin.join(dir)).expect("writable");
    }
    std::fs::write(admin.join("status"), "").expect("writable");
}

pub(crate) struct DpkgBench {
    pub(crate) workshop: Workshop,
    pub(crate) dpkg: Dpkg,
    pub(crate) impatient: Dpkg,
    scratch: Option<tempfile::TempDir>,
}

impl DpkgBench {
    /// On this machine.
    pub(crate) fn system() -> Self {
        Self::new(None)
    }

    /// Below a root of its own.
    pub(crate) fn below() -> Self {
        let scratch = tempfile::tempdir().expect("a directory");
        prepare(scratch.path());
        Self::new(Some(scratch))
    }

    fn new(scratch: Option<tempfile::TempDir>) -> Self {
        let options = options(scratch.as_ref().map(tempfile::TempDir::path));
        let hasty = DpkgOptions { lock_within: Duration::ZERO, ..options.clone() };
        let (dpkg, impatient) = (Dpkg::new(options), Dpkg::new(hasty));
        let bench = Self { workshop: Workshop::new(), dpkg, impatient, scratch };
        let purged = bench.purge();
        assert!(purged.status.success(), "{purged:?}");
        bench
    }

    fn place(&self) -> &Path {
        self.scratch.as_ref().map_or(Path::new("/"), tempfile::TempDir::path)
    }

    /// Runs dpkg beside the engine.
    pub(crate) fn run(&self, words: &[&str]) {
        let output = self.output(words);
        assert!(output.status.success(), "{output:?}");
    }

    /// What came of it; one that is about to end after it has done everything may still hold the lock.
    fn output(&self, words: &[&str]) -> Output {
        let options = options(self.scratch.as_ref().map(tempfile::TempDir::path));
        let deadline = Instant::now() + options.lock_within;
        loop {
            let output = Command::new("dpkg")
                .arg(format!("--root={}", self.place().display()))
                .args(&options.arguments)
                .args(words)
                .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
                .output()
                .expect("dpkg is part of every Debian");
            let locked = String::from_utf8_lossy(&output.stderr).contains("lock was locked");
            if !locked || Instant::now() >= deadline {
                return output;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Has another process hold some of dpkg's locks.
    pub(crate) fn lock(&self, locks: &[&str]) -> OtherProcess {
        let paths: Vec<_> =
            locks.iter().map(|lock| self.place().join(lock).display().to_string()).collect();
        OtherProcess::run("another_process_holds_locks_where_it_is_asked", ASKED, &paths.join(":"))
    }

    fn purge(&self) -> Output {
        self.output(&["--purge", "--force-remove-reinstreq", PACKAGE])
    }
}

impl Drop for DpkgBench {
    fn drop(&mut self) {
        let purged = self.purge();
        assert!(purged.status.success() || std::thread::panicking(), "{purged:?}");
    }
}

#[async_trait(?Send)]
impl Bench for DpkgBench {
    fn packages(&self) -> &dyn PackageManager {
        &self.dpkg
    }

    fn impatient(&self) -> &dyn PackageManager {
        &self.impatient
    }

    fn root(&self) -> Option<PathBuf> {
        Some(self.place().to_owned())
    }

    async fn package(&self, version: &NecoVersion) -> VerifiedPackage {
        self.workshop.package(version).await
    }

    fn fail(&self, version: &NecoVersion, message: Option<&str>) {
        self.workshop.fail("postinst", version, message);
    }

    async fn interrupt(&self, package: &VerifiedPackage) {
        self.kill_in("postinst", package).await;
    }

    async fn remove(&self) {
        self.run(&["--remove", PACKAGE]);
    }

    async fn hold(&self) -> Held {
        let other = self.lock(&LOCKS);
        Held { holder: other.id().to_string(), guard: Box::new(other) }
    }
}

impl DpkgBench {
    /// Kills a dpkg that installs in the middle of a script, as a power cut does.
    pub(crate) async fn kill_in(&self, script: &str, package: &VerifiedPackage) {
        let mark = self.workshop.hang(script, package.version());
        let kill = async {
            let hanging = self.workshop.hangs(script, package.version()).await;
            end(hanging.caller);
            end(hanging.script);
        };
        let (ended, ()) = tokio::join!(self.dpkg.install(package), kill);
        let error = ended.expect_err("dpkg was killed");
        assert!(error.to_string().contains("SIGKILL"), "{error}");
        std::fs::remove_file(mark).expect("removable");
    }
}

/// The variable that asks for locks.
const ASKED: &str = "NECO_CONTRACT_LOCKS";

/// In another process: locks the files that it is asked for as dpkg does, by fcntl.
pub(crate) fn hold_locks_where_asked() {
    let Ok(paths) = std::env::var(ASKED) else { return };
    let files: Vec<_> = paths
        .split(':')
        .map(|path| {
            let file = File::options().write(true).create(true).truncate(false).open(path);
            let file = file.expect("writable");
            let whole = libc::flock {
                l_type: libc::F_WRLCK as libc::c_short,
                l_whence: libc::SEEK_SET as libc::c_short,
                l_start: 0,
                l_len: 0,
                l_pid: 0,
            };
            fcntl(&file, FcntlArg::F_SETLK(&whole)).expect("nobody else holds it");
            file
        })
        .collect();
    ready();
    drop(files);
}
