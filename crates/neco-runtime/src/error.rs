//! Errors of container engines.

use std::path::PathBuf;
use std::time::Duration;

use neco_sandbox::{FaultError, LedgerError};
use neco_schema::Severity;

use crate::ImageRef;

/// Why a container engine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The container engine is away, or it hangs.
    #[error("Docker does not answer at {}: {why}", socket.display())]
    Away {
        /// Where it was asked.
        socket: PathBuf,
        /// How that failed.
        why: String,
    },
    /// The container engine does not listen to this user.
    #[error("no right to use Docker at {}; run this as root", socket.display())]
    Forbidden {
        /// Where it was asked.
        socket: PathBuf,
    },
    /// Credentials of a registry cannot be had.
    #[error("cannot read registry credentials: {why}")]
    Login {
        /// Where they were sought, what is wrong and what to do; holds no secret.
        why: String,
    },
    /// An image could not be transferred.
    #[error("cannot pull {image}: {reason}")]
    Pull {
        /// The image.
        image: ImageRef,
        /// What the engine said.
        reason: String,
        /// Whether another try may help.
        severity: Severity,
    },
    /// The disk on which the engine keeps images does not take one.
    #[error("the engine has no room for {image}: {reason}")]
    Disk {
        /// The image.
        image: ImageRef,
        /// What the engine said.
        reason: String,
        /// The same in the words of the operating system, by which whoever waits for disks knows it.
        #[source]
        source: std::io::Error,
    },
    /// An image that is to be run was not pulled.
    #[error("image {image} is not on this machine; pull it first")]
    ImageMissing {
        /// The image.
        image: ImageRef,
    },
    /// A container name is in use.
    #[error("container {name} runs already, from image {image}")]
    NameTaken {
        /// The name.
        name: String,
        /// What it runs, as the engine says it.
        image: String,
    },
    /// A container does not run.
    #[error("container {name} does not run")]
    NotRunning {
        /// The name.
        name: String,
    },
    /// A command in a container ended with another status than 0.
    #[error("{call} failed{}: {}", status.map(|status| format!(" with status {status}")).unwrap_or_default(), stderr.trim_end())]
    Failed {
        /// What was asked, such as `run ghcr.io/cybozu/serf:0.10.1.7`.
        call: String,
        /// The command; empty for the image's own.
        command: Vec<String>,
        /// The status, where there was one.
        status: Option<i32>,
        /// What it wrote to its standard error.
        stderr: String,
    },
    /// A command wrote more than is taken.
    #[error("{call} wrote more than {limit} bytes to its standard output")]
    TooMuchOutput {
        /// What was asked.
        call: String,
        /// How much is taken.
        limit: usize,
    },
    /// A call did not end in time.
    #[error("{call} did not end within {after:?}")]
    TimedOut {
        /// What was asked.
        call: String,
        /// How long was waited.
        after: Duration,
    },
    /// The sandbox's record cannot be read or changed.
    #[error("keeping the sandbox's record of containers")]
    Record(#[from] LedgerError),
    /// The sandbox's file of faults cannot be read.
    #[error("asking for the sandbox's faults")]
    Faults(#[source] FaultError),
    /// A task of this program ended before its time.
    #[error("the task that changes containers was lost")]
    Task(#[from] tokio::task::JoinError),
}

impl RuntimeError {
    /// What this error asks for.
    pub fn severity(&self) -> Severity {
        match self {
            Self::Pull { severity, .. } => *severity,
            Self::Away { .. } | Self::TimedOut { .. } | Self::NotRunning { .. } => {
                Severity::TryAgain
            }
            Self::Forbidden { .. }
            | Self::Login { .. }
            | Self::TooMuchOutput { .. }
            | Self::Disk { .. }
            | Self::ImageMissing { .. }
            | Self::NameTaken { .. }
            | Self::Failed { .. }
            | Self::Record(_)
            | Self::Faults(_) => Severity::AskAPerson,
            Self::Task(_) => Severity::Bug,
        }
    }
}
