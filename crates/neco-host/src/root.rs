//! The directory under which every absolute path of this crate is resolved.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

/// As many symbolic links as the kernel follows in one path.
const MAX_LINKS: usize = 40;

/// The root of a boot server's files: `/` in production, any directory in tests and the playground.
///
/// Paths are resolved as if the process had changed its root: an absolute symbolic link starts again at the
/// root, and `..` stops there. It is a guard against mistakes, not against somebody who swaps links meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root(PathBuf);

impl Root {
    /// The root of the running system, `/`.
    pub fn system() -> Self {
        Self(PathBuf::from("/"))
    }

    /// The directory `dir` as root; a relative path counts from the working directory.
    pub fn new(dir: impl AsRef<Path>) -> io::Result<Self> {
        std::path::absolute(dir).map(Self)
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Whether this is the root of the running system.
    pub fn is_system(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// Where `path` lies below the root, without a look at the disk: symbolic links are not considered.
    pub fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        let mut joined = PathBuf::new();
        for component in path.as_ref().components() {
            match component {
                Component::Normal(name) => joined.push(name),
                Component::ParentDir => {
                    joined.pop();
                }
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        self.0.join(joined)
    }

    /// Where `path` really lies below the root, all symbolic links followed. What does not exist is kept as
    /// it is written.
    pub fn resolve(&self, path: impl AsRef<Path>) -> io::Result<PathBuf> {
        let mut pending: VecDeque<OsString> = VecDeque::new();
        prepend(&mut pending, path.as_ref());
        let mut done = PathBuf::new();
        let mut links = 0;
        while let Some(name) = pending.pop_front() {
            if name == ".." {
                done.pop();
                continue;
            }
            let candidate = self.0.join(&done).join(&name);
            match std::fs::read_link(&candidate) {
                Ok(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(io::Error::from_raw_os_error(nix::libc::ELOOP));
                    }
                    if target.is_absolute() {
                        done = PathBuf::new();
                    }
                    prepend(&mut pending, &target);
                }
                Err(error) if is_no_link(&error) => done.push(name),
                Err(error) => return Err(error),
            }
        }
        Ok(self.0.join(done))
    }

    /// Like [`resolve`](Self::resolve), but the last component is kept even if it is a symbolic link.
    ///
    /// Fails with `InvalidInput` where there is no last component, such as for `/`.
    pub fn resolve_parent(&self, path: impl AsRef<Path>) -> io::Result<PathBuf> {
        let path = path.as_ref();
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => Ok(self.resolve(parent)?.join(name)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "the path names no file")),
        }
    }
}

/// The error of reading a link that is no link, or not there.
fn is_no_link(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidInput | io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Puts the components of `path` before the ones that are still to be looked at.
fn prepend(pending: &mut VecDeque<OsString>, path: &Path) {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => pending.push_front(name.to_owned()),
            Component::ParentDir => pending.push_front("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn root() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = Root::new(dir.path()).expect("an absolute path");
        (dir, root)
    }

    #[test]
    fn absolute_paths_land_below_the_root_and_dots_do_not_leave_it() {
        let root = Root::new("/srv/x").expect("absolute");
        for (path, want) in [
            ("/etc/motd", "/srv/x/etc/motd"),
            ("etc/motd", "/srv/x/etc/motd"),
            ("/../../etc/./motd", "/srv/x/etc/motd"),
            ("/", "/srv/x"),
        ] {
            assert_eq!(root.join(path), Path::new(want), "{path}");
            assert_eq!(root.resolve(path).expect("nothing there to fail"), Path::new(want));
        }
        assert_eq!(Root::system().join("/etc/motd"), Path::new("/etc/motd"));
        assert!(Root::system().is_system() && !root.is_system());
    }

    #[test]
    fn links_are_followed_inside_the_root() {
        let (_dir, root) = root();
        std::fs::create_dir_all(root.join("/usr/lib")).expect("a directory");
        symlink("/usr/lib", root.join("/lib")).expect("a link");
        symlink("../../../../lib/os-release", root.join("/usr/lib/alias")).expect("a link");
        symlink("/lib", root.join("/usr/lib/again")).expect("a link");
        assert_eq!(root.resolve("/lib/x").expect("links"), root.join("/usr/lib/x"));
        assert_eq!(root.resolve("/usr/lib/again/x").expect("links"), root.join("/usr/lib/x"));
        assert_eq!(root.resolve("/lib/alias").expect("links"), root.join("/usr/lib/os-release"));
        assert_eq!(root.resolve_parent("/lib/alias").expect("links"), root.join("/usr/lib/alias"));
    }

    #[test]
    fn a_loop_of_links_is_an_error() {
        let (_dir, root) = root();
        symlink("/b", root.join("/a")).expect("a link");
        symlink("/a", root.join("/b")).expect("a link");
        let error = root.resolve("/a/x").expect_err("it never ends");
        assert_eq!(error.raw_os_error(), Some(nix::libc::ELOOP));
        assert!(root.resolve_parent("/").is_err());
    }
}
