//! What a daemon serves on loopback: metrics, health, readiness and its status.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use neco_base::Backoff;
use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Between two attempts to bind.
const REBIND: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// Whether the daemon does its work, and if not, what it waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It does.
    Ready,
    /// It waits for this.
    Waiting(String),
}

/// Where the pages come from.
#[derive(Debug, Clone)]
pub struct Pages {
    /// `/metrics`.
    pub metrics: Arc<Registry>,
    /// `/readyz`. `/healthz` answers as long as the process does.
    pub readiness: watch::Receiver<Readiness>,
    /// `/status.json`.
    pub status: watch::Receiver<Value>,
}

/// A listener that runs beside the daemon and never stops it. Dropping it closes it.
#[derive(Debug)]
pub struct Listener {
    bound: watch::Receiver<Option<SocketAddr>>,
    token: CancellationToken,
}

impl Listener {
    /// Starts serving on `HOST:PORT`; port 0 takes a free one.
    ///
    /// An address that cannot be bound is warned of and tried again: the daemon's work does not
    /// depend on it.
    pub fn start(address: impl Into<String>, pages: Pages) -> Self {
        let (sender, bound) = watch::channel(None);
        let token = CancellationToken::new();
        // The task ends when the token is cancelled, and that is when this value is dropped.
        tokio::spawn(serve(address.into(), pages, sender, token.clone()));
        Self { bound, token }
    }

    /// Where it is bound: nothing until it is, and the true port after.
    pub fn bound(&self) -> watch::Receiver<Option<SocketAddr>> {
        self.bound.clone()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.token.cancel();
    }
}

async fn serve(
    address: String,
    pages: Pages,
    bound: watch::Sender<Option<SocketAddr>>,
    token: CancellationToken,
) {
    let served = async {
        let socket = bind(&address).await;
        bound.send_replace(socket.local_addr().ok());
        axum::serve(socket, router(pages))
            .with_graceful_shutdown(token.clone().cancelled_owned())
            .await
    };
    let served = tokio::select! {
        biased;
        // Requests under way are not waited for: they are small, and the process is ending.
        () = token.cancelled() => Ok(()),
        served = served => served,
    };
    if let Err(error) = served {
        tracing::warn!(%error, address, "the listener has ended");
    }
}

async fn bind(address: &str) -> TcpListener {
    let mut retry = REBIND.retry();
    loop {
        match TcpListener::bind(address).await {
            Ok(socket) => {
                let at = socket.local_addr().ok();
                tracing::info!(address = ?at, "serving metrics and status");
                return socket;
            }
            Err(error) => {
                let remedy = match error.kind() {
                    io::ErrorKind::AddrInUse => "stop what uses it, or set `listen` in config.yml",
                    _ => "correct `listen` in config.yml",
                };
                if retry.failures() == 0 {
                    tracing::warn!(%error, address, remedy, "cannot listen, trying again");
                } else {
                    tracing::debug!(%error, address, "still cannot listen");
                }
                sleep(retry.pause()).await;
            }
        }
    }
}

fn router(pages: Pages) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/status.json", get(status))
        .with_state(pages)
}

async fn metrics(State(pages): State<Pages>) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &pages.metrics) {
        Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn readyz(State(pages): State<Pages>) -> Response {
    let readiness = pages.readiness.borrow().clone();
    match readiness {
        Readiness::Ready => "ready\n".into_response(),
        Readiness::Waiting(what) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {what}\n")).into_response()
        }
    }
}

async fn status(State(pages): State<Pages>) -> Json<Value> {
    Json(pages.status.borrow().clone())
}
