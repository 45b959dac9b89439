//! Asks OCI registries: tags, manifests, and images as archives that are streamed.
//!
//! [`Registries`] is the client. [`Registries::tags`] lists what a repository has, [`Registries::image`] resolves a name to an
//! [`Image`], which stays the same whatever happens to its tag, and [`Image::archive`] is that image as `docker load` takes it:
//! a stream whose length is known before its first byte, so that it can be the body of a request. There is no temporary file,
//! and memory does not grow with the image. Every blob is digested on its way; one that is wrong ends the stream with an error
//! before the end of the archive. A connection that breaks is resumed within the stream.
//!
//! Who Neco is to a registry is said by [`Credentials`], which the caller joins with whatever keeps logins.
//!
//! Registries on this machine's loopback are asked over plain http and without a proxy, all others over https.
//!
//! - `testing` (feature `testing`) has a registry in memory that speaks the real protocol, with faults on order.
//! - `contract`, behind the same feature, is the suite that it and the real registry pass.
//!
//! # Why not the crate `oci-client`
//!
//! `oci-client` 0.18 pulls and pushes well, but it builds its own HTTP client, and what is needed here lies there: it follows
//! redirects by itself, asks for a next page of tags by the last name only (the `Link` header of a page, which may hold more
//! than that, is dropped), reads manifests, lists and refusals of any size into memory, drops `Retry-After`, keeps the first
//! outcome of a login for as long as it lives and does not renew a token that ends, sends logins to wherever the registry says,
//! also over plain http, and does not digest what it resumes. The types of manifests are those of `oci-spec`, challenges are
//! read by `http-auth`, headers of archives are made by `tar`.

mod archive;
mod blob;
mod body;
mod client;
#[cfg(any(test, feature = "testing"))]
pub mod contract;
mod credentials;
mod deadline;
mod digest;
mod error;
mod host;
mod manifest;
mod name;
mod options;
mod platform;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod token;

pub use archive::{Archive, ArchiveStream, ArchiveSum};
pub use blob::BlobStream;
pub use client::{Image, Registries};
pub use credentials::{Anonymous, Credentials, Login};
pub use digest::{Digest, DigestError};
pub use error::RegistryError;
pub use manifest::{Layer, Packing};
pub use name::{ImageName, NameError, Repository};
pub use options::Options;
pub use reqwest::Url;
