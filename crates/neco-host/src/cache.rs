//! The packages that lie ready on this server: the one to install, and the way back.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use neco_schema::NecoVersion;

use crate::error::Doing;
use crate::replace::create_dirs;
use crate::{FileError, RealFs, Root};

/// Where the cache lies below the root.
pub const CACHE_DIRECTORY: &str = "/var/cache/neco/packages";

/// Ends the name of a file that is still being fetched or copied.
const PARTIAL: &str = ".part";

/// The directory of packages, with their signatures beside them. What it does blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageCache {
    dir: PathBuf,
}

impl PackageCache {
    /// The cache below `root`.
    pub fn new(root: &Root) -> io::Result<Self> {
        root.resolve(CACHE_DIRECTORY).map(|dir| Self { dir })
    }

    /// The cache in this directory.
    pub fn in_dir(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes the directory if it is missing.
    pub fn create(&self) -> Result<(), FileError> {
        create_dirs(&RealFs, &self.dir)
    }

    /// The name of the neco package of a version.
    pub fn file_name(version: &NecoVersion) -> String {
        format!("neco_{version}_amd64.deb")
    }

    /// Where the file of this name lies, whether it is there or not. A name that would leave the directory is
    /// reduced to its last part.
    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.join(Path::new(file).file_name().unwrap_or(OsStr::new("_")))
    }

    /// Where a file lies until it is whole.
    pub fn partial_path(&self, file: &str) -> PathBuf {
        let mut path = self.path(file).into_os_string();
        path.push(PARTIAL);
        path.into()
    }

    /// Gives a fetched file its name: made durable first, with its name after.
    pub fn publish(&self, file: &str) -> Result<PathBuf, FileError> {
        let (from, to) = (self.partial_path(file), self.path(file));
        File::open(&from).and_then(|file| file.sync_all()).doing("syncing", &from)?;
        std::fs::rename(&from, &to).doing("renaming", &from)?;
        self.sync()?;
        Ok(to)
    }

    /// The signature files of a package that are there: `FILE.minisig`, then `FILE.minisig.<key id>`.
    pub fn signatures(&self, file: &str) -> Result<Vec<PathBuf>, FileError> {
        let signature = format!("{file}.minisig");
        let further = format!("{signature}.");
        let names = self.names()?.into_iter().filter(|name| {
            let name = name.to_str().unwrap_or_default();
            name == signature || (name.starts_with(&further) && !name.ends_with(PARTIAL))
        });
        Ok(names.map(|name| self.dir.join(name)).collect())
    }

    /// The names of the packages that are there, sorted.
    pub fn packages(&self) -> Result<Vec<String>, FileError> {
        let names = self.names()?.into_iter().filter_map(|name| name.into_string().ok());
        Ok(names.filter(|name| name.ends_with(".deb")).collect())
    }

    /// Keeps a copy of a program under `name`, executable: what installs a package must not be replaced by it.
    pub fn keep_program(&self, program: &Path, name: &str) -> Result<PathBuf, FileError> {
        self.create()?;
        let partial = self.partial_path(name);
        std::fs::copy(program, &partial).doing("copying it to", &partial)?;
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&partial, executable).doing("setting the mode of", &partial)?;
        self.publish(name)
    }

    /// Removes all packages but those named in `keep`, with their signatures and partial files; returns what was
    /// removed. Other files stay.
    pub fn prune(&self, keep: &[&str]) -> Result<Vec<PathBuf>, FileError> {
        let mut removed = Vec::new();
        for name in self.names()? {
            let package = name.to_str().and_then(package_of);
            if package.is_some_and(|package| !keep.contains(&package)) {
                let path = self.dir.join(name);
                std::fs::remove_file(&path).doing("removing", &path)?;
                removed.push(path);
            }
        }
        if !removed.is_empty() {
            self.sync()?;
        }
        Ok(removed)
    }

    fn names(&self) -> Result<Vec<OsString>, FileError> {
        match crate::FileSystem::list(&RealFs, &self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            names => names.doing("listing", &self.dir),
        }
    }

    fn sync(&self) -> Result<(), FileError> {
        File::open(&self.dir).and_then(|dir| dir.sync_all()).doing("syncing", &self.dir)
    }
}

/// The package that a file belongs to, by its name.
fn package_of(name: &str) -> Option<&str> {
    let end = name.find(".deb")? + ".deb".len();
    let (package, rest) = name.split_at(end);
    let signature = rest == ".minisig" || rest.starts_with(".minisig.");
    (rest.is_empty() || rest == PARTIAL || signature).then_some(package)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(files: &[&str]) -> (tempfile::TempDir, PackageCache) {
        let dir = tempfile::tempdir().expect("a directory");
        let root = Root::new(dir.path()).expect("an absolute path");
        let cache = PackageCache::new(&root).expect("resolved");
        cache.create().expect("room");
        for file in files {
            std::fs::write(cache.path(file), file).expect("room");
        }
        (dir, cache)
    }

    #[test]
    fn a_package_is_found_with_its_signatures() {
        let (_dir, cache) = cache(&[
            "neco_1.0-1_amd64.deb",
            "neco_1.0-1_amd64.deb.minisig",
            "neco_1.0-1_amd64.deb.minisig.00000000000000AA",
            "neco_1.0-1_amd64.deb.minisig.00000000000000BB.part",
            "neco_1.0-10_amd64.deb.minisig",
            "neco_1.0-2_amd64.deb.part",
        ]);
        let version = "1.0-1".parse().expect("a version");
        let name = PackageCache::file_name(&version);
        assert_eq!(cache.packages().expect("readable"), [&*name]);
        let signatures = cache.signatures(&name).expect("readable");
        assert_eq!(
            signatures,
            [
                cache.path(&format!("{name}.minisig")),
                cache.path(&format!("{name}.minisig.00000000000000AA"))
            ]
        );
    }

    #[test]
    fn a_fetched_file_gets_its_name_when_it_is_whole() {
        let (_dir, cache) = cache(&["a.deb.part"]);
        assert_eq!(cache.publish("a.deb").expect("there"), cache.path("a.deb"));
        assert_eq!(cache.packages().expect("readable"), ["a.deb"]);
        assert!(cache.publish("a.deb").is_err(), "there is no other");
        assert_eq!(cache.path("../../etc/passwd"), cache.path("passwd"));
    }

    #[test]
    fn pruning_takes_packages_with_all_that_belongs_to_them() {
        let (_dir, cache) = cache(&[
            "a.deb",
            "a.deb.minisig",
            "a.deb.minisig.AA",
            "b.deb",
            "b.deb.minisig",
            "b.deb.part",
            "c.deb.part",
            "neco-worker-1.0",
            "a.debug",
        ]);
        let removed = cache.prune(&["a.deb"]).expect("room");
        let names = ["b.deb", "b.deb.minisig", "b.deb.part", "c.deb.part"];
        assert_eq!(removed, names.map(|name| cache.path(name)));
        assert!(cache.path("a.deb.minisig.AA").exists() && cache.path("neco-worker-1.0").exists());
        assert!(cache.path("a.debug").exists());
        assert_eq!(cache.prune(&["a.deb"]).expect("room"), [] as [PathBuf; 0]);
        let missing = PackageCache::in_dir("/nonexistent/neco");
        assert_eq!(missing.prune(&[]).expect("nothing there"), [] as [PathBuf; 0]);
    }

    #[test]
    fn a_kept_program_outlives_its_original() {
        let (dir, cache) = cache(&[]);
        let program = dir.path().join("worker");
        std::fs::write(&program, "#!/bin/sh\n").expect("room");
        let kept = cache.keep_program(&program, "neco-worker-1.0").expect("room");
        std::fs::write(&program, "other").expect("room");
        assert_eq!(std::fs::read_to_string(&kept).expect("there"), "#!/bin/sh\n");
        assert_eq!(kept.metadata().expect("there").permissions().mode() & 0o777, 0o755);
        // Once more, over the one that is there.
        cache.keep_program(&program, "neco-worker-1.0").expect("room");
        assert_eq!(std::fs::read_to_string(&kept).expect("there"), "other");
    }
}
