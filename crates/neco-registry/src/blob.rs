//! One blob on its way: digested as it passes, resumed where a connection broke.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::stream::{BoxStream, StreamExt as _, try_unfold};
use neco_base::Retry;
use neco_http::{content_range, shown};
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue, RANGE};
use reqwest::{Response, StatusCode, Url};

use crate::body::refuse_pages;
use crate::deadline::Deadline;
use crate::digest::{Digest, Sum};
use crate::error::RegistryError;
use crate::host::{Host, broken};
use crate::name::Repository;

/// The bytes of a blob as they come. After a wrong one there is an error, and nothing more.
pub type BlobStream = BoxStream<'static, Result<Bytes, RegistryError>>;

/// Where a blob lies, and what it must be.
#[derive(Clone)]
pub(crate) struct Wanted {
    pub(crate) host: Arc<Host>,
    pub(crate) repository: Repository,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

impl Wanted {
    pub(crate) fn stream(self) -> BlobStream {
        let what = format!("{}@{}", self.repository, self.digest);
        let deadline = Deadline::new(what, self.host.options().total);
        let step = |(mut blob, mut deadline): (Blob, Deadline)| async move {
            let bytes = deadline.within(blob.next()).await?;
            Ok(bytes.map(|bytes| (bytes, (blob, deadline))))
        };
        try_unfold((Blob::new(self), deadline), step).boxed()
    }
}

/// A blob on its way, over as many tries as it takes. Memory holds no more of it than what the connection has ready.
pub(crate) struct Blob {
    wanted: Wanted,
    url: Url,
    /// How many bytes were passed on.
    done: u64,
    /// What was passed on; nothing once it was found right.
    sum: Option<Sum>,
    connection: Option<Connection>,
    retry: Retry,
}

/// An answer that is being read.
struct Connection {
    response: Response,
    /// So many bytes come that were passed on already.
    again: u64,
}

impl Blob {
    pub(crate) fn new(wanted: Wanted) -> Self {
        let url = wanted.host.url(&wanted.repository, &["blobs", &wanted.digest.to_string()]);
        let retry = wanted.host.options().backoff.retry();
        Self { wanted, url, done: 0, sum: Some(Sum::default()), connection: None, retry }
    }

    /// The next bytes; `None` after all of them came and were right.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        while self.done < self.wanted.size {
            match self.attempt().await {
                Ok(bytes) => {
                    self.retry.reset();
                    self.done += bytes.len() as u64;
                    if let Some(sum) = &mut self.sum {
                        sum.add(&bytes);
                    }
                    return Ok(Some(bytes));
                }
                Err(error) => {
                    self.connection = None;
                    let options = self.wanted.host.options();
                    let wait = error.passes_soon(options.longest_wait);
                    let Some(wait) = wait.filter(|_| self.retry.failures() + 1 < options.attempts)
                    else {
                        return Err(error);
                    };
                    let pause = wait.max(self.retry.pause());
                    let (url, done) = (shown(&self.url), self.done);
                    tracing::debug!(url, done, %error, "blob interrupted, going on from there");
                    tokio::time::sleep(pause).await;
                }
            }
        }
        let Some(sum) = self.sum.take() else { return Ok(None) };
        match (sum.digest(), self.wanted.digest) {
            (found, expected) if found == expected => Ok(None),
            (found, expected) => {
                Err(RegistryError::WrongDigest { url: shown(&self.url), expected, found })
            }
        }
    }

    /// The whole of a small blob.
    pub(crate) async fn read(mut self) -> Result<Bytes, RegistryError> {
        let mut whole = BytesMut::new();
        while let Some(bytes) = self.next().await? {
            whole.extend_from_slice(&bytes);
        }
        Ok(whole.freeze())
    }

    /// Bytes from the connection there is, or from a new one.
    async fn attempt(&mut self) -> Result<Bytes, RegistryError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let stall = self.wanted.host.options().stall;
        loop {
            let chunk = tokio::time::timeout(stall, connection.response.chunk()).await;
            let chunk = chunk
                .map_err(|_| RegistryError::Silent { url: shown(&self.url), after: stall })?
                .map_err(|source| broken(&self.url, source))?;
            let Some(mut bytes) = chunk else {
                let (url, expected) = (shown(&self.url), self.wanted.size);
                return Err(RegistryError::Truncated { url, got: self.done, expected });
            };
            let again = connection.again.min(bytes.len() as u64);
            connection.again -= again;
            let _ = bytes.split_to(again as usize);
            // What comes beyond the end is not of this blob, and whether the rest is right, the digest tells.
            let left = self.wanted.size - self.done;
            bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            if !bytes.is_empty() {
                self.connection = Some(connection);
                return Ok(bytes);
            }
        }
    }

    async fn connect(&self) -> Result<Connection, RegistryError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if self.done > 0 {
            headers.insert(RANGE, range_from(self.done));
        }
        let Wanted { host, repository, size, .. } = &self.wanted;
        let patience = host.options().request_timeout;
        let asked = host.get(&self.url, repository, &headers, patience).await;
        let response = asked.map_err(|error| match error {
            RegistryError::Status { url, status: 404 } => RegistryError::NoBlob { url },
            other => other,
        })?;
        refuse_pages(&self.url, &response, "a part of an image")?;
        let unexpected = |response: &Response| {
            let (url, status) = (shown(&self.url), response.status().as_u16());
            RegistryError::Status { url, status }
        };
        let wrong_size =
            |found| RegistryError::WrongSize { url: shown(&self.url), expected: *size, found };
        match response.status() {
            StatusCode::OK => match response.content_length().filter(|found| found != size) {
                Some(found) => Err(wrong_size(found)),
                // Whoever does not know ranges sends all of it again.
                None => Ok(Connection { response, again: self.done }),
            },
            StatusCode::PARTIAL_CONTENT if self.done > 0 => match content_range(response.headers())
            {
                Some((_, Some(found))) if found != *size => Err(wrong_size(found)),
                Some((first, _)) if first == self.done => Ok(Connection { response, again: 0 }),
                _ => Err(unexpected(&response)),
            },
            _ => Err(unexpected(&response)),
        }
    }
}

fn range_from(first: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("bytes={first}-")).expect("digits make a header")
}
