//! Folders that hold just what was put there.

use std::fs;
use std::path::Path;

use crate::exit::{Doing, Done};

/// Removes from a folder everything but what has one of these names.
pub(crate) fn keep_only(dir: &Path, names: &[&str]) -> Done {
    for entry in fs::read_dir(dir).doing(|| format!("cannot list {}", dir.display()))? {
        let entry = entry.doing(|| format!("cannot list {}", dir.display()))?;
        if names.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        let path = entry.path();
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let removed = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.doing(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_run_has_left_goes_and_what_is_named_stays() {
        let dir = std::env::temp_dir().join(format!("xtask-folder-{}", std::process::id()));
        fs::create_dir_all(dir.join("old-folder/in-it")).unwrap();
        for name in ["kept", "old"] {
            fs::write(dir.join(name), name).unwrap();
        }
        std::os::unix::fs::symlink("nowhere", dir.join("link")).unwrap();
        keep_only(&dir, &["kept", "not-there"]).unwrap();
        let left: Vec<_> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(left, ["kept"]);
    }
}
