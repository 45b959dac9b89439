//! Ignition templates as they lie in sabakan (external-apis §1.6).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A template with what its texts may refer to (external-apis §1.6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IgnitionTemplate {
    /// The version of ignition.
    pub version: IgnitionVersion,
    /// An ignition configuration, in whose texts sabakan evaluates `{{ }}` for each machine.
    pub template: Map<String, Value>,
    /// The values of `Metadata`.
    #[serde(default, deserialize_with = "crate::wire::null_as_default")]
    pub meta: Map<String, Value>,
}

impl IgnitionTemplate {
    /// The most bytes that sabakan takes (external-apis §1.6).
    pub const MAX: usize = 2 << 20;
}

/// The versions of ignition that sabakan knows (external-apis §1.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IgnitionVersion {
    /// 2.2, which a source file means that says nothing (neco-daemons §7.2).
    #[default]
    #[serde(rename = "2.2")]
    V2_2,
    /// 2.3.
    #[serde(rename = "2.3")]
    V2_3,
}

impl IgnitionVersion {
    /// As it stands in templates and source files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2_2 => "2.2",
            Self::V2_3 => "2.3",
        }
    }
}

impl std::fmt::Display for IgnitionVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for IgnitionVersion {
    type Err = IgnitionVersionError;

    fn from_str(text: &str) -> Result<Self, IgnitionVersionError> {
        match text {
            "2.2" => Ok(Self::V2_2),
            "2.3" => Ok(Self::V2_3),
            _ => Err(IgnitionVersionError { text: text.to_owned() }),
        }
    }
}

/// A text that is no [`IgnitionVersion`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no version of ignition that sabakan knows; it knows 2.2 and 2.3")]
pub struct IgnitionVersionError {
    text: String,
}
