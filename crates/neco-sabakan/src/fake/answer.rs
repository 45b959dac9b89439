//! Answers as sabakan writes them (external-apis §1.1).

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

/// A refusal.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) error: String,
}

pub(super) type Answered = Result<Response, Refusal>;

impl Refusal {
    pub(super) fn new(status: u16, error: impl Into<String>) -> Self {
        Self { status, error: error.into() }
    }

    /// 400.
    pub(super) fn invalid(reason: impl std::fmt::Display) -> Self {
        Self::new(400, format!("invalid request: {reason}"))
    }

    /// 404.
    pub(super) fn not_found() -> Self {
        Self::new(404, "requested resource is not found")
    }

    /// 405.
    pub(super) fn method() -> Self {
        Self::new(405, "method not allowed")
    }

    /// 403.
    pub(super) fn forbidden() -> Self {
        Self::new(403, "forbidden")
    }

    /// 409.
    pub(super) fn conflict() -> Self {
        Self::new(409, "conflicted")
    }

    /// 500.
    pub(super) fn internal(cause: impl std::fmt::Display) -> Self {
        Self::new(500, format!("{cause}: Internal Server Error"))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(json!({ "status": self.status, "error": self.error }))).into_response()
    }
}

pub(super) fn json_of(value: &impl Serialize) -> Answered {
    let value = serde_json::to_value(value).map_err(Refusal::internal)?;
    Ok(Json(value).into_response())
}

/// A success with nothing to say.
pub(super) fn empty(status: StatusCode) -> Response {
    status.into_response()
}
