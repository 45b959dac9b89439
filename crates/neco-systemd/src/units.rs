//! What Neco asks of systemd.

use async_trait::async_trait;

use crate::{UnitError, UnitName, UnitState};

/// Drives units. Every call waits for the result of the job it causes, within the engine's deadline.
///
/// A call may be dropped at any await; the job it caused then ends by itself.
#[async_trait]
pub trait Units: Send + Sync {
    /// Reads all unit files anew.
    async fn daemon_reload(&self) -> Result<(), UnitError>;

    /// Makes `unit` start at boot. A unit that says nothing about boot stays as it is.
    async fn enable(&self, unit: &UnitName) -> Result<(), UnitError>;

    /// Makes `unit` not start at boot; nothing happens to one that has no file.
    async fn disable(&self, unit: &UnitName) -> Result<(), UnitError>;

    /// Starts `unit` unless it is active.
    async fn start(&self, unit: &UnitName) -> Result<(), UnitError>;

    /// Stops `unit` if it is active.
    async fn stop(&self, unit: &UnitName) -> Result<(), UnitError>;

    /// Stops `unit` if it is active, and starts it.
    async fn restart(&self, unit: &UnitName) -> Result<(), UnitError>;

    /// The state of `unit`; one that does not exist has a state too.
    async fn state(&self, unit: &UnitName) -> Result<UnitState, UnitError>;
}
