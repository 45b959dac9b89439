//! The client programs that an image brings for the server itself.

use std::path::PathBuf;

use neco_toml::Fields;
use serde::Serialize;

use super::files::is_plain_absolute;
use super::words;

/// How an image installs its client programs: it is run once, with the server's `/usr/local/bin` bound into it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InstallTools {
    /// What is run in the container.
    pub command: Vec<String>,
    /// Where the server's folder appears in it.
    pub bind: PathBuf,
}

impl InstallTools {
    /// The folder of the server.
    pub const FOLDER: &str = "/usr/local/bin";

    /// Reads `[install-tools]`.
    pub(super) fn read(fields: &Fields<'_>) -> Option<Self> {
        let command = words(fields, "command");
        if command.is_empty() {
            let remedy = "write what the image runs, such as [\"/usr/local/serf/install-tools\"]";
            fields.problem("command", "says nothing to run", remedy);
        }
        let bind = fields.required("bind", "say where /usr/local/bin appears in the container")?;
        if !is_plain_absolute(bind.value) {
            let what = format!("{:?} is not a plain absolute path", bind.value);
            fields.problem("bind", &what, "write one such as \"/host\"");
        }
        (!command.is_empty()).then(|| Self { command, bind: PathBuf::from(bind.value) })
    }
}
