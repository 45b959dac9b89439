//! What the stand-in knows.

use std::collections::BTreeMap;

use neco_schema::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{AssetMeta, ContentDigest, DhcpConfig, IpamConfig, Machine, OsImage};

/// Everything, as it is written to a file too.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Model {
    pub(super) machines: BTreeMap<String, Machine>,
    /// Disk keys by serial and path, as text.
    pub(super) crypts: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    pub(super) ipam: Option<IpamConfig>,
    pub(super) dhcp: Option<DhcpConfig>,
    /// By operating system.
    pub(super) kernel_params: BTreeMap<String, String>,
    /// The newest at the end.
    pub(super) images: Vec<StoredImage>,
    /// The newest at the end.
    pub(super) deleted_images: Vec<String>,
    pub(super) last_asset_id: u64,
    pub(super) assets: BTreeMap<String, AssetMeta>,
    /// By role and id.
    pub(super) ignitions: BTreeMap<String, BTreeMap<String, Value>>,
}

/// An OS image with what is compared.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct StoredImage {
    pub(super) index: OsImage,
    /// Of the two files in it.
    pub(super) members: ContentDigest,
    /// Of the archive.
    pub(super) archive: ContentDigest,
}

impl Model {
    /// How many ids of deleted images are remembered.
    const DELETED: usize = 10;

    pub(super) fn forget_image(&mut self, id: &str) {
        self.images.retain(|image| image.index.id.as_str() != id);
        self.deleted_images.push(id.to_owned());
        let over = self.deleted_images.len().saturating_sub(Self::DELETED);
        self.deleted_images.drain(..over);
    }
}

pub(super) fn now() -> Timestamp {
    let now = jiff::Timestamp::now();
    Timestamp::new(now).unwrap_or_default()
}
