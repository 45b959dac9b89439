//! A tree of files in memory.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::read_small;

/// The files of a folder such as `/usr/share/neco/ignitions`, by their path in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    files: BTreeMap<String, TreeFile>,
}

/// A file of a [`Tree`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeFile {
    /// Its permission bits.
    pub mode: u32,
    /// Its content.
    pub content: Vec<u8>,
}

/// Why a folder cannot be read into a [`Tree`].
#[derive(Debug, thiserror::Error)]
#[error("reading {}", path.display())]
pub struct TreeError {
    /// What.
    pub path: PathBuf,
    /// What the file system said.
    #[source]
    pub source: io::Error,
}

/// More folders within folders than anybody means: a symlink leads back up.
const DEEPEST: usize = 32;

impl Tree {
    /// Reads a folder with everything below it. Symlinks are followed; hidden files count.
    ///
    /// # Errors
    /// Something cannot be read, is neither file nor folder, is larger than 16 MiB, or has a name that is not UTF-8.
    pub fn read(folder: impl AsRef<Path>) -> Result<Self, TreeError> {
        let mut tree = Self::default();
        tree.read_into(folder.as_ref(), "", 0)?;
        Ok(tree)
    }

    /// The same tree with this file, in place of one that was there.
    #[must_use]
    pub fn with(mut self, path: impl Into<String>, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        self.files.insert(path.into(), TreeFile { mode, content: content.into() });
        self
    }

    /// The same tree without this file.
    #[must_use]
    pub fn without(mut self, path: &str) -> Self {
        self.files.remove(path);
        self
    }

    /// A file.
    pub fn get(&self, path: &str) -> Option<&TreeFile> {
        self.files.get(path)
    }

    /// Whether there is no file.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The paths of all files, in order.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// The paths of the files below a folder, relative to it, in order.
    pub fn below(&self, folder: &str) -> impl Iterator<Item = &str> {
        let prefix = format!("{folder}/");
        self.paths().filter_map(move |path| path.strip_prefix(prefix.as_str()))
    }

    fn read_into(&mut self, folder: &Path, prefix: &str, depth: usize) -> Result<(), TreeError> {
        let failed = |path: &Path, source| TreeError { path: path.to_owned(), source };
        let invalid = |text| io::Error::new(io::ErrorKind::InvalidData, text);
        if depth > DEEPEST {
            return Err(failed(folder, invalid("folders lie too deep within one another")));
        }
        for entry in std::fs::read_dir(folder).map_err(|error| failed(folder, error))? {
            let path = entry.map_err(|error| failed(folder, error))?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let name = name.ok_or_else(|| failed(&path, invalid("its name is not UTF-8")))?;
            let inner = format!("{prefix}{name}");
            let metadata = std::fs::metadata(&path).map_err(|error| failed(&path, error))?;
            if metadata.is_dir() {
                self.read_into(&path, &format!("{inner}/"), depth + 1)?;
            } else if metadata.is_file() {
                let content = read_small(&path).map_err(|error| failed(&path, error))?;
                let mode = metadata.permissions().mode() & 0o777;
                self.files.insert(inner, TreeFile { mode, content });
            } else {
                return Err(failed(&path, invalid("it is neither a file nor a folder")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_read_with_modes_and_through_symlinks() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(path("roles/cs/files")).expect("folders");
        std::fs::write(path("roles/cs/files/run"), "x").expect("written");
        let executable = std::fs::Permissions::from_mode(0o4755);
        std::fs::set_permissions(path("roles/cs/files/run"), executable).expect("a mode");
        std::os::unix::fs::symlink("run", path("roles/cs/files/again")).expect("a symlink");
        let tree = Tree::read(dir.path()).expect("a tree");
        let file = TreeFile { mode: 0o755, content: b"x".to_vec() };
        assert_eq!(tree.get("roles/cs/files/run"), Some(&file));
        assert_eq!(tree.get("roles/cs/files/again"), Some(&file));
        assert_eq!(tree.below("roles/cs").collect::<Vec<_>>(), ["files/again", "files/run"]);

        std::os::unix::fs::symlink("..", path("roles/up")).expect("a symlink");
        let error = crate::one_line(&Tree::read(dir.path()).expect_err("endless"));
        assert!(error.contains("too deep") || error.contains("symbolic links"), "{error}");
        assert!(Tree::read(path("nowhere")).is_err());
        std::fs::remove_file(path("roles/up")).expect("removed");
        let huge = std::fs::File::create(path("roles/huge")).expect("a file");
        huge.set_len((16 << 20) + 1).expect("a file with a hole");
        let error = crate::one_line(&Tree::read(dir.path()).expect_err("too large"));
        assert!(error.ends_with("roles/huge: it is larger than 16 MiB"), "{error}");
    }
}
