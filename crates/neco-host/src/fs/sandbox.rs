//! The file system of a sandbox.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use neco_sandbox::Faults;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::{FileSystem, Metadata, OpenFile, Owner, RealFs};
use crate::Root;

/// The real file system below a root, where a write can be made to fail or to hang: the call is `write` and the path
/// below the root, and it is made when a new file is about to get its name.
#[derive(Clone, Debug)]
pub struct SandboxFs {
    root: Root,
    faults: Faults,
}

impl SandboxFs {
    /// For the files below `root`.
    pub fn new(root: Root) -> Self {
        let faults = Faults::below(root.path());
        Self { root, faults }
    }
}

impl FileSystem for SandboxFs {
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let below = to.strip_prefix(self.root.path()).unwrap_or(to);
        let call = format!("write {}", Path::new("/").join(below).display());
        let pass = || self.faults.pass_blocking(&[&call]).map_err(io::Error::other);
        // One thread may hang; what runs beside it goes on.
        match Handle::try_current().map(|handle| handle.runtime_flavor()) {
            Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(pass)?,
            _ => pass()?,
        }
        RealFs.rename(from, to)
    }

    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>> {
        RealFs.metadata(path)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        RealFs.read(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        RealFs.list(dir)
    }

    fn create_dir(&self, dir: &Path, mode: u32) -> io::Result<()> {
        RealFs.create_dir(dir, mode)
    }

    fn create(&self, path: &Path) -> io::Result<OpenFile> {
        RealFs.create(path)
    }

    fn open_append(&self, path: &Path) -> io::Result<OpenFile> {
        RealFs.open_append(path)
    }

    fn write(&self, file: &OpenFile, bytes: &[u8]) -> io::Result<()> {
        RealFs.write(file, bytes)
    }

    fn truncate(&self, file: &OpenFile, len: u64) -> io::Result<()> {
        RealFs.truncate(file, len)
    }

    fn set_owner(&self, file: &OpenFile, owner: Owner) -> io::Result<()> {
        RealFs.set_owner(file, owner)
    }

    fn set_mode(&self, file: &OpenFile, mode: u32) -> io::Result<()> {
        RealFs.set_mode(file, mode)
    }

    fn sync(&self, file: &OpenFile) -> io::Result<()> {
        RealFs.sync(file)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealFs.sync_dir(dir)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealFs.remove(path)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::replace;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_write_fails_or_hangs_when_it_is_asked_to_and_leaves_the_old_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = Root::new(dir.path()).expect("absolute");
        let fs = SandboxFs::new(root.clone());
        let path = dir.path().join("etc/motd");
        let content = || std::fs::read_to_string(&path).unwrap_or_default();
        let write = |text: &str| replace(&fs, &root, "/etc/motd", text.as_bytes(), 0o644, None);
        write("old").expect("written");
        fs.faults.fail("write /etc/motd", "the disk is gone").expect("room");
        let error = write("new").expect_err("asked for");
        assert!(error.source.to_string().contains("the disk is gone"), "{error}");
        assert_eq!(content(), "old");
        fs.faults.hold("write /etc/motd").expect("room");
        let names = || std::fs::read_dir(dir.path().join("etc")).expect("there").count();
        let before = names();
        let (held, below) = (fs.clone(), root.clone());
        let writing = tokio::spawn(async move {
            replace(&held, &below, "/etc/motd", b"new", 0o644, None).map(drop)
        });
        // The new file is there under another name, and stays so.
        let begun = async {
            while names() == before && !writing.is_finished() {
                tokio::time::sleep(Faults::LOOK).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), begun).await.expect("begun in time");
        tokio::time::sleep(5 * Faults::LOOK).await;
        assert!(!writing.is_finished() && content() == "old");
        fs.faults.clear("write /etc/motd").expect("room");
        writing.await.expect("no panic").expect("written");
        assert_eq!(content(), "new");
    }
}
