//! The reboot list of `neco-rebooter`.

use serde_json::{Map, Value};

use crate::wire::{DecodeError, Fields, Record, encode_object};

/// One entry of the reboot list, at `neco-rebooter/reboot-list/<16 hex digits>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RebootListEntry {
    /// Its place in the list; equals the key.
    pub index: i64,
    /// The node to reboot.
    pub node: String,
    /// The group it is rebooted with.
    pub group: String,
    /// The name of the allowed time window.
    pub reboot_time: String,
    /// How far it is.
    pub status: RebootStatus,
    /// Fields that this version does not know.
    pub unknown: Map<String, Value>,
}

/// How far a reboot is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RebootStatus {
    /// Waiting for its group.
    Pending,
    /// Handed to CKE.
    Queued,
    /// Cancelled by an operator.
    Cancelled,
    /// A status that this version does not know.
    Unknown(String),
}

impl RebootStatus {
    fn name(&self) -> &str {
        match self {
            Self::Pending => "Pending",
            Self::Queued => "Queued",
            Self::Cancelled => "Cancelled",
            Self::Unknown(name) => name,
        }
    }

    fn from_name(name: String) -> Self {
        match name.as_str() {
            "Pending" => Self::Pending,
            "Queued" => Self::Queued,
            "Cancelled" => Self::Cancelled,
            _ => Self::Unknown(name),
        }
    }
}

impl Record for RebootListEntry {
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::parse(bytes)?;
        let entry = Self {
            index: fields.int("index")?,
            node: fields.string("node")?,
            group: fields.string("group")?,
            reboot_time: fields.string("reboot_time")?,
            status: RebootStatus::from_name(fields.string("status")?),
            unknown: Map::new(),
        };
        Ok(Self { unknown: fields.rest(), ..entry })
    }

    fn encode(&self) -> Vec<u8> {
        let known = vec![
            ("index", Value::from(self.index)),
            ("node", self.node.as_str().into()),
            ("group", self.group.as_str().into()),
            ("reboot_time", self.reboot_time.as_str().into()),
            ("status", self.status.name().into()),
        ];
        encode_object(known, &self.unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_the_original_is_written_back_unchanged() {
        let text = r#"{"index":10,"node":"10.69.0.4","group":"rack1","reboot_time":"cs","status":"Pending"}"#;
        let entry = RebootListEntry::decode(text.as_bytes()).expect("an entry");
        assert_eq!(entry.status, RebootStatus::Pending);
        assert_eq!(String::from_utf8_lossy(&entry.encode()), text);
    }
}
