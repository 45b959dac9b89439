//! Carries an image from a registry into sabakan as a worker does, in a process of its own.

use std::sync::Arc;
use std::time::Instant;

use neco_process::exit::{ExitCode, Failure};
use neco_runtime::{DockerConfig, Logins};
use neco_sabakan::{AssetName, AssetUpload, Options, Sabakan as _, SabakanClient};
use neco_store::{EtcdStore, Store};
use neco_worker::{Internet, Outside};
use serde::{Deserialize, Serialize};

use crate::part::{say, wait_to_begin};

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Uploaded {
    /// How long it took.
    pub(super) seconds: f64,
    /// How many bytes the archive of the image has.
    pub(super) size: u64,
}

/// Carries `image` to the sabakan at `sabakan`, as `asset`, with the settings in `etcd`.
///
/// # Errors
/// It cannot be had, or sabakan does not take it.
pub(crate) async fn upload(
    etcd: &str,
    image: &str,
    sabakan: &str,
    asset: &str,
) -> Result<ExitCode, Failure> {
    neco_process::crypto::install_crypto_provider();
    let store: Arc<dyn Store> =
        Arc::new(EtcdStore::connect(neco_store::Options::new([etcd])).await?);
    // A connection is there before it is measured, as it is in a worker.
    store.read(&[], None).await?;
    let logins: Arc<dyn Logins> = Arc::new(DockerConfig::new("/nonexistent/config.json"));
    let internet = Internet::new(store, logins);
    let options = Options::new(sabakan.parse()?, "neco-bench");
    let sabakan = SabakanClient::new(&options)?;
    let asset = AssetName::new(asset)?;

    wait_to_begin()?;
    let began = Instant::now();
    if sabakan.asset(&asset).await?.is_some() {
        return Err(anyhow::anyhow!("{asset} was there already").into());
    }
    let content = internet.image(image).await?;
    let size = content.length();
    let upload = AssetUpload::new(content).content_type("application/x-tar");
    sabakan.upload_asset(&asset, &upload, &|_| {}).await?;
    let seconds = began.elapsed().as_secs_f64();
    say(&serde_json::to_string(&Uploaded { seconds, size })?)?;
    Ok(ExitCode::Done)
}
