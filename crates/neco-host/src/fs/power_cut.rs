//! What a power cut leaves of recorded changes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::Call;

/// How unkind the disk is to what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerCut {
    /// Nothing survives that was not synced, neither content nor names.
    LosesAllUnsynced,
    /// Names survive as they were last, but content only as it was synced: the empty files known from journalling
    /// file systems.
    KeepsNames,
}

/// A file system as a list of changes made it: what programs see, and what the disk holds.
#[derive(Default)]
struct Disk {
    seen: Names,
    held: Names,
    /// Content of each file: as seen, as held.
    files: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Clone, Default)]
struct Names {
    files: BTreeMap<PathBuf, usize>,
    dirs: BTreeSet<PathBuf>,
}

/// The files that are left, with their content, when the power is cut after `calls`, all of which succeeded and
/// which made everything that was there.
pub(super) fn survivors(calls: &[Call], cut: PowerCut) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut disk = Disk::default();
    for call in calls {
        disk.apply(call);
    }
    let names = match cut {
        PowerCut::LosesAllUnsynced => &disk.held,
        PowerCut::KeepsNames => &disk.seen,
    };
    // A directory whose own name is lost takes all below it along.
    let lost: Vec<_> = disk.seen.dirs.difference(&names.dirs).collect();
    names
        .files
        .iter()
        .filter(|(path, _)| !lost.iter().any(|dir| path.starts_with(dir)))
        .map(|(path, &file)| (path.clone(), disk.files[file].1.clone()))
        .collect()
}

impl Disk {
    fn apply(&mut self, call: &Call) {
        match call {
            Call::CreateDir(path, _) => {
                self.seen.dirs.insert(path.clone());
            }
            Call::Create(path) => {
                self.seen.files.insert(path.clone(), self.files.len());
                self.files.push(Default::default());
            }
            Call::Write(path, bytes) => self.with(path, |(seen, _)| seen.extend_from_slice(bytes)),
            Call::Truncate(path, len) => self.with(path, |(seen, _)| {
                seen.resize(usize::try_from(*len).unwrap_or(usize::MAX), 0);
            }),
            Call::Sync(path) => self.with(path, |(seen, held)| held.clone_from(seen)),
            Call::Rename(from, to) => {
                if let Some(file) = self.seen.files.remove(from) {
                    self.seen.files.insert(to.clone(), file);
                }
            }
            Call::Remove(path) => {
                self.seen.files.remove(path);
            }
            Call::SyncDir(dir) => {
                let inside = |path: &Path| path.parent() == Some(dir);
                self.held.files.retain(|path, _| !inside(path));
                let files = self.seen.files.iter().filter(|(path, _)| inside(path));
                self.held.files.extend(files.map(|(path, &file)| (path.clone(), file)));
                let dirs = self.seen.dirs.iter().filter(|path| inside(path));
                self.held.dirs.extend(dirs.cloned());
            }
            Call::SetOwner(..) | Call::SetMode(..) => {}
        }
    }

    fn with(&mut self, path: &Path, change: impl FnOnce(&mut (Vec<u8>, Vec<u8>))) {
        if let Some(&file) = self.seen.files.get(path) {
            change(&mut self.files[file]);
        }
    }
}
