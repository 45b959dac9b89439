//! An archive as the body of a request, which is what it is for.

mod common;

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use axum::routing::put;
use common::{Site, read_whole};
use futures::StreamExt as _;
use neco_registry::testing::{Fault, Scope};
use neco_registry::{Archive, Digest, Url};
use tokio_util::task::AbortOnDropHandle;

/// What came of an upload: the length that was announced, what came, and whether that was all.
type Upload = (u64, Vec<u8>, bool);

/// A server that takes uploads.
struct Server {
    url: Url,
    uploads: Arc<Mutex<Vec<Upload>>>,
    _task: AbortOnDropHandle<()>,
}

impl Server {
    async fn start() -> Self {
        let uploads = Arc::new(Mutex::new(Vec::new()));
        let router = Router::new().route("/asset", put(take)).with_state(Arc::clone(&uploads));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/asset", listener.local_addr().expect("an address"));
        let task =
            tokio::spawn(async move { axum::serve(listener, router).await.expect("served") });
        let _task = AbortOnDropHandle::new(task);
        Self { url: url.parse().expect("a URL"), uploads, _task }
    }

    /// The answer to an upload, and the SHA-256 of what was sent.
    async fn send(
        &self,
        archive: Archive,
    ) -> Result<(reqwest::Response, Option<Digest>), reqwest::Error> {
        let client = neco_http::client(&self.url, None).and_then(reqwest::ClientBuilder::build);
        let length = archive.length();
        let stream = archive.into_stream();
        let sum = stream.sum();
        let body = reqwest::Body::wrap_stream(stream);
        let request = client.expect("a client").put(self.url.clone());
        let answer = request.header(CONTENT_LENGTH, length).body(body).send().await?;
        Ok((answer, sum.get()))
    }

    /// The last upload, once its end was seen.
    async fn last(&self) -> Upload {
        let seen = async {
            loop {
                if let Some(upload) = self.uploads.lock().expect("no panic").pop() {
                    return upload;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), seen).await.expect("an upload")
    }
}

async fn take(
    State(uploads): State<Arc<Mutex<Vec<Upload>>>>,
    request: Request<Body>,
) -> StatusCode {
    let length = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let length = length.and_then(|length| length.parse().ok()).unwrap_or_default();
    let mut body = request.into_body().into_data_stream();
    let (mut came, mut whole) = (Vec::new(), true);
    while let Some(piece) = body.next().await {
        match piece {
            Ok(piece) => came.extend_from_slice(&piece),
            Err(_) => whole = false,
        }
    }
    uploads.lock().expect("no panic").push((length, came, whole));
    StatusCode::CREATED
}

#[tokio::test]
async fn an_archive_is_sent_with_its_length() {
    let site = Site::new().await;
    let server = Server::start().await;
    let (answer, sum) = server.send(site.archive().await).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::CREATED);
    let whole = read_whole(site.archive().await).await;
    assert_eq!(sum, Some(Digest::of(&whole)));
    assert_eq!(server.last().await, (whole.len() as u64, whole.to_vec(), true));
}

#[tokio::test]
async fn an_archive_that_fails_is_an_upload_that_does_not_end() {
    let site = Site::new().await;
    let server = Server::start().await;
    let archive = site.archive().await;
    site.registry.faults().always(Scope::Blobs, Fault::Corrupt);
    server.send(archive).await.expect_err("the request ends too early");
    let (length, came, whole) = server.last().await;
    assert!((came.len() as u64) < length && !whole, "{} of {length}", came.len());
}
