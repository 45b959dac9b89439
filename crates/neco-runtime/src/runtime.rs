//! What Neco asks of a container engine.

use async_trait::async_trait;

use crate::{ImageRef, Output, PullProgress, Pulled, RunSpec, RuntimeError};

/// Runs containers.
///
/// A call may be dropped at any await. A dropped pull leaves the image out or whole, never half.
#[async_trait]
pub trait ContainerRuntime: Send + Sync {
    /// Brings `image` to this machine unless it is here, reporting how far it has come.
    async fn pull(
        &self,
        image: &ImageRef,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<Pulled, RuntimeError>;

    /// Runs a container: waits for the end of its command, or leaves it running where `spec` gives it a name.
    async fn run(&self, spec: &RunSpec) -> Result<Output, RuntimeError>;

    /// Runs `command` in the running container `name` and waits for its end.
    async fn exec(&self, name: &str, command: &[String]) -> Result<Output, RuntimeError>;

    /// Ends the container `name`; nothing happens if it does not run.
    async fn stop(&self, name: &str) -> Result<(), RuntimeError>;

    /// Whether a container runs whose image has exactly this name.
    async fn is_running(&self, image: &ImageRef) -> Result<bool, RuntimeError>;
}
