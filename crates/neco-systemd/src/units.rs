//! What Neco asks of systemd.

use async_trait::async_trait;

use crate::{UnitError, UnitName, UnitState};

/// Drives units: services, timers and all others. Every call waits for the result of the job it causes, within the
/// engine's deadline.
///
/// A masked unit takes no enable, start or restart. A call may be dropped at any await; the job it caused then ends by itself.
#[async_trait]
pub trait Units: Send + Sync {
    /// Reads all unit files anew.
    async fn daemon_reload(&self) -> Result<(), UnitError>;

    /// Makes `unit` start at boot, also after a power cut right after this. A unit that says nothing about boot stays as it is.
    async fn enable(&self, unit: &UnitName) -> Result<(), UnitError>;

    /// Makes `unit` not start at boot, also after a power cut right after this; nothing happens to one that has no file.
    async fn disable(&self, unit: &UnitName) -> Result<(), UnitError>;

    /// Starts `unit` unless it is active.
    async fn start(&self, unit: &UnitName) -> Result<(), UnitError>;

    /// Stops `unit` if it is active.
    async fn stop(&self, unit: &UnitName) -> Result<(), UnitError>;

    /// Stops `unit` if it is active, and starts it.
    async fn restart(&self, unit: &UnitName) -> Result<(), UnitError>;

    /// Has `unit` read its files again, as its `ExecReload=` says, and go on running. One that says nothing of the kind is
    /// restarted, and one that is not active is started.
    async fn reload(&self, unit: &UnitName) -> Result<(), UnitError>;

    /// Starts a command as the service `unit`, apart from this process: it goes on whatever happens to its caller,
    /// and is forgotten when it ends, however it ends. While anything runs under that name, nothing happens, so that
    /// of any number of callers only one starts it.
    ///
    /// The first of `argv` is the program; all are passed on as they are. The call waits until the program is executed,
    /// not for its end, and one that fails soon was started too: whether it runs is seen in [`state`](Self::state),
    /// and what came of it only where it writes that down.
    async fn start_transient(&self, unit: &UnitName, argv: &[String]) -> Result<(), UnitError>;

    /// The state of `unit`; one that does not exist has a state too.
    async fn state(&self, unit: &UnitName) -> Result<UnitState, UnitError>;
}

/// Refuses a name that is not that of a service, and a command that is none.
pub(crate) fn check_transient(unit: &UnitName, argv: &[String]) -> Result<(), UnitError> {
    let why = match argv {
        _ if unit.unit_type() != "service" => "only a service runs a command",
        [] => "there is no command",
        [program, ..] if program.is_empty() => "its program has no name",
        all if all.iter().any(|word| word.contains('\0')) => "its command holds a zero byte",
        _ => return Ok(()),
    };
    Err(UnitError::Refused { call: format!("start {unit}"), why: why.to_owned() })
}
