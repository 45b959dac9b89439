//! Debian packages beside Neco's own, from releases on GitHub.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use neco_components::{Deb, Name, Recipe};
use neco_connect::{SourceError, release_source};
use neco_host::{Dpkg, FileError, PackageError, Root};
use neco_plan::View;
use neco_process::config::ReleaseConfig;
use neco_releases::{Asset, Limits, Progress, ReleaseError, download, is_package_of};
use neco_schema::{PackageRef, Range, Severity, prefixes};
use neco_store::{Store, StoreError};

/// Installs Debian packages that components name.
#[async_trait]
pub trait Debs: Send + Sync {
    /// Whether the package `name` is completely installed, in whatever version.
    ///
    /// # Errors
    /// It cannot be told.
    async fn is_installed(&self, name: &str) -> Result<bool, DebError>;

    /// Fetches the package of a release and sees that it is what it should be. May be dropped: what has come so far is gone
    /// on with.
    ///
    /// # Errors
    /// It cannot be had, or not now.
    async fn fetch(
        &self,
        package: &Deb,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<PathBuf, DebError>;

    /// Installs a package from the file that [`Self::fetch`] gave.
    ///
    /// # Errors
    /// It was not installed.
    async fn install(&self, package: &Deb, file: &Path) -> Result<(), DebError>;
}

/// Why a Debian package could not be fetched or installed.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    /// The way to releases cannot be read from etcd.
    #[error("reading the proxy and the token for releases")]
    Settings(#[from] StoreError),
    /// The release cannot be asked for.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The release or its file cannot be had.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// The release is not what the version says; only another version mends that.
    #[error("{0}")]
    Wrong(String),
    /// The package manager.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The note of a sandbox cannot be written.
    #[error(transparent)]
    Note(#[from] FileError),
}

impl DebError {
    /// What this error asks for.
    pub fn severity(&self) -> Severity {
        match self {
            Self::Settings(error) => error.severity(),
            Self::Release(error) => error.severity(),
            Self::Package(error) if error.is_transient() => Severity::TryAgain,
            Self::Source(_) | Self::Wrong(_) | Self::Package(_) | Self::Note(_) => {
                Severity::AskAPerson
            }
        }
    }

    /// Whether the package manager says that the disk refuses it: it tells that in words alone.
    pub(crate) fn is_told_by_dpkg_about_the_disk(&self) -> bool {
        matches!(self, Self::Package(error) if error.is_disk_trouble())
    }
}

/// How many tries in a row of one download may bring no byte.
const TRIES: u32 = 3;

/// Packages of GitHub, installed by dpkg.
pub struct ReleasedDebs {
    config: ReleaseConfig,
    store: Arc<dyn Store>,
    cache: PathBuf,
    dpkg: Dpkg,
}

impl ReleasedDebs {
    /// Fetches into the folder `cache`, from the API of `config`, by the proxy and with the token that `store` holds.
    pub fn new(config: ReleaseConfig, store: Arc<dyn Store>, cache: PathBuf) -> Self {
        Self { config, store, cache, dpkg: Dpkg::system() }
    }

    /// The file of a package, whole and right.
    async fn fetched(
        &self,
        package: &Deb,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<PathBuf, DebError> {
        let settings = self.store.read(&[Range::Prefix(prefixes::CONFIG.to_owned())], None).await?;
        let settings = neco_connect::Settings::read(&View::assemble(&settings).config);
        let token = neco_connect::github_token(&*self.store).await?;
        let mut config = self.config.clone();
        config.owner.clone_from(&package.owner);
        config.repository.clone_from(&package.repository);
        let client = release_source(&config, settings.proxy, token)?;
        let Deb { owner, repository, release, .. } = package;
        let found = client.by_tag(release).await?.ok_or_else(|| {
            let what = format!("{owner}/{repository} has no release {release}");
            DebError::Wrong(format!("{what}; correct artifacts.toml"))
        })?;
        let name = package.name.as_str();
        let asset = found.assets.iter().find(|asset| is_package_of(&asset.name, name));
        let asset = asset.ok_or_else(|| {
            let release = format!("release {release} of {owner}/{repository}");
            DebError::Wrong(format!("{release} has no package of {name}"))
        })?;
        let wanted = wanted(package, asset)?;
        let path = self.cache.join(format!("{name}_{release}.deb"));
        let limits = Limits { attempts: TRIES, stall: self.config.timeout, ..Limits::default() };
        download(&client, asset, Some(&wanted), &path, &limits, progress).await?;
        Ok(path)
    }
}

/// Which bits a package must have: those that the version pins, else those that the release claims.
fn wanted(package: &Deb, asset: &Asset) -> Result<PackageRef, DebError> {
    let sha256 = package.sha256.clone().or_else(|| asset.sha256.clone()).ok_or_else(|| {
        DebError::Wrong(format!(
            "neither artifacts.toml nor its release says what {} must be; write its sha256 down",
            asset.name
        ))
    })?;
    Ok(PackageRef {
        file: asset.name.clone(),
        size: asset.size,
        sha256,
        unknown: serde_json::Map::new(),
    })
}

#[async_trait]
impl Debs for ReleasedDebs {
    async fn is_installed(&self, name: &str) -> Result<bool, DebError> {
        Ok(self.dpkg.is_installed(name).await?)
    }

    async fn fetch(
        &self,
        package: &Deb,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<PathBuf, DebError> {
        self.fetched(package, progress).await
    }

    async fn install(&self, package: &Deb, file: &Path) -> Result<(), DebError> {
        Ok(self.dpkg.install_other(package.name.as_str(), file).await?)
    }
}

/// Packages of a sandbox: what would be installed is noted, and has the units that components say come with it.
#[derive(Debug)]
pub struct SandboxDebs {
    root: Root,
    units: BTreeMap<Name, Vec<String>>,
}

impl SandboxDebs {
    const NOTES: &str = "/var/lib/neco/sandbox-debs";
    const UNITS: &str = "/usr/lib/systemd/system";
    const UNIT: &str = "[Service]\nExecStart=/bin/true\nExecReload=/bin/true\n[Install]\nWantedBy=multi-user.target\n";

    /// Notes below `root`.
    pub fn new(root: Root) -> Self {
        Self { root, units: BTreeMap::new() }
    }

    /// The same, where a package brings the units of the recipe's components that it is for.
    #[must_use]
    pub fn bringing_units_of(mut self, recipe: &Recipe) -> Self {
        for component in recipe.components() {
            let Some(package) = &component.package else { continue };
            let brought = component.units.iter().filter(|unit| unit.template.is_none());
            let units = self.units.entry(package.name.clone()).or_default();
            units.extend(brought.map(|unit| unit.name.clone()));
        }
        self
    }

    fn note(&self, name: &str) -> PathBuf {
        self.root.join(Self::NOTES).join(name)
    }
}

#[async_trait]
impl Debs for SandboxDebs {
    async fn is_installed(&self, name: &str) -> Result<bool, DebError> {
        Ok(self.note(name).exists())
    }

    async fn fetch(
        &self,
        package: &Deb,
        _progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<PathBuf, DebError> {
        // There is no file: what would be installed is the note.
        Ok(self.note(package.name.as_str()))
    }

    async fn install(&self, package: &Deb, _file: &Path) -> Result<(), DebError> {
        let note = self.note(package.name.as_str());
        let write = || {
            let units = self.root.join(Self::UNITS);
            for unit in self.units.get(&package.name).into_iter().flatten() {
                std::fs::create_dir_all(&units)?;
                std::fs::write(units.join(unit), Self::UNIT)?;
            }
            std::fs::create_dir_all(self.root.join(Self::NOTES))?;
            std::fs::write(&note, &package.release)
        };
        Ok(write().map_err(|error| FileError::new("writing", &note, error))?)
    }
}
