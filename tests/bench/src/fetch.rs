//! Fetches a package as a worker does, in a process of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use neco_connect::{ConfiguredSource, Sources, connect};
use neco_host::{PackageCache, Root, Unsigned};
use neco_process::config;
use neco_process::exit::{ExitCode, Failure};
use neco_schema::NecoVersion;
use neco_store::Store;
use neco_worker::install::Fetcher;
use serde::{Deserialize, Serialize};

use crate::part::{say, wait_to_begin};

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Fetched {
    /// How long it took.
    pub(crate) seconds: f64,
    /// How many bytes the package has.
    pub(crate) size: u64,
    /// Its SHA-256 in hex.
    pub(crate) sha256: String,
}

/// Fetches the package of `version` with the configuration and the keys below `root`.
///
/// # Errors
/// It cannot be had.
pub(crate) async fn run(root: &Path, version: &str) -> Result<ExitCode, Failure> {
    neco_process::crypto::install_crypto_provider();
    let version: NecoVersion = version.parse()?;
    let config = config::load(root)?.config;
    let store: Arc<dyn Store> = Arc::new(connect(&config).await?);
    // A connection is there before it is measured, as it is in a worker.
    store.read(&[], None).await?;
    let sources: Arc<dyn Sources> =
        Arc::new(ConfiguredSource::new(config.release.clone(), Arc::clone(&store)));
    let cache = PackageCache::in_dir(config.cache.join("packages"));
    let package = config.release.package.clone();
    let fetcher = Fetcher::new(Root::new(root)?, cache, store, sources, package, Unsigned::Refuse);

    wait_to_begin()?;
    let began = Instant::now();
    let fetched = fetcher.fetch(&version, None, &|_, _| {}).await?;
    let seconds = began.elapsed().as_secs_f64();
    let (size, sha256) = (fetched.size(), fetched.sha256().to_owned());
    say(&serde_json::to_string(&Fetched { seconds, size, sha256 })?)?;
    Ok(ExitCode::Done)
}
