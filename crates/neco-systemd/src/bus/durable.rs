//! Links of enabled units that outlive a power cut: systemd does not see to that itself.

use std::io;
use std::path::{Path, PathBuf};

/// What the names of folders end with that hold links to what a unit wants.
const LINKS: [&str; 3] = [".wants", ".requires", ".upholds"];

/// A folder that could not be synced.
pub(super) type Unsynced = (PathBuf, io::Error);

/// Makes the names durable that are in `files`, a folder of unit files, and in its folders of links: those that were made, and
/// those that were removed. What was done by an earlier call that was cut off in between is made durable too. Blocks.
pub(super) fn sync(
    files: &Path,
    mut sync_dir: impl FnMut(&Path) -> io::Result<()>,
) -> Result<(), Unsynced> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| (path, error)
    };
    for entry in std::fs::read_dir(files).map_err(failed(files))? {
        let entry = entry.map_err(failed(files))?;
        let name = entry.file_name();
        let holds_links = LINKS.iter().any(|end| name.as_encoded_bytes().ends_with(end.as_bytes()));
        let path = entry.path();
        if holds_links && entry.file_type().map_err(failed(&path))?.is_dir() {
            match sync_dir(&path) {
                // The last link of it was removed just now, and it with that.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                synced => synced.map_err(failed(&path))?,
            }
        }
    }
    // Last, for it holds the names of those folders.
    sync_dir(files).map_err(failed(files))
}

/// Makes the names in a folder durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    std::fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_is_synced_that_may_hold_a_link_of_a_unit() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        for name in ["multi-user.target.wants", "vault.service.requires", "vault.service.d"] {
            std::fs::create_dir(path(name)).expect("writable");
        }
        std::os::unix::fs::symlink("/usr/lib", path("linked.wants")).expect("writable");
        let mut synced = Vec::new();
        sync(folder.path(), |dir| {
            synced.push(dir.to_owned());
            sync_dir(dir)
        })
        .expect("synced");
        assert_eq!(synced.pop().as_deref(), Some(folder.path()));
        synced.sort();
        assert_eq!(synced, [path("multi-user.target.wants"), path("vault.service.requires")]);
    }

    #[test]
    fn a_folder_that_cannot_be_synced_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let wants = folder.path().join("multi-user.target.wants");
        std::fs::create_dir(&wants).expect("writable");
        let refuse = |_: &Path| Err(io::Error::from(io::ErrorKind::StorageFull));
        let (path, error) = sync(folder.path(), refuse).expect_err("no room");
        assert_eq!((path, error.kind()), (wants, io::ErrorKind::StorageFull));
        let absent = folder.path().join("absent");
        assert_eq!(sync(&absent, sync_dir).expect_err("absent").0, absent);
    }
}
