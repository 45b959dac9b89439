//! What happened: `history/<time>-<id>`, `history/<time>-<id>/<LRN>` and `order/<time>`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::status::serde_record;
use crate::{Lrn, NecoVersion, Origin, RequestId, Timestamp};

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Every member completed it.
    Completed,
    /// A member aborted, a deadline passed, or the version was withdrawn.
    Aborted,
    /// An operator stopped it.
    Stopped,
    /// Replaced because a member left.
    Superseded,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Completed => "completed",
            Self::Aborted => "aborted",
            Self::Stopped => "stopped",
            Self::Superseded => "superseded",
        })
    }
}

/// The record of one request, written in the transaction that ends or replaces it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryRecord {
    /// The request's identity.
    pub id: RequestId,
    /// The version it was for.
    pub version: NecoVersion,
    /// Its members.
    pub servers: Vec<Lrn>,
    /// Why it was made; empty when a Go leader made it.
    #[serde(default)]
    pub kind: String,
    /// When it was written.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// How it ended.
    pub outcome: Outcome,
    /// Who ended it: `updater on <host>` or an operator.
    #[serde(default)]
    pub by: String,
    /// Why it ended so; empty when completed.
    #[serde(default)]
    pub cause: String,
    /// Where an abort began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// The notices that were sent about it.
    #[serde(default)]
    pub notices: Vec<Notice>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}
serde_record!(HistoryRecord);

/// A notice that was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Where it went, such as `slack`.
    pub to: String,
    /// When.
    pub at: Timestamp,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// The part of one boot server in a request; written by that server together with its status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryServer {
    /// The server.
    pub lrn: Lrn,
    /// When each step began and ended, by the server's clock.
    #[serde(default)]
    pub steps: Vec<StepTimes>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}
serde_record!(HistoryServer);

/// What an operator ordered, at `order/<time>`; for people. Written in the transaction that carries the order out.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OrderNote {
    /// The order, in the words of the command line.
    #[serde(default)]
    pub order: String,
    /// Who gave it.
    #[serde(default)]
    pub by: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}
serde_record!(OrderNote);

/// When one step began and ended on one server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepTimes {
    /// The step, from 1.
    pub step: u32,
    /// When it was posted.
    pub begun: Timestamp,
    /// When the next was posted; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Record;

    #[test]
    fn fields_of_a_later_version_survive_wherever_they_stand() {
        let text = concat!(
            r#"{"id":"43eef0a3d1a72173","version":"2026.11.21-40152","servers":[0],"kind":"release","#,
            r#""started_at":"2026-11-21T08:00:00Z","ended_at":"2026-11-21T08:10:00Z","outcome":"aborted","#,
            r#""by":"b","cause":"c","origin":{"lrn":0,"step":1,"cause":"c","later":[1]},"#,
            r#""notices":[{"to":"slack","at":"2026-11-21T08:11:00Z","later":{"a":"b"}}],"later":true}"#
        );
        let record = HistoryRecord::decode(text.as_bytes()).expect("readable");
        let value: Value = serde_json::from_slice(&record.encode()).expect("JSON");
        assert_eq!(value["later"], true);
        assert_eq!(value["origin"]["later"], serde_json::json!([1]));
        assert_eq!(value["notices"][0]["later"]["a"], "b");

        let text = r#"{"lrn":0,"steps":[{"step":1,"begun":"2026-11-21T08:00:00Z","later":2}]}"#;
        let record = HistoryServer::decode(text.as_bytes()).expect("readable");
        let value: Value = serde_json::from_slice(&record.encode()).expect("JSON");
        assert_eq!(value["steps"][0]["later"], 2);
    }
}
