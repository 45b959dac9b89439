//! Where releases come from, as the engines see it.

use std::path::Path;

use async_trait::async_trait;
use neco_schema::{Environment, NecoVersion, PackageRef};

use crate::client::GithubClient;
use crate::download::{Downloaded, Limits, Progress, download, read, resolve};
use crate::error::ReleaseError;
use crate::release::{Asset, Release};

/// A repository of releases.
#[async_trait]
pub trait ReleaseSource: Send + Sync {
    /// The newest release of an environment; `None` while there is none, and always for `none`.
    async fn newest(&self, env: Environment) -> Result<Option<Release>, ReleaseError>;

    /// What was odd about the releases that the last choice of [`newest`](Self::newest) passed over, in words.
    fn remark(&self) -> Option<String> {
        None
    }

    /// The release of an environment that holds exactly `version`.
    async fn by_version(
        &self,
        env: Environment,
        version: &NecoVersion,
    ) -> Result<Option<Release>, ReleaseError>;

    /// Which bits the package `name` of a release is: from the API where it names a digest, else by reading it.
    async fn resolve(&self, release: &Release, name: &str) -> Result<PackageRef, ReleaseError>;

    /// Downloads a file to `dest`; see [`download`].
    async fn fetch(
        &self,
        asset: &Asset,
        expected: Option<&PackageRef>,
        dest: &Path,
        limits: &Limits,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Downloaded, ReleaseError>;

    /// Reads a small file, such as a signature, of at most `limit` bytes.
    async fn read(&self, asset: &Asset, limit: u64) -> Result<Vec<u8>, ReleaseError>;
}

#[async_trait]
impl ReleaseSource for GithubClient {
    async fn newest(&self, env: Environment) -> Result<Option<Release>, ReleaseError> {
        self.choose(env).await
    }

    fn remark(&self) -> Option<String> {
        self.remarked()
    }

    async fn by_version(
        &self,
        env: Environment,
        version: &NecoVersion,
    ) -> Result<Option<Release>, ReleaseError> {
        self.choose_version(env, version).await
    }

    async fn resolve(&self, release: &Release, name: &str) -> Result<PackageRef, ReleaseError> {
        let limits = Limits { stall: self.options().request_timeout, ..Limits::default() };
        resolve(self, release, name, &limits).await
    }

    async fn fetch(
        &self,
        asset: &Asset,
        expected: Option<&PackageRef>,
        dest: &Path,
        limits: &Limits,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Downloaded, ReleaseError> {
        download(self, asset, expected, dest, limits, progress).await
    }

    async fn read(&self, asset: &Asset, limit: u64) -> Result<Vec<u8>, ReleaseError> {
        read(self, asset, limit).await
    }
}
