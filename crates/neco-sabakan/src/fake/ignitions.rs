//! Ignition templates (external-apis §1.6).

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::answer::{Answered, Refusal, empty, json_of};
use super::settings::{body, ok};
use super::store::Store;
use crate::ignition::text;
use crate::{IgnitionId, IgnitionTemplate, Role};

/// How many templates of a role are kept.
const KEPT: usize = 10;

pub(super) async fn list(State(store): State<Arc<Store>>, Path(role): Path<String>) -> Answered {
    let role = Role::new(role).map_err(Refusal::invalid)?;
    let ids = store.look(|model| {
        let ids = model.ignitions.get(role.as_str()).into_iter().flat_map(|ids| ids.keys());
        sorted(ids)
    });
    // None is `null`.
    json_of(&Some(ids).filter(|ids| !ids.is_empty()))
}

pub(super) async fn get(
    State(store): State<Arc<Store>>,
    Path((role, id)): Path<(String, String)>,
) -> Answered {
    let (role, id) = names(role, id)?;
    let ids = |model: &super::model::Model| {
        model.ignitions.get(role.as_str()).and_then(|ids| ids.get(id.as_str())).cloned()
    };
    json_of(&store.look(ids).ok_or_else(Refusal::not_found)?)
}

pub(super) async fn put(
    State(store): State<Arc<Store>>,
    Path((role, id)): Path<(String, String)>,
    request: Request,
) -> Answered {
    let body = body(request, IgnitionTemplate::MAX, Refusal::invalid("too large")).await?;
    let (role, id) = names(role, id)?;
    let template: IgnitionTemplate = serde_json::from_slice(&body).map_err(Refusal::invalid)?;
    let stored = serde_json::to_value(&template).map_err(Refusal::internal)?;
    store.change(|model| {
        if model.ipam.is_none() {
            return Err(Refusal::invalid("IPAM configuration not found"));
        }
        render(&Value::Object(template.template.clone()), &template)?;
        let ids = model.ignitions.entry(role.to_string()).or_default();
        if ids.contains_key(id.as_str()) {
            return Err(Refusal::conflict());
        }
        ids.insert(id.to_string(), stored);
        let all = sorted(ids.keys());
        for old in all.iter().take(all.len().saturating_sub(KEPT)) {
            ids.remove(old.as_str());
        }
        Ok(())
    })?;
    Ok(empty(StatusCode::CREATED))
}

pub(super) async fn delete(
    State(store): State<Arc<Store>>,
    Path((role, id)): Path<(String, String)>,
) -> Answered {
    let (role, id) = names(role, id)?;
    store.change(|model| {
        let ids = model.ignitions.get_mut(role.as_str());
        ids.and_then(|ids| ids.remove(id.as_str())).map(drop).ok_or_else(Refusal::not_found)
    })?;
    ok()
}

fn names(role: String, id: String) -> Result<(Role, IgnitionId), Refusal> {
    let role = Role::new(role).map_err(Refusal::invalid)?;
    Ok((role, IgnitionId::new(id).map_err(Refusal::invalid)?))
}

fn sorted<'a>(ids: impl Iterator<Item = &'a String>) -> Vec<IgnitionId> {
    let mut ids: Vec<_> = ids.filter_map(|id| IgnitionId::new(id.clone()).ok()).collect();
    ids.sort_by(IgnitionId::cmp_version);
    ids
}

/// As far as a stand-in renders: every text must be one that can be rendered.
fn render(value: &Value, template: &IgnitionTemplate) -> Result<(), Refusal> {
    match value {
        Value::String(text) => {
            let decoded = match text.strip_prefix("data:,") {
                Some(data) => percent_decode_str(data).decode_utf8_lossy().into_owned(),
                None => text.clone(),
            };
            let mistakes = text::check(&decoded, &|key| template.meta.contains_key(key));
            match mistakes.first() {
                Some(mistake) => Err(Refusal::invalid(&mistake.what)),
                None => Ok(()),
            }
        }
        Value::Array(list) => list.iter().try_for_each(|value| render(value, template)),
        Value::Object(map) => map.values().try_for_each(|value| render(value, template)),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}
