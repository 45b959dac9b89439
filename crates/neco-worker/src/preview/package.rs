//! The data of a version that is not installed: its package, fetched, verified and unpacked aside.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use neco_components::Recipe;
use neco_connect::one_line;
use neco_host::{PackageCache, run_command};
use neco_schema::NecoVersion;

use crate::install::Fetcher;

/// Where packages that are only looked at lie, below the configured cache: what an update needs lies elsewhere, and neither
/// waits for the other.
pub const PREVIEWS: &str = "previews";

/// How long a package may take to be unpacked.
const UNPACKED_WITHIN: Duration = Duration::from_secs(120);

/// Packages that are looked at and not installed.
pub struct PreviewPackages {
    /// What an update has fetched.
    installs: PackageCache,
    /// What is fetched to be looked at.
    cache: PackageCache,
    fetcher: Fetcher,
}

/// A package that is unpacked until this is dropped.
pub(super) struct Unpacked {
    /// Its recipe.
    pub(super) recipe: Recipe,
    folder: Folder,
}

impl Unpacked {
    /// Where it is unpacked.
    pub(super) fn folder(&self) -> &Path {
        &self.folder.0
    }
}

impl PreviewPackages {
    /// Fetches by `fetcher`, which fetches into `cache`; what lies in `installs` is not fetched again.
    pub fn new(installs: PackageCache, cache: PackageCache, fetcher: Fetcher) -> Self {
        Self { installs, cache, fetcher }
    }

    /// The package of `version`, verified as for an installation, and unpacked. It stays in the cache until another version
    /// is asked for.
    ///
    /// # Errors
    /// It cannot be had, is not what it should be, or its data cannot be used; in words.
    pub(super) async fn unpacked(&self, version: &NecoVersion) -> Result<Unpacked, String> {
        let file = PackageCache::file_name(version);
        self.cache.create().map_err(|error| one_line(&error))?;
        self.cache.prune(&[&file]).map_err(|error| one_line(&error))?;
        self.borrow(&file).map_err(|error| format!("copying {file}: {error}"))?;
        let package = self.fetcher.fetch(version, None, &|_, _| {}).await;
        let package = package.map_err(|error| one_line(&error))?;
        let folder = Folder::new(self.cache.dir().join("unpacked"))
            .map_err(|error| format!("making room for {file}: {error}"))?;
        let (from, to) = (package.path().to_string_lossy(), folder.0.to_string_lossy());
        let output = run_command(&["dpkg-deb", "-x", &from, &to], UNPACKED_WITHIN).await;
        let output = output.map_err(|error| one_line(&error))?;
        if !output.status.success() {
            return Err(format!("{file} cannot be unpacked: {output}"));
        }
        // Whether its worker can follow it, that of this version does not know: it may have actions that are new.
        let recipe = Recipe::load(folder.0.join("usr/share/neco"));
        let recipe =
            recipe.map_err(|error| format!("the data of {version}: {}", one_line(&error)))?;
        Ok(Unpacked { recipe, folder })
    }

    /// Takes over what an update has fetched already. It is verified all the same.
    fn borrow(&self, file: &str) -> std::io::Result<()> {
        let has = |path: &Path| path.exists();
        if has(&self.cache.path(file)) || !has(&self.installs.path(file)) {
            return Ok(());
        }
        let signatures = self.installs.signatures(file).unwrap_or_default();
        let names = signatures.iter().filter_map(|path| path.file_name()?.to_str());
        for name in names.chain([file]) {
            let (from, to) = (self.installs.path(name), self.cache.path(name));
            match std::fs::hard_link(from, to) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// A folder that goes when it is dropped, and before, whatever an earlier process left of it.
struct Folder(PathBuf);

impl Folder {
    fn new(path: PathBuf) -> std::io::Result<Self> {
        let folder = Self(path);
        folder.clear()?;
        std::fs::create_dir(&folder.0)?;
        Ok(folder)
    }

    fn clear(&self) -> std::io::Result<()> {
        match std::fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = self.clear() {
            tracing::warn!(folder = %self.0.display(), %error, "could not be removed");
        }
    }
}
