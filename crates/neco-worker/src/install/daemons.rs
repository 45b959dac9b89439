//! The daemons that a new package replaces: restarted, and asked by their own files whether they run.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use neco_process::ready::ReadyFile;
use neco_schema::NecoVersion;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The daemons of a boot server.
pub(super) const NAMES: [&str; 2] = ["neco-updater", "neco-worker"];

/// How often ready files are read.
const READ_EVERY: Duration = Duration::from_millis(100);

/// Restarts daemons.
#[async_trait]
pub trait Daemons: Send + Sync {
    /// The daemons that run here.
    async fn running(&self) -> Vec<String>;

    /// Has `daemon` end and be started again from what is installed.
    ///
    /// # Errors
    /// In words.
    async fn restart(&self, daemon: &str) -> Result<(), String>;
}

/// Daemons below a root that somebody else supervises: told to end, they are started again.
#[derive(Clone, Debug)]
pub struct SandboxDaemons {
    root: PathBuf,
}

impl SandboxDaemons {
    /// The daemons below `root`.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn ready_file(&self, daemon: &str) -> Option<ReadyFile> {
        read(&self.root, daemon).filter(ReadyFile::is_alive)
    }
}

#[async_trait]
impl Daemons for SandboxDaemons {
    async fn running(&self) -> Vec<String> {
        NAMES
            .into_iter()
            .filter(|name| self.ready_file(name).is_some())
            .map(str::to_owned)
            .collect()
    }

    async fn restart(&self, daemon: &str) -> Result<(), String> {
        let Some(file) = self.ready_file(daemon) else {
            // Its supervisor is starting it already.
            return Ok(());
        };
        let pid =
            i32::try_from(file.pid).map_err(|_| format!("{daemon} has no valid process id"))?;
        if pid <= 1 {
            return Err(format!("{daemon} cannot be process {pid}"));
        }
        match kill(Pid::from_raw(pid), Signal::SIGTERM) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
            Err(error) => Err(format!("ending {daemon} (process {pid}): {error}")),
        }
    }
}

fn read(root: &std::path::Path, daemon: &str) -> Option<ReadyFile> {
    ReadyFile::read(&ReadyFile::path(root, daemon)).ok().flatten()
}

/// Waits until every one of `daemons` says that it runs as `version`.
///
/// # Errors
/// Which did not within the time, and what they say instead.
pub(crate) async fn ready(
    root: &std::path::Path,
    daemons: &[String],
    version: &NecoVersion,
    within: Duration,
) -> Result<(), String> {
    let missing = || -> Vec<String> {
        let says = |daemon: &String| match read(root, daemon) {
            Some(file) if file.is_alive() && file.version == version.as_str() => None,
            Some(file) if file.is_alive() => Some(format!("{daemon} still runs {}", file.version)),
            Some(_) | None => Some(format!("{daemon} does not run")),
        };
        daemons.iter().filter_map(says).collect()
    };
    let all = async {
        while !missing().is_empty() {
            tokio::time::sleep(READ_EVERY).await;
        }
    };
    match tokio::time::timeout(within, all).await {
        Ok(()) => Ok(()),
        Err(_) => {
            Err(format!("{version} was not ready within {within:?}: {}", missing().join(", ")))
        }
    }
}
