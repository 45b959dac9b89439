//! A mirror on loopback with faults on order, and clients of it.
#![allow(dead_code, unreachable_pub)] // each test file uses its part

use std::path::{Path, PathBuf};
use std::time::Duration;

use neco_base::{Backoff, Secret};
use neco_releases::mirror::faults::Faults;
use neco_releases::mirror::{Mirror, NewRelease, ServeOptions, add, serve};
use neco_releases::{GithubClient, Limits, Options, ReleaseError, ReleaseSource};
use neco_schema::Environment;

pub const TOKEN: &str = "ghp_0123456789";

/// A directory of releases, served.
pub struct Site {
    pub dir: tempfile::TempDir,
    pub faults: Faults,
    pub mirror: Mirror,
}

impl Site {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (faults, mirror) = serve_dir(&dir.path().join("mirror")).await;
        Self { dir, faults, mirror }
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("mirror")
    }

    /// Publishes a package of `size` bytes under `tag`; returns its content.
    pub fn publish(&self, tag: &str, size: usize, new: NewRelease) -> Vec<u8> {
        let version = tag.split_once('-').expect("a tag").1;
        let deb = self.dir.path().join(format!("neco_{version}_amd64.deb"));
        let content = package(size, tag);
        std::fs::write(&deb, &content).expect("written");
        add(&self.path(), &deb, &NewRelease { tag: Some(tag.to_owned()), ..new })
            .unwrap_or_else(|e| panic!("{e}"));
        content
    }

    /// A release with nothing but a folder.
    pub fn folder(&self, tag: &str, json: &str) {
        let folder = self.path().join(tag);
        std::fs::create_dir_all(&folder).expect("created");
        std::fs::write(folder.join("release.json"), json).expect("written");
    }

    pub fn options(&self) -> Options {
        Options { api_url: self.mirror.api_url(), token: Some(Secret::from(TOKEN)), ..impatient() }
    }

    pub fn client(&self) -> GithubClient {
        GithubClient::new(self.options()).unwrap_or_else(|e| panic!("{e}"))
    }
}

/// Serves `dir`, which is created.
pub async fn serve_dir(dir: &Path) -> (Faults, Mirror) {
    std::fs::create_dir_all(dir).expect("created");
    let faults = Faults::default();
    let options = ServeOptions { faults: Some(faults.clone()), ..ServeOptions::default() };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    (faults, serve(dir, listener, options).expect("a mirror"))
}

/// Options that do not wait long for anything that does not come.
pub fn impatient() -> Options {
    Options { backoff: soon(), ..Options::new("cybozu-go", "neco") }
}

pub fn limits() -> Limits {
    Limits { backoff: soon(), attempts: 3, total: Duration::from_secs(60), ..Limits::default() }
}

pub fn soon() -> Backoff {
    Backoff::new(Duration::from_millis(1), Duration::from_millis(2))
}

/// Bytes that pass for a package and repeat nowhere within a block.
pub fn package(size: usize, seed: &str) -> Vec<u8> {
    let mut content = b"!<arch>\n".to_vec();
    let mut state =
        seed.bytes().fold(1_u64, |state, byte| state.wrapping_mul(31) + u64::from(byte));
    while content.len() < size {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        content.extend_from_slice(&state.to_le_bytes());
    }
    content.truncate(size.max(8));
    content
}

pub async fn newest(client: &GithubClient, env: Environment) -> Option<String> {
    let newest = client.newest(env).await.unwrap_or_else(|e| panic!("{e}"));
    newest.map(|release| release.version.to_string())
}

/// The message, after a look at whether it keeps to the rules.
pub fn message(error: &ReleaseError) -> String {
    let text = error.to_string();
    assert!(!text.contains('\n') && !text.contains(TOKEN) && !text.ends_with('.'), "{text}");
    text
}
