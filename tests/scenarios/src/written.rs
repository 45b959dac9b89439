//! Which directories have been written, told from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What changes when something in a directory is written.
pub type Marks = BTreeSet<(PathBuf, i64, i64)>;

/// Every directory below a root.
///
/// # Panics
/// Never: what lies below it is named by it.
pub fn directories(root: &Path) -> BTreeMap<PathBuf, Marks> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        let below = |path: &Path| path.strip_prefix(root).expect("below").to_owned();
        let mut marks = BTreeSet::new();
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            // What goes away while it is looked at has changed its directory.
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                open.push(entry.path());
            } else {
                marks.insert((below(&entry.path()), meta.ctime(), meta.ctime_nsec()));
            }
        }
        if let Ok(meta) = dir.metadata() {
            marks.insert((PathBuf::new(), meta.mtime(), meta.mtime_nsec()));
        }
        found.insert(below(&dir), marks);
    }
    found
}
