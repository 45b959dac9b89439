//! A source of releases in memory, for tests of those who use one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use neco_schema::{Environment, NecoVersion, PackageRef};
use reqwest::Url;

use crate::download::{Downloaded, Limits, Progress};
use crate::error::ReleaseError;
use crate::part::sha256_of;
use crate::release::{Asset, ListedRelease, Release};
use crate::select;
use crate::source::ReleaseSource;

/// Releases that exist only in memory, chosen by the same rules as real ones.
#[derive(Debug, Default)]
pub struct FakeReleases {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    releases: Vec<ListedRelease>,
    content: BTreeMap<Url, Vec<u8>>,
    trouble: Option<fn() -> ReleaseError>,
    asked: u32,
}

impl FakeReleases {
    /// No releases.
    pub fn new() -> Self {
        Self::default()
    }

    /// Publishes a release with these files under `tag`, in place of what was there.
    pub fn publish(&self, tag: &str, files: &[(&str, &[u8])]) {
        let mut inner = self.lock();
        let assets = files.iter().map(|(name, content)| {
            let url = format!("https://fake.invalid/{tag}/{name}");
            let url: Url = url.parse().expect("tags and file names of tests make URLs");
            inner.content.insert(url.clone(), content.to_vec());
            Asset {
                name: (*name).to_owned(),
                url,
                size: content.len() as u64,
                sha256: Some(sha256_of(content)),
            }
        });
        let assets = assets.collect();
        inner.releases.retain(|release| release.tag != tag);
        inner.releases.insert(
            0,
            ListedRelease {
                tag: tag.to_owned(),
                draft: false,
                prerelease: false,
                published_at: None,
                assets,
            },
        );
    }

    /// Removes a release.
    pub fn remove(&self, tag: &str) {
        self.lock().releases.retain(|release| release.tag != tag);
    }

    /// Changes what the release `tag` says about itself.
    pub fn edit(&self, tag: &str, edit: impl FnOnce(&mut ListedRelease)) {
        let mut inner = self.lock();
        inner.releases.iter_mut().find(|release| release.tag == tag).map(edit);
    }

    /// Whether every question fails as if the server were out of order.
    pub fn set_down(&self, down: bool) {
        fn unavailable() -> ReleaseError {
            ReleaseError::Server { url: "https://fake.invalid/".to_owned(), status: 503 }
        }
        self.set_trouble(down.then_some(unavailable));
    }

    /// What every question fails with, if with anything.
    pub fn set_trouble(&self, trouble: Option<fn() -> ReleaseError>) {
        self.lock().trouble = trouble;
    }

    /// How often a version was asked for.
    pub fn asked(&self) -> u32 {
        self.lock().asked
    }

    fn up(&self) -> Result<MutexGuard<'_, Inner>, ReleaseError> {
        let inner = self.lock();
        match inner.trouble {
            Some(trouble) => Err(trouble()),
            None => Ok(inner),
        }
    }

    fn bytes(&self, asset: &Asset) -> Result<Vec<u8>, ReleaseError> {
        let inner = self.up()?;
        let offered = inner
            .releases
            .iter()
            .any(|release| release.assets.iter().any(|there| there.url == asset.url));
        let content = inner.content.get(&asset.url).filter(|_| offered).cloned();
        content.ok_or_else(|| ReleaseError::Gone { url: asset.url.to_string(), status: 404 })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ReleaseSource for FakeReleases {
    async fn newest(&self, env: Environment) -> Result<Option<Release>, ReleaseError> {
        if env == Environment::None {
            return Ok(None);
        }
        Ok(select::newest(env, &self.up()?.releases).release)
    }

    async fn by_version(
        &self,
        env: Environment,
        version: &NecoVersion,
    ) -> Result<Option<Release>, ReleaseError> {
        let tag = env.tag(version);
        let mut inner = self.up()?;
        inner.asked += 1;
        let found = inner.releases.iter().find(|release| release.tag == tag && !release.draft);
        Ok(found.map(|release| Release::new(version.clone(), release.clone())))
    }

    async fn resolve(&self, release: &Release, name: &str) -> Result<PackageRef, ReleaseError> {
        drop(self.up()?);
        let package = release.package(name).and_then(Asset::package_ref);
        package.ok_or_else(|| ReleaseError::NoPackage {
            tag: release.tag.clone(),
            name: name.to_owned(),
        })
    }

    async fn fetch(
        &self,
        asset: &Asset,
        expected: Option<&PackageRef>,
        dest: &Path,
        _: &Limits,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Downloaded, ReleaseError> {
        let content = self.bytes(asset)?;
        let (size, sha256) = (content.len() as u64, sha256_of(&content));
        if let Some(package) = expected.filter(|package| package.sha256 != sha256) {
            return Err(ReleaseError::Replaced {
                file: asset.name.clone(),
                what: "SHA-256",
                expected: package.sha256.clone(),
                found: sha256,
            });
        }
        std::fs::write(dest, content).map_err(|source| ReleaseError::Io {
            action: "writing",
            path: dest.to_owned(),
            source,
        })?;
        progress(Progress { done: size, total: Some(size) });
        Ok(Downloaded { path: dest.to_owned(), size, sha256, transferred: size })
    }

    async fn read(&self, asset: &Asset, limit: u64) -> Result<Vec<u8>, ReleaseError> {
        let content = self.bytes(asset)?;
        if content.len() as u64 > limit {
            let url = asset.url.to_string();
            return Err(ReleaseError::TooLarge { url, limit, announced: false });
        }
        Ok(content)
    }
}
