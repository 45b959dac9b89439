//! Keeps a second process of a kind off this machine.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// An exclusive lock on a file; released when dropped, or when the process ends however it ends.
///
/// The file stays, as removing it would let two processes lock two files of one name.
#[derive(Debug)]
pub struct LocalLock {
    path: PathBuf,
    _file: Flock<File>,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error(
        "{} is locked by {}; stop it first",
        path.display(),
        holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Held {
        /// The file.
        path: PathBuf,
        /// The process that has it, if it has said so.
        holder: Option<u32>,
    },
    /// The file cannot be made or locked.
    #[error("locking {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl LocalLock {
    /// Takes the lock, at once or not at all. The directory is made if it is missing.
    ///
    /// # Errors
    /// [`LockError::Held`] names the process that has it.
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::Io { path: path.to_owned(), source };
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(failed)?;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(path)
            .map_err(failed)?;
        let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((file, Errno::EWOULDBLOCK)) => {
                return Err(LockError::Held { path: path.to_owned(), holder: holder(file) });
            }
            Err((_, errno)) => return Err(failed(errno.into())),
        };
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(failed)?;
        Ok(Self { path: path.to_owned(), _file: file })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Who has the lock. It writes its number right after locking, so it may not be there yet.
fn holder(file: File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/neco/worker.lock");
        let first = LocalLock::acquire(&path).unwrap();
        let error = LocalLock::acquire(&path).unwrap_err();
        let expected = format!("is locked by process {}; stop it first", std::process::id());
        assert!(error.to_string().ends_with(&expected), "{error}");
        drop(first);
        LocalLock::acquire(&path).unwrap();
    }

    #[test]
    fn what_a_dead_holder_left_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        fs::write(&path, "1234567890 and more").unwrap();
        let lock = LocalLock::acquire(&path).unwrap();
        assert_eq!(fs::read_to_string(lock.path()).unwrap(), format!("{}\n", std::process::id()));
    }

    #[test]
    fn a_holder_that_has_not_said_who_it_is_still_holds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let _lock = LocalLock::acquire(&path).unwrap();
        fs::write(&path, "").unwrap();
        let error = LocalLock::acquire(&path).unwrap_err();
        assert!(error.to_string().contains("locked by another process"), "{error}");
    }

    #[test]
    fn an_unusable_path_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let error = LocalLock::acquire(&dir.path().join("file/lock")).unwrap_err();
        assert!(matches!(error, LockError::Io { .. }), "{error}");
    }
}
