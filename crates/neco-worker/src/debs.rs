//! Debian packages beside Neco's own, from releases on GitHub.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use neco_components::{Deb, Name, Recipe};
use neco_connect::{one_line, release_source};
use neco_host::{Dpkg, Root};
use neco_plan::View;
use neco_process::config::ReleaseConfig;
use neco_releases::{Asset, Limits, download, is_package_of};
use neco_schema::{PackageRef, Range, prefixes};
use neco_store::Store;

/// Installs Debian packages that components name.
#[async_trait]
pub trait Debs: Send + Sync {
    /// Whether the package `name` is completely installed, in whatever version.
    ///
    /// # Errors
    /// It cannot be told, in words.
    async fn is_installed(&self, name: &str) -> Result<bool, String>;

    /// Fetches the package of a release, sees that it is what it should be, and installs it.
    ///
    /// # Errors
    /// What failed, in words.
    async fn install(&self, package: &Deb) -> Result<(), String>;
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
    async fn fetch(&self, package: &Deb) -> Result<PathBuf, String> {
        let settings = self.store.read(&[Range::Prefix(prefixes::CONFIG.to_owned())], None).await;
        let settings = settings.map_err(|error| one_line(&error))?;
        let settings = neco_connect::Settings::read(&View::assemble(&settings).config);
        let token = neco_connect::github_token(&*self.store).await;
        let token = token.map_err(|error| one_line(&error))?;
        let mut config = self.config.clone();
        config.owner.clone_from(&package.owner);
        config.repository.clone_from(&package.repository);
        let client = release_source(&config, settings.proxy, token);
        let client = client.map_err(|error| one_line(&error))?;
        let Deb { owner, repository, release, .. } = package;
        let found = client.by_tag(release).await.map_err(|error| one_line(&error))?;
        let found = found.ok_or_else(|| {
            format!("{owner}/{repository} has no release {release}; correct artifacts.toml")
        })?;
        let name = package.name.as_str();
        let asset = found.assets.iter().find(|asset| is_package_of(&asset.name, name));
        let asset = asset.ok_or_else(|| {
            format!("release {release} of {owner}/{repository} has no package of {name}")
        })?;
        let wanted = wanted(package, asset)?;
        let path = self.cache.join(format!("{name}_{release}.deb"));
        let limits = Limits { attempts: TRIES, stall: self.config.timeout, ..Limits::default() };
        download(&client, asset, Some(&wanted), &path, &limits, &|_| ())
            .await
            .map_err(|error| one_line(&error))?;
        Ok(path)
    }
}

/// Which bits a package must have: those that the version pins, else those that the release claims.
fn wanted(package: &Deb, asset: &Asset) -> Result<PackageRef, String> {
    let sha256 = package.sha256.clone().or_else(|| asset.sha256.clone()).ok_or_else(|| {
        format!(
            "neither artifacts.toml nor its release says what {} must be; write its sha256 down",
            asset.name
        )
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
    async fn is_installed(&self, name: &str) -> Result<bool, String> {
        self.dpkg.is_installed(name).await.map_err(|error| one_line(&error))
    }

    async fn install(&self, package: &Deb) -> Result<(), String> {
        let path = self.fetch(package).await?;
        let installed = self.dpkg.install_other(package.name.as_str(), &path).await;
        installed.map_err(|error| one_line(&error))
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
    async fn is_installed(&self, name: &str) -> Result<bool, String> {
        Ok(self.note(name).exists())
    }

    async fn install(&self, package: &Deb) -> Result<(), String> {
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
        write().map_err(|error| format!("writing {}: {error}", note.display()))
    }
}
