//! The lock that keeps several writers of one journal apart.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::JournalError;
use crate::FileError;

const NAME: &str = "lock";

/// A held lock; dropping it releases it, and so does the death of the process.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// The writer's lock.
    pub(super) fn exclusive(dir: &Path, within: Duration) -> Result<Self, JournalError> {
        let path = dir.join(NAME);
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o640);
        let file = options
            .open(&path)
            .map_err(|source| JournalError::writing(FileError::new("opening", &path, source)))?;
        wait(file, &path, within, File::try_lock)
    }

    /// A reader's lock; `None` if there is no lock file, it cannot be opened, or a writer holds it for too long.
    pub(super) fn shared(dir: &Path, within: Duration) -> Option<Self> {
        let path = dir.join(NAME);
        wait(File::open(&path).ok()?, &path, within, File::try_lock_shared).ok()
    }
}

fn wait(
    file: File,
    path: &Path,
    within: Duration,
    attempt: fn(&File) -> Result<(), TryLockError>,
) -> Result<Lock, JournalError> {
    let deadline = Instant::now() + within;
    let mut pause = Duration::from_millis(1);
    loop {
        match attempt(&file) {
            Ok(()) => return Ok(Lock { _file: file }),
            Err(TryLockError::Error(error)) if error.kind() != io::ErrorKind::Interrupted => {
                return Err(JournalError::writing(FileError::new("locking", path, error)));
            }
            Err(_) if Instant::now() >= deadline => {
                return Err(JournalError::Locked { path: path.to_owned(), within });
            }
            Err(_) => {}
        }
        std::thread::sleep(pause.mul_f64(rand::random_range(0.5..1.0)));
        pause = (2 * pause).min(Duration::from_millis(50));
    }
}
