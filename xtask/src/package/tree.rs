//! The tree that is packed: modes and times are set here, so that neither umask nor checkout shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, FileTimes};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::exit::{Doing, Done, Failure};
use crate::run;

/// What lies in `debian/` for its readers, not for the target.
const NOT_SHIPPED: [&str; 2] = ["README.md", "man"];

/// Where the control files lie, in `debian/` and in the packed tree.
pub(super) const CONTROL: &str = "DEBIAN";

/// Scripts that dpkg runs.
pub(super) const SCRIPTS: [&str; 4] = ["preinst", "postinst", "prerm", "postrm"];

/// A tree on disk that goes away with this value.
#[derive(Debug)]
pub(super) struct Tree {
    root: PathBuf,
    /// Path within the tree, and size.
    files: BTreeMap<String, u64>,
    links: BTreeSet<String>,
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

impl Tree {
    pub(super) fn create(root: PathBuf) -> Done<Self> {
        if root.exists() {
            fs::remove_dir_all(&root).doing(|| format!("cannot remove {}", root.display()))?;
        }
        fs::create_dir_all(&root).doing(|| format!("cannot create {}", root.display()))?;
        Ok(Self { root, files: BTreeMap::new(), links: BTreeSet::new() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.root
    }

    /// Takes over the mirror of the target filesystem and the maintainer scripts.
    pub(super) fn mirror(&mut self, debian: &Path) -> Done {
        for entry in sorted(debian)? {
            let name = name_of(&entry)?;
            if NOT_SHIPPED.contains(&name.as_str()) {
                continue;
            }
            if !entry.is_dir() {
                return Err(Failure::failed(format!(
                    "{} belongs to no folder of the target filesystem; if it is for readers, list it \
                     in NOT_SHIPPED of xtask/src/package/tree.rs",
                    entry.display()
                )));
            }
            if name == CONTROL {
                self.control_files(&entry)?;
            } else {
                self.mirror_below(&entry, &name)?;
            }
        }
        Ok(())
    }

    pub(super) fn copy(&mut self, from: &Path, to: &str, mode: u32) -> Done {
        let bytes = fs::read(from).doing(|| format!("cannot read {}", from.display()))?;
        self.write(to, &bytes, mode)
    }

    pub(super) fn write(&mut self, to: &str, bytes: &[u8], mode: u32) -> Done {
        let path = self.place(to)?;
        fs::write(&path, bytes)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
            .doing(|| format!("cannot write {}", path.display()))?;
        self.files.insert(to.to_owned(), bytes.len() as u64);
        Ok(())
    }

    pub(super) fn link(&mut self, at: &str, to: &str) -> Done {
        let path = self.place(at)?;
        symlink(to, &path).doing(|| format!("cannot create {}", path.display()))?;
        self.links.insert(at.to_owned());
        Ok(())
    }

    /// Whether a file of this path is in it.
    pub(super) fn has(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// The files and links that the target gets.
    pub(super) fn paths(&self) -> impl Iterator<Item = &String> {
        self.shipped().map(|(path, _)| path).chain(&self.links)
    }

    /// What the package takes once installed; a file takes whole kibibytes.
    pub(super) fn kibibytes(&self) -> u64 {
        self.shipped().map(|(_, size)| size.div_ceil(1024)).sum()
    }

    /// What `dpkg --verify` compares with.
    pub(super) fn md5sums(&self) -> Done<String> {
        let files = self.shipped().map(|(path, _)| path);
        run::capture(Command::new("md5sum").arg("--").args(files).current_dir(&self.root))
    }

    /// Gives everything the same time.
    pub(super) fn finish(&self, epoch: u64) -> Done {
        set_times(&self.root, SystemTime::UNIX_EPOCH + Duration::from_secs(epoch))
    }

    fn shipped(&self) -> impl Iterator<Item = (&String, u64)> {
        self.files
            .iter()
            .filter(|(path, _)| !path.starts_with(CONTROL))
            .map(|(path, &size)| (path, size))
    }

    fn control_files(&mut self, dir: &Path) -> Done {
        for file in sorted(dir)? {
            let name = name_of(&file)?;
            if name.ends_with(".in") {
                continue;
            }
            let mode = if SCRIPTS.contains(&name.as_str()) { 0o755 } else { 0o644 };
            self.copy(&file, &format!("{CONTROL}/{name}"), mode)?;
        }
        Ok(())
    }

    fn mirror_below(&mut self, dir: &Path, at: &str) -> Done {
        for entry in sorted(dir)? {
            let to = format!("{at}/{}", name_of(&entry)?);
            let data =
                entry.symlink_metadata().doing(|| format!("cannot read {}", entry.display()))?;
            if data.is_symlink() {
                let target =
                    fs::read_link(&entry).doing(|| format!("cannot read {}", entry.display()))?;
                self.link(&to, &target.to_string_lossy())?;
            } else if data.is_dir() {
                self.mirror_below(&entry, &to)?;
            } else {
                let mode = if data.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
                self.copy(&entry, &to, mode)?;
            }
        }
        Ok(())
    }

    fn place(&self, to: &str) -> Done<PathBuf> {
        let path = self.root.join(to);
        if let Some(parent) = path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(parent)
                .doing(|| format!("cannot create {}", parent.display()))?;
        }
        Ok(path)
    }
}

fn set_times(path: &Path, time: SystemTime) -> Done {
    let data = path.symlink_metadata().doing(|| format!("cannot read {}", path.display()))?;
    // The time of a link itself is out of std's reach; dpkg-deb caps it at SOURCE_DATE_EPOCH.
    if data.is_symlink() {
        return Ok(());
    }
    if data.is_dir() {
        for entry in sorted(path)? {
            set_times(&entry, time)?;
        }
        // Whatever the umask was when it was made.
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
            .doing(|| format!("cannot set the mode of {}", path.display()))?;
    }
    File::open(path)
        .and_then(|file| file.set_times(FileTimes::new().set_modified(time)))
        .doing(|| format!("cannot set the time of {}", path.display()))
}

fn sorted(dir: &Path) -> Done<Vec<PathBuf>> {
    let mut entries = fs::read_dir(dir)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>())
        .doing(|| format!("cannot list {}", dir.display()))?;
    entries.sort();
    Ok(entries)
}

fn name_of(path: &Path) -> Done<String> {
    path.file_name()
        .and_then(|name| name.to_str())
        .map(str::to_owned)
        .ok_or_else(|| Failure::failed(format!("{} has no name in UTF-8", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("xtask-tree-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn lay(root: &Path, path: &str, mode: u32) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "text").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn mirrors_the_target_and_nothing_else() {
        let dir = scratch("mirror");
        let debian = dir.join("debian");
        lay(&debian, "README.md", 0o644);
        lay(&debian, "DEBIAN/control.in", 0o644);
        lay(&debian, "DEBIAN/postinst", 0o600);
        lay(&debian, "lib/systemd/system/neco-worker.service", 0o600);
        lay(&debian, "usr/share/neco/tool", 0o700);
        let mut tree = Tree::create(dir.join("stage")).unwrap();
        tree.mirror(&debian).unwrap();
        tree.finish(1_000_000_000).unwrap();
        let files: Vec<_> = tree.files.keys().cloned().collect();
        assert_eq!(
            files,
            ["DEBIAN/postinst", "lib/systemd/system/neco-worker.service", "usr/share/neco/tool"]
        );
        let mode = |path: &str| fs::metadata(tree.path().join(path)).unwrap().permissions().mode();
        assert_eq!(mode("DEBIAN/postinst") & 0o7777, 0o755);
        assert_eq!(mode("lib/systemd/system/neco-worker.service") & 0o7777, 0o644);
        assert_eq!(mode("usr/share/neco/tool") & 0o7777, 0o755);
        assert_eq!(mode("usr/share") & 0o7777, 0o755);
        let time = fs::metadata(tree.path().join("usr")).unwrap().modified().unwrap();
        assert_eq!(time, SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000));
        assert_eq!(tree.kibibytes(), 2);
        let sums = tree.md5sums().unwrap();
        assert!(sums.lines().all(|line| line.starts_with("1cb251ec0d568de6a929b520c4aed8d1  ")));
        assert_eq!(sums.lines().count(), 2);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_stray_file_beside_the_folders_is_refused() {
        let dir = scratch("stray");
        lay(&dir.join("debian"), "notes.txt", 0o644);
        let mut tree = Tree::create(dir.join("stage")).unwrap();
        let message = tree.mirror(&dir.join("debian")).unwrap_err().message;
        assert!(message.contains("notes.txt belongs to no folder"), "{message}");
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn the_staged_tree_goes_away() {
        let dir = scratch("drop");
        let stage = dir.join("stage");
        drop(Tree::create(stage.clone()).unwrap());
        assert!(!stage.exists());
        fs::remove_dir_all(&dir).unwrap();
    }
}
