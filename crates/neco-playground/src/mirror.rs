//! The side that publishes: a key, signed packages, a mirror that serves them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use neco_releases::mirror::faults::Faults;
use neco_releases::mirror::sign::{Protection, SigningKey, generate_key, sign};
use neco_releases::mirror::{Mirror, NewRelease, ServeOptions, add, serve};
use neco_schema::{Environment, NecoVersion};
use tokio::net::TcpListener;

use crate::SiteError;
use crate::flawed::{Flaw, Keys, make};
use crate::packages::Package;

/// A publisher with a mirror on loopback.
#[derive(Debug)]
pub(crate) struct Publisher {
    key: Arc<SigningKey>,
    public_key: PathBuf,
    other_key: Arc<SigningKey>,
    other_public_key: PathBuf,
    workshop: PathBuf,
    releases: PathBuf,
    home: Host,
    elsewhere: Host,
}

/// A host that serves the releases: what goes wrong with it, and what it was asked.
#[derive(Debug)]
pub struct Host {
    url: String,
    faults: Faults,
    mirror: Mirror,
}

impl Host {
    /// Serves `releases` on a free port of the loopback device.
    async fn serve(releases: &Path) -> Result<Self, SiteError> {
        let loopback = "127.0.0.1:0";
        let listener =
            TcpListener::bind(loopback).await.map_err(SiteError::io("listening on", loopback))?;
        let faults = Faults::default();
        let options = ServeOptions { faults: Some(faults.clone()), ..ServeOptions::default() };
        let mirror =
            serve(releases, listener, options).map_err(SiteError::io("serving", releases))?;
        Ok(Self { url: mirror.api_url().to_string(), faults, mirror })
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What goes wrong with it, on order, and the record of what it was asked.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }
}

impl Publisher {
    /// Makes a key, and serves a mirror without releases.
    pub(crate) async fn start(dir: &Path) -> Result<Self, SiteError> {
        let (workshop, releases) = (dir.join("workshop"), dir.join("mirror"));
        for made in [&workshop, &releases] {
            std::fs::create_dir_all(made).map_err(SiteError::io("making", made))?;
        }
        let (key, public_key) = new_key(&workshop, "release")?;
        let (other_key, other_public_key) = new_key(&workshop, "other")?;
        let (home, elsewhere) = tokio::try_join!(Host::serve(&releases), Host::serve(&releases))?;
        Ok(Self {
            key,
            public_key,
            other_key,
            other_public_key,
            workshop,
            releases,
            home,
            elsewhere,
        })
    }

    /// Where the daemons find the releases.
    pub(crate) fn api_url(&self) -> String {
        self.home.url.clone()
    }

    /// The same, with what goes wrong there.
    pub(crate) fn home(&self) -> &Host {
        &self.home
    }

    /// Another host with the same releases, which no daemon is told of.
    pub(crate) fn elsewhere(&self) -> &Host {
        &self.elsewhere
    }

    /// The key that servers trust.
    pub(crate) fn public_key(&self) -> &Path {
        &self.public_key
    }

    /// The key that nobody trusts by itself.
    pub(crate) fn other_public_key(&self) -> &Path {
        &self.other_public_key
    }

    /// What is served: a folder for each release, named by its tag.
    pub(crate) fn releases(&self) -> &Path {
        &self.releases
    }

    /// Publishes a package that is not what it should be, past all checks; returns where it is served from.
    pub(crate) async fn publish_flawed(
        &self,
        version: &NecoVersion,
        flaw: Flaw,
    ) -> Result<PathBuf, SiteError> {
        let (trusted, other) = (Arc::clone(&self.key), Arc::clone(&self.other_key));
        let (workshop, releases) = (self.workshop.clone(), self.releases.clone());
        let version = version.clone();
        let work = move || {
            let keys = Keys { trusted: &trusted, other: &other };
            // What begins with a dot is not served.
            let hidden = releases.join(format!(".flawed-{version}"));
            std::fs::create_dir(&hidden).map_err(SiteError::io("making", &hidden))?;
            for file in make(&workshop, &version, flaw, &keys)? {
                let copy = hidden.join(file.file_name().unwrap_or_default());
                std::fs::rename(&file, &copy).map_err(SiteError::io("moving", &file))?;
            }
            let folder = releases.join(Environment::Prod.tag(&version));
            std::fs::rename(&hidden, &folder).map_err(SiteError::io("publishing", &folder))?;
            Ok(folder.join(format!("neco_{version}_amd64.deb")))
        };
        tokio::task::spawn_blocking(work).await?
    }

    /// Signs a package and publishes it; returns where the signed package lies.
    pub(crate) async fn publish(&self, package: &Package) -> Result<PathBuf, SiteError> {
        let (key, package) = (Arc::clone(&self.key), package.clone());
        let (workshop, releases) = (self.workshop.clone(), self.releases.clone());
        let work = move || {
            // A copy: the packages may be somebody else's, and the signature goes beside it.
            let deb = workshop.join(package.path.file_name().unwrap_or_default());
            std::fs::copy(&package.path, &deb).map_err(SiteError::io("copying", &package.path))?;
            sign(&deb, &key, &package.version)?;
            add(&releases, &deb, &NewRelease::default())?;
            Ok(deb)
        };
        tokio::task::spawn_blocking(work).await?
    }

    pub(crate) async fn stop(self) {
        tokio::join!(self.home.mirror.stop(), self.elsewhere.mirror.stop());
    }
}

/// Makes a pair of keys in `workshop`; gives the secret one and where the public one lies.
fn new_key(workshop: &Path, name: &str) -> Result<(Arc<SigningKey>, PathBuf), SiteError> {
    let (secret, public) =
        (workshop.join(format!("{name}.key")), workshop.join(format!("{name}.pub")));
    generate_key(&secret, &public, &Protection::Unencrypted)?;
    Ok((Arc::new(SigningKey::load(&secret, None)?), public))
}
