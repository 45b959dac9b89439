//! A file that is replaced as a whole.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Why a file was not replaced; it is what it was.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// Somebody else has changed it since it was read.
    #[error("{} was changed meanwhile; it is left as it is, try again", .0.display())]
    Changed(PathBuf),
    /// The disk refuses.
    #[error("writing {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// Replaces the content of the file at `path`, which was read as `old`: whoever looks sees all of the one or all of the other,
/// also after a crash. It keeps its mode; where `path` is a link, what it leads to is replaced.
///
/// # Errors
/// The disk refuses, or the content is not `old` any more.
pub fn replace(path: &Path, old: &str, new: &str) -> Result<(), ReplaceError> {
    let io = |source| ReplaceError::Io { path: path.to_owned(), source };
    let file = path.canonicalize().map_err(io)?;
    let folder = file.parent().unwrap_or(Path::new("/"));
    let write = || {
        let mut fresh = tempfile::Builder::new().prefix(".artifacts-").tempfile_in(folder)?;
        fresh.as_file().set_permissions(fs::metadata(&file)?.permissions())?;
        fresh.write_all(new.as_bytes())?;
        fresh.as_file().sync_all()?;
        Ok(fresh)
    };
    let fresh = write().map_err(io)?;
    if fs::read(&file).map_err(io)? != old.as_bytes() {
        return Err(ReplaceError::Changed(path.to_owned()));
    }
    fresh.persist(&file).map_err(|error| io(error.error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let names =
            fs::read_dir(dir).expect("read").map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn content_changes_and_mode_and_link_stay() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("artifacts.toml");
        let link = dir.path().join("link");
        fs::write(&file, "old").expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("set");
        symlink("artifacts.toml", &link).expect("linked");
        replace(&link, "old", "new").unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(fs::read_to_string(&file).expect("read"), "new");
        assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert_eq!(names(dir.path()), ["artifacts.toml", "link"]);
    }

    #[test]
    fn what_somebody_else_has_written_stays() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("artifacts.toml");
        fs::write(&file, "theirs").expect("written");
        let why = replace(&file, "old", "new").expect_err("changed");
        assert!(matches!(why, ReplaceError::Changed(_)), "{why}");
        assert_eq!(fs::read_to_string(&file).expect("read"), "theirs");
        assert_eq!(names(dir.path()), ["artifacts.toml"]);
        let why = replace(&dir.path().join("none"), "", "new").expect_err("absent");
        assert!(matches!(why, ReplaceError::Io { .. }), "{why}");
    }
}
