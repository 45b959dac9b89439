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
    ///
    /// # Errors
    /// The disk does not give it: whether it was begun is not known.
    pub(crate) fn load(root: &Root, intent: &IntentId) -> Result<Option<Self>, FileError> {
        let path = root.join(Path::new(FILE));
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(FileError::new("reading", path, error)),
        };
        // Replaced in one piece: what is no stage is not ours, and the installation begins anew.
        let stage = serde_json::from_slice::<Self>(&text).ok();
        Ok(stage.filter(|stage| stage.intent == *intent))
    }

    pub(crate) fn save(&self, root: &Root) -> Result<(), FileError> {
        let text = serde_json::to_vec(self).unwrap_or_default();
        replace(&RealFs, root, FILE, &text, 0o644, None).map(|_| ())
    }
}
