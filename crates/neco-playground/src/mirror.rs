//! The side that publishes: a key, signed packages, a mirror that serves them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use neco_releases::mirror::sign::{Protection, SigningKey, generate_key, sign};
use neco_releases::mirror::{Mirror, NewRelease, ServeOptions, add, serve};
use tokio::net::TcpListener;

use crate::SiteError;
use crate::packages::Package;

/// A publisher with a mirror on loopback.
#[derive(Debug)]
pub(crate) struct Publisher {
    key: Arc<SigningKey>,
    public_key: PathBuf,
    workshop: PathBuf,
    releases: PathBuf,
    mirror: Mirror,
}

impl Publisher {
    /// Makes a key, and serves a mirror without releases.
    pub(crate) async fn start(dir: &Path) -> Result<Self, SiteError> {
        let (workshop, releases) = (dir.join("workshop"), dir.join("mirror"));
        for made in [&workshop, &releases] {
            std::fs::create_dir_all(made).map_err(SiteError::io("making", made))?;
        }
        let (secret, public_key) = (workshop.join("release.key"), workshop.join("release.pub"));
        generate_key(&secret, &public_key, &Protection::Unencrypted)?;
        let key = Arc::new(SigningKey::load(&secret, None)?);
        let loopback = "127.0.0.1:0";
        let listener =
            TcpListener::bind(loopback).await.map_err(SiteError::io("listening on", loopback))?;
        let mirror = serve(&releases, listener, ServeOptions::default())
            .map_err(SiteError::io("serving", &releases))?;
        Ok(Self { key, public_key, workshop, releases, mirror })
    }

    /// Where the daemons find the releases.
    pub(crate) fn api_url(&self) -> String {
        self.mirror.api_url().to_string()
    }

    /// The key that servers trust.
    pub(crate) fn public_key(&self) -> &Path {
        &self.public_key
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
        self.mirror.stop().await;
    }
}
