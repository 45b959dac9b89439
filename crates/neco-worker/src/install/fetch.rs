//! Bringing a package into the cache, verified.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use neco_connect::{Settings, Sources, one_line};
use neco_host::{
    Expected, FileError, KeysError, PackageCache, Root, TrustedKeys, Unsigned, VerifiedPackage,
    VerifyError, disk_trouble, verify_package,
};
use neco_plan::View;
use neco_releases::{Limits, Release, ReleaseError, ReleaseSource};
use neco_schema::{NecoVersion, PackageRef, Range, prefixes};
use neco_store::Store;

/// No signature file is larger.
const SIGNATURE_BYTES: u64 = 16 << 10;
/// How many tries in a row of one download may bring no byte.
const TRIES: u32 = 3;

/// Brings packages into the cache.
pub struct Fetcher {
    root: Root,
    cache: PackageCache,
    store: Arc<dyn Store>,
    sources: Arc<dyn Sources>,
    package: String,
    unsigned: Unsigned,
    limits: Limits,
}

/// Why a package cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It may be possible later.
    #[error("{0}")]
    Later(String),
    /// There is no release of it, or not yet.
    #[error("no release of {0} is published; publish it again")]
    NotPublished(NecoVersion),
    /// It stays so until somebody changes something.
    #[error("{0}")]
    Never(String),
}

/// Why a package in the cache is not to be installed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotRight {
    /// The trusted keys cannot be read.
    #[error("reading the trusted keys")]
    Keys(#[from] KeysError),
    /// The cache cannot be read.
    #[error("reading the cache")]
    Cache(#[from] FileError),
    /// The package is not what it should be.
    #[error("verifying the package")]
    Package(#[from] VerifyError),
}

impl FetchError {
    /// Whether the same call may succeed later.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Later(_) | Self::NotPublished(_))
    }
}

impl Fetcher {
    /// Fetches `package` from `sources` into `cache`, trusting the keys below `root`.
    pub fn new(
        root: Root,
        cache: PackageCache,
        store: Arc<dyn Store>,
        sources: Arc<dyn Sources>,
        package: String,
        unsigned: Unsigned,
    ) -> Self {
        // Trouble that stays is told soon: whoever asked waits it out.
        let limits = Limits { attempts: TRIES, ..Limits::default() };
        Self { root, cache, store, sources, package, unsigned, limits }
    }

    /// Waits so long for a server that is silent.
    #[must_use]
    pub fn with_patience(mut self, silent: Duration) -> Self {
        self.limits.stall = silent;
        self
    }

    /// The package of `version`: from the cache, or fetched; with exactly the bits of `pinned`, where they are named.
    ///
    /// # Errors
    /// It cannot be had, or it is not what it should be.
    pub async fn fetch(
        &self,
        version: &NecoVersion,
        pinned: Option<&PackageRef>,
        progress: &(dyn Fn(u64, Option<u64>) + Send + Sync),
    ) -> Result<VerifiedPackage, FetchError> {
        let file =
            pinned.map_or_else(|| PackageCache::file_name(version), |package| package.file.clone());
        if let Ok(package) = self.verify(&file, version, pinned).await {
            return Ok(package);
        }
        self.cache.create().map_err(|error| FetchError::Later(one_line(&error)))?;
        let source = self.source().await?;
        let release = self.release(&*source, version).await?;
        let asset = release.package(&self.package).ok_or_else(|| {
            FetchError::Never(format!("release {} has no package of {}", release.tag, self.package))
        })?;
        let tell =
            |progressed: neco_releases::Progress| progress(progressed.done, progressed.total);
        source
            .fetch(asset, pinned, &self.cache.path(&file), &self.limits, &tell)
            .await
            .map_err(|error| classified(&error))?;
        for signature in release.signatures(&asset.name) {
            let bytes = source
                .read(signature.asset, SIGNATURE_BYTES)
                .await
                .map_err(|error| classified(&error))?;
            let suffix = signature.asset.name.strip_prefix(&asset.name).unwrap_or(".minisig");
            // As durable as the package: a power cut during the installation must not take it away.
            let name = format!("{file}{suffix}");
            let path = self.cache.partial_path(&name);
            std::fs::write(&path, bytes).map_err(|error| {
                let remedy = disk_trouble(&error).unwrap_or_default();
                FetchError::Later(format!("writing {}{remedy}: {error}", path.display()))
            })?;
            self.cache.publish(&name).map_err(|error| FetchError::Later(one_line(&error)))?;
        }
        self.verify(&file, version, pinned)
            .await
            .map_err(|error| FetchError::Never(one_line(&error)))
    }

    async fn verify(
        &self,
        file: &str,
        version: &NecoVersion,
        pinned: Option<&PackageRef>,
    ) -> Result<VerifiedPackage, NotRight> {
        verify_cached(&self.root, &self.cache, file, version, pinned, self.unsigned).await
    }

    async fn source(&self) -> Result<Arc<dyn ReleaseSource>, FetchError> {
        let settings = self
            .store
            .read(&[Range::Prefix(prefixes::CONFIG.to_owned())], None)
            .await
            .map(|snapshot| Settings::read(&View::assemble(&snapshot).config))
            .map_err(|error| FetchError::Later(one_line(&error)))?;
        self.sources.source(&settings).await.map_err(FetchError::Later)
    }

    /// The release of `version`: the environment's own, else any whose tag says so. A way back may be of another one.
    async fn release(
        &self,
        source: &dyn ReleaseSource,
        version: &NecoVersion,
    ) -> Result<Release, FetchError> {
        use neco_schema::Environment;
        for env in [Environment::Prod, Environment::Dev] {
            let found =
                source.by_version(env, version).await.map_err(|error| classified(&error))?;
            if let Some(release) = found {
                return Ok(release);
            }
        }
        Err(FetchError::NotPublished(version.clone()))
    }
}

/// A package in the cache, verified with the keys that are trusted now.
pub(crate) async fn verify_cached(
    root: &Root,
    cache: &PackageCache,
    file: &str,
    version: &NecoVersion,
    pinned: Option<&PackageRef>,
    unsigned: Unsigned,
) -> Result<VerifiedPackage, NotRight> {
    let keys = TrustedKeys::load(root)?;
    let path: PathBuf = cache.path(file);
    let signatures = cache.signatures(file)?;
    let expected = Expected::neco(version.clone());
    let expected = pinned.map_or(expected.clone(), |package| expected.pinned(package));
    Ok(verify_package(&path, &signatures, &keys, &expected, unsigned).await?)
}

/// A mirror, a proxy or a token may be mended while the request waits; a release that is another one may not.
fn classified(error: &ReleaseError) -> FetchError {
    let text = one_line(error);
    if error.is_about_the_release() { FetchError::Never(text) } else { FetchError::Later(text) }
}
