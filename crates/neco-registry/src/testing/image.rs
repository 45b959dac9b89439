//! Images to push.

use bytes::Bytes;
use serde_json::json;

use super::Content;
use crate::digest::Digest;
use crate::manifest::Packing;

/// By which of the two descriptions of the same thing an image is described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Docker's image manifest version 2, schema 2.
    Docker,
    /// The Open Container Initiative's.
    Oci,
}

impl Kind {
    /// The media type of a manifest.
    pub fn manifest(self) -> &'static str {
        match self {
            Self::Docker => "application/vnd.docker.distribution.manifest.v2+json",
            Self::Oci => "application/vnd.oci.image.manifest.v1+json",
        }
    }

    /// The media type of an index of manifests.
    pub fn index(self) -> &'static str {
        match self {
            Self::Docker => "application/vnd.docker.distribution.manifest.list.v2+json",
            Self::Oci => "application/vnd.oci.image.index.v1+json",
        }
    }

    fn configuration(self) -> &'static str {
        match self {
            Self::Docker => "application/vnd.docker.container.image.v1+json",
            Self::Oci => "application/vnd.oci.image.config.v1+json",
        }
    }

    fn layer(self, packing: Packing) -> &'static str {
        match (self, packing) {
            (Self::Docker, Packing::Plain) => "application/vnd.docker.image.rootfs.diff.tar",
            (Self::Docker, Packing::Gzip) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            (Self::Oci, Packing::Plain) => "application/vnd.oci.image.layer.v1.tar",
            (Self::Oci, Packing::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
        }
    }
}

/// A layer of a [`TestImage`].
#[derive(Clone)]
pub struct TestLayer {
    /// How it is said to be packed.
    pub packing: Packing,
    /// What lies in the registry.
    pub content: Content,
    /// The digest of what it is when it is unpacked.
    pub diff_id: Digest,
}

impl TestLayer {
    /// A layer that is not compressed.
    pub fn plain(content: Content) -> Self {
        let diff_id = content.digest();
        Self { packing: Packing::Plain, content, diff_id }
    }

    /// A layer that is said to be compressed, and need not be: nobody here looks into it.
    pub fn gzip(content: Content) -> Self {
        let diff_id = Digest::of(content.digest().hex().as_bytes());
        Self { packing: Packing::Gzip, content, diff_id }
    }
}

/// An image to push.
#[derive(Clone)]
pub struct TestImage {
    kind: Kind,
    layers: Vec<TestLayer>,
    configuration: Content,
}

impl TestImage {
    /// An image for linux/amd64.
    pub fn new(kind: Kind, layers: Vec<TestLayer>) -> Self {
        Self::for_platform(kind, "linux", "amd64", layers)
    }

    /// An image for another platform.
    pub fn for_platform(kind: Kind, os: &str, architecture: &str, layers: Vec<TestLayer>) -> Self {
        let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
        let configuration = json!({
            "architecture": architecture,
            "os": os,
            "created": "1970-01-01T00:00:00Z",
            "config": { "Cmd": ["sh"] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        Self { kind, layers, configuration: Content::of(configuration.to_string()) }
    }

    /// The same image with another configuration.
    #[must_use]
    pub fn with_configuration(self, text: impl Into<Bytes>) -> Self {
        Self { configuration: Content::of(text), ..self }
    }

    /// How it is described.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What Docker calls its id.
    pub fn id(&self) -> Digest {
        self.configuration.digest()
    }

    /// Everything of it that is a blob.
    pub fn blobs(&self) -> Vec<Content> {
        let layers = self.layers.iter().map(|layer| layer.content.clone());
        layers.chain([self.configuration.clone()]).collect()
    }

    /// Its manifest.
    pub fn manifest(&self) -> Bytes {
        let part = |kind: &str, content: &Content| {
            json!({
                "mediaType": kind,
                "size": content.size(),
                "digest": content.digest().to_string(),
            })
        };
        let layers: Vec<_> = self
            .layers
            .iter()
            .map(|layer| part(self.kind.layer(layer.packing), &layer.content))
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": self.kind.manifest(),
            "config": part(self.kind.configuration(), &self.configuration),
            "layers": layers,
        });
        manifest.to_string().into()
    }
}

/// An index of images: for which system and processor each one is.
pub fn index(kind: Kind, images: &[(&str, &str, &TestImage)]) -> Bytes {
    let entries: Vec<_> = images
        .iter()
        .map(|(os, architecture, image)| {
            let manifest = image.manifest();
            json!({
                "mediaType": image.kind.manifest(),
                "size": manifest.len(),
                "digest": Digest::of(&manifest).to_string(),
                "platform": { "os": os, "architecture": architecture },
            })
        })
        .collect();
    json!({ "schemaVersion": 2, "mediaType": kind.index(), "manifests": entries })
        .to_string()
        .into()
}
