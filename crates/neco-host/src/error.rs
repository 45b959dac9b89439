//! What goes wrong with a file, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// A file operation that failed: what was being done, where, and why.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {}{}", path.display(), remedy(source))]
pub struct FileError {
    /// What was being done, such as `writing`.
    pub doing: &'static str,
    /// What it was done to.
    pub path: PathBuf,
    /// Why it failed.
    #[source]
    pub source: io::Error,
}

impl FileError {
    pub(crate) fn new(doing: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        Self { doing, path: path.as_ref().to_owned(), source }
    }

    /// Whether the file system is full or over quota: the same operation can succeed later.
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// Whether the file system cannot be written to.
    pub fn is_read_only(&self) -> bool {
        self.source.kind() == io::ErrorKind::ReadOnlyFilesystem
    }
}

/// Adds to an I/O result what was being done and where.
pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str, path: impl AsRef<Path>) -> Result<T, FileError>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, doing: &'static str, path: impl AsRef<Path>) -> Result<T, FileError> {
        self.map_err(|source| FileError::new(doing, path, source))
    }
}

/// The next action, where the cause tells it.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => " (free space on its file system)",
        io::ErrorKind::QuotaExceeded => " (raise the quota or free space)",
        io::ErrorKind::ReadOnlyFilesystem => {
            " (its file system is read-only: see `dmesg`, then remount it read-write)"
        }
        io::ErrorKind::PermissionDenied => " (run as root, or name another root with --root)",
        _ => "",
    }
}
