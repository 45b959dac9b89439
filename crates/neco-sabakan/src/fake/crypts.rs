//! Disk keys, over HTTPS alone (external-apis §1.7).

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde_json::json;

use super::answer::{Answered, Refusal, json_of};
use super::settings::body;
use super::store::Store;
use crate::MachineState;

pub(super) async fn put(
    State(store): State<Arc<Store>>,
    Path((serial, path)): Path<(String, String)>,
    request: Request,
) -> Answered {
    let key = body(request, 4096, Refusal::internal("too large")).await?;
    if key.is_empty() {
        return Err(Refusal::invalid("empty key"));
    }
    let told = json!({ "status": 201, "path": path });
    store.change(|model| {
        // An unknown machine is an internal error (external-apis §9.3).
        let machine = model.machines.get(&serial).ok_or_else(|| Refusal::internal("not found"))?;
        if matches!(machine.status.state, MachineState::Retiring | MachineState::Retired) {
            return Err(Refusal::internal("machine was retiring or retired"));
        }
        let keys = model.crypts.entry(serial).or_default();
        if keys.contains_key(&path) {
            return Err(Refusal::conflict());
        }
        keys.insert(path, key.to_vec());
        Ok(())
    })?;
    Ok((StatusCode::CREATED, Json(told)).into_response())
}

pub(super) async fn get(
    State(store): State<Arc<Store>>,
    Path((serial, path)): Path<(String, String)>,
) -> Answered {
    let key =
        store.look(|model| model.crypts.get(&serial).and_then(|keys| keys.get(&path)).cloned());
    let key = key.ok_or_else(Refusal::not_found)?;
    Ok(([(CONTENT_TYPE, "application/octet-stream")], key).into_response())
}

pub(super) async fn delete(
    State(store): State<Arc<Store>>,
    Path(serial): Path<String>,
) -> Answered {
    let paths: Vec<String> = store.change(|model| {
        let machine = model.machines.get(&serial).ok_or_else(Refusal::not_found)?;
        if machine.status.state != MachineState::Retiring {
            return Err(Refusal::internal("machine is not retiring"));
        }
        Ok(model.crypts.remove(&serial).unwrap_or_default().into_keys().collect())
    })?;
    json_of(&paths)
}
