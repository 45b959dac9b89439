//! What can go wrong with a server of releases, on order; and a record of what it was asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION, RANGE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use futures::stream;

/// Something that goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Answers with this status, these headers and this body.
    Status(u16, Vec<(&'static str, String)>, String),
    /// Answers 403 as GitHub does when the hour's requests are used up.
    RateLimit {
        /// When the next hour begins.
        reset_in: Duration,
    },
    /// Redirects to where the client is already.
    RedirectLoop,
    /// Redirects from one place to the next, always another one.
    RedirectOn,
    /// Redirects to the same path below another URL.
    RedirectTo(String),
    /// Answers 200 with a page for people.
    Html,
    /// Ends the connection after some bytes of the right body.
    Truncate(u64),
    /// Sends the right body's first bytes, then nothing more.
    Stall(u64),
    /// Sends bytes without end.
    Endless,
    /// Changes the last byte of the body.
    Corrupt,
    /// Answers with everything, whatever range was asked for.
    IgnoreRange,
    /// Leaves the digests out of descriptions, as GitHub does for old files.
    NoDigests,
    /// Does nothing; to let requests pass before the next fault.
    None,
}

/// Which requests a fault is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Descriptions of releases.
    Api,
    /// The bytes of files.
    Files,
    /// Both.
    All,
}

/// A request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Path and query.
    pub uri: String,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// Whether it was conditional.
    pub conditional: bool,
    /// The `Range` header.
    pub range: Option<String>,
    /// The status of the answer.
    pub status: u16,
    /// When it came, by the wall clock.
    pub at: jiff::Timestamp,
}

/// The faults of a mirror, and the record of its requests. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    rules: VecDeque<Rule>,
    asked: Vec<Asked>,
}

#[derive(Debug)]
struct Rule {
    scope: Scope,
    fault: Fault,
    left: Option<usize>,
}

impl Asked {
    fn of(uri: String, headers: &HeaderMap) -> Self {
        let text = |name: HeaderName| {
            headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        Self {
            uri,
            authorization: text(AUTHORIZATION),
            conditional: headers.contains_key(IF_NONE_MATCH),
            range: text(RANGE),
            status: 0,
            at: jiff::Timestamp::now(),
        }
    }
}

impl Faults {
    /// Lets `fault` happen to each request of `scope` until [`clear`](Self::clear).
    pub fn always(&self, scope: Scope, fault: Fault) {
        self.lock().rules.push_back(Rule { scope, fault, left: None });
    }

    /// Lets `fault` happen to the next `times` requests of `scope`, after the faults ordered before it.
    pub fn next(&self, scope: Scope, times: usize, fault: Fault) {
        self.lock().rules.push_back(Rule { scope, fault, left: Some(times) });
    }

    /// Lets `fault` happen to each request of `scope`, instead of everything that was ordered before.
    pub fn only(&self, scope: Scope, fault: Fault) {
        self.lock().rules = VecDeque::from([Rule { scope, fault, left: None }]);
    }

    /// All is well again.
    pub fn clear(&self) {
        self.lock().rules.clear();
    }

    /// The requests since the last call.
    pub fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.lock().asked)
    }

    pub(super) fn around(self, router: Router) -> Router {
        router.layer(from_fn_with_state(self, answer))
    }

    fn due(&self, is_file: bool) -> Fault {
        let mut inner = self.lock();
        let fits = |scope| match scope {
            Scope::All => true,
            Scope::Files => is_file,
            Scope::Api => !is_file,
        };
        let Some(index) =
            inner.rules.iter().position(|rule| rule.left != Some(0) && fits(rule.scope))
        else {
            return Fault::None;
        };
        let rule = &mut inner.rules[index];
        if let Some(left) = &mut rule.left {
            *left -= 1;
        }
        rule.fault.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(State(faults): State<Faults>, mut request: Request, next: Next) -> Response {
    let uri = request.uri().to_string();
    let mut asked = Asked::of(uri.clone(), request.headers());
    let is_file = uri.contains("/releases/assets/") || uri.contains("/releases/download/");
    let fault = faults.due(is_file);
    match &fault {
        Fault::IgnoreRange => drop(request.headers_mut().remove(RANGE)),
        // An answer without a body has nothing to spoil.
        Fault::Truncate(_) | Fault::Stall(_) | Fault::Corrupt | Fault::NoDigests => {
            request.headers_mut().remove(IF_NONE_MATCH);
        }
        _ => {}
    }
    let response = match fault {
        Fault::None | Fault::IgnoreRange => next.run(request).await,
        Fault::Status(status, headers, body) => plain(status, headers, body),
        Fault::RateLimit { reset_in } => {
            let reset = jiff::Timestamp::now().as_second() + reset_in.as_secs().cast_signed();
            let headers = vec![
                ("x-ratelimit-remaining", "0".to_owned()),
                ("x-ratelimit-reset", reset.to_string()),
            ];
            plain(403, headers, r#"{"message":"API rate limit exceeded"}"#.to_owned())
        }
        Fault::RedirectLoop => redirect(uri),
        Fault::RedirectOn => redirect(format!("{uri}x")),
        Fault::RedirectTo(base) => redirect(format!("{}{uri}", base.trim_end_matches('/'))),
        Fault::Html => {
            let headers = vec![("content-type", "text/html; charset=utf-8".to_owned())];
            plain(200, headers, "<!DOCTYPE html><title>Please log in</title>".to_owned())
        }
        Fault::Truncate(after) => cut(next.run(request).await, after, End::Break).await,
        Fault::Stall(after) => cut(next.run(request).await, after, End::Silence).await,
        Fault::Endless => {
            let zeros = stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 1 << 16]));
            let kind = if is_file { "application/octet-stream" } else { "application/json" };
            ([(CONTENT_TYPE, kind)], Body::from_stream(zeros)).into_response()
        }
        Fault::Corrupt => {
            change(next.run(request).await, |body| {
                if let Some(last) = body.last_mut() {
                    *last ^= 1;
                }
            })
            .await
        }
        Fault::NoDigests => {
            change(next.run(request).await, |body| {
                let text = String::from_utf8_lossy(body).replace("\"digest\":", "\"undigested\":");
                *body = text.into_bytes();
            })
            .await
        }
    };
    asked.status = response.status().as_u16();
    faults.lock().asked.push(asked);
    response
}

#[derive(Clone, Copy)]
enum End {
    Break,
    Silence,
}

fn plain(status: u16, headers: Vec<(&'static str, String)>, body: String) -> Response {
    let mut response = body.into_response();
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::IM_A_TEAPOT);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in headers {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn redirect(to: String) -> Response {
    (StatusCode::FOUND, [(LOCATION, to)]).into_response()
}

/// The same headers, the announced length among them, but only the first bytes.
async fn cut(response: Response, after: u64, end: End) -> Response {
    let (mut parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    parts.headers.insert(CONTENT_LENGTH, body.len().into());
    let sent = body.slice(..body.len().min(usize::try_from(after).unwrap_or(usize::MAX)));
    let head = stream::iter([Ok::<_, std::io::Error>(sent)]);
    let body = match end {
        // A pause, so that the head is on its way before the connection ends.
        End::Break => Body::from_stream(head.chain(stream::once(async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Err(std::io::ErrorKind::ConnectionReset.into())
        }))),
        End::Silence => Body::from_stream(head.chain(stream::pending())),
    };
    Response::from_parts(parts, body)
}

/// The body changed, and the headers made to fit.
async fn change(response: Response, edit: impl FnOnce(&mut Vec<u8>)) -> Response {
    let (mut parts, body) = response.into_parts();
    let mut body = to_bytes(body, usize::MAX).await.unwrap_or_default().to_vec();
    edit(&mut body);
    parts.headers.insert(CONTENT_LENGTH, body.len().into());
    parts.headers.remove(ETAG);
    Response::from_parts(parts, body.into())
}
