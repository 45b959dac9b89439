//! Errors of unit jobs.

use std::path::PathBuf;
use std::time::Duration;

use neco_sandbox::{FaultError, LedgerError};
use neco_schema::Severity;
use serde::{Deserialize, Serialize};

use crate::UnitName;

/// What is asked of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Job {
    /// Make it start at boot.
    Enable,
    /// Make it not start at boot.
    Disable,
    /// Start it unless it runs.
    Start,
    /// Stop it if it runs.
    Stop,
    /// Stop it if it runs, and start it.
    Restart,
    /// Have it read its files again.
    Reload,
}

impl std::fmt::Display for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Reload => "reload",
        })
    }
}

/// Why a unit is not what it was asked to be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnitError {
    /// There is no definition of the unit.
    #[error("cannot {job} {unit}: there is no such unit")]
    NotFound {
        /// The unit.
        unit: UnitName,
        /// What was asked of it.
        job: Job,
    },
    /// The job ended with another result than done.
    #[error("cannot {job} {unit}: {result} (see `journalctl -u {unit}`)")]
    JobFailed {
        /// The unit.
        unit: UnitName,
        /// What was asked of it.
        job: Job,
        /// What came of it.
        result: String,
    },
    /// The unit is masked: somebody forbids everyone to start it.
    #[error(
        "cannot {job} {unit}: it is masked (see `systemctl status {unit}`; `systemctl unmask` lifts that)"
    )]
    Masked {
        /// The unit.
        unit: UnitName,
        /// What was asked of it.
        job: Job,
    },
    /// The call makes no sense, or may not be made.
    #[error("cannot {call}: {why}")]
    Refused {
        /// What was asked for, such as `stop vault.service`.
        call: String,
        /// Why not.
        why: String,
    },
    /// The machine is going down and takes no new jobs.
    #[error("cannot {call} while the machine goes down: {why}")]
    GoingDown {
        /// What was asked for.
        call: String,
        /// What systemd said.
        why: String,
    },
    /// This machine was not booted by systemd.
    #[error("cannot {call}: this machine was not booted by systemd ({} is absent)", path.display())]
    NotBooted {
        /// What was asked for.
        call: String,
        /// The folder that systemd makes at boot.
        path: PathBuf,
    },
    /// The system bus cannot be connected to.
    #[error(
        "cannot {call}: there is no system bus at {address} (see `systemctl status dbus.socket`)"
    )]
    NoBus {
        /// What was asked for.
        call: String,
        /// Where it should be.
        address: String,
        /// What connecting to it said.
        #[source]
        source: std::io::Error,
    },
    /// systemd was not there, or the connection to it was lost, so that what came of the call is unknown.
    #[error("cannot tell whether `{call}` was done: the connection to systemd was lost")]
    Lost {
        /// What was asked for.
        call: String,
        /// What the bus said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// systemd did not answer in time.
    #[error("systemd did not answer `{call}` within {after:?}")]
    NoAnswer {
        /// What was asked for.
        call: String,
        /// How long was waited.
        after: Duration,
    },
    /// systemd's answer cannot be understood.
    #[error("systemd's answer to `{call}` cannot be understood")]
    Answer {
        /// What was asked for.
        call: String,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The job did not end in time; it goes on.
    #[error("{job} {unit} did not end within {after:?}")]
    TimedOut {
        /// The unit.
        unit: UnitName,
        /// What was asked of it.
        job: Job,
        /// How long was waited.
        after: Duration,
    },
    /// The job was done, and a power cut may undo it.
    #[error("{job} {unit} may not outlive a power cut: syncing {}", path.display())]
    Unsynced {
        /// The unit.
        unit: UnitName,
        /// What was asked of it.
        job: Job,
        /// The folder that holds links to units.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: std::io::Error,
    },
    /// A unit file cannot be read.
    #[error("reading {path}")]
    Definition {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: std::io::Error,
    },
    /// The sandbox's record cannot be read or changed.
    #[error("keeping the sandbox's record of units")]
    Record(#[from] LedgerError),
    /// The sandbox's file of faults cannot be read.
    #[error("asking for the sandbox's faults")]
    Faults(#[source] FaultError),
    /// A task of this program ended before its time.
    #[error("the task that changes units was lost")]
    Task(#[from] tokio::task::JoinError),
}

impl UnitError {
    /// What this error asks for.
    pub fn severity(&self) -> Severity {
        match self {
            Self::TimedOut { .. }
            | Self::GoingDown { .. }
            | Self::NoBus { .. }
            | Self::Lost { .. }
            | Self::NoAnswer { .. } => Severity::TryAgain,
            Self::NotFound { .. }
            | Self::Masked { .. }
            | Self::Refused { .. }
            | Self::NotBooted { .. }
            | Self::JobFailed { .. }
            | Self::Unsynced { .. }
            | Self::Definition { .. }
            | Self::Record(_)
            | Self::Faults(_) => Severity::AskAPerson,
            Self::Answer { .. } | Self::Task(_) => Severity::Bug,
        }
    }

    /// The error that a fault of the sandbox stands for.
    pub(crate) fn asked(unit: &UnitName, job: Job, fault: FaultError) -> Self {
        match fault {
            FaultError::Asked { message } => {
                Self::JobFailed { unit: unit.clone(), job, result: message }
            }
            FaultError::Held { after, .. } => Self::TimedOut { unit: unit.clone(), job, after },
            other => Self::Faults(other),
        }
    }
}
