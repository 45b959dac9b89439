//! Machines as sabakan registers them (external-apis §1.2).

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use neco_schema::Timestamp;
use serde::{Deserialize, Serialize};

use crate::wire::null_as_default;
use crate::{Role, Serial};

/// A machine (external-apis §1.2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// What it is.
    pub spec: MachineSpec,
    /// How it is.
    pub status: MachineStatus,
    /// Its addresses, with what belongs to them.
    #[serde(default)]
    pub info: MachineInfo,
}

/// What a machine is (external-apis §1.2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MachineSpec {
    /// Its serial.
    pub serial: Serial,
    /// Its labels.
    #[serde(default, deserialize_with = "null_as_default")]
    pub labels: BTreeMap<String, String>,
    /// The rack that it stands in.
    #[serde(default)]
    pub rack: u32,
    /// Its place among the addresses of the rack.
    #[serde(default)]
    pub index_in_rack: u32,
    /// What it is for.
    pub role: Role,
    /// The addresses node0, node1, node2.
    #[serde(default, deserialize_with = "null_as_default")]
    pub ipv4: Vec<Ipv4Addr>,
    /// When it was registered.
    #[serde(default)]
    pub register_date: Timestamp,
    /// When it is to be given back.
    #[serde(default)]
    pub retire_date: Timestamp,
    /// Its management controller.
    #[serde(default)]
    pub bmc: Bmc,
}

/// The management controller of a machine (external-apis §1.2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bmc {
    /// Its address, if it has one yet.
    #[serde(default, with = "crate::wire::address")]
    pub ipv4: Option<Ipv4Addr>,
    /// How it is spoken to, such as `IPMI-2.0`.
    #[serde(default, rename = "type")]
    pub kind: String,
}

/// How a machine is (external-apis §1.2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineStatus {
    /// Since when it is in its state.
    #[serde(default)]
    pub timestamp: Timestamp,
    /// For how many seconds, as of the answer.
    #[serde(default)]
    pub duration: f64,
    /// The state.
    pub state: MachineState,
}

/// The addresses of a machine with what belongs to them (external-apis §1.2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineInfo {
    /// Those of the machine.
    #[serde(default)]
    pub network: NetworkInfo,
    /// That of its management controller.
    #[serde(default)]
    pub bmc: BmcInfo,
}

/// The addresses of a machine (external-apis §1.2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkInfo {
    /// One for each of [`MachineSpec::ipv4`].
    #[serde(default, deserialize_with = "null_as_default")]
    pub ipv4: Vec<NicConfig>,
}

/// The address of a management controller (external-apis §1.2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BmcInfo {
    /// The address, where sabakan tells it.
    #[serde(default)]
    pub ipv4: Option<NicConfig>,
}

/// An address with what belongs to it (external-apis §1.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicConfig {
    /// The address.
    pub address: Ipv4Addr,
    /// The mask of its network.
    pub netmask: Ipv4Addr,
    /// The same as a number of bits.
    pub maskbits: u8,
    /// The way out of its network.
    pub gateway: Ipv4Addr,
}

/// The state of a machine (external-apis §1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MachineState {
    /// Registered, and never seen well.
    Uninitialized,
    /// Well.
    Healthy,
    /// Something of it is broken.
    Unhealthy,
    /// It does not answer.
    Unreachable,
    /// It is being updated.
    Updating,
    /// It is being emptied.
    Retiring,
    /// It holds nothing any more.
    Retired,
}

impl MachineState {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Uninitialized,
        Self::Healthy,
        Self::Unhealthy,
        Self::Unreachable,
        Self::Updating,
        Self::Retiring,
        Self::Retired,
    ];

    /// As it stands in REST bodies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Uninitialized => "uninitialized",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Unreachable => "unreachable",
            Self::Updating => "updating",
            Self::Retiring => "retiring",
            Self::Retired => "retired",
        }
    }

    /// Whether sabakan lets a machine go from this state to `to`; the same state is no way to go (external-apis §1.2).
    pub const fn may_become(self, to: Self) -> bool {
        use MachineState::{
            Healthy, Retired, Retiring, Unhealthy, Uninitialized, Unreachable, Updating,
        };
        matches!(
            (self, to),
            (Uninitialized, Healthy | Retiring)
                | (Healthy, Unhealthy | Unreachable | Updating | Retiring)
                | (Unhealthy, Healthy | Unreachable | Updating | Retiring)
                | (Unreachable, Healthy | Unhealthy | Updating | Retiring)
                | (Updating | Retired, Uninitialized)
                | (Retiring, Retired)
        )
    }
}

impl std::fmt::Display for MachineState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for MachineState {
    type Err = MachineStateError;

    fn from_str(text: &str) -> Result<Self, MachineStateError> {
        let state = Self::ALL.into_iter().find(|state| state.as_str() == text);
        state.ok_or_else(|| MachineStateError { text: text.to_owned() })
    }
}

/// A text that is no [`MachineState`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no state of a machine")]
pub struct MachineStateError {
    text: String,
}

/// Which machines are asked for: those that fit `with` and do not fit `without` (external-apis §1.2). No condition is in
/// both: sabakan takes that for a mistake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineQuery {
    /// What they have.
    pub with: MachineFilter,
    /// What they do not have. A machine is left out if it has one of the values of a condition, of the labels only if it
    /// has all.
    pub without: MachineFilter,
}

/// Conditions on machines; one without values is none (external-apis §1.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineFilter {
    /// One of these serials.
    pub serial: Vec<Serial>,
    /// One of these racks.
    pub rack: Vec<u32>,
    /// One of these roles.
    pub role: Vec<Role>,
    /// One of these addresses, never that of a management controller.
    pub ipv4: Vec<Ipv4Addr>,
    /// One of these addresses.
    pub ipv6: Vec<Ipv6Addr>,
    /// One of these kinds of management controllers.
    pub bmc_type: Vec<String>,
    /// One of these states.
    pub state: Vec<MachineState>,
    /// All of these labels.
    pub labels: BTreeMap<String, String>,
}

impl MachineQuery {
    /// The machine with this serial.
    pub fn serial(serial: Serial) -> Self {
        Self {
            with: MachineFilter { serial: vec![serial], ..Default::default() },
            ..Default::default()
        }
    }

    /// The machine with this node address.
    pub fn ipv4(address: Ipv4Addr) -> Self {
        Self {
            with: MachineFilter { ipv4: vec![address], ..Default::default() },
            ..Default::default()
        }
    }

    /// The machines with this role in this rack.
    pub fn in_rack(rack: u32, role: Role) -> Self {
        let with = MachineFilter { rack: vec![rack], role: vec![role], ..Default::default() };
        Self { with, ..Default::default() }
    }

    /// As it stands in an address: pairs of key and values.
    pub(crate) fn pairs(&self) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        for (prefix, filter) in [("", &self.with), ("without-", &self.without)] {
            for (key, value) in filter.pairs() {
                if !value.is_empty() {
                    pairs.push((format!("{prefix}{key}"), value));
                }
            }
        }
        pairs
    }

    /// The condition that is in both halves, if there is one.
    pub(crate) fn contradiction(&self) -> Option<&'static str> {
        let halves = self.with.pairs().into_iter().zip(self.without.pairs());
        let mut both =
            halves.filter(|((_, with), (_, without))| !with.is_empty() && !without.is_empty());
        both.next().map(|((key, _), _)| key)
    }
}

impl std::fmt::Display for MachineQuery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pairs = self.pairs();
        if pairs.is_empty() {
            return f.write_str("all machines");
        }
        f.write_str("machines with ")?;
        for (index, (key, value)) in pairs.iter().enumerate() {
            let and = if index == 0 { "" } else { " and " };
            write!(f, "{and}{key} {value}")?;
        }
        Ok(())
    }
}

impl MachineFilter {
    /// Every key with its values as sabakan wants them; an empty value is no condition.
    fn pairs(&self) -> [(&'static str, String); 8] {
        fn list<T: ToString>(values: &[T]) -> String {
            values.iter().map(T::to_string).collect::<Vec<_>>().join(",")
        }
        let labels: Vec<_> =
            self.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        [
            ("serial", list(&self.serial)),
            ("rack", list(&self.rack)),
            ("role", list(&self.role)),
            ("ipv4", list(&self.ipv4)),
            ("ipv6", list(&self.ipv6)),
            ("bmc-type", list(&self.bmc_type)),
            ("state", list(&self.state)),
            ("labels", labels.join(",")),
        ]
    }
}

/// Conditions of a search by GraphQL (external-apis §1.8). As what machines have: all labels, one of the racks, roles and
/// states, and no less than the days. As what they do not have: any of it leaves a machine out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineParams {
    /// Labels.
    #[serde(serialize_with = "crate::wire::labels", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Racks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub racks: Vec<u32>,
    /// Roles.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Role>,
    /// States.
    #[serde(serialize_with = "crate::wire::upper_states", skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<MachineState>,
    /// How many days they are kept yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_days_before_retire: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_read_with_its_null_lists_and_fields_of_tomorrow() {
        let text = r#"{"spec":{"serial":"1234abcd","labels":null,"rack":1,"index-in-rack":4,"role":"cs",
            "ipv4":null,"ipv6":null,"register-date":"2026-11-21T08:00:00Z","retire-date":"0001-01-01T00:00:00Z",
            "bmc":{"ipv4":"","ipv6":"","type":"IPMI-2.0"},"colour":"red"},
            "status":{"timestamp":"2026-11-21T08:00:00Z","duration":1.5,"state":"healthy"},
            "info":{"network":{"ipv4":null},"bmc":{"ipv4":{"address":"10.72.16.68","netmask":"255.255.240.0",
            "maskbits":20,"gateway":"10.72.16.1"}}}}"#;
        let machine: Machine = serde_json::from_str(text).expect("a machine");
        assert!(machine.spec.labels.is_empty() && machine.spec.ipv4.is_empty());
        assert_eq!(machine.spec.bmc.ipv4, None);
        assert_eq!(machine.status.state, MachineState::Healthy);
        assert_eq!(machine.info.bmc.ipv4.expect("an address").maskbits, 20);
    }

    #[test]
    fn a_query_is_pairs_of_keys_and_lists() {
        let role = Role::new("boot").expect("a role");
        let mut query = MachineQuery::in_rack(0, role.clone());
        query.without.state = vec![MachineState::Retired, MachineState::Retiring];
        query.with.labels =
            [("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())].into();
        let pairs = query.pairs();
        let pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(
            pairs,
            [
                ("rack", "0"),
                ("role", "boot"),
                ("labels", "a=1,b="),
                ("without-state", "retired,retiring")
            ]
        );
        assert_eq!(
            query.to_string(),
            "machines with rack 0 and role boot and labels a=1,b= and without-state retired,retiring"
        );
        assert_eq!(query.contradiction(), None);
        query.without.role = vec![role];
        assert_eq!(query.contradiction(), Some("role"));
    }

    #[test]
    fn states_have_the_ways_that_sabakan_has() {
        use MachineState::{Healthy, Retired, Retiring, Unhealthy, Uninitialized, Updating};
        assert!(Uninitialized.may_become(Healthy) && !Uninitialized.may_become(Unhealthy));
        assert!(Updating.may_become(Uninitialized) && !Updating.may_become(Healthy));
        assert!(Retiring.may_become(Retired) && Retired.may_become(Uninitialized));
        assert!(!Healthy.may_become(Healthy));
        let ways = |from: MachineState| {
            MachineState::ALL.into_iter().filter(|to| from.may_become(*to)).count()
        };
        assert_eq!(MachineState::ALL.map(ways), [2, 4, 4, 4, 1, 1, 1]);
        for state in MachineState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
    }
}
