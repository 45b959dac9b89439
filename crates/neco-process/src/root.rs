//! Absolute paths of a system that lives below a directory.

use std::path::{Component, Path, PathBuf};

/// Where `path`, absolute in its system, lies when that system's root is `root`.
///
/// `..` cannot lead out of the root.
///
/// ```
/// use std::path::Path;
/// let path = neco_process::under(Path::new("/srv/boot-0"), Path::new("/etc/neco/config.yml"));
/// assert_eq!(path, Path::new("/srv/boot-0/etc/neco/config.yml"));
/// ```
pub fn under(root: &Path, path: &Path) -> PathBuf {
    let mut inside = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => inside.push(name),
            Component::ParentDir => {
                inside.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    root.join(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_out_of_the_root() {
        let root = Path::new("/r");
        assert_eq!(under(root, Path::new("/../../etc/./x")), Path::new("/r/etc/x"));
        assert_eq!(under(root, Path::new("etc/x")), Path::new("/r/etc/x"));
        assert_eq!(under(Path::new("/"), Path::new("/etc/x")), Path::new("/etc/x"));
    }
}
