//! Machines (external-apis §1.2).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use ipnet::Ipv4Net;
use neco_schema::Timestamp;
use serde::Deserialize;

use super::answer::{Answered, Refusal, empty, json_of};
use super::model::{Model, now};
use super::settings::{body, body_json, ok};
use super::store::Store;
use crate::name::is_label;
use crate::wire::null_as_default;
use crate::{
    Bmc, BmcInfo, IpamConfig, Machine, MachineInfo, MachineSpec, MachineState, MachineStatus,
    NetworkInfo, NicConfig, Role, Serial,
};

const KEYS: [&str; 8] = ["serial", "rack", "role", "ipv4", "ipv6", "bmc-type", "state", "labels"];

pub(super) async fn search(
    State(store): State<Arc<Store>>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Answered {
    let asked: BTreeMap<_, _> = pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    let mut conditions = Vec::new();
    for key in KEYS {
        let (with, without) = (asked.get(key), asked.get(&format!("without-{key}")));
        if with.is_some() && without.is_some() {
            return Err(Refusal::invalid(format!("{key} and without-{key}")));
        }
        for (list, wanted) in [(with, true), (without, false)] {
            if let Some(list) = list {
                conditions.push((key, list.split(',').collect::<Vec<_>>(), wanted));
            }
        }
    }
    let malformed = conditions
        .iter()
        .any(|(key, list, _)| *key == "labels" && list.iter().any(|label| !label.contains('=')));
    if malformed {
        return Err(Refusal::internal("invalid labels query"));
    }
    let fits = |machine: &Machine| {
        conditions.iter().all(|(key, list, wanted)| has(machine, key, list) == *wanted)
    };
    let found: Vec<_> =
        store.look(|model| model.machines.values().filter(|m| fits(m)).map(as_of_now).collect());
    if found.is_empty() {
        return Err(Refusal::not_found());
    }
    json_of(&found)
}

/// Whether a machine has one of the values; of labels, all.
fn has(machine: &Machine, key: &str, list: &[&str]) -> bool {
    let spec = &machine.spec;
    let one_of = |value: &str| list.contains(&value);
    match key {
        "serial" => one_of(spec.serial.as_str()),
        "rack" => one_of(&spec.rack.to_string()),
        "role" => one_of(spec.role.as_str()),
        "ipv4" => spec.ipv4.iter().any(|address| one_of(&address.to_string())),
        "bmc-type" => one_of(&spec.bmc.kind),
        "state" => one_of(machine.status.state.as_str()),
        "labels" => list.iter().all(|label| {
            let (name, value) = label.split_once('=').unwrap_or_default();
            spec.labels.get(name).is_some_and(|has| has == value)
        }),
        // No machine has an address of IPv6.
        _ => false,
    }
}

pub(super) fn as_of_now(machine: &Machine) -> Machine {
    let mut machine = machine.clone();
    let since = now().get().duration_since(machine.status.timestamp.get());
    machine.status.duration = since.as_secs_f64();
    machine
}

/// A machine as it is registered.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct NewMachine {
    #[serde(default)]
    serial: String,
    #[serde(default, deserialize_with = "null_as_default")]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    rack: u32,
    #[serde(default)]
    role: String,
    retire_date: Option<Timestamp>,
    #[serde(default)]
    bmc: NewBmc,
}

#[derive(Debug, Default, Deserialize)]
struct NewBmc {
    #[serde(default, rename = "type")]
    kind: String,
}

pub(super) async fn register(State(store): State<Arc<Store>>, request: Request) -> Answered {
    let machines: Vec<NewMachine> = body_json(request).await?;
    let checked: Vec<_> = machines.into_iter().map(check).collect::<Result<_, _>>()?;
    store.change(|model| {
        let Some(ipam) = model.ipam.clone() else {
            return Err(Refusal::internal("IPAM configuration not found"));
        };
        checked.into_iter().try_for_each(|machine| add(model, &ipam, machine))
    })?;
    Ok(empty(StatusCode::CREATED))
}

fn check(machine: NewMachine) -> Result<(Serial, Role, NewMachine), Refusal> {
    let serial = Serial::new(machine.serial.clone()).map_err(Refusal::invalid)?;
    let role = Role::new(machine.role.clone()).map_err(Refusal::invalid)?;
    let is_value = |value: &String| value.is_empty() || is_label(value);
    if !machine.labels.iter().all(|(name, value)| is_label(name) && is_value(value)) {
        return Err(Refusal::invalid("bad label"));
    }
    let is_kind = |b: u8| b.is_ascii_alphanumeric() || b"-_/.".contains(&b);
    if machine.bmc.kind.is_empty() || !machine.bmc.kind.bytes().all(is_kind) {
        return Err(Refusal::invalid("bad BMC type"));
    }
    Ok((serial, role, machine))
}

fn add(
    model: &mut Model,
    ipam: &IpamConfig,
    (serial, role, machine): (Serial, Role, NewMachine),
) -> Result<(), Refusal> {
    let rack = machine.rack;
    let in_rack: Vec<&MachineSpec> =
        model.machines.values().map(|m| &m.spec).filter(|spec| spec.rack == rack).collect();
    let is_boot = role == Role::boot();
    if model.machines.contains_key(serial.as_str())
        || is_boot && in_rack.iter().any(|spec| spec.role == role)
    {
        return Err(Refusal::conflict());
    }
    let first = ipam.node_index_offset;
    let index = if is_boot {
        first
    } else {
        let mut free = first + 1..=first + ipam.max_nodes_in_rack;
        let is_free = |index: &u32| in_rack.iter().all(|spec| spec.index_in_rack != *index);
        free.find(is_free).ok_or_else(|| Refusal::internal("no node index is available"))?
    };
    let at = now();
    let nodes: Vec<NicConfig> = (0..ipam.node_ip_per_node)
        .map(|node| {
            let range = ipam.node_ip_per_node * rack + node;
            let offset = (range << ipam.node_ipv4_range_size) + index;
            let address = after(ipam.node_ipv4_pool, ipam.node_ipv4_offset, offset);
            nic(address, ipam.node_ipv4_range_mask, ipam.node_gateway_offset)
        })
        .collect();
    let offset = (rack << ipam.bmc_ipv4_range_size) + index;
    let bmc = nic(
        after(ipam.bmc_ipv4_pool, ipam.bmc_ipv4_offset, offset),
        ipam.bmc_ipv4_range_mask,
        ipam.bmc_ipv4_gateway_offset,
    );
    let machine = Machine {
        spec: MachineSpec {
            serial: serial.clone(),
            labels: machine.labels,
            rack,
            index_in_rack: index,
            role,
            ipv4: nodes.iter().map(|nic| nic.address).collect(),
            register_date: at,
            retire_date: machine.retire_date.unwrap_or(at),
            bmc: Bmc { ipv4: Some(bmc.address), kind: machine.bmc.kind },
        },
        status: MachineStatus { timestamp: at, duration: 0.0, state: MachineState::Uninitialized },
        info: MachineInfo {
            network: NetworkInfo { ipv4: nodes },
            bmc: BmcInfo { ipv4: Some(bmc) },
        },
    };
    model.machines.insert(serial.to_string(), machine);
    Ok(())
}

fn after(pool: Ipv4Net, begin: Option<Ipv4Addr>, offset: u32) -> Ipv4Addr {
    let begin = begin.map_or(0, u32::from);
    Ipv4Addr::from(u32::from(pool.network()).wrapping_add(begin).wrapping_add(offset))
}

fn nic(address: Ipv4Addr, mask: u32, gateway: u32) -> NicConfig {
    let maskbits = u8::try_from(mask).unwrap_or(32).min(32);
    let netmask = u32::MAX.checked_shl(32 - u32::from(maskbits)).unwrap_or(0);
    let network = u32::from(address) & netmask;
    NicConfig {
        address,
        netmask: Ipv4Addr::from(netmask),
        maskbits,
        gateway: Ipv4Addr::from(network.wrapping_add(gateway)),
    }
}

pub(super) async fn remove(
    State(store): State<Arc<Store>>,
    Path(serial): Path<String>,
) -> Answered {
    store.change(|model| {
        if machine(model, &serial)?.status.state != MachineState::Retired {
            return Err(Refusal::internal("non-retired machine cannot be deleted"));
        }
        model.machines.remove(&serial);
        Ok(())
    })?;
    ok()
}

pub(super) async fn get_state(
    State(store): State<Arc<Store>>,
    Path(serial): Path<String>,
) -> Answered {
    let state = store.look(|model| model.machines.get(&serial).map(|m| m.status.state));
    let state = state.ok_or_else(Refusal::not_found)?;
    Ok(([(CONTENT_TYPE, "text/plain")], state.as_str()).into_response())
}

pub(super) async fn put_state(
    State(store): State<Arc<Store>>,
    Path(serial): Path<String>,
    request: Request,
) -> Answered {
    let text = body(request, 128, Refusal::internal("too large")).await?;
    let state: MachineState = String::from_utf8_lossy(&text).parse().map_err(Refusal::invalid)?;
    store.change(|model| match set_state(model, &serial, state) {
        Ok(_) => Ok(()),
        Err(StateProblem::NotFound) => Err(Refusal::not_found()),
        Err(StateProblem::KeysExist) => Err(Refusal::invalid("encryption keys exist")),
        Err(problem @ StateProblem::NoWay { .. }) => Err(Refusal::internal(problem)),
    })?;
    ok()
}

/// Why a state cannot be set.
#[derive(Debug, thiserror::Error)]
pub(super) enum StateProblem {
    #[error("not found")]
    NotFound,
    #[error("encryption keys exist")]
    KeysExist,
    #[error("transition from [ {from} ] to [ {to} ] is forbidden")]
    NoWay { from: MachineState, to: MachineState },
}

pub(super) fn set_state(
    model: &mut Model,
    serial: &str,
    to: MachineState,
) -> Result<MachineStatus, StateProblem> {
    let has_keys = model.crypts.get(serial).is_some_and(|keys| !keys.is_empty());
    let machine = model.machines.get_mut(serial).ok_or(StateProblem::NotFound)?;
    let from = machine.status.state;
    if from != to {
        if !from.may_become(to) {
            return Err(StateProblem::NoWay { from, to });
        }
        if to == MachineState::Retired && has_keys {
            return Err(StateProblem::KeysExist);
        }
        machine.status = MachineStatus { timestamp: now(), duration: 0.0, state: to };
    }
    Ok(as_of_now(machine).status)
}

pub(super) async fn put_label(
    State(store): State<Arc<Store>>,
    Path((serial, name)): Path<(String, String)>,
    request: Request,
) -> Answered {
    let value = body(request, 1024, Refusal::internal("too large")).await?;
    let value = String::from_utf8_lossy(&value).into_owned();
    if !is_label(&name) || !(value.is_empty() || is_label(&value)) {
        return Err(Refusal::invalid("bad label"));
    }
    store.change(|model| {
        machine(model, &serial)?.spec.labels.insert(name, value);
        Ok(())
    })?;
    ok()
}

pub(super) async fn delete_label(
    State(store): State<Arc<Store>>,
    Path((serial, name)): Path<(String, String)>,
) -> Answered {
    store.change(|model| {
        let removed = machine(model, &serial)?.spec.labels.remove(&name);
        removed.map(drop).ok_or_else(Refusal::not_found)
    })?;
    ok()
}

pub(super) async fn put_retire_date(
    State(store): State<Arc<Store>>,
    Path(serial): Path<String>,
    request: Request,
) -> Answered {
    let text = body(request, 128, Refusal::invalid("too large")).await?;
    let date: Timestamp = String::from_utf8_lossy(&text).parse().map_err(Refusal::invalid)?;
    store.change(|model| {
        machine(model, &serial)?.spec.retire_date = date;
        Ok(())
    })?;
    ok()
}

fn machine<'a>(model: &'a mut Model, serial: &str) -> Result<&'a mut Machine, Refusal> {
    model.machines.get_mut(serial).ok_or_else(Refusal::not_found)
}
