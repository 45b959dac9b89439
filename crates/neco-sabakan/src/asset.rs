//! Assets: files that machines fetch when they boot (external-apis §1.5).

use std::collections::BTreeMap;

use neco_schema::Timestamp;
use serde::{Deserialize, Serialize};

use crate::wire::null_as_default;
use crate::{AssetName, Content, ContentDigest};

/// What sabakan knows of an asset (external-apis §1.5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AssetMeta {
    /// Its name.
    pub name: AssetName,
    /// The number of its content: each upload has a new one. A number in a text.
    #[serde(default)]
    pub id: String,
    /// Its media type.
    #[serde(default)]
    pub content_type: String,
    /// When it was uploaded.
    #[serde(default)]
    pub date: Timestamp,
    /// How many bytes it has.
    #[serde(default)]
    pub size: u64,
    /// Their digest.
    pub sha256: ContentDigest,
    /// Who has a copy.
    #[serde(default, deserialize_with = "null_as_default")]
    pub urls: Vec<String>,
    /// Whether the server that was asked has one.
    #[serde(default)]
    pub exists: bool,
    /// What the uploader noted; keys are in lower case.
    #[serde(default, deserialize_with = "null_as_default")]
    pub options: BTreeMap<String, String>,
}

/// An asset to be uploaded (external-apis §1.5).
#[derive(Clone, Debug)]
pub struct AssetUpload {
    /// The bytes.
    pub content: Content,
    /// Their media type.
    pub content_type: String,
    /// Notes, by key in lower case.
    pub options: BTreeMap<String, String>,
}

impl AssetUpload {
    /// The most bytes that sabakan takes (external-apis §1.5).
    pub const MAX: u64 = 4 << 30;

    /// An upload of `content`, whose media type is told from nothing.
    pub fn new(content: Content) -> Self {
        Self {
            content,
            content_type: "application/octet-stream".to_owned(),
            options: BTreeMap::new(),
        }
    }

    /// The same with this media type.
    #[must_use]
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = content_type.into();
        self
    }
}

/// An asset that was uploaded (external-apis §1.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadedAsset {
    /// The number of its content.
    pub id: String,
    /// Whether there was one of that name before.
    pub replaced: bool,
    /// The digest of what was sent.
    pub sha256: ContentDigest,
}
