//! Who is there and who may act: `alive/`, `turn/`, `group/`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::status::serde_record;
use crate::{Lrn, NecoVersion, RequestId, Timestamp};

/// A living boot server, at `alive/<LRN>`, bound to a lease of 30 s.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    /// `/etc/machine-id`: another machine with the same LRN may not overwrite the record.
    pub machine_id: String,
    /// The kernel's boot id.
    #[serde(default)]
    pub boot_id: String,
    /// The version of the running worker.
    pub version: NecoVersion,
    /// The server's address, for people.
    #[serde(default)]
    pub address: String,
    /// What is open and must not be cut off: intents, groups, running steps; empty when nothing is.
    #[serde(default)]
    pub busy: Vec<String>,
    /// Why this server could not take an update now (disk space, no way back); empty when it could.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unfit: Vec<String>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}
serde_record!(Alive);

impl Alive {
    /// Begins the entry of [`Alive::unfit`] that says that the package of the installed version cannot be had; it does not
    /// keep a server from a request that installs nothing, or that allows it.
    pub const NO_WAY_BACK: &str = "no way back";
}

/// The permission to do something that only one server may do at a time, at `turn/<name>`; without a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Its holder.
    pub lrn: Lrn,
    /// The request for which it was taken.
    pub request: RequestId,
    /// Since when, by the holder's clock; for people.
    #[serde(default)]
    pub since: Timestamp,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}
serde_record!(Turn);

/// The way an outage group goes, decided once for all members, at `group/<name>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The request it was decided for.
    pub request: RequestId,
    /// The way.
    pub way: Way,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}
serde_record!(Group);

/// The way out of an outage group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// Start what the new version defines.
    Forward,
    /// Start again what ran before.
    Back,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Record;

    #[test]
    fn a_way_is_one_of_two() {
        let text = r#"{"request":"a","way":"back"}"#;
        let group = Group::decode(text.as_bytes()).expect("a group");
        assert_eq!(group.way, Way::Back);
        assert_eq!(String::from_utf8_lossy(&group.encode()), text);
        assert!(Group::decode(br#"{"request":"a","way":"sideways"}"#).is_err());
    }
}
