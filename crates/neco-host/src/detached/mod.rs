//! Running what must survive the end of the process that starts it: dpkg stops the worker that called it.

#[cfg(feature = "testing")]
pub mod contract;
#[cfg(feature = "testing")]
mod fake;
mod process;

use std::fmt;
use std::io;

use async_trait::async_trait;

#[cfg(feature = "testing")]
pub use self::fake::{FakeDetached, FakeUnit};
pub use self::process::{DetachedProcess, EnabledUnit};
use crate::FileError;

/// Starts commands as units of their own. A unit is enabled before its work begins and disabled after its verdict,
/// so that a reboot in between starts it again.
#[async_trait]
pub trait RunDetached: fmt::Debug + Send + Sync {
    /// Starts `argv` as `unit`, apart from this process; a unit that is running is left alone.
    async fn start(&self, unit: &str, argv: &[String]) -> Result<(), DetachError>;

    /// Whether the unit is running.
    async fn is_running(&self, unit: &str) -> Result<bool, DetachError>;

    /// Has `argv` started as `unit` at every boot from now on; it is not started now.
    async fn enable(&self, unit: &str, argv: &[String]) -> Result<(), DetachError>;

    /// What is started as `unit` at every boot; `None` if it is not enabled.
    async fn command(&self, unit: &str) -> Result<Option<Vec<String>>, DetachError>;

    /// Takes that back; a unit that is running goes on.
    async fn disable(&self, unit: &str) -> Result<(), DetachError>;
}

/// Why a unit could not be started, asked, enabled or disabled.
#[derive(Debug, thiserror::Error)]
pub enum DetachError {
    /// The name cannot be that of a unit.
    #[error("{0:?} is no name of a service (letters, digits and :_@- only)")]
    Name(String),
    /// There is no command.
    #[error("unit {0} has no command")]
    NoCommand(String),
    /// A word of the command cannot be an argument of any program.
    #[error("the command of unit {0} holds a zero byte")]
    ZeroByte(String),
    /// The command could not be started.
    #[error("starting `{}` as unit {unit}", argv.join(" "))]
    Start {
        /// The unit.
        unit: String,
        /// Its command.
        argv: Vec<String>,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A record of the unit could not be read or written.
    #[error("keeping the records of unit {unit}")]
    File {
        /// The unit.
        unit: String,
        /// The operation that failed.
        #[source]
        source: FileError,
    },
    /// The service manager answered with an error.
    #[error("the service manager refused unit {unit}")]
    Manager {
        /// The unit.
        unit: String,
        /// What it said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Refuses what could not be the name of a unit, and a command that is none. Every engine does, so that they take the same.
///
/// A unit is a service of systemd, or could be one: its name may end with `.service`.
pub fn check(unit: &str, argv: Option<&[String]>) -> Result<(), DetachError> {
    let stem = unit.strip_suffix(".service").unwrap_or(unit);
    let word = |b: u8| b.is_ascii_alphanumeric() || b":_@-".contains(&b);
    if stem.is_empty() || stem.starts_with('-') || stem.len() > 200 || !stem.bytes().all(word) {
        return Err(DetachError::Name(unit.to_owned()));
    }
    match argv {
        Some([]) => Err(DetachError::NoCommand(unit.to_owned())),
        Some(argv) if argv.iter().any(|word| word.contains('\0')) => {
            Err(DetachError::ZeroByte(unit.to_owned()))
        }
        _ => Ok(()),
    }
}
