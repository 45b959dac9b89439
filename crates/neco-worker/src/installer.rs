//! What the engine asks of whoever installs packages.

use async_trait::async_trait;
use neco_schema::journal::IntentId;
use neco_schema::{NecoVersion, PackageRef};

use crate::context::{StepContext, StepError};

/// Installs the package of Neco itself.
#[async_trait]
pub trait Installer: Send + Sync + 'static {
    /// The installed version.
    ///
    /// # Errors
    /// Why it cannot be told, in words.
    async fn installed(&self) -> Result<NecoVersion, String>;

    /// Fetches and verifies `version` and its way back, then has a unit of its own install it, and waits for the verdict.
    /// Usually this process is replaced before that.
    ///
    /// # Errors
    /// Cancelled at a safe point, or failed; a failure after the effect began stands in the journal already.
    async fn install(
        &self,
        context: &StepContext,
        version: &NecoVersion,
        package: Option<PackageRef>,
        allow_no_way_back: bool,
    ) -> Result<(), StepError>;

    /// Waits for the verdict on an installation that was begun, starting its unit again if it is gone.
    ///
    /// # Errors
    /// There was none within the bound.
    async fn await_verdict(&self, intent: &IntentId) -> Result<(), StepError>;

    /// Why this server could not take an update now; empty when it could.
    async fn unfit(&self) -> Vec<String>;
}
