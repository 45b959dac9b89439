//! What boot servers, the leader and operators record beside the request.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::wire::{DecodeError, Fields, Record, encode_object, object};
use crate::{Lrn, NecoVersion, RecipeDigest, RequestId, Timestamp};

/// How a boot server stands in its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// Not running; here: settled.
    NotRunning,
    /// Running the step, or waiting at its barrier.
    Running,
    /// The update failed here or was given up.
    Abort,
    /// All steps done.
    Complete,
    /// A number that this version does not know.
    Other(i64),
}

impl Condition {
    /// The number on the wire.
    pub fn code(self) -> i64 {
        match self {
            Self::NotRunning => 0,
            Self::Running => 1,
            Self::Abort => 2,
            Self::Complete => 3,
            Self::Other(code) => code,
        }
    }

    /// The condition with this number.
    pub fn from_code(code: i64) -> Self {
        match code {
            0 => Self::NotRunning,
            1 => Self::Running,
            2 => Self::Abort,
            3 => Self::Complete,
            other => Self::Other(other),
        }
    }
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::NotRunning => "not running",
            Self::Running => "running",
            Self::Abort => "aborted",
            Self::Complete => "completed",
            Self::Other(_) => "unknown",
        })
    }
}

/// Where an abort began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The server on which it began.
    pub lrn: Lrn,
    /// The step it was in.
    pub step: u32,
    /// What happened.
    pub cause: String,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// The state of one boot server, at `status/bootservers/<LRN>`; written by that server once per transition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateStatus {
    /// The version of the request this belongs to.
    pub version: NecoVersion,
    /// The step, counted from 1; 0 before the first.
    pub step: u32,
    /// How it stands in that step.
    pub cond: Condition,
    /// For people; why, when aborted.
    pub message: String,
    /// The request this belongs to; absent when a Go worker wrote it.
    pub request: Option<RequestId>,
    /// Where the abort began, when aborted.
    pub origin: Option<Origin>,
    /// Fields that this version does not know.
    pub unknown: Map<String, Value>,
}

impl UpdateStatus {
    /// Whether this status belongs to the request `id` for `version`: by its `request`, or by version alone when a Go
    /// worker wrote it.
    pub fn belongs_to(&self, id: &RequestId, version: &NecoVersion) -> bool {
        match &self.request {
            Some(request) => request == id,
            None => self.version == *version,
        }
    }

    /// Whether nothing more comes after this status: settled, aborted or complete.
    pub fn is_closed(&self) -> bool {
        matches!(self.cond, Condition::NotRunning | Condition::Abort | Condition::Complete)
    }
}

impl Record for UpdateStatus {
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::parse(bytes)?;
        let status = Self {
            version: fields.version("version")?,
            step: small(&mut fields, "step")?,
            cond: Condition::from_code(fields.int("cond")?),
            message: fields.string("message")?,
            request: fields.optional_string("request")?.map(RequestId::claimed),
            origin: fields.nested("origin", "an object with lrn, step and cause")?,
            unknown: Map::new(),
        };
        Ok(Self { unknown: fields.rest(), ..status })
    }

    fn encode(&self) -> Vec<u8> {
        let mut known = vec![
            ("version", Value::from(self.version.as_str())),
            ("step", self.step.into()),
            ("cond", self.cond.code().into()),
            ("message", self.message.as_str().into()),
        ];
        if let Some(request) = &self.request {
            known.push(("request", request.as_str().into()));
        }
        if let Some(Origin { lrn, step, cause, unknown }) = &self.origin {
            let origin = vec![
                ("lrn", lrn.get().into()),
                ("step", (*step).into()),
                ("cause", cause.as_str().into()),
            ];
            known.push(("origin", object(origin, unknown)));
        }
        encode_object(known, &self.unknown)
    }
}

fn small(fields: &mut Fields, field: &'static str) -> Result<u32, DecodeError> {
    let convert = |value: &Value| u32::try_from(value.as_u64()?).ok();
    Ok(fields.with(field, "a non-negative integer", convert)?.unwrap_or_default())
}

/// How a once-per-cluster step ended, at `contents/<name>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentsStatus {
    /// The version it was done for.
    pub version: NecoVersion,
    /// Whether it succeeded.
    pub success: bool,
    /// The request it was done for; absent when a Go worker did it.
    pub request: Option<RequestId>,
    /// Digest of everything that went into it; absent when a Go worker did it.
    pub inputs: Option<String>,
    /// Fields that this version does not know.
    pub unknown: Map<String, Value>,
}

impl Record for ContentsStatus {
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::parse(bytes)?;
        let status = Self {
            version: fields.version("version")?,
            success: fields.bool("success")?,
            request: fields.optional_string("request")?.map(RequestId::claimed),
            inputs: fields.optional_string("inputs")?,
            unknown: Map::new(),
        };
        Ok(Self { unknown: fields.rest(), ..status })
    }

    fn encode(&self) -> Vec<u8> {
        let mut known =
            vec![("version", Value::from(self.version.as_str())), ("success", self.success.into())];
        if let Some(request) = &self.request {
            known.push(("request", request.as_str().into()));
        }
        if let Some(inputs) = &self.inputs {
            known.push(("inputs", inputs.as_str().into()));
        }
        encode_object(known, &self.unknown)
    }
}

/// Implements [`Record`] for a record of ours by its serde form; unknown fields go to `unknown`.
macro_rules! serde_record {
    ($type:ty) => {
        impl $crate::Record for $type {
            fn decode(bytes: &[u8]) -> Result<Self, $crate::DecodeError> {
                serde_json::from_slice(bytes).map_err(|error| $crate::wire::syntax(&error))
            }

            fn encode(&self) -> Vec<u8> {
                // Converting first drops nothing and cannot fail: every field is a plain value.
                let value = serde_json::to_value(self).unwrap_or_default();
                let fields = value.as_object().cloned().unwrap_or_default();
                $crate::encode_object(Vec::new(), &fields)
            }
        }
    };
}
pub(crate) use serde_record;

/// What a boot server is doing inside a step, at `progress/<LRN>`; at most one write per 2 s.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The request it belongs to.
    pub request: RequestId,
    /// The step; 0 while the package is being installed.
    pub step: u32,
    /// How often this step was begun here, from 1.
    pub attempt: u32,
    /// What is being done, in words.
    pub doing: String,
    /// Bytes done so far, where bytes are what counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Bytes in all, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
    /// Since when, by the server's clock; for people.
    pub since: Timestamp,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}
serde_record!(Progress);

/// What a request would change on a boot server, at `plan/<LRN>`; written before step 1 is posted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberPlan {
    /// The request it belongs to.
    pub request: RequestId,
    /// The recipe this server will follow; equal on all members or the request is aborted.
    pub recipe: RecipeDigest,
    /// The names of the components that would change here.
    #[serde(default)]
    pub changes: Vec<String>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}
serde_record!(MemberPlan);

/// How long a request and its current step have been led and not paused, at `clock/<id>`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ClockRecord {
    /// Nanoseconds counted for the request.
    pub elapsed: u64,
    /// The step that `step_elapsed` belongs to: the lowest that any member is in.
    pub step: u32,
    /// Nanoseconds counted since a member last made progress in that step.
    pub step_elapsed: u64,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}
serde_record!(ClockRecord);

/// The version an operator asked for, at `control/target`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The version.
    pub version: NecoVersion,
    /// Whether to stay on it when newer releases come.
    #[serde(default)]
    pub pinned: bool,
    /// Whether it may be older than what runs.
    #[serde(default)]
    pub allow_downgrade: bool,
    /// Whether to install although the present version's package cannot be had.
    #[serde(default)]
    pub allow_no_way_back: bool,
    /// Who asked.
    #[serde(default)]
    pub by: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// When.
    #[serde(default)]
    pub at: Timestamp,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}
serde_record!(Target);

/// An operator's order without further content: `control/pause`, `control/withdrawn/<version>`, `control/epoch`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Control {
    /// Who gave it.
    #[serde(default)]
    pub by: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// When.
    #[serde(default)]
    pub at: Timestamp,
    /// For `control/epoch`: the number that only grows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}
serde_record!(Control);

/// A release that a leader has seen, at `seen/<version>`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Seen {
    /// When it was first seen.
    pub at: Timestamp,
    /// The last request for this version that ended aborted, and when; it is not chosen again by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aborted: Option<RequestId>,
    /// The package that was resolved for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<crate::PackageRef>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}
serde_record!(Seen);

#[cfg(test)]
mod tests {
    use super::*;

    // reference/neco-cd-core.md §12.5, status JSON round trip.
    #[test]
    fn a_status_survives_a_round_trip() {
        let text = r#"{"version":"1.2.3","step":3,"cond":2,"message":"msg"}"#;
        let status = UpdateStatus::decode(text.as_bytes()).expect("a status");
        assert_eq!(
            (status.step, status.cond, status.message.as_str()),
            (3, Condition::Abort, "msg")
        );
        assert_eq!(String::from_utf8_lossy(&status.encode()), text);
    }

    #[test]
    fn our_fields_survive_and_unknown_ones_too() {
        let text = r#"{"version":"1.2.3","step":3,"cond":7,"message":"","request":"43eef0a3d1a72173","origin":{"lrn":1,"step":3,"cause":"x"},"later":[1]}"#;
        let status = UpdateStatus::decode(text.as_bytes()).expect("a status");
        assert_eq!(status.cond, Condition::Other(7));
        assert_eq!(String::from_utf8_lossy(&status.encode()), text);
    }

    #[test]
    fn a_go_status_belongs_by_version_and_ours_by_request() {
        let version: NecoVersion = "1.2.3".parse().expect("a version");
        let id = RequestId::claimed("a");
        let mut status = UpdateStatus::decode(br#"{"version":"1.2.3"}"#).expect("a status");
        assert!(status.belongs_to(&id, &version));
        status.request = Some(RequestId::claimed("b"));
        assert!(!status.belongs_to(&id, &version));
    }

    #[test]
    fn records_of_ours_keep_unknown_fields() {
        let text = r#"{"request":"a","recipe":"d","changes":["serf"],"later":{"x":1}}"#;
        let plan = MemberPlan::decode(text.as_bytes()).expect("a plan");
        assert_eq!(String::from_utf8_lossy(&plan.encode()), text);
        let text = r#"{"version":"1.0.0","pinned":true,"allow_downgrade":false,"allow_no_way_back":false,"by":"a\u003cb","reason":"","at":"2026-11-21T08:00:00Z"}"#;
        let target = Target::decode(text.as_bytes()).expect("a target");
        assert_eq!(String::from_utf8_lossy(&target.encode()), text);
    }
}
