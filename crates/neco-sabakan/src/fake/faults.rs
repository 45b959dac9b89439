//! What goes wrong, on order (external-apis §8.5).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};

use super::answer::Refusal;
use super::listener::Peer;

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Waits so many milliseconds, then does what it should.
    Delay(u64),
    /// Answers nothing.
    Stall,
    /// Answers with this status and text, and does nothing.
    Status(u16, String),
    /// Ends the connection after so many bytes of the request's body, and does nothing.
    ResetRequest(u64),
    /// Does what it should and ends the connection instead of an answer.
    LoseAnswer,
    /// Does what it should and ends the connection after so many bytes of the answer's body.
    CutAnswer(u64),
    /// Takes another body than the one that was sent: the last bit of each piece is flipped.
    CorruptRequest,
    /// Answers with a page for people.
    Html,
}

impl Fault {
    /// 500.
    pub fn internal() -> Self {
        Self::Status(500, "etcdserver: request timed out: Internal Server Error".to_owned())
    }

    /// 500, as where the disk is full.
    pub fn full_disk() -> Self {
        Self::Status(500, "write: no space left on device: Internal Server Error".to_owned())
    }

    /// 409.
    pub fn conflict() -> Self {
        Self::Status(409, "conflicted".to_owned())
    }

    /// 403.
    pub fn forbidden() -> Self {
        Self::Status(403, "forbidden".to_owned())
    }
}

/// When something goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// For requests with this method; for all if not given.
    #[serde(default)]
    pub method: Option<String>,
    /// For paths that begin like this.
    pub path: String,
    /// How many of them are left alone first.
    #[serde(default)]
    pub skip: u32,
    /// How many it happens to then; if not given, to all.
    #[serde(default)]
    pub times: Option<u32>,
    /// What happens.
    pub fault: Fault,
}

impl Rule {
    /// It happens to each request with this method whose path begins like this.
    pub fn always(method: &str, path: &str, fault: Fault) -> Self {
        let (method, path) = (Some(method.to_owned()), path.to_owned());
        Self { method, path, skip: 0, times: None, fault }
    }

    /// It happens to the next request with this method whose path begins like this.
    pub fn once(method: &str, path: &str, fault: Fault) -> Self {
        Self { times: Some(1), ..Self::always(method, path, fault) }
    }
}

/// The faults of a stand-in. Clones are the same ones.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Vec<Rule>>>);

impl Faults {
    /// Adds a rule. Of several that are for a request, the first one counts.
    pub fn add(&self, rule: Rule) {
        self.lock().push(rule);
    }

    /// These rules and no others.
    pub fn set(&self, rules: Vec<Rule>) {
        *self.lock() = rules;
    }

    /// The rules that are left.
    pub fn rules(&self) -> Vec<Rule> {
        self.lock().clone()
    }

    /// All is well again.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn next(&self, method: &str, path: &str) -> Option<Fault> {
        let mut rules = self.lock();
        let mut found = None;
        for rule in rules.iter_mut() {
            let fits = rule.method.as_deref().is_none_or(|wanted| wanted == method)
                && path.starts_with(&rule.path);
            if !fits || found.is_some() {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            if let Some(times) = &mut rule.times {
                *times = times.saturating_sub(1);
            }
            found = Some(rule.fault.clone());
        }
        rules.retain(|rule| rule.times != Some(0));
        found
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Rule>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets happen what was ordered.
pub(super) async fn happen(
    State(faults): State<Faults>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let fault = faults.next(request.method().as_str(), request.uri().path());
    match fault {
        None => next.run(request).await,
        Some(Fault::Delay(milliseconds)) => {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            next.run(request).await
        }
        Some(Fault::Stall) => std::future::pending().await,
        Some(Fault::Status(status, error)) => {
            drain(request.into_body()).await;
            Refusal::new(status, error).into_response()
        }
        Some(Fault::ResetRequest(after)) => {
            let mut pieces = request.into_body().into_data_stream();
            let mut size = 0;
            while size < after
                && let Some(Ok(piece)) = pieces.next().await
            {
                size += piece.len() as u64;
            }
            peer.cut();
            Refusal::internal("never sent").into_response()
        }
        Some(Fault::LoseAnswer) => {
            let response = next.run(request).await;
            peer.cut();
            response
        }
        Some(Fault::CutAnswer(after)) => cut(next.run(request).await, after).await,
        Some(Fault::CorruptRequest) => {
            let corrupted = request.map(|body| {
                Body::from_stream(body.into_data_stream().map_ok(|piece| {
                    let mut piece = piece.to_vec();
                    piece.iter_mut().last().into_iter().for_each(|last| *last ^= 1);
                    Bytes::from(piece)
                }))
            });
            next.run(corrupted).await
        }
        Some(Fault::Html) => {
            drain(request.into_body()).await;
            let page = "<!DOCTYPE html><title>Please log in</title>";
            ([(CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response()
        }
    }
}

/// Reads a body to its end, so that whoever sends it has ears for the answer.
pub(super) async fn drain(body: Body) {
    let mut pieces = body.into_data_stream();
    while let Some(Ok(_)) = pieces.next().await {}
}

/// The same headers, the announced length among them, but only the first bytes.
async fn cut(response: Response, after: u64) -> Response {
    let (mut parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    parts.headers.insert(CONTENT_LENGTH, body.len().into());
    let sent = body.slice(..body.len().min(usize::try_from(after).unwrap_or(usize::MAX)));
    let head = futures::stream::iter([Ok::<_, std::io::Error>(sent)]);
    let end = futures::stream::once(async { Err(std::io::ErrorKind::ConnectionReset.into()) });
    Response::from_parts(parts, Body::from_stream(head.chain(end)))
}
