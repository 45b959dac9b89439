//! The file by which a daemon says that it runs, and as what.
//!
//! Whoever replaces the daemon's package waits for this file to name the new version. It is written
//! in one piece, and it tells enough to find out whether its writer still lives: a process id alone
//! may belong to somebody else by now.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::root::under;

const DIRECTORY: &str = "/run/neco";

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyFile {
    /// The daemon's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// The boot of this machine that the process belongs to.
    pub boot_id: String,
    /// When the process started, in the kernel's ticks since that boot. With `pid` and `boot_id` it
    /// names one process for ever.
    pub started: u64,
    /// Where its listener is, once it is bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
}

/// Why a ready file cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ReadyError {
    /// The file system refused.
    #[error("{} {}", if *.writing { "writing" } else { "reading" }, path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Whether it was to be written.
        writing: bool,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not what a daemon writes.
    #[error("{} is not a ready file; it is written anew when the daemon starts", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl ReadyFile {
    /// Where the file of a daemon is.
    pub fn path(root: &Path, daemon: &str) -> PathBuf {
        under(root, Path::new(DIRECTORY)).join(format!("{daemon}.ready"))
    }

    /// What a daemon's file says; `None` if there is none.
    ///
    /// # Errors
    /// There is one that cannot be read.
    pub fn read(path: &Path) -> Result<Option<Self>, ReadyError> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(ReadyError::Io { path: path.to_owned(), writing: false, source });
            }
        };
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|source| ReadyError::Malformed { path: path.to_owned(), source })
    }

    /// Whether the very process that wrote it still runs.
    pub fn is_alive(&self) -> bool {
        boot_id().is_ok_and(|id| id == self.boot_id) && started(self.pid) == Some(self.started)
    }

    /// The file of the calling process.
    fn of_this_process(version: &str) -> io::Result<Self> {
        let pid = std::process::id();
        let started = started(pid).ok_or_else(|| io::Error::other("/proc has no entry for us"))?;
        Ok(Self { version: version.to_owned(), pid, boot_id: boot_id()?, started, listen: None })
    }

    fn write(&self, path: &Path) -> Result<(), ReadyError> {
        let failed = |source| ReadyError::Io { path: path.to_owned(), writing: true, source };
        let mut text = serde_json::to_vec(self)
            .map_err(|source| ReadyError::Malformed { path: path.to_owned(), source })?;
        text.push(b'\n');
        replace(path, &text).map_err(failed)
    }
}

/// The daemon's own hold on its file: the file goes when this is dropped.
#[derive(Debug)]
pub struct Ready {
    own: Arc<Own>,
    follower: Option<AbortHandle>,
}

impl Ready {
    /// Says that this process is ready.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn announce(root: &Path, daemon: &str, version: &str) -> Result<Self, ReadyError> {
        let path = ReadyFile::path(root, daemon);
        let content = ReadyFile::of_this_process(version).map_err(|source| ReadyError::Io {
            path: path.clone(),
            writing: true,
            source,
        })?;
        content.write(&path)?;
        let own = Arc::new(Own { path, content: Mutex::new(Some(content)) });
        Ok(Self { own, follower: None })
    }

    /// Adds to the file where a listener is, as soon as it is bound: see
    /// [`Listener::bound`](crate::listener::Listener::bound).
    pub fn follow(&mut self, mut bound: watch::Receiver<Option<SocketAddr>>) {
        let own = self.own.clone();
        let task = tokio::spawn(async move {
            loop {
                let address = *bound.borrow_and_update();
                if let Err(error) = own.set_listen(address) {
                    tracing::warn!(error = %chain(&error), "the ready file lacks the listener");
                }
                if bound.changed().await.is_err() {
                    break;
                }
            }
        });
        if let Some(before) = self.follower.replace(task.abort_handle()) {
            before.abort();
        }
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        if let Some(follower) = &self.follower {
            follower.abort();
        }
        self.own.remove();
    }
}

/// The file and what we last wrote to it; nothing once it is given up.
#[derive(Debug)]
struct Own {
    path: PathBuf,
    content: Mutex<Option<ReadyFile>>,
}

impl Own {
    fn content(&self) -> MutexGuard<'_, Option<ReadyFile>> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_listen(&self, address: Option<SocketAddr>) -> Result<(), ReadyError> {
        match &mut *self.content() {
            Some(content) if content.listen != address => {
                content.listen = address;
                content.write(&self.path)
            }
            _ => Ok(()),
        }
    }

    fn remove(&self) {
        let mut content = self.content();
        // A successor may have written its own by now.
        if content.is_some()
            && matches!(ReadyFile::read(&self.path), Ok(found) if found == *content)
        {
            let _ = fs::remove_file(&self.path);
        }
        *content = None;
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Replaces a file in one piece: its reader sees the old content or the new, also after a crash.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(dir)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = dir.join(format!(".{name}.{}", std::process::id()));
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    });
    if let Err(error) = written {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    File::open(dir)?.sync_all()
}

fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// When a process started, in ticks since the system booted (proc(5)), by which an id that is used again is known; `None` if
/// it is gone, or dead and only not yet reaped.
#[must_use]
pub fn started(pid: u32) -> Option<u64> {
    parse_started(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name, second of the fields, is in parentheses and may hold anything, parentheses included.
fn parse_started(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    // The state is the third field of the line, the start the twenty-second.
    fields.nth(22 - 3 - 1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_tells_of_its_process_until_it_is_dropped() {
        let root = tempfile::tempdir().unwrap();
        let path = ReadyFile::path(root.path(), "worker");
        assert_eq!(path, root.path().join("run/neco/worker.ready"));
        assert_eq!(ReadyFile::read(&path).unwrap(), None);

        let ready = Ready::announce(root.path(), "worker", "2026.11.21-1").unwrap();
        let found = ReadyFile::read(&path).unwrap().unwrap();
        assert_eq!((found.pid, &*found.version), (std::process::id(), "2026.11.21-1"));
        assert!(found.is_alive());
        drop(ready);
        assert_eq!(ReadyFile::read(&path).unwrap(), None);
        let left: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[tokio::test]
    async fn the_listener_is_told_when_it_is_bound_and_never_after_the_end() {
        let root = tempfile::tempdir().unwrap();
        let path = ReadyFile::path(root.path(), "worker");
        let listen = || ReadyFile::read(&path).unwrap().unwrap().listen;
        let (bound, receiver) = watch::channel(None);
        let mut ready = Ready::announce(root.path(), "worker", "1").unwrap();
        ready.follow(receiver);
        assert_eq!(listen(), None);
        let address = "127.0.0.1:10080".parse().unwrap();
        bound.send_replace(Some(address));
        let told = async {
            while listen() != Some(address) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), told).await.unwrap();

        let own = ready.own.clone();
        drop(ready);
        own.set_listen(None).unwrap();
        assert_eq!(ReadyFile::read(&path).unwrap(), None);
    }

    #[test]
    fn a_recycled_process_id_does_not_count() {
        let me = ReadyFile::of_this_process("v").unwrap();
        assert!(me.is_alive());
        assert!(!ReadyFile { started: me.started + 1, ..me.clone() }.is_alive());
        assert!(!ReadyFile { boot_id: "another".to_owned(), ..me.clone() }.is_alive());
        assert!(!ReadyFile { pid: u32::MAX, ..me }.is_alive());
    }

    #[test]
    fn a_dead_child_that_nobody_reaped_is_not_alive() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let file = ReadyFile {
            pid: child.id(),
            started: started(child.id()).unwrap(),
            ..ReadyFile::of_this_process("v").unwrap()
        };
        assert!(file.is_alive());
        child.kill().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while file.is_alive() {
            assert!(std::time::Instant::now() < deadline, "a killed child counts as alive");
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(!file.is_alive());
    }

    #[test]
    fn the_file_of_a_successor_stays() {
        let root = tempfile::tempdir().unwrap();
        let old = Ready::announce(root.path(), "worker", "1").unwrap();
        let new = Ready::announce(root.path(), "worker", "2").unwrap();
        drop(old);
        let path = ReadyFile::path(root.path(), "worker");
        assert_eq!(ReadyFile::read(&path).unwrap(), *new.own.content());
        assert_eq!(ReadyFile::read(&path).unwrap().unwrap().version, "2");
    }

    #[test]
    fn a_malformed_file_is_named() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("worker.ready");
        fs::write(&path, "{\"version\":").unwrap();
        let error = ReadyFile::read(&path).unwrap_err();
        assert!(error.to_string().contains("worker.ready is not a ready file"), "{error}");
    }

    #[test]
    fn the_start_is_found_behind_any_process_name() {
        let fields = |state: &str| {
            let numbers: Vec<String> = (4..=52).map(|n| n.to_string()).collect();
            format!("7 (a ) b (c) R) {state} {}\n", numbers.join(" "))
        };
        assert_eq!(parse_started(&fields("S")), Some(22));
        assert_eq!(parse_started(&fields("Z")), None);
        assert_eq!(parse_started(""), None);
    }
}
