//! How far an installation is, kept on the disk so that it goes on after a power cut.

use std::path::Path;

use neco_host::{FileError, RealFs, Root, replace};
use neco_schema::PackageRef;
use neco_schema::journal::IntentId;
use serde::{Deserialize, Serialize};

const FILE: &str = "/var/lib/neco/install.json";

/// How far an installation is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stage {
    /// The installation.
    pub(crate) intent: IntentId,
    /// The daemons that ran before and must run after.
    pub(crate) daemons: Vec<String>,
    /// The way back as it was verified before anything was changed: by the keys of the version that it holds.
    pub(crate) way_back: Option<PackageRef>,
    /// Why it goes back; absent while it goes forward.
    pub(crate) failed: Option<String>,
}

impl Stage {
    /// The stage of `intent`, where it was begun.
    pub(crate) fn load(root: &Root, intent: &IntentId) -> Option<Self> {
        let text = std::fs::read(root.join(Path::new(FILE))).ok()?;
        // Replaced in one piece: what cannot be read is not ours, and the installation begins anew.
        serde_json::from_slice::<Self>(&text).ok().filter(|stage| stage.intent == *intent)
    }

    pub(crate) fn save(&self, root: &Root) -> Result<(), FileError> {
        let text = serde_json::to_vec(self).unwrap_or_default();
        replace(&RealFs, root, FILE, &text, 0o644, None).map(|_| ())
    }
}
