//! A file system for tests: the real one, with every change written down, and with faults on demand.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::power_cut::{PowerCut, survivors};
use super::{FileSystem, Metadata, OpenFile, Owner, RealFs};

/// One change that was asked for, in the order of asking; those that failed stand here too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// A directory was made.
    CreateDir(PathBuf, u32),
    /// A new file was made.
    Create(PathBuf),
    /// Bytes were written at the end of a file.
    Write(PathBuf, Vec<u8>),
    /// A file was cut.
    Truncate(PathBuf, u64),
    /// A file got an owner.
    SetOwner(PathBuf, Owner),
    /// A file got permission bits.
    SetMode(PathBuf, u32),
    /// A file was made durable.
    Sync(PathBuf),
    /// A name was given away.
    Rename(PathBuf, PathBuf),
    /// The names in a directory were made durable.
    SyncDir(PathBuf),
    /// A file was removed.
    Remove(PathBuf),
}

impl Call {
    /// The operation in one word, such as `rename`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CreateDir(..) => "create-dir",
            Self::Create(_) => "create",
            Self::Write(..) => "write",
            Self::Truncate(..) => "truncate",
            Self::SetOwner(..) => "set-owner",
            Self::SetMode(..) => "set-mode",
            Self::Sync(_) => "sync",
            Self::Rename(..) => "rename",
            Self::SyncDir(_) => "sync-dir",
            Self::Remove(_) => "remove",
        }
    }
}

/// Which changes fail, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The n-th change (counted from 0) fails with this error number; later ones succeed.
    Once {
        /// Which.
        nth: usize,
        /// The error number, such as `ENOSPC`.
        errno: i32,
    },
    /// The n-th change and all later ones fail: the disk is full for good, or the process is as good as dead.
    From {
        /// The first.
        nth: usize,
        /// The error number, such as `EROFS`.
        errno: i32,
    },
}

/// The real file system; writes down every change and fails on demand. A write that fails leaves the first
/// half of its bytes behind, as a full disk does.
#[derive(Debug, Default)]
pub struct RecordingFs {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    calls: Vec<Call>,
    fault: Option<Fault>,
    reads: Option<i32>,
}

impl RecordingFs {
    /// One that has recorded nothing and fails nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The changes asked for so far.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// The names of the changes asked for so far.
    pub fn names(&self) -> Vec<&'static str> {
        self.state().calls.iter().map(Call::name).collect()
    }

    /// The files that are left, with their content, when the power is cut after the first `calls` changes. Holds for a
    /// recording without faults in which everything was made that is there.
    pub fn after_power_cut(&self, calls: usize, cut: PowerCut) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.state();
        survivors(&state.calls[..calls.min(state.calls.len())], cut)
    }

    /// Forgets the changes so far: counting begins anew.
    pub fn clear(&self) {
        self.state().calls.clear();
    }

    /// Sets or removes the fault.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.state().fault = fault;
    }

    /// Lets every read of a file fail with this error number, or none any more.
    pub fn fail_reads(&self, errno: Option<i32>) {
        self.state().reads = errno;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, call: Call) -> io::Result<()> {
        let mut state = self.state();
        let this = state.calls.len();
        state.calls.push(call);
        match state.fault {
            Some(Fault::Once { nth, errno }) if nth == this => Err(errno),
            Some(Fault::From { nth, errno }) if nth <= this => Err(errno),
            _ => Ok(()),
        }
        .map_err(io::Error::from_raw_os_error)
    }
}

impl FileSystem for RecordingFs {
    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>> {
        RealFs.metadata(path)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let errno = self.state().reads;
        errno.map_or_else(|| RealFs.read(path), |errno| Err(io::Error::from_raw_os_error(errno)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        RealFs.list(dir)
    }

    fn create_dir(&self, dir: &Path, mode: u32) -> io::Result<()> {
        self.record(Call::CreateDir(dir.to_owned(), mode))?;
        RealFs.create_dir(dir, mode)
    }

    fn create(&self, path: &Path) -> io::Result<OpenFile> {
        self.record(Call::Create(path.to_owned()))?;
        RealFs.create(path)
    }

    fn open_append(&self, path: &Path) -> io::Result<OpenFile> {
        RealFs.open_append(path)
    }

    fn write(&self, file: &OpenFile, bytes: &[u8]) -> io::Result<()> {
        self.record(Call::Write(file.path().to_owned(), bytes.to_owned())).or_else(|error| {
            RealFs.write(file, &bytes[..bytes.len() / 2])?;
            Err(error)
        })?;
        RealFs.write(file, bytes)
    }

    fn truncate(&self, file: &OpenFile, len: u64) -> io::Result<()> {
        self.record(Call::Truncate(file.path().to_owned(), len))?;
        RealFs.truncate(file, len)
    }

    fn set_owner(&self, file: &OpenFile, owner: Owner) -> io::Result<()> {
        self.record(Call::SetOwner(file.path().to_owned(), owner))?;
        RealFs.set_owner(file, owner)
    }

    fn set_mode(&self, file: &OpenFile, mode: u32) -> io::Result<()> {
        self.record(Call::SetMode(file.path().to_owned(), mode))?;
        RealFs.set_mode(file, mode)
    }

    fn sync(&self, file: &OpenFile) -> io::Result<()> {
        self.record(Call::Sync(file.path().to_owned()))?;
        RealFs.sync(file)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.record(Call::Rename(from.to_owned(), to.to_owned()))?;
        RealFs.rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.record(Call::SyncDir(dir.to_owned()))?;
        RealFs.sync_dir(dir)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.record(Call::Remove(path.to_owned()))?;
        RealFs.remove(path)
    }
}
