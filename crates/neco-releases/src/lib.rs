//! Finds, resolves and downloads GitHub releases; can serve a directory the same way.
//!
//! - [`version_of_tag`] and [`select`] say which of many releases an environment follows, [`ReleaseWindows`] when it
//!   may be installed: pure.
//! - [`ReleaseSource`] is where the engines get releases from; [`GithubClient`] is the real one.
//! - [`download`] brings a file here, whole and right or not at all.
//! - `mirror` (feature `mirror`) publishes: a directory of packages over the same API, signing keys, signatures.
//! - `testing` (feature `testing`) has the fake source and the faults of a mirror.

mod client;
mod download;
mod error;
#[cfg(feature = "mirror")]
pub mod mirror;
mod part;
mod release;
pub mod select;
mod source;
mod tag;
#[cfg(feature = "testing")]
pub mod testing;
mod transport;
mod window;

use std::time::Duration;

use neco_base::Backoff;

pub use client::{GithubClient, Options, Stats};
pub use download::{Downloaded, Limits, Progress, download, read, resolve};
pub use error::ReleaseError;
pub use release::{Asset, ListedRelease, Release, SignatureAsset, is_package_of};
pub use reqwest::Url;
pub use select::TEST_VERSION;
pub use source::ReleaseSource;
pub use tag::{TagError, tag_prefix, version_of_tag};
pub use window::{Problem, ReleaseWindows, WindowError, WindowState};

/// How long to wait between tries unless told otherwise.
const BETWEEN_TRIES: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(15));
