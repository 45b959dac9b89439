//! Lock files that keep processes of this machine apart.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use neco_base::Backoff;

use crate::FileError;

/// The lock of a running process may be released at any moment, and nobody tells.
const LOOK_AGAIN: Backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(50));

/// A held lock; dropping it releases it, and so does the death of the process.
#[derive(Debug)]
pub(crate) struct FileLock {
    _file: File,
}

/// Why a lock was not had.
#[derive(Debug)]
pub(crate) enum LockError {
    /// The lock file cannot be used.
    File(FileError),
    /// Somebody else holds it.
    Held { path: PathBuf, within: Duration },
}

impl FileLock {
    /// The lock of one who changes things; the lock file is made if it is missing.
    pub(crate) fn exclusive(path: &Path, within: Duration) -> Result<Self, LockError> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o640);
        let file = options
            .open(path)
            .map_err(|source| LockError::File(FileError::new("opening", path, source)))?;
        wait(file, path, within, File::try_lock)
    }

    /// The lock of one who reads; `None` if there is no lock file, it cannot be opened, or somebody who changes
    /// things holds it for too long.
    pub(crate) fn shared(path: &Path, within: Duration) -> Option<Self> {
        wait(File::open(path).ok()?, path, within, File::try_lock_shared).ok()
    }
}

fn wait(
    file: File,
    path: &Path,
    within: Duration,
    attempt: fn(&File) -> Result<(), TryLockError>,
) -> Result<FileLock, LockError> {
    let deadline = Instant::now() + within;
    let mut retry = LOOK_AGAIN.retry();
    loop {
        match attempt(&file) {
            Ok(()) => return Ok(FileLock { _file: file }),
            Err(TryLockError::Error(error)) if error.kind() != io::ErrorKind::Interrupted => {
                return Err(LockError::File(FileError::new("locking", path, error)));
            }
            Err(_) if Instant::now() >= deadline => {
                return Err(LockError::Held { path: path.to_owned(), within });
            }
            Err(_) => {}
        }
        std::thread::sleep(retry.pause());
    }
}
