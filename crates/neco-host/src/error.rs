//! What goes wrong with a file, and what to do about it.

use std::error::Error;
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
    /// What came of `doing` something to `path`.
    pub fn new(doing: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
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

/// What to do about a disk that refuses, where that is what `error` comes from: full, over its quota or read-only. The same
/// can succeed later. `None` if it is something else.
pub fn disk_trouble(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<io::Error>()
            && is_disk_trouble(found.kind())
        {
            return Some(remedy(found));
        }
        cause = error.source();
    }
    None
}

fn is_disk_trouble(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(kind, StorageFull | QuotaExceeded | ReadOnlyFilesystem)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_refuses_is_known_through_whatever_wraps_it() {
        #[derive(Debug, thiserror::Error)]
        #[error("the unit was not enabled")]
        struct Wrapped(#[source] FileError);

        let failed = |errno| {
            let source = io::Error::from_raw_os_error(errno);
            Wrapped(FileError::new("writing", "/etc/x", source))
        };
        for (errno, remedy) in [
            (nix::libc::ENOSPC, "free space"),
            (nix::libc::EDQUOT, "raise the quota"),
            (nix::libc::EROFS, "remount it read-write"),
        ] {
            let told = disk_trouble(&failed(errno)).expect("the disk");
            assert!(told.contains(remedy), "{told}");
        }
        assert_eq!(disk_trouble(&failed(nix::libc::EACCES)), None);
    }
}
