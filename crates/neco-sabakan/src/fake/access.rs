//! Who may change what (external-apis §1.1).

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::answer::Refusal;
use super::faults::drain;
use super::listener::Peer;

/// Refuses changes that come from elsewhere, before anything else is looked at.
pub(super) async fn guard(
    State(allowed): State<Arc<[IpAddr]>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let is_key = path.starts_with("/api/v1/crypts/") && request.method() == Method::PUT;
    let open = reads || is_key || !path.starts_with("/api/v1/");
    if open || allowed.contains(&peer.address.ip().to_canonical()) {
        return next.run(request).await;
    }
    drain(request.into_body()).await;
    Refusal::forbidden().into_response()
}
