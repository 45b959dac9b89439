//! Odd shapes of sabakan's JSON, read leniently.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::MachineState;

/// `null` where a list or a map is meant is an empty one.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// An address that may be missing: `null` or an empty text.
pub(crate) mod address {
    use std::net::Ipv4Addr;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(crate) fn serialize<S: Serializer>(
        address: &Option<Ipv4Addr>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match address {
            Some(address) => serializer.collect_str(address),
            None => serializer.serialize_str(""),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Ipv4Addr>, D::Error> {
        match Option::<String>::deserialize(deserializer)?.as_deref() {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(de::Error::custom),
        }
    }
}

/// Labels as GraphQL has them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Label {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// Writes labels as GraphQL has them.
pub(crate) fn labels<S: Serializer>(
    labels: &BTreeMap<String, String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let labels = labels.iter();
    serializer
        .collect_seq(labels.map(|(name, value)| Label { name: name.clone(), value: value.clone() }))
}

/// Writes states as GraphQL has them.
pub(crate) fn upper_states<S: Serializer>(
    states: &[MachineState],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(states.iter().map(|state| upper(*state)))
}

/// A state as GraphQL has it.
pub(crate) fn upper(state: MachineState) -> String {
    state.as_str().to_ascii_uppercase()
}
