//! The two operations of GraphQL that Neco uses (external-apis §1.8).

use std::net::Ipv4Addr;

use neco_schema::Timestamp;
use reqwest::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::exchange::{Exchange, Repeat};
use crate::machine::{Bmc, BmcInfo, MachineInfo, NetworkInfo};
use crate::wire::{Label, null_as_default, upper};
use crate::{
    GraphqlProblem, Machine, MachineParams, MachineSpec, MachineState, MachineStatus, NicConfig,
    Role, SabakanError, Serial,
};

const SEARCH_MACHINES: &str =
    "query searchMachines($having: MachineParams, $notHaving: MachineParams) {
  searchMachines(having: $having, notHaving: $notHaving) {
    spec {
      serial labels { name value } rack indexInRack role ipv4 registerDate retireDate
      bmc { bmcType ipv4 }
    }
    status { state timestamp duration }
    info {
      network { ipv4 { address netmask maskbits gateway } }
      bmc { ipv4 { address netmask maskbits gateway } }
    }
  }
}";

const SET_MACHINE_STATE: &str = "mutation setMachineState($serial: ID!, $state: MachineState!) {
  setMachineState(serial: $serial, state: $state) { state timestamp duration }
}";

pub(super) async fn search_machines(
    exchange: &Exchange,
    having: &MachineParams,
    not_having: &MachineParams,
) -> Result<Vec<Machine>, SabakanError> {
    #[derive(Deserialize)]
    struct Data {
        #[serde(rename = "searchMachines")]
        machines: Option<Vec<Found>>,
    }
    let variables = json!({ "having": having, "notHaving": not_having });
    let data: Data = run(exchange, "searchMachines", SEARCH_MACHINES, variables).await?;
    Ok(data.machines.unwrap_or_default().into_iter().map(Machine::from).collect())
}

pub(super) async fn set_machine_state(
    exchange: &Exchange,
    serial: &Serial,
    state: MachineState,
) -> Result<MachineStatus, SabakanError> {
    #[derive(Deserialize)]
    struct Data {
        #[serde(rename = "setMachineState")]
        status: FoundStatus,
    }
    let variables = json!({ "serial": serial, "state": upper(state) });
    let data: Data = run(exchange, "setMachineState", SET_MACHINE_STATE, variables).await?;
    Ok(data.status.into())
}

async fn run<T: DeserializeOwned>(
    exchange: &Exchange,
    operation: &str,
    query: &str,
    variables: Value,
) -> Result<T, SabakanError> {
    #[derive(Deserialize)]
    struct Said {
        #[serde(default)]
        data: Value,
        #[serde(default, deserialize_with = "null_as_default")]
        errors: Vec<Refusal>,
    }
    #[derive(Deserialize)]
    struct Refusal {
        message: String,
        #[serde(default)]
        extensions: Value,
    }
    let body = json!({ "operationName": operation, "query": query, "variables": variables });
    // Both operations may be repeated: a state that a machine has is no change.
    let answer = exchange
        .ask(Method::POST, &["graphql"], Repeat::Safe, |request| request.json(&body))
        .await?;
    let said: Said = answer.json()?;
    let call = format!("{operation} by {}", answer.call());
    if let Some(refusal) = said.errors.into_iter().next() {
        let kind = refusal.extensions.get("type").and_then(Value::as_str);
        let problem = match GraphqlProblem::from(kind) {
            // An unknown serial in a query has no type (external-apis §1.8).
            GraphqlProblem::Other(None) if refusal.message == "not found" => {
                GraphqlProblem::MachineNotFound
            }
            problem => problem,
        };
        return Err(SabakanError::Graphql { call, problem, message: refusal.message });
    }
    serde_json::from_value(said.data).map_err(|source| SabakanError::Malformed { call, source })
}

#[derive(Deserialize)]
struct Found {
    spec: FoundSpec,
    status: FoundStatus,
    info: FoundInfo,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundSpec {
    serial: Serial,
    #[serde(deserialize_with = "null_as_default")]
    labels: Vec<Label>,
    rack: u32,
    index_in_rack: u32,
    role: Role,
    #[serde(deserialize_with = "null_as_default")]
    ipv4: Vec<Ipv4Addr>,
    register_date: Timestamp,
    retire_date: Timestamp,
    bmc: FoundBmc,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundBmc {
    bmc_type: String,
    #[serde(default, with = "crate::wire::address")]
    ipv4: Option<Ipv4Addr>,
}

#[derive(Deserialize)]
struct FoundStatus {
    state: FoundState,
    timestamp: Timestamp,
    duration: f64,
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct FoundState(MachineState);

#[derive(Deserialize)]
struct FoundInfo {
    network: FoundNetwork,
    bmc: BmcInfo,
}

#[derive(Deserialize)]
struct FoundNetwork {
    #[serde(deserialize_with = "null_as_default")]
    ipv4: Vec<NicConfig>,
}

impl TryFrom<String> for FoundState {
    type Error = crate::MachineStateError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.to_ascii_lowercase().parse().map(Self)
    }
}

impl From<FoundStatus> for MachineStatus {
    fn from(found: FoundStatus) -> Self {
        let FoundStatus { state: FoundState(state), timestamp, duration } = found;
        Self { timestamp, duration, state }
    }
}

impl From<Found> for Machine {
    fn from(Found { spec, status, info }: Found) -> Self {
        let labels = spec.labels.into_iter().map(|label| (label.name, label.value)).collect();
        Self {
            spec: MachineSpec {
                serial: spec.serial,
                labels,
                rack: spec.rack,
                index_in_rack: spec.index_in_rack,
                role: spec.role,
                ipv4: spec.ipv4,
                register_date: spec.register_date,
                retire_date: spec.retire_date,
                bmc: Bmc { ipv4: spec.bmc.ipv4, kind: spec.bmc.bmc_type },
            },
            status: status.into(),
            info: MachineInfo { network: NetworkInfo { ipv4: info.network.ipv4 }, bmc: info.bmc },
        }
    }
}
