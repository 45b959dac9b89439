//! What Neco asks of a container engine.

use async_trait::async_trait;

use crate::{
    ExecSpec, ImageRef, LogLines, LogSpec, Output, PullProgress, Pulled, RunSpec, RuntimeError,
};

/// Runs containers.
///
/// A call may be dropped at any await. A dropped pull leaves the image out or whole, never half; a dropped run of a
/// container without a name ends and removes it.
#[async_trait]
pub trait ContainerRuntime: Send + Sync {
    /// Brings `image` to this machine unless it is here, reporting how far it has come.
    async fn pull(
        &self,
        image: &ImageRef,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<Pulled, RuntimeError>;

    /// Whether `image` is on this machine under this very name.
    async fn has(&self, image: &ImageRef) -> Result<bool, RuntimeError>;

    /// Runs a container: waits for the end of its command and removes it, or leaves it running where `spec` gives it a
    /// name. A container of that name that does not run any more is removed first.
    async fn run(&self, spec: &RunSpec) -> Result<Output, RuntimeError>;

    /// Runs a command in a running container and waits for its end.
    async fn exec(&self, spec: &ExecSpec) -> Result<Output, RuntimeError>;

    /// What the container `name` writes, line by line. The stream ends with the last line there is, or, where new lines
    /// are waited for, with the container. Empty lines may be missing: where Docker logs to the journal it leaves them out.
    async fn logs(&self, name: &str, spec: LogSpec) -> Result<LogLines, RuntimeError>;

    /// Ends the container `name`, giving it some time to end by itself, and removes it; nothing happens if there is
    /// none.
    async fn stop(&self, name: &str) -> Result<(), RuntimeError>;

    /// Whether a container runs whose image has exactly this name now. A container that was started before the name went
    /// to another image does not count: it does not run what the name means.
    async fn is_running(&self, image: &ImageRef) -> Result<bool, RuntimeError>;
}
