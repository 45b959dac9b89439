//! How stories of the virtual data centre speak to the stand-in itself.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};

use super::answer::{Answered, empty, json_of};
use super::{Asked, Faults, Log, Rule};

/// `GET /stand-in/log` tells what was asked, `DELETE` forgets it; `GET /stand-in/faults` tells what goes wrong, `PUT` sets it.
pub(super) fn routes(log: Log, faults: Faults) -> Router {
    Router::new().route("/stand-in/log", get(asked).delete(forget)).with_state(log).merge(
        Router::new().route("/stand-in/faults", get(rules).put(set_rules)).with_state(faults),
    )
}

async fn asked(State(log): State<Log>) -> Json<Vec<Asked>> {
    Json(log.all())
}

async fn forget(State(log): State<Log>) -> Response {
    log.take();
    empty(StatusCode::OK)
}

async fn rules(State(faults): State<Faults>) -> Answered {
    json_of(&faults.rules())
}

async fn set_rules(State(faults): State<Faults>, Json(rules): Json<Vec<Rule>>) -> Response {
    faults.set(rules);
    empty(StatusCode::OK)
}
