//! How long machines have been bad, which a leader leaves to the next one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Timestamp;
use crate::status::serde_record;

/// Since when machines are bad that are not told unhealthy yet, at `sabakan-state-setter/grace-periods`. Absent: none is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GracePeriods {
    /// By the clock of the leader that saw it first; the keys are serials.
    #[serde(default)]
    pub since: BTreeMap<String, Timestamp>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}
serde_record!(GracePeriods);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Record as _;

    #[test]
    fn what_a_later_version_adds_stays() {
        let text = br#"{"since":{"abc":"2026-11-21T08:00:00Z"},"colour":"red"}"#;
        let record = GracePeriods::decode(text).expect("a record");
        assert_eq!(record.since["abc"].to_string(), "2026-11-21T08:00:00Z");
        assert_eq!(record.encode(), text);
        assert_eq!(GracePeriods::decode(b"{}"), Ok(GracePeriods::default()));
        assert!(GracePeriods::decode(br#"{"since":{"abc":"soon"}}"#).is_err());
    }
}
