//! GraphQL (external-apis §1.8): one query and one mutation, and the query for one machine.

mod parse;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use neco_schema::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use self::parse::{Field, Kind, Operation};
use super::answer::Refusal;
use super::machines::{StateProblem, as_of_now, set_state};
use super::model::now;
use super::settings::body;
use super::store::Store;
use crate::wire::{null_as_default, upper};
use crate::{Machine, MachineState, MachineStatus, NicConfig};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    query: String,
    #[serde(default, deserialize_with = "null_as_default")]
    variables: Map<String, Value>,
    operation_name: Option<String>,
}

/// What is wrong with a document, rather than with what it asks for: 422.
#[derive(Debug)]
struct Invalid(String);

/// What a resolver has to say against what it was asked.
struct Trouble {
    message: String,
    extensions: Option<Value>,
}

enum Failure {
    Invalid(Invalid),
    Trouble(Trouble),
}

impl From<Invalid> for Failure {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

pub(super) async fn post(State(store): State<Arc<Store>>, request: Request) -> Response {
    let is_json = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.starts_with("application/json"));
    let body = match body(request, 1 << 20, Refusal::invalid("too large")).await {
        Ok(body) => body,
        Err(refusal) => return refusal.into_response(),
    };
    if !is_json {
        return Refusal::invalid("transport not supported").into_response();
    }
    match serde_json::from_slice(&body) {
        Ok(asked) => answer(&store, asked, true),
        Err(error) => Refusal::invalid(error).into_response(),
    }
}

pub(super) async fn get(
    State(store): State<Arc<Store>>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Response {
    let value = |key: &str| pairs.iter().find(|(k, _)| k == key).map(|(_, value)| value.clone());
    let variables = value("variables").map(|text| serde_json::from_str(&text));
    let Ok(variables) = variables.transpose() else {
        return Refusal::invalid("bad variables").into_response();
    };
    let asked = Asked {
        query: value("query").unwrap_or_default(),
        variables: variables.unwrap_or_default(),
        operation_name: value("operationName"),
    };
    answer(&store, asked, false)
}

fn answer(store: &Store, asked: Asked, may_change: bool) -> Response {
    let result = parse::operation(&asked.query, asked.operation_name.as_deref(), &asked.variables)
        .map_err(Failure::from)
        .and_then(|operation| {
            if operation.kind == Kind::Mutation && !may_change {
                return Err(Invalid("mutations need POST".to_owned()).into());
            }
            run(store, &operation)
        });
    match result {
        Ok((data, errors)) if errors.is_empty() => Json(json!({ "data": data })).into_response(),
        Ok((_, errors)) => Json(json!({ "data": null, "errors": errors })).into_response(),
        Err(Failure::Trouble(trouble)) => {
            Json(json!({ "data": null, "errors": [{ "message": trouble.message }] }))
                .into_response()
        }
        Err(Failure::Invalid(Invalid(message))) => {
            let extensions = json!({ "code": "GRAPHQL_VALIDATION_FAILED" });
            let errors = json!([{ "message": message, "extensions": extensions }]);
            let body = json!({ "errors": errors, "data": null });
            (StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response()
        }
    }
}

fn run(store: &Store, operation: &Operation) -> Result<(Value, Vec<Value>), Failure> {
    let mut data = Map::new();
    let mut errors = Vec::new();
    for field in &operation.fields {
        let result = match (operation.kind, field.name.as_str()) {
            (Kind::Query, "searchMachines") => search(store, field),
            (Kind::Query, "machine") => machine(store, field),
            (Kind::Mutation, "setMachineState") => change(store, field),
            (_, name) => return Err(Invalid(format!("Cannot query field {name:?}")).into()),
        };
        match result {
            Ok(value) => {
                data.insert(field.key.clone(), project(value, field)?);
            }
            Err(Failure::Trouble(trouble)) => {
                let mut error = json!({ "message": trouble.message, "path": [field.key] });
                if let (Some(extensions), Some(error)) = (trouble.extensions, error.as_object_mut())
                {
                    error.insert("extensions".to_owned(), extensions);
                }
                errors.push(error);
            }
            Err(invalid) => return Err(invalid),
        }
    }
    Ok((Value::Object(data), errors))
}

/// What was asked for of a value, and nothing else.
fn project(value: Value, field: &Field) -> Result<Value, Invalid> {
    match value {
        Value::Array(list) => {
            let list = list.into_iter().map(|value| project(value, field));
            Ok(Value::Array(list.collect::<Result<_, _>>()?))
        }
        Value::Object(mut map) => {
            if field.fields.is_empty() {
                return Err(Invalid(format!("Field {:?} must have a selection", field.name)));
            }
            let mut projected = Map::new();
            for inner in &field.fields {
                let value = map.get_mut(&inner.name).map(Value::take);
                let unknown = || Invalid(format!("Cannot query field {:?}", inner.name));
                let value = project(value.ok_or_else(unknown)?, inner)?;
                projected.insert(inner.key.clone(), value);
            }
            Ok(Value::Object(projected))
        }
        Value::Null => Ok(Value::Null),
        leaf if field.fields.is_empty() => Ok(leaf),
        _ => Err(Invalid(format!("Field {:?} must not have a selection", field.name))),
    }
}

/// Conditions of a search.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Params {
    #[serde(default, deserialize_with = "null_as_default")]
    labels: Vec<crate::wire::Label>,
    #[serde(default, deserialize_with = "null_as_default")]
    racks: Vec<u32>,
    #[serde(default, deserialize_with = "null_as_default")]
    roles: Vec<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    states: Vec<GraphState>,
    min_days_before_retire: Option<i64>,
}

/// A state as GraphQL writes it.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct GraphState(MachineState);

impl TryFrom<String> for GraphState {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let state = MachineState::ALL.into_iter().find(|state| upper(*state) == text);
        state.map(Self).ok_or_else(|| format!("{text} is not a valid MachineState"))
    }
}

fn search(store: &Store, field: &Field) -> Result<Value, Failure> {
    field.only(&["having", "notHaving"])?;
    let having: Params = argument(field, "having")?;
    let not_having: Params = argument(field, "notHaving")?;
    let today = now();
    let found = store.look(|model| {
        let found = model.machines.values();
        let found = found.filter(|m| has_all(m, &having, today) && !has_any(m, &not_having, today));
        found.map(|machine| full(&as_of_now(machine))).collect()
    });
    Ok(Value::Array(found))
}

fn machine(store: &Store, field: &Field) -> Result<Value, Failure> {
    field.only(&["serial"])?;
    let serial: String = required(field, "serial")?;
    let machine = store.look(|model| model.machines.get(&serial).map(as_of_now));
    let unknown = Trouble { message: "not found".to_owned(), extensions: None };
    machine.map(|machine| full(&machine)).ok_or(Failure::Trouble(unknown))
}

fn change(store: &Store, field: &Field) -> Result<Value, Failure> {
    field.only(&["serial", "state"])?;
    let serial: String = required(field, "serial")?;
    let GraphState(state) = required(field, "state")?;
    let mut problem = None;
    let changed = store.change(|model| {
        set_state(model, &serial, state).map_err(|error| {
            let refusal = Refusal::internal(&error);
            problem = Some(error);
            refusal
        })
    });
    changed.map(|now| status(&now)).map_err(|refusal| {
        let kind = match problem {
            Some(StateProblem::NotFound) => "MACHINE_NOT_FOUND",
            Some(StateProblem::KeysExist) => "ENCRYPTION_KEY_EXISTS",
            Some(StateProblem::NoWay { .. }) => "INVALID_STATE_TRANSITION",
            None => "INTERNAL_SERVER_ERROR",
        };
        let message = problem.map_or(refusal.error, |problem| problem.to_string());
        let extensions = json!({ "serial": serial, "type": kind });
        Failure::Trouble(Trouble { message, extensions: Some(extensions) })
    })
}

fn argument<T: serde::de::DeserializeOwned + Default>(
    field: &Field,
    name: &str,
) -> Result<T, Invalid> {
    match field.arguments.get(name) {
        None | Some(Value::Null) => Ok(T::default()),
        Some(value) => {
            serde_json::from_value(value.clone()).map_err(|error| Invalid(error.to_string()))
        }
    }
}

fn required<T: serde::de::DeserializeOwned>(field: &Field, name: &str) -> Result<T, Invalid> {
    let value = field.arguments.get(name).cloned().unwrap_or_default();
    serde_json::from_value(value).map_err(|error| Invalid(error.to_string()))
}

fn days(machine: &Machine, today: Timestamp) -> i64 {
    machine.spec.retire_date.seconds_since(today).div_euclid(24 * 60 * 60)
}

fn has_label(machine: &Machine, label: &crate::wire::Label) -> bool {
    machine.spec.labels.get(&label.name) == Some(&label.value)
}

fn has_all(machine: &Machine, params: &Params, today: Timestamp) -> bool {
    fn one<T>(list: &[T], fits: impl FnMut(&T) -> bool) -> bool {
        list.is_empty() || list.iter().any(fits)
    }
    params.labels.iter().all(|label| has_label(machine, label))
        && one(&params.racks, |rack| *rack == machine.spec.rack)
        && one(&params.roles, |role| role == machine.spec.role.as_str())
        && one(&params.states, |state| state.0 == machine.status.state)
        && params.min_days_before_retire.is_none_or(|min| days(machine, today) >= min)
}

fn has_any(machine: &Machine, params: &Params, today: Timestamp) -> bool {
    params.labels.iter().any(|label| has_label(machine, label))
        || params.racks.contains(&machine.spec.rack)
        || params.roles.iter().any(|role| role == machine.spec.role.as_str())
        || params.states.iter().any(|state| state.0 == machine.status.state)
        || params.min_days_before_retire.is_some_and(|min| days(machine, today) >= min)
}

/// A machine with all its fields.
fn full(machine: &Machine) -> Value {
    let spec = &machine.spec;
    let labels: Vec<_> =
        spec.labels.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
    // No labels are `null`.
    let labels = if labels.is_empty() { Value::Null } else { Value::Array(labels) };
    let nics: Vec<_> = machine.info.network.ipv4.iter().map(nic).collect();
    json!({
        "spec": {
            "serial": spec.serial,
            "labels": labels,
            "rack": spec.rack,
            "indexInRack": spec.index_in_rack,
            "role": spec.role,
            "ipv4": spec.ipv4,
            "registerDate": spec.register_date,
            "retireDate": spec.retire_date,
            "bmc": { "bmcType": spec.bmc.kind, "ipv4": spec.bmc.ipv4 },
        },
        "status": status(&machine.status),
        "info": {
            "network": { "ipv4": nics },
            "bmc": { "ipv4": machine.info.bmc.ipv4.as_ref().map(nic) },
        },
    })
}

fn status(status: &MachineStatus) -> Value {
    let MachineStatus { timestamp, duration, state } = status;
    json!({ "state": upper(*state), "timestamp": timestamp, "duration": duration })
}

fn nic(nic: &NicConfig) -> Value {
    let NicConfig { address, netmask, maskbits, gateway } = nic;
    json!({ "address": address, "netmask": netmask, "maskbits": maskbits, "gateway": gateway })
}

impl Field {
    /// Refuses arguments that there are not.
    fn only(&self, known: &[&str]) -> Result<(), Invalid> {
        let known: BTreeSet<_> = known.iter().copied().collect();
        match self.arguments.keys().find(|name| !known.contains(name.as_str())) {
            Some(name) => Err(Invalid(format!("Unknown argument {name:?}"))),
            None => Ok(()),
        }
    }
}
