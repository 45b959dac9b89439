//! The request: one update of all members, stored at `status/current`.

use serde_json::{Map, Value};

use crate::wire::{DecodeError, Fields, Record, encode_object, object};
use crate::{Lrn, NecoVersion, RequestId, Timestamp};

/// One update of all members, as it stands at `status/current`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateRequest {
    /// The version every member is to run.
    pub version: NecoVersion,
    /// The members, in the order they were written.
    pub servers: Vec<Lrn>,
    /// Whether the members are to settle and start nothing more.
    pub stop: bool,
    /// When it was written, by the writer's clock; part of the identity, otherwise for people.
    pub started_at: Timestamp,
    /// Why it was made; absent when a Go leader made it.
    pub kind: Option<RequestKind>,
    /// The package to install; absent when a Go leader made the request or when nothing is to be installed.
    pub package: Option<PackageRef>,
    /// Whether members may go to an older version.
    pub allow_downgrade: bool,
    /// Whether a member may install although the package of its present version cannot be had.
    pub allow_no_way_back: bool,
    /// Set together with `stop` when the request is to be replaced without an operator.
    pub ending: Option<Ending>,
    /// Who stopped it, why and when; absent when a Go leader did.
    pub stopped: Option<StopNote>,
    /// Fields that this version does not know.
    pub unknown: Map<String, Value>,
}

/// Why a request was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// A newer release.
    Release,
    /// The set of boot servers changed.
    Reconfigure,
    /// An operator named the version.
    Manual,
    /// A kind of a later version of Neco: nothing is to be done for it.
    Unknown(String),
}

/// How a stopped request is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Replaced by a request without the members that left.
    Superseded,
    /// A way of a later version of Neco: wait for an operator.
    Unknown(String),
}

/// The package of a request: which bits every member installs.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PackageRef {
    /// The file's name in the release, such as `neco_2026.11.21-40152_amd64.deb`.
    pub file: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256 in lower-case hex.
    pub sha256: String,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// Who stopped a request.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StopNote {
    /// Who: an operator, or the updater on some host.
    pub by: String,
    /// Whether the leader stopped it, because it failed; otherwise an operator wished it.
    #[serde(default)]
    pub leader: bool,
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

impl UpdateRequest {
    /// A request for `version` by `servers` without anything special about it.
    pub fn new(version: NecoVersion, servers: Vec<Lrn>, started_at: Timestamp) -> Self {
        Self {
            version,
            servers,
            stop: false,
            started_at,
            kind: None,
            package: None,
            allow_downgrade: false,
            allow_no_way_back: false,
            ending: None,
            stopped: None,
            unknown: Map::new(),
        }
    }

    /// The identity, computed from version, time and servers.
    pub fn id(&self) -> RequestId {
        RequestId::of(&self.version, self.started_at, &self.servers)
    }

    /// Whether `lrn` is one of the members.
    pub fn is_member(&self, lrn: Lrn) -> bool {
        self.servers.contains(&lrn)
    }

    /// The members, ascending, each once.
    pub fn members(&self) -> std::collections::BTreeSet<Lrn> {
        self.servers.iter().copied().collect()
    }

    /// The server that installs first: the lowest of the members, living or not.
    pub fn first_server(&self) -> Option<Lrn> {
        self.servers.iter().min().copied()
    }
}

impl RequestKind {
    fn name(&self) -> &str {
        match self {
            Self::Release => "release",
            Self::Reconfigure => "reconfigure",
            Self::Manual => "manual",
            Self::Unknown(name) => name,
        }
    }

    fn from_name(name: String) -> Self {
        match name.as_str() {
            "release" => Self::Release,
            "reconfigure" => Self::Reconfigure,
            "manual" => Self::Manual,
            _ => Self::Unknown(name),
        }
    }
}

impl std::fmt::Display for RequestKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl Ending {
    fn name(&self) -> &str {
        match self {
            Self::Superseded => "superseded",
            Self::Unknown(name) => name,
        }
    }

    fn from_name(name: String) -> Self {
        match name.as_str() {
            "superseded" => Self::Superseded,
            _ => Self::Unknown(name),
        }
    }
}

impl PackageRef {
    fn to_value(&self) -> Value {
        let known = vec![
            ("file", self.file.as_str().into()),
            ("size", self.size.into()),
            ("sha256", self.sha256.as_str().into()),
        ];
        object(known, &self.unknown)
    }

    fn from_value(value: &Value) -> Option<Self> {
        let file = value.get("file")?.as_str()?;
        let sha256 = value.get("sha256")?.as_str()?;
        let is_file_name = !file.is_empty() && !file.contains('/') && file != "." && file != "..";
        let is_digest =
            sha256.len() == 64 && sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (is_file_name && is_digest).then_some(Self {
            file: file.to_owned(),
            size: value.get("size")?.as_u64()?,
            sha256: sha256.to_owned(),
            unknown: beside(value, &["file", "size", "sha256"]),
        })
    }
}

/// The fields of an object but for the known ones.
fn beside(object: &Value, known: &[&str]) -> Map<String, Value> {
    let fields = object.as_object().into_iter().flatten();
    let unknown = fields.filter(|(name, _)| !known.contains(&name.as_str()));
    unknown.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// A list as the original writes it: `null` when empty.
pub(crate) fn lrns_value(lrns: &[Lrn]) -> Value {
    if lrns.is_empty() {
        Value::Null
    } else {
        lrns.iter().map(|lrn| lrn.get()).collect::<Vec<_>>().into()
    }
}

impl Record for UpdateRequest {
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::parse(bytes)?;
        let request = Self {
            version: fields.version("version")?,
            servers: fields.lrns("servers")?.unwrap_or_default(),
            stop: fields.bool("stop")?,
            started_at: fields.timestamp("started_at")?,
            kind: fields.optional_string("kind")?.map(RequestKind::from_name),
            package: fields.with(
                "package",
                "an object with file, size and sha256",
                PackageRef::from_value,
            )?,
            allow_downgrade: fields.bool("allow_downgrade")?,
            allow_no_way_back: fields.bool("allow_no_way_back")?,
            ending: fields.optional_string("ending")?.map(Ending::from_name),
            stopped: fields.nested("stopped", "an object with by, reason and at")?,
            unknown: Map::new(),
        };
        // A claimed identity is dropped: the computed one is the truth, and it is written anew.
        let _claimed = fields.take("id");
        Ok(Self { unknown: fields.rest(), ..request })
    }

    fn encode(&self) -> Vec<u8> {
        let mut known = vec![
            ("version", Value::from(self.version.as_str())),
            ("servers", lrns_value(&self.servers)),
            ("stop", self.stop.into()),
            ("started_at", self.started_at.to_string().into()),
        ];
        if let Some(kind) = &self.kind {
            known.push(("id", self.id().as_str().into()));
            known.push(("kind", kind.name().into()));
        }
        if let Some(package) = &self.package {
            known.push(("package", package.to_value()));
        }
        if self.allow_downgrade {
            known.push(("allow_downgrade", true.into()));
        }
        if self.allow_no_way_back {
            known.push(("allow_no_way_back", true.into()));
        }
        if let Some(ending) = &self.ending {
            known.push(("ending", ending.name().into()));
        }
        if let Some(StopNote { by, leader, reason, at, unknown }) = &self.stopped {
            let note = vec![
                ("by", by.as_str().into()),
                ("leader", (*leader).into()),
                ("reason", reason.as_str().into()),
                ("at", at.to_string().into()),
            ];
            known.push(("stopped", object(note, unknown)));
        }
        encode_object(known, &self.unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_the_original_is_read_and_written_back_unchanged() {
        let text = r#"{"version":"1.0.0","servers":[0,10,1],"stop":true,"started_at":"2021-04-19T01:02:03.5Z"}"#;
        let request = UpdateRequest::decode(text.as_bytes()).expect("a request");
        assert_eq!(request.servers, [0, 10, 1].map(Lrn::new));
        assert_eq!(request.first_server(), Some(Lrn::new(0)));
        assert_eq!(String::from_utf8_lossy(&request.encode()), text);
    }

    #[test]
    fn null_servers_and_offsets_are_read() {
        let text = r#"{"version":"1.0.0","servers":null,"started_at":"2021-04-19T10:02:03+09:00"}"#;
        let request = UpdateRequest::decode(text.as_bytes()).expect("a request");
        assert!(request.servers.is_empty() && !request.stop);
        let expected = r#"{"version":"1.0.0","servers":null,"stop":false,"started_at":"2021-04-19T01:02:03Z"}"#;
        assert_eq!(String::from_utf8_lossy(&request.encode()), expected);
    }

    #[test]
    fn unknown_fields_survive_and_a_claimed_identity_does_not() {
        let text = r#"{"version":"1.0.0","servers":[1],"kind":"later","id":"ffff","x":{"y":[1]}}"#;
        let request = UpdateRequest::decode(text.as_bytes()).expect("a request");
        assert_eq!(request.kind, Some(RequestKind::Unknown("later".to_owned())));
        let again = UpdateRequest::decode(&request.encode()).expect("a request");
        assert_eq!(again, request);
        let value: Value = serde_json::from_slice(&request.encode()).expect("json");
        assert_eq!(value["id"], request.id().as_str());
        assert_eq!(value["x"]["y"][0], 1);
    }

    #[test]
    fn a_package_name_that_leaves_its_folder_is_refused() {
        let digest = "0".repeat(64);
        for file in ["../x.deb", "", "a/b"] {
            let text = format!(
                r#"{{"version":"1.0.0","package":{{"file":"{file}","size":1,"sha256":"{digest}"}}}}"#
            );
            assert!(UpdateRequest::decode(text.as_bytes()).is_err(), "{file}");
        }
    }
}
