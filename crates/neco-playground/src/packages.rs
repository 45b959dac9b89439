//! The packages that a site is given.

use std::path::{Path, PathBuf};

use neco_schema::NecoVersion;

use crate::SiteError;

/// The command that makes packages where there are none.
const REMEDY: &str = "cargo xtask playground";

/// A package of Neco, not signed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its version, from its name.
    pub version: NecoVersion,
    /// The file.
    pub path: PathBuf,
}

/// The packages in a folder: the sound ones, and, in `bad/` below it, those whose worker dies at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packages {
    dir: PathBuf,
    sound: Vec<Package>,
    bad: Vec<Package>,
}

impl Packages {
    /// Reads a folder.
    ///
    /// # Errors
    /// It cannot be read, or holds fewer than two sound packages.
    pub fn read(dir: impl Into<PathBuf>) -> Result<Self, SiteError> {
        let dir = dir.into();
        let (sound, bad) = (packages_in(&dir)?, packages_in(&dir.join("bad"))?);
        if sound.len() < 2 {
            let what = format!(
                "{} holds {} packages named neco_VERSION_amd64.deb, and two are needed for an update",
                dir.display(),
                sound.len()
            );
            return Err(SiteError::Missing { what, remedy: REMEDY });
        }
        Ok(Self { dir, sound, bad })
    }

    /// The sound packages, the oldest first.
    pub fn sound(&self) -> &[Package] {
        &self.sound
    }

    /// The version that is installed first.
    pub fn first(&self) -> &NecoVersion {
        &self.sound[0].version
    }

    /// The version of the update.
    pub fn update(&self) -> &NecoVersion {
        &self.sound[1].version
    }

    /// The version that heals the update, should it be bad.
    ///
    /// # Errors
    /// There is none.
    pub fn healing(&self) -> Result<&NecoVersion, SiteError> {
        let found = self.sound.get(2).map(|package| &package.version);
        found.ok_or_else(|| self.absent("sound", "later than the update"))
    }

    /// The sound package of a version.
    ///
    /// # Errors
    /// There is none.
    pub fn of(&self, version: &NecoVersion) -> Result<&Package, SiteError> {
        let found = self.sound.iter().find(|package| package.version == *version);
        found.ok_or_else(|| self.absent("sound", version.as_str()))
    }

    /// The bad package of a version.
    ///
    /// # Errors
    /// There is none.
    pub fn bad(&self, version: &NecoVersion) -> Result<&Package, SiteError> {
        let found = self.bad.iter().find(|package| package.version == *version);
        found.ok_or_else(|| self.absent("bad", version.as_str()))
    }

    fn absent(&self, what: &'static str, version: &str) -> SiteError {
        SiteError::NoPackage { what, version: version.to_owned(), dir: self.dir.clone() }
    }
}

/// The packages of a folder by version; a folder that is not there holds none.
fn packages_in(dir: &Path) -> Result<Vec<Package>, SiteError> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(SiteError::io("reading", dir))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(SiteError::io("reading", dir))?.path();
        if let Some(version) = path.file_name().and_then(|name| version_in(name.to_str()?)) {
            found.push(Package { version, path });
        }
    }
    found.sort_by(|a, b| a.version.precedence(&b.version));
    Ok(found)
}

fn version_in(name: &str) -> Option<NecoVersion> {
    name.strip_prefix("neco_")?.strip_suffix("_amd64.deb")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        for name in names {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("room");
            std::fs::write(path, "").expect("room");
        }
        dir
    }

    #[test]
    fn packages_are_ordered_by_version_and_other_files_do_not_count() {
        let dir = folder(&[
            "neco_2026.11.21-40152_amd64.deb",
            "neco_2026.11.9-40000_amd64.deb",
            "neco_2026.11.21-40152_amd64.deb.minisig",
            "other_1.0_amd64.deb",
            "bad/neco_2026.11.21-40152_amd64.deb",
        ]);
        let packages = Packages::read(dir.path()).expect("two packages");
        assert_eq!(packages.first().as_str(), "2026.11.9-40000");
        assert_eq!(packages.update().as_str(), "2026.11.21-40152");
        let bad = packages.bad(packages.update()).expect("a bad one");
        assert!(bad.path.starts_with(dir.path().join("bad")));
        assert!(packages.bad(packages.first()).is_err() && packages.healing().is_err());
    }

    #[test]
    fn too_few_packages_name_the_command_that_makes_them() {
        let dir = folder(&["neco_2026.11.21-40152_amd64.deb"]);
        for dir in [dir.path().to_owned(), dir.path().join("absent")] {
            let error = Packages::read(dir).expect_err("too few");
            assert!(error.cannot_run() && error.to_string().contains(REMEDY), "{error}");
        }
    }
}
