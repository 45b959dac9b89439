//! A registry with a large image and a sabakan that takes it, in a process of their own.

use std::path::Path;

use neco_process::exit::{ExitCode, Failure};
use neco_registry::testing::{Content, FakeRegistry, Kind, TestImage, TestLayer};
use neco_sabakan::fake::{FakeSabakan, ServeOptions};
use serde::{Deserialize, Serialize};

use crate::part::say;

/// Where they are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Served {
    /// The full name of the image.
    pub(super) image: String,
    /// The address of its only layer.
    pub(super) layer: String,
    /// The address of sabakan, with a slash at its end.
    pub(super) sabakan: String,
}

/// Serves until standard input ends; sabakan keeps what it takes in `directory`.
///
/// # Errors
/// A port cannot be had.
pub(crate) async fn serve(size: u64, directory: &Path) -> Result<ExitCode, Failure> {
    neco_process::crypto::install_crypto_provider();
    let registry = FakeRegistry::start().await?;
    let layer = Content::made(1, size);
    let digest = layer.digest();
    registry.push("bench/image", "1", &TestImage::new(Kind::Oci, vec![TestLayer::gzip(layer)]));
    let options = ServeOptions { directory: Some(directory.to_owned()), ..ServeOptions::default() };
    let sabakan = FakeSabakan::start(options).await?;
    let host = registry.host();
    let served = Served {
        image: format!("{host}/bench/image:1"),
        layer: format!("http://{host}/v2/bench/image/blobs/{digest}"),
        sabakan: sabakan.url().to_string(),
    };
    say(&serde_json::to_string(&served)?)?;
    let ended =
        tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    ended.await??;
    Ok(ExitCode::Done)
}
