//! The directory that a site lives in.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use neco_host::{DetachedProcess, Root};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::SiteError;

/// What all directories of this kind begin with.
const PREFIX: &str = "neco-playground-";
/// How long a killed unit may take to go.
const GONE_WITHIN: Duration = Duration::from_secs(2);

/// A directory with the roots of the boot servers. When its last user is gone, the units that outlived their starters are
/// killed and it is removed.
#[derive(Debug)]
pub(crate) struct SiteDir {
    dir: TempDir,
}

impl SiteDir {
    /// A new directory where the system keeps temporary ones.
    pub(crate) fn temporary() -> Result<Arc<Self>, SiteError> {
        Self::within(&std::env::temp_dir())
    }

    /// A new directory within `parent`, which is made if it is missing.
    pub(crate) fn within(parent: &Path) -> Result<Arc<Self>, SiteError> {
        std::fs::create_dir_all(parent).map_err(SiteError::io("making", parent))?;
        let dir = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(parent)
            .map_err(SiteError::io("making a directory in", parent))?;
        Ok(Arc::new(Self { dir }))
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The root of a machine.
    pub(crate) fn root_of(&self, machine: u32) -> PathBuf {
        self.path().join(format!("server-{machine}"))
    }
}

impl Drop for SiteDir {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(self.path()).into_iter().flatten().flatten() {
            kill_detached(&entry.path());
        }
    }
}

/// Kills every unit that was started below `root` to outlive its starter. Blocks until they are gone.
pub(crate) fn kill_detached(root: &Path) {
    let Ok(engine) = Root::new(root).map(DetachedProcess::new) else { return };
    for entry in std::fs::read_dir(root.join("run/neco")).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(unit) = name.to_str().and_then(|name| name.strip_suffix(".pid")) else { continue };
        if let Ok(Some(pid)) = engine.pid(unit) {
            // It leads its session, so its helpers die with it.
            let _ = killpg(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
            let deadline = Instant::now() + GONE_WITHIN;
            while engine.pid(unit).is_ok_and(|now| now == Some(pid)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use neco_host::RunDetached;

    use super::*;

    #[tokio::test]
    async fn what_outlived_its_starter_goes_with_the_directory() {
        let site = SiteDir::temporary().expect("a directory");
        let (path, root) = (site.path().to_owned(), site.root_of(0));
        let engine = DetachedProcess::new(Root::new(&root).expect("absolute"));
        let argv = ["sleep", "600"].map(str::to_owned);
        engine.start("neco-install", &argv).await.expect("started");
        let pid = engine.pid("neco-install").expect("readable").expect("running");
        drop(site);
        assert!(!path.exists());
        let deadline = Instant::now() + Duration::from_secs(60);
        while is_alive(pid) {
            assert!(Instant::now() < deadline, "the unit outlives its site");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn is_alive(pid: u32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    }
}
