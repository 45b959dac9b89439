//! Downloads files of releases: streamed, hashed on the way, resumed, capped.
//!
//! The bytes go to `DEST.part`; only what has the right size and digest gets the final name, durably. A later call
//! goes on where an earlier one ended, also in another process. Memory does not grow with the file: a few chunks lie
//! between the network and the thread that hashes and writes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use neco_base::Backoff;
use neco_http::{content_range, shown};
use neco_schema::PackageRef;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_RANGE, RANGE,
};
use reqwest::{Response, StatusCode, Url};

use crate::client::{GithubClient, read_capped};
use crate::error::ReleaseError;
use crate::part::{Part, digest_of, parent};
use crate::release::{Asset, Release};
use crate::transport::broken;

/// Bounds of a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest file.
    pub max_bytes: u64,
    /// How long the server may be silent.
    pub stall: Duration,
    /// How long the whole may take, tries included.
    pub total: Duration,
    /// How many tries in a row may bring no byte.
    pub attempts: u32,
    /// How long to wait between tries.
    pub backoff: Backoff,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bytes: 4 << 30,
            stall: Duration::from_secs(30),
            total: Duration::from_secs(60 * 60),
            attempts: 10,
            backoff: crate::BETWEEN_TRIES,
        }
    }
}

/// How far a download is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are there, resumed ones included.
    pub done: u64,
    /// Bytes in all, where known.
    pub total: Option<u64>,
}

/// A file that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Downloaded {
    /// Where.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256 in lower-case hex.
    pub sha256: String,
    /// Bytes that came over the network for it in this call; 0 if it was there already.
    pub transferred: u64,
}

/// Downloads `asset` to `dest`.
///
/// `expected` is what a request says; it is compared with what the API claims before anything is transferred, and with
/// the bytes afterwards. Without it the API's own digest is used, where it names one. A file at `dest` that is right
/// already is not transferred again, one that is wrong is removed. `progress` is called for every chunk and must not
/// block. Dropping the future gives up; the part stays for the next call.
pub async fn download(
    client: &GithubClient,
    asset: &Asset,
    expected: Option<&PackageRef>,
    dest: &Path,
    limits: &Limits,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Downloaded, ReleaseError> {
    let wanted = Wanted::of(asset, expected, limits)?;
    let work = async {
        if let Some(there) = already_there(dest, &wanted).await? {
            progress(Progress { done: there.size, total: Some(there.size) });
            return Ok(there);
        }
        let path = part_path(dest);
        let mut part = blocking(move || {
            let directory = parent(&path);
            std::fs::create_dir_all(directory).map_err(|source| ReleaseError::Io {
                action: "creating",
                path: directory.to_owned(),
                source,
            })?;
            Part::open(&path)
        })
        .await?;
        let trusted =
            wanted.sha256.is_some() && wanted.size.is_none_or(|size| part.written() <= size);
        if part.written() > 0 && !trusted {
            // Without a digest nobody could tell whether the old bytes and the new ones belong together.
            part = blocking(move || part.restart().map(|()| part)).await?;
        }
        let mut transfer = Transfer::new(client, asset, wanted, limits, progress);
        let part = transfer.run(part).await?;
        let (size, sha256) = (part.written(), part.sha256());
        let path = dest.to_owned();
        blocking(move || part.finish(&path)).await?;
        Ok(Downloaded { path: dest.to_owned(), size, sha256, transferred: transfer.transferred })
    };
    within(limits.total, asset, work).await
}

/// Which bits the package `name` of a release is: what the API claims where it names a digest, else what comes when
/// the file is read once; nothing is kept of it.
pub async fn resolve(
    client: &GithubClient,
    release: &Release,
    name: &str,
    limits: &Limits,
) -> Result<PackageRef, ReleaseError> {
    let asset = release.package(name).ok_or_else(|| ReleaseError::NoPackage {
        tag: release.tag.clone(),
        name: name.to_owned(),
    })?;
    if let Some(package) = asset.package_ref() {
        return Ok(package);
    }
    let wanted = Wanted::of(asset, None, limits)?;
    let mut transfer = Transfer::new(client, asset, wanted, limits, &|_| ());
    let part = within(limits.total, asset, transfer.run(Part::digest_only())).await?;
    Ok(PackageRef {
        file: asset.name.clone(),
        size: part.written(),
        sha256: part.sha256(),
        unknown: Default::default(),
    })
}

/// Reads a small file of at most `limit` bytes, such as a signature.
pub async fn read(
    client: &GithubClient,
    asset: &Asset,
    limit: u64,
) -> Result<Vec<u8>, ReleaseError> {
    let options = client.options();
    let after = options.request_timeout;
    let mut retry = options.backoff.retry();
    loop {
        let once = async {
            let response = client.transport().get(&asset.url, &octets(), after).await?;
            refuse_pages(&asset.url, &response)?;
            read_capped(&asset.url, response, limit).await
        };
        let read = match tokio::time::timeout(after, once).await {
            Ok(read) => read,
            Err(_) => Err(ReleaseError::Silent { url: shown(&asset.url), after }),
        };
        match read {
            Err(error) if error.passes_soon() && retry.failures() + 1 < options.attempts => {
                tokio::time::sleep(retry.pause()).await;
            }
            read => return read,
        }
    }
}

/// What the bytes must be.
#[derive(Clone, Debug)]
struct Wanted {
    size: Option<u64>,
    sha256: Option<String>,
    cap: u64,
}

impl Wanted {
    fn of(
        asset: &Asset,
        expected: Option<&PackageRef>,
        limits: &Limits,
    ) -> Result<Self, ReleaseError> {
        // A size of zero is one that the API did not tell.
        let claimed = Some(asset.size).filter(|size| *size > 0);
        let size = expected.map(|package| package.size).or(claimed);
        let sha256 = expected.map(|package| package.sha256.to_ascii_lowercase());
        let replaced = |what, expected: &dyn ToString, found: &dyn ToString| {
            Err(ReleaseError::Replaced {
                file: asset.name.clone(),
                what,
                expected: expected.to_string(),
                found: found.to_string(),
            })
        };
        match (size, claimed) {
            (Some(size), Some(claimed)) if size != claimed => {
                return replaced("size", &size, &claimed);
            }
            _ => {}
        }
        match (&sha256, &asset.sha256) {
            (Some(sha256), Some(claimed)) if sha256 != claimed => {
                return replaced("SHA-256", sha256, claimed);
            }
            _ => {}
        }
        if let Some(size) = size.filter(|size| *size > limits.max_bytes) {
            let (file, limit) = (asset.name.clone(), limits.max_bytes);
            return Err(ReleaseError::Oversized { file, size, limit });
        }
        let sha256 = sha256.or_else(|| asset.sha256.clone());
        Ok(Self { size, sha256, cap: size.unwrap_or(limits.max_bytes) })
    }
}

/// One file on its way, over as many tries as it takes.
struct Transfer<'a> {
    client: &'a GithubClient,
    url: &'a Url,
    wanted: Wanted,
    limits: &'a Limits,
    progress: &'a (dyn Fn(Progress) + Send + Sync),
    /// The strong ETag of the bytes so far.
    etag: Option<HeaderValue>,
    /// Whether bytes of several answers were put together.
    patched: bool,
    transferred: u64,
}

impl<'a> Transfer<'a> {
    fn new(
        client: &'a GithubClient,
        asset: &'a Asset,
        wanted: Wanted,
        limits: &'a Limits,
        progress: &'a (dyn Fn(Progress) + Send + Sync),
    ) -> Self {
        let url = &asset.url;
        Self { client, url, wanted, limits, progress, etag: None, patched: false, transferred: 0 }
    }

    /// Fills `part` until it is whole and right.
    async fn run(&mut self, mut part: Part) -> Result<Part, ReleaseError> {
        self.patched = part.written() > 0;
        let mut retry = self.limits.backoff.retry();
        // What counts as getting on: a server that sends the same bytes again and again does not.
        let mut furthest = part.written();
        loop {
            let tried;
            (part, tried) = self.attempt(part).await;
            match tried {
                Ok(()) => match self.mismatch(&part) {
                    None => return Ok(part),
                    // The old bytes may be the wrong ones: once more from the beginning.
                    Some(_) if self.patched => {
                        tracing::warn!(
                            url = shown(self.url),
                            "resumed bytes are wrong, beginning again"
                        );
                        self.patched = false;
                        self.etag = None;
                        part = blocking(move || part.restart().map(|()| part)).await?;
                    }
                    Some(error) => {
                        blocking(move || part.discard()).await;
                        return Err(error);
                    }
                },
                Err(error) => {
                    if part.written() > furthest {
                        furthest = part.written();
                        retry.reset();
                    }
                    let failures = retry.failures() + 1;
                    if !error.passes_soon() || failures >= self.limits.attempts {
                        return Err(error);
                    }
                    tracing::debug!(url = shown(self.url), %error, failures, "download interrupted");
                    tokio::time::sleep(retry.pause()).await;
                }
            }
        }
    }

    fn mismatch(&self, part: &Part) -> Option<ReleaseError> {
        let expected = self.wanted.sha256.clone()?;
        let (url, found) = (shown(self.url), part.sha256());
        (found != expected).then_some(ReleaseError::WrongDigest { url, expected, found })
    }

    /// One request. The part comes back in any case, consistent.
    async fn attempt(&mut self, mut part: Part) -> (Part, Result<(), ReleaseError>) {
        let offset = part.written();
        if self.wanted.size == Some(offset) && offset > 0 {
            return (part, Ok(()));
        }
        let mut headers = octets();
        if offset > 0 {
            let range = HeaderValue::from_str(&format!("bytes={offset}-"));
            headers.insert(RANGE, range.expect("digits make a header"));
            if let Some(etag) = &self.etag {
                headers.insert(IF_RANGE, etag.clone());
            }
        }
        let asked = self.client.transport().get(self.url, &headers, self.limits.stall).await;
        let response =
            match asked.and_then(|response| refuse_pages(self.url, &response).map(|()| response)) {
                Ok(response) => response,
                Err(error) => return (part, Err(error)),
            };
        if offset > 0 && !continues(&response, offset, self.wanted.size) {
            let restarted;
            (part, restarted) = blocking(move || {
                let restarted = part.restart();
                (part, restarted)
            })
            .await;
            self.patched = false;
            self.etag = None;
            if let Err(error) = restarted {
                return (part, Err(error));
            }
            if response.status() != StatusCode::OK {
                // 416, or a range that was not asked for: the next try asks for everything.
                let (url, expected) = (shown(self.url), self.wanted.size.unwrap_or(offset));
                return (part, Err(ReleaseError::Truncated { url, got: 0, expected }));
            }
        } else if response.status()
            != if offset > 0 { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK }
        {
            let (url, status) = (shown(self.url), response.status().as_u16());
            return (part, Err(ReleaseError::Status { url, status }));
        } else if offset > 0 {
            self.patched = true;
        }
        let etag = response.headers().get(ETAG).cloned();
        self.etag = etag.filter(|etag| !etag.as_bytes().starts_with(b"W/"));
        self.receive(part, response).await
    }

    /// Takes the body in: this task reads, a thread hashes and writes.
    async fn receive(
        &mut self,
        mut part: Part,
        mut response: Response,
    ) -> (Part, Result<(), ReleaseError>) {
        let mut done = part.written();
        let total = self.wanted.size.or_else(|| Some(done + response.content_length()?));
        // Few, so that memory stays small; several, so that neither side waits for each chunk of the other.
        let (sender, receiver) = tokio::sync::mpsc::channel(8);
        // Ends by itself when the sender goes, which is at the latest when this future is dropped.
        let writer = tokio::task::spawn_blocking(move || {
            let drained = part.drain(receiver);
            (part, drained)
        });
        let received = loop {
            let chunk = match tokio::time::timeout(self.limits.stall, response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => break Ok(()),
                Ok(Err(source)) => break Err(broken(self.url, source)),
                Err(_) => {
                    break Err(ReleaseError::Silent {
                        url: shown(self.url),
                        after: self.limits.stall,
                    });
                }
            };
            let length = chunk.len() as u64;
            if done + length > self.wanted.cap {
                break Err(ReleaseError::TooLarge {
                    url: shown(self.url),
                    limit: self.wanted.cap,
                    announced: self.wanted.size.is_some(),
                });
            }
            if sender.send(chunk).await.is_err() {
                // The writer failed; it says why below.
                break Ok(());
            }
            done += length;
            self.transferred += length;
            (self.progress)(Progress { done, total });
        };
        drop(sender);
        let (mut part, drained) = joined(writer.await);
        let whole = match self.wanted.size {
            Some(expected) if part.written() < expected => {
                Err(ReleaseError::Truncated { url: shown(self.url), got: part.written(), expected })
            }
            _ => Ok(()),
        };
        if let Err(ReleaseError::TooLarge { .. }) = &received {
            // What lies there is part of something else.
            let cleared = blocking(move || {
                let cleared = part.restart();
                (part, cleared)
            })
            .await;
            return (cleared.0, received);
        }
        (part, drained.and(received).and(whole))
    }
}

/// Whether an answer goes on at `offset` of the file that is wanted.
fn continues(response: &Response, offset: u64, size: Option<u64>) -> bool {
    response.status() == StatusCode::PARTIAL_CONTENT
        && content_range(response.headers()).is_some_and(|(first, total)| {
            first == offset && (total.is_none() || size.is_none() || total == size)
        })
}

fn octets() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/octet-stream"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers
}

/// No file of a release is a web page.
fn refuse_pages(url: &Url, response: &Response) -> Result<(), ReleaseError> {
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    match content_type.filter(|content_type| content_type.starts_with("text/html")) {
        Some(content_type) => Err(ReleaseError::WrongContent {
            url: shown(url),
            expected: "the file",
            content_type: content_type.to_owned(),
        }),
        None => Ok(()),
    }
}

async fn already_there(dest: &Path, wanted: &Wanted) -> Result<Option<Downloaded>, ReleaseError> {
    let Some(sha256) = wanted.sha256.clone() else { return Ok(None) };
    let (path, size) = (dest.to_owned(), wanted.size);
    blocking(move || match digest_of(&path)? {
        Some((there, found)) if found == sha256 && size.is_none_or(|size| size == there) => {
            Ok(Some(Downloaded { path, size: there, sha256, transferred: 0 }))
        }
        Some(_) => {
            let removed = std::fs::remove_file(&path);
            removed.map_err(|source| ReleaseError::Io { action: "removing", path, source })?;
            Ok(None)
        }
        None => Ok(None),
    })
    .await
}

fn part_path(dest: &Path) -> PathBuf {
    let mut path = OsString::from(dest);
    path.push(".part");
    path.into()
}

async fn within<T>(
    total: Duration,
    asset: &Asset,
    work: impl Future<Output = Result<T, ReleaseError>>,
) -> Result<T, ReleaseError> {
    match tokio::time::timeout(total, work).await {
        Ok(done) => done,
        Err(_) => Err(ReleaseError::TimedOut { url: shown(&asset.url), after: total }),
    }
}

/// Runs what blocks on the disk away from the tasks of the network.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    joined(tokio::task::spawn_blocking(work).await)
}

/// A panic of the thread is a panic here.
fn joined<T>(joined: Result<T, tokio::task::JoinError>) -> T {
    joined.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_and_a_release_that_disagree_are_told_before_any_transfer() {
        let asset = Asset {
            name: "neco_1_amd64.deb".to_owned(),
            url: "https://host/1".parse().expect("a URL"),
            size: 10,
            sha256: Some("aa".repeat(32)),
        };
        let package = asset.package_ref().expect("a digest");
        let limits = Limits::default();
        assert!(Wanted::of(&asset, Some(&package), &limits).is_ok());
        let other = PackageRef { size: 11, ..package.clone() };
        let error = Wanted::of(&asset, Some(&other), &limits).expect_err("another size");
        assert!(matches!(error, ReleaseError::Replaced { what: "size", .. }), "{error}");
        let other = PackageRef { sha256: "bb".repeat(32), ..package };
        let error = Wanted::of(&asset, Some(&other), &limits).expect_err("another digest");
        assert!(matches!(error, ReleaseError::Replaced { what: "SHA-256", .. }), "{error}");
        let small = Limits { max_bytes: 9, ..limits };
        let error = Wanted::of(&asset, None, &small).expect_err("too large");
        assert!(matches!(error, ReleaseError::Oversized { size: 10, limit: 9, .. }), "{error}");
    }
}
