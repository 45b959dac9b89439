//! The fake servers' side of HTTP.

use std::sync::Arc;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, LOCATION};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use neco_http::Url;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use super::Shared;
use super::cluster::{Question, Reply};

/// One server's ear. Its connections end with it.
#[derive(Debug)]
pub(super) struct Listener {
    url: Url,
    task: JoinHandle<()>,
}

impl Listener {
    /// Listens at `address` for a server.
    pub(super) async fn start(address: &str, server: usize, shared: &Arc<Shared>) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port to listen on");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let shared = Arc::clone(shared);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    let service = service_fn(|request| answer(server, &shared, request));
                    let stream = TokioIo::new(stream);
                    // Whoever goes away in the middle is not waited for.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(stream, service)
                        .await;
                });
            }
        });
        Self { url: url.parse().expect("an address makes a URL"), task }
    }

    /// Ends, and returns when nothing listens any more.
    pub(super) async fn close(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    pub(super) fn url(&self) -> Url {
        self.url.clone()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What makes hyper close a connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("cut")]
struct Cut;

async fn answer(
    server: usize,
    shared: &Shared,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Cut> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let question = Question {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().trim_start_matches("/v1/").to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        token: header("x-vault-token").map(str::to_owned),
        not_forwarded: header("x-vault-no-request-forwarding").is_some(),
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    };
    let reply = {
        let mut cluster = shared.lock();
        // A connection may outlive its server by a moment.
        if !cluster.runs(server) {
            return Err(Cut);
        }
        cluster.answer(server, &question)
    };
    let (status, location, body) = match reply {
        Reply::Json { status, body } => (status, None, body.to_string()),
        Reply::Done => (204, None, String::new()),
        Reply::Raw(body) => (200, None, body),
        Reply::Redirect(location) => (307, Some(location), String::new()),
        Reply::Cut => return Err(Cut),
        Reply::Never => std::future::pending().await,
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(status).map_err(|_| Cut)?;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    if let Some(location) = location {
        headers.insert(LOCATION, location.parse().map_err(|_| Cut)?);
    }
    Ok(response)
}
