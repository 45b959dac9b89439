//! The client programs that an image brings for the server itself.

use std::path::PathBuf;

use neco_toml::Fields;
use serde::Serialize;

use super::files::is_plain_absolute;
use super::{Place, words};

/// How an image installs its client programs: it is run once, with the server's `/usr/local/bin` bound into it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InstallTools {
    /// What is run in the container.
    pub command: Vec<String>,
    /// Where the server's folder appears in it.
    pub bind: PathBuf,
    /// Files that the installed programs write about themselves, such as completions of a shell.
    pub outputs: Vec<ToolOutput>,
}

/// A file that holds what an installed program says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ToolOutput {
    /// What is run on the server once the programs are installed.
    pub command: Vec<String>,
    /// The file that takes its standard output.
    pub path: PathBuf,
    /// Where its component speaks of it.
    #[serde(skip)]
    pub(crate) place: Place,
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
        let bind = PathBuf::from(bind.value);
        let mut outputs = Vec::new();
        for (number, table) in (1..).zip(fields.tables("output")) {
            outputs.extend(ToolOutput::read(&table, number));
            table.finish();
        }
        (!command.is_empty()).then_some(Self { command, bind, outputs })
    }
}

impl ToolOutput {
    /// Reads `[[install-tools.output]]` number `number`.
    fn read(fields: &Fields<'_>, number: usize) -> Option<Self> {
        let command = words(fields, "command");
        if !command.first().is_some_and(|program| is_plain_absolute(program)) {
            let remedy = "write one such as [\"/usr/local/bin/agent\", \"completion\"]";
            fields.problem("command", "does not begin with the absolute path of a program", remedy);
            return None;
        }
        let path = fields.required("path", "say which file takes what the program says")?;
        if !is_plain_absolute(path.value) {
            let what = format!("{:?} is not a plain absolute path", path.value);
            fields.problem("path", &what, "write one such as \"/etc/bash_completion.d/agent\"");
            return None;
        }
        let place =
            Place { line: path.line, field: format!("install-tools.output[{number}].path") };
        Some(Self { command, path: PathBuf::from(path.value), place })
    }
}
