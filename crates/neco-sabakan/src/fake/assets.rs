//! Assets (external-apis §1.5).

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::IntoResponse;
use axum::{Extension, Json};
use serde_json::json;

use super::answer::{Answered, Refusal, json_of};
use super::model::now;
use super::serve::Advertised;
use super::settings::ok;
use super::store::Store;
use crate::name::is_label;
use crate::{AssetMeta, AssetName, AssetUpload, ContentDigest};

const OPTION: &str = "x-sabakan-asset-options-";

pub(super) async fn list(State(store): State<Arc<Store>>) -> Answered {
    let names: Vec<String> = store.look(|model| model.assets.keys().cloned().collect());
    json_of(&names)
}

pub(super) async fn put(
    State(store): State<Arc<Store>>,
    Extension(Advertised(advertised)): Extension<Advertised>,
    Path(name): Path<String>,
    request: Request,
) -> Answered {
    let headers = request.headers().clone();
    // All is read before anything is refused, so that whoever sends it has ears for the answer.
    let received = store.receive(request.into_body(), |_| {}).await?;
    let name = AssetName::new(name).map_err(Refusal::invalid)?;
    let content_type = text(&headers, CONTENT_TYPE).unwrap_or_default();
    if content_type.is_empty() {
        return Err(Refusal::invalid("content type is not specified"));
    }
    if !headers.contains_key(CONTENT_LENGTH) {
        return Err(Refusal::new(411, "content-length is required"));
    }
    if received.size > AssetUpload::MAX {
        return Err(Refusal::new(413, "too large asset"));
    }
    if let Some(announced) = text(&headers, HeaderName::from_static("x-sabakan-asset-sha256")) {
        let announced: ContentDigest = announced.parse().map_err(Refusal::invalid)?;
        if announced != received.sha256 {
            return Err(Refusal::internal("checksum mismatch"));
        }
    }
    let options = options(&headers)?;
    let (id, is_new) = store.change(|model| {
        model.last_asset_id += 1;
        let id = model.last_asset_id.to_string();
        let meta = AssetMeta {
            name: name.clone(),
            id: id.clone(),
            content_type,
            date: now(),
            size: received.size,
            sha256: received.sha256,
            urls: vec![format!("{advertised}api/v1/assets/{name}")],
            exists: true,
            options,
        };
        Ok((id, model.assets.insert(name.to_string(), meta).is_none()))
    })?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(json!({ "status": status.as_u16(), "id": id }))).into_response())
}

fn options(headers: &HeaderMap) -> Result<BTreeMap<String, String>, Refusal> {
    let mut options = BTreeMap::new();
    for (name, value) in headers {
        if let Some(key) = name.as_str().strip_prefix(OPTION) {
            let value = value.to_str().map_err(Refusal::invalid)?;
            if !is_label(key) || !(value.is_empty() || is_label(value)) {
                return Err(Refusal::invalid("bad option"));
            }
            options.insert(key.to_owned(), value.to_owned());
        }
    }
    Ok(options)
}

pub(super) async fn get(State(store): State<Arc<Store>>, Path(name): Path<String>) -> Answered {
    let meta = find(&store, &name)?;
    if !meta.exists {
        let elsewhere = meta.urls.first().cloned().ok_or_else(Refusal::not_found)?;
        return Ok((StatusCode::FOUND, [(LOCATION, elsewhere)]).into_response());
    }
    let body = store.content(&meta.sha256).await?;
    let headers = [
        (CONTENT_TYPE, meta.content_type),
        (CONTENT_LENGTH, meta.size.to_string()),
        (HeaderName::from_static("x-sabakan-asset-id"), meta.id),
        (HeaderName::from_static("x-sabakan-asset-sha256"), meta.sha256.to_string()),
    ];
    Ok((headers, body).into_response())
}

pub(super) async fn meta(State(store): State<Arc<Store>>, Path(name): Path<String>) -> Answered {
    json_of(&find(&store, &name)?)
}

pub(super) async fn delete(State(store): State<Arc<Store>>, Path(name): Path<String>) -> Answered {
    store.change(|model| model.assets.remove(&name).map(drop).ok_or_else(Refusal::not_found))?;
    ok()
}

fn find(store: &Store, name: &str) -> Result<AssetMeta, Refusal> {
    store.look(|model| model.assets.get(name).cloned()).ok_or_else(Refusal::not_found)
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}
