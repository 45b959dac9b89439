//! OS images that machines boot (external-apis §1.4).

use neco_schema::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ImageId;
use crate::wire::null_as_default;

/// The one operating system that sabakan boots, as it stands in paths (external-apis §1.4).
pub const OS: &str = "coreos";

/// An OS image in the index, which has the newest at its end (external-apis §1.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OsImage {
    /// Its id: the version of the operating system.
    pub id: ImageId,
    /// When it was uploaded first.
    #[serde(default)]
    pub date: Timestamp,
    /// How many bytes it has.
    #[serde(default)]
    pub size: u64,
    /// Who has a copy.
    #[serde(default, deserialize_with = "null_as_default")]
    pub urls: Vec<String>,
    /// Whether the server that was asked has one.
    #[serde(default)]
    pub exists: bool,
}
