//! What must hold before a component counts as applied.

use std::path::PathBuf;
use std::time::Duration;

use neco_toml::{Fields, Name};
use serde::Serialize;

use super::files::is_plain_absolute;
use super::units::UnitSpec;
use super::words;

/// What must hold before a component counts as applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ready {
    /// All of these.
    pub probes: Vec<Probe>,
    /// Within this time.
    pub within: Duration,
}

/// Something that can be asked about a running program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Probe {
    /// Whether this unit is active.
    UnitActive(String),
    /// Whether a GET is answered as expected.
    Http {
        /// What is asked, on this server.
        url: String,
        /// The answers that are right.
        status: Vec<u16>,
        /// The authority whose certificate the program shows, a PEM file; that of the system if unset.
        ca: Option<PathBuf>,
    },
    /// Whether somebody listens there.
    Tcp {
        /// Host and port.
        address: String,
    },
    /// Whether a command ends with success.
    Command {
        /// The program with its path, and its arguments.
        command: Vec<String>,
    },
    /// Whether code of the worker says so, because data cannot express it.
    Check {
        /// The code's name.
        check: Name,
    },
}

impl Ready {
    /// Reads `[ready]`.
    pub(super) fn read(fields: &Fields<'_>, running: Option<&UnitSpec>) -> Option<Self> {
        let mut probes = Vec::new();
        if fields.choice("unit", &[("active", ())]).is_some() {
            match running {
                Some(unit) => probes.push(Probe::UnitActive(unit.name.clone())),
                None => fields.problem(
                    "unit",
                    "this component has no unit that is kept running",
                    "add [unit] or remove this line",
                ),
            }
        }
        for table in fields.tables("http") {
            probes.extend(http(&table));
            table.finish();
        }
        for table in fields.tables("tcp") {
            let remedy = "write host and port, such as \"127.0.0.1:2379\"";
            let address = table.required("address", remedy);
            if let Some(address) = &address
                && !is_address(address.value)
            {
                table.problem("address", &format!("{:?} is none", address.value), remedy);
            }
            probes.extend(address.map(|found| Probe::Tcp { address: found.value.to_owned() }));
            table.finish();
        }
        for table in fields.tables("command") {
            let command = words(&table, "command");
            if command.first().is_none_or(|program| !is_plain_absolute(program)) {
                let remedy = "write the program with its whole path, then its arguments";
                table.problem("command", "says no program to run", remedy);
            }
            probes.push(Probe::Command { command });
            table.finish();
        }
        let check = fields.parsed::<Name>("check");
        probes.extend(check.map(|check| Probe::Check { check: check.value }));
        let said = ["unit", "http", "tcp", "command", "check"];
        if !said.iter().any(|field| fields.has(field)) {
            fields.problem("", "says nothing that could be asked", "write unit = \"active\"");
        }
        if !fields.has("within") {
            fields.problem("within", "is missing", "say how long to wait, such as \"30s\"");
        }
        let within = fields.duration("within");
        Some(Self { probes, within: within? })
    }
}

fn http(fields: &Fields<'_>) -> Option<Probe> {
    let remedy = "write an address of this server, such as \"http://127.0.0.1:10080/health\"";
    let url = fields.required("url", remedy)?;
    let rest = url.value.strip_prefix("http://").or_else(|| url.value.strip_prefix("https://"));
    let plain = |rest: &str| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_graphic());
    if !rest.is_some_and(plain) {
        fields.problem("url", &format!("{:?} cannot be asked", url.value), remedy);
    }
    let mut status = Vec::new();
    for found in fields.numbers("status") {
        match u16::try_from(found.value).ok().filter(|code| (100..=599).contains(code)) {
            Some(code) => status.push(code),
            None => {
                let what = format!("{} is no status of HTTP", found.value);
                fields.problem_at(found.line, "status", &what, "write some such as [200, 429]");
            }
        }
    }
    if status.is_empty() {
        status.push(200);
    }
    let ca = fields.text("ca").map(|found| {
        if !is_plain_absolute(found.value) {
            let what = format!("{:?} is not a plain absolute path", found.value);
            fields.problem("ca", &what, "write the path of a PEM file");
        }
        PathBuf::from(found.value)
    });
    Some(Probe::Http { url: url.value.to_owned(), status, ca })
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && host.chars().all(|c| c.is_ascii_graphic())
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

impl std::fmt::Display for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnitActive(unit) => write!(f, "{unit} to be active"),
            Self::Http { url, .. } => write!(f, "{url} to answer"),
            Self::Tcp { address } => write!(f, "somebody to listen on {address}"),
            Self::Command { command } => write!(f, "{} to succeed", command.join(" ")),
            Self::Check { check } => write!(f, "{check}"),
        }
    }
}
