//! What the stand-in was asked, in order.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::HeaderName;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::middleware::Next;
use axum::response::Response;
use futures::StreamExt as _;
use neco_schema::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::listener::Peer;
use super::model::now;
use crate::ContentDigest;

/// A request that came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// When it came.
    pub at: Timestamp,
    /// Whether it came over TLS.
    pub tls: bool,
    /// Where from.
    pub peer: String,
    /// For whom, as the client says.
    pub user: Option<String>,
    /// The method.
    pub method: String,
    /// The path, as it was sent.
    pub path: String,
    /// The query, as it was sent.
    pub query: Option<String>,
    /// The media type of the body.
    pub content_type: Option<String>,
    /// How long the body was announced to be.
    pub content_length: Option<u64>,
    /// How much of it came.
    pub size: u64,
    /// Its digest, if it came to its end.
    pub sha256: Option<ContentDigest>,
    /// The status of the answer; `None` while there is none, and where there never was one.
    pub status: Option<u16>,
}

impl Asked {
    /// Method and path, such as `PUT /api/v1/assets/a`.
    pub fn call(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// The requests that came, in the order in which they began. Clones are the same log.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    /// How many were taken away.
    taken: usize,
    entries: Vec<Asked>,
}

impl Log {
    /// The requests so far.
    pub fn all(&self) -> Vec<Asked> {
        self.lock().entries.clone()
    }

    /// The requests since the last call.
    pub fn take(&self) -> Vec<Asked> {
        let mut entries = self.lock();
        entries.taken += entries.entries.len();
        std::mem::take(&mut entries.entries)
    }

    fn begin(&self, asked: Asked) -> usize {
        let mut entries = self.lock();
        entries.entries.push(asked);
        entries.taken + entries.entries.len() - 1
    }

    fn edit(&self, number: usize, edit: impl FnOnce(&mut Asked)) {
        let mut entries = self.lock();
        let at = number.checked_sub(entries.taken);
        if let Some(asked) = at.and_then(|at| entries.entries.get_mut(at)) {
            edit(asked);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a request down, and its body while it is read.
pub(super) async fn keep(
    State((log, tls)): State<(Log, bool)>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let number = log.begin(described(&request, &peer, tls));
    let request = request.map(|body| watched(body, log.clone(), number));
    let response = next.run(request).await;
    let status = response.status().as_u16();
    log.edit(number, |asked| asked.status = Some(status));
    response
}

fn described(request: &Request, peer: &Peer, tls: bool) -> Asked {
    let header = |name: HeaderName| {
        request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    Asked {
        at: now(),
        tls,
        peer: peer.address.to_string(),
        user: header(HeaderName::from_static("x-sabakan-user")),
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().map(str::to_owned),
        content_type: header(CONTENT_TYPE),
        content_length: header(CONTENT_LENGTH).and_then(|length| length.parse().ok()),
        size: 0,
        sha256: None,
        status: None,
    }
}

fn watched(body: Body, log: Log, number: usize) -> Body {
    let hasher = Arc::new(Mutex::new(Sha256::new()));
    let (seen, at_end) = (hasher.clone(), log.clone());
    let pieces = body.into_data_stream().inspect(move |piece| {
        if let Ok(piece) = piece {
            seen.lock().unwrap_or_else(PoisonError::into_inner).update(piece);
            log.edit(number, |asked| asked.size += piece.len() as u64);
        }
    });
    // After the last piece, unless the connection broke before.
    let end = futures::stream::once(async move {
        let hasher = hasher.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sha256 = ContentDigest::from_hasher(hasher);
        at_end.edit(number, |asked| asked.sha256 = Some(sha256));
        Ok(Bytes::new())
    });
    // What follows an error is no end.
    let whole = pieces.chain(end).scan(false, |broken, piece| {
        let was_broken = std::mem::replace(broken, piece.is_err());
        std::future::ready((!was_broken).then_some(piece))
    });
    Body::from_stream(whole)
}
