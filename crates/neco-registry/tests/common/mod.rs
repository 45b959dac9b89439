//! A registry in memory with one image, and clients of it.
#![allow(dead_code, unreachable_pub)] // each test file uses its part

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use neco_registry::contract::impatient;
use neco_registry::testing::{Changing, Content, FakeRegistry, Kind, TestImage, TestLayer};
use neco_registry::{Archive, Image, ImageName, Options, Registries, RegistryError};

/// Where the image lies.
pub const PATH: &str = "cybozu/etcd";

/// The size of its one layer.
pub const SIZE: u64 = 1_000_000;

/// A registry with one image.
pub struct Site {
    pub registry: FakeRegistry,
    pub pushed: TestImage,
    pub logins: Changing,
}

impl Site {
    pub async fn new() -> Self {
        let registry = FakeRegistry::start().await.expect("a port");
        let layer = TestLayer::gzip(Content::made(1, SIZE));
        let pushed = TestImage::new(Kind::Docker, vec![layer]);
        registry.push(PATH, "1", &pushed);
        Self { registry, pushed, logins: Changing::default() }
    }

    pub fn name(&self) -> ImageName {
        format!("{}/{PATH}:1", self.registry.host()).parse().expect("a name")
    }

    pub fn options(&self) -> Options {
        Options { credentials: Arc::new(self.logins.clone()), ..impatient() }
    }

    pub fn client(&self) -> Registries {
        Registries::new(self.options()).unwrap_or_else(|error| panic!("{error}"))
    }

    pub async fn image(&self) -> Image {
        self.client().image(&self.name()).await.unwrap_or_else(|error| panic!("{error}"))
    }

    pub async fn archive(&self) -> Archive {
        self.image().await.archive(&self.name()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Which addresses were asked for since the last call, the last part of each.
    pub fn asked(&self) -> Vec<String> {
        let asked = self.registry.faults().take_asked();
        asked
            .iter()
            .map(|asked| asked.uri.rsplit('/').next().unwrap_or_default().to_owned())
            .collect()
    }
}

/// What came of an archive, and what came instead of the rest.
pub async fn read(archive: Archive) -> (Bytes, Option<RegistryError>) {
    let mut stream = archive.into_stream();
    let sum = stream.sum();
    let mut whole = BytesMut::new();
    while let Some(item) = stream.next().await {
        match item {
            Ok(bytes) => whole.extend_from_slice(&bytes),
            Err(error) => {
                assert!(stream.next().await.is_none(), "an error is the last item");
                assert_eq!(sum.get(), None, "what came is no archive");
                return (whole.freeze(), Some(error));
            }
        }
    }
    (whole.freeze(), None)
}

/// What came of an archive that comes whole.
pub async fn read_whole(archive: Archive) -> Bytes {
    let length = archive.length();
    let (bytes, error) = read(archive).await;
    if let Some(error) = error {
        panic!("{error}");
    }
    assert_eq!(bytes.len() as u64, length);
    bytes
}
