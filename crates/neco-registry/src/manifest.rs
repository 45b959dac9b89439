//! What registries say an image is made of.

use std::fmt;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use serde::Deserialize;

use crate::digest::Digest;
use crate::platform::OURS;

/// The largest manifest or configuration; registries take none above 4 MiB.
pub(crate) const LIMIT: u64 = 4 << 20;

/// The kinds of manifests that are understood, as they are asked for.
pub(crate) const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// A manifest of one of the kinds that are understood.
pub(crate) enum Manifest {
    Index(Box<ImageIndex>),
    Image(Box<ImageManifest>),
}

/// Why something is no manifest.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// Its form is wrong.
    Json(serde_json::Error),
    /// Its kind is not known; which that is.
    Kind(String),
}

/// How a layer is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// A plain tar file.
    Plain,
    /// A tar file, compressed by gzip.
    Gzip,
}

/// A layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The digest of the blob, as it lies in the registry.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// How it is packed.
    pub packing: Packing,
}

impl Manifest {
    /// Reads a manifest, by what it calls itself, else by what the answer that brought it was called.
    pub(crate) fn read(text: &[u8], content_type: Option<&str>) -> Result<Self, Unreadable> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Head {
            schema_version: Option<u32>,
            media_type: Option<String>,
        }
        let head: Head = serde_json::from_slice(text).map_err(Unreadable::Json)?;
        let kind = head.media_type.as_deref().or(content_type).unwrap_or_default();
        match kind {
            "application/vnd.oci.image.index.v1+json"
            | "application/vnd.docker.distribution.manifest.list.v2+json" => {
                serde_json::from_slice(text).map(Self::Index).map_err(Unreadable::Json)
            }
            "application/vnd.oci.image.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v2+json" => {
                serde_json::from_slice(text).map(Self::Image).map_err(Unreadable::Json)
            }
            _ if head.schema_version == Some(1) => {
                Err(Unreadable::Kind("a manifest of version 1, which Docker gave up".to_owned()))
            }
            other => Err(Unreadable::Kind(format!("a manifest of kind {other:?}"))),
        }
    }
}

/// The layers of a manifest; else what is odd about one, as the end of a sentence.
pub(crate) fn layers_of(manifest: &ImageManifest) -> Result<Vec<Layer>, String> {
    let layers = manifest.layers().iter().map(|layer| {
        let kind = layer.media_type().to_string();
        let packing = match kind.as_str() {
            "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.docker.image.rootfs.diff.tar" => Packing::Plain,
            "application/vnd.oci.image.layer.v1.tar+gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip" => Packing::Gzip,
            kind if kind.ends_with("+zstd") || kind.ends_with(".zstd") => {
                return Err("has layers compressed by zstd, which Docker 20.10 cannot load; push it with gzip".to_owned());
            }
            kind => {
                return Err(format!("has layers of kind {kind:?}; choose an image of containers"));
            }
        };
        Ok(Layer { digest: digest_of(layer)?, size: layer.size(), packing })
    });
    layers.collect()
}

/// The digest of the configuration; else what is odd about it, as the end of a sentence.
pub(crate) fn configuration_of(manifest: &ImageManifest) -> Result<Digest, String> {
    let kind = manifest.config().media_type().to_string();
    match kind.as_str() {
        "application/vnd.oci.image.config.v1+json"
        | "application/vnd.docker.container.image.v1+json" => digest_of(manifest.config()),
        kind => Err(format!("has a configuration of kind {kind:?}; choose an image of containers")),
    }
}

/// The digest of what a manifest leads to; else what is odd about it, as the end of a sentence.
pub(crate) fn digest_of(descriptor: &Descriptor) -> Result<Digest, String> {
    let digest = descriptor.digest().to_string();
    digest.parse().map_err(|_| format!("names a part by {digest:?}; push it with SHA-256"))
}

/// What has to be known of a configuration; the rest of it is Docker's business.
#[derive(Deserialize)]
pub(crate) struct Configuration {
    os: Option<String>,
    architecture: Option<String>,
    #[serde(default)]
    rootfs: RootFs,
}

#[derive(Default, Deserialize)]
struct RootFs {
    diff_ids: Option<Vec<String>>,
}

impl Configuration {
    /// How many layers it is for.
    pub(crate) fn layers(&self) -> usize {
        self.rootfs.diff_ids.as_ref().map_or(0, Vec::len)
    }

    /// Whether it is for the machines of a data centre.
    pub(crate) fn is_ours(&self) -> bool {
        self.to_string() == OURS
    }
}

impl fmt::Display for Configuration {
    /// What it is for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
        write!(f, "{}/{}", word(&self.os), word(&self.architecture))
    }
}
