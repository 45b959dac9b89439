//! The few file operations that make a file durable, as a trait, so that a test can watch their order and
//! let any of them fail.

#[cfg(feature = "testing")]
mod power_cut;
#[cfg(feature = "testing")]
mod recording;
mod sandbox;

use std::ffi::OsString;
use std::fmt::Debug;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[cfg(feature = "testing")]
pub use power_cut::PowerCut;
#[cfg(feature = "testing")]
pub use recording::{Call, Fault, RecordingFs};
pub use sandbox::SandboxFs;

/// File operations, each one call of the kernel as far as possible. Paths are real ones: a
/// [`Root`](crate::Root) has already been applied.
pub trait FileSystem: Debug + Send + Sync {
    /// What lies at `path`; a symbolic link is not followed. `None` if nothing does.
    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>>;
    /// The content of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// The names in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>>;
    /// Makes a directory with exactly this mode.
    fn create_dir(&self, dir: &Path, mode: u32) -> io::Result<()>;
    /// Makes a new file, readable by its owner alone; fails if the name is taken.
    fn create(&self, path: &Path) -> io::Result<OpenFile>;
    /// Opens an existing file for appending.
    fn open_append(&self, path: &Path) -> io::Result<OpenFile>;
    /// Writes all of `bytes` at the end of the file. After an error any part of them may have been written.
    fn write(&self, file: &OpenFile, bytes: &[u8]) -> io::Result<()>;
    /// Cuts a file to `len` bytes.
    fn truncate(&self, file: &OpenFile, len: u64) -> io::Result<()>;
    /// Gives the file to `owner`.
    fn set_owner(&self, file: &OpenFile, owner: Owner) -> io::Result<()>;
    /// Sets the permission bits.
    fn set_mode(&self, file: &OpenFile, mode: u32) -> io::Result<()>;
    /// Makes content and attributes of the file durable.
    fn sync(&self, file: &OpenFile) -> io::Result<()>;
    /// Renames, replacing what lies at `to`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Removes a file or a symbolic link.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// An open file and the name under which it was opened.
#[derive(Debug)]
pub struct OpenFile {
    file: File,
    path: PathBuf,
}

impl OpenFile {
    /// The name under which it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What lies at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Its kind.
    pub kind: Kind,
    /// The permission bits, set-user-id and the like included.
    pub mode: u32,
    /// Who owns it.
    pub owner: Owner,
    /// The size in bytes.
    pub len: u64,
    /// When it last got its content, name, mode or owner (`st_ctime` of inode(7)), since 1970, as exact as the kernel's tick.
    pub changed: Duration,
}

/// What kind of thing lies at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A device, socket or pipe.
    Other,
}

/// The owner of a file, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// A time stamp of inode(7); one before 1970 is 1970.
fn since_1970(seconds: i64, nanoseconds: i64) -> Duration {
    let seconds = u64::try_from(seconds).unwrap_or_default();
    Duration::new(seconds, u32::try_from(nanoseconds).unwrap_or_default())
}

/// The file system of the running machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFs;

impl FileSystem for RealFs {
    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>> {
        let found = match path.symlink_metadata() {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let kind = match found.file_type() {
            kind if kind.is_file() => Kind::File,
            kind if kind.is_dir() => Kind::Directory,
            kind if kind.is_symlink() => Kind::Link,
            _ => Kind::Other,
        };
        Ok(Some(Metadata {
            kind,
            mode: found.mode() & 0o7777,
            owner: Owner { uid: found.uid(), gid: found.gid() },
            len: found.len(),
            changed: since_1970(found.ctime(), found.ctime_nsec()),
        }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let mut names = std::fs::read_dir(dir)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir(&self, dir: &Path, mode: u32) -> io::Result<()> {
        DirBuilder::new().mode(mode).create(dir)?;
        // The process's umask took bits away.
        std::fs::set_permissions(dir, Permissions::from_mode(mode))
    }

    fn create(&self, path: &Path) -> io::Result<OpenFile> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        Ok(OpenFile { file, path: path.to_owned() })
    }

    fn open_append(&self, path: &Path) -> io::Result<OpenFile> {
        let file = OpenOptions::new().append(true).open(path)?;
        Ok(OpenFile { file, path: path.to_owned() })
    }

    fn write(&self, file: &OpenFile, bytes: &[u8]) -> io::Result<()> {
        (&file.file).write_all(bytes)
    }

    fn truncate(&self, file: &OpenFile, len: u64) -> io::Result<()> {
        file.file.set_len(len)
    }

    fn set_owner(&self, file: &OpenFile, owner: Owner) -> io::Result<()> {
        fchown(&file.file, Some(owner.uid), Some(owner.gid))
    }

    fn set_mode(&self, file: &OpenFile, mode: u32) -> io::Result<()> {
        file.file.set_permissions(Permissions::from_mode(mode))
    }

    fn sync(&self, file: &OpenFile) -> io::Result<()> {
        file.file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }
}
