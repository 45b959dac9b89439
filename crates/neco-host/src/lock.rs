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
    /// The lock of one who changes things; the lock file is made if it is missing. On a file system that became read-only
    /// it can be had as well: what is there can still be read.
    pub(crate) fn exclusive(path: &Path, within: Duration) -> Result<Self, LockError> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o640);
        let file = match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                // Where there is none, that error says why.
                File::open(path).map_err(|_| error)
            }
            opened => opened,
        };
        let file =
            file.map_err(|source| LockError::File(FileError::new("opening", path, source)))?;
        wait(file, path, within)
    }
}

fn wait(file: File, path: &Path, within: Duration) -> Result<FileLock, LockError> {
    let deadline = Instant::now() + within;
    let mut retry = LOOK_AGAIN.retry();
    loop {
        match file.try_lock() {
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
