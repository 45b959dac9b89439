//! The engine of real machines: a Docker daemon behind its socket.

mod answer;
mod capture;
mod connection;
mod containers;
mod exec;
mod lines;
mod logs;
mod owner;
mod progress;
mod pull;
mod run;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use self::connection::Connection;
use crate::{
    ContainerRuntime, DockerConfig, ExecSpec, ImageRef, LogLines, LogSpec, Logins, Output,
    PullProgress, Pulled, RunSpec, RuntimeError,
};

/// A Docker daemon.
///
/// Nothing is asked of it before the first call. The version of its API is agreed on by the first call and again after it
/// went away; every request says that version. Clones share the connection.
#[derive(Clone)]
pub struct Docker {
    connection: Arc<Connection>,
    logins: Arc<dyn Logins>,
    limits: Limits,
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The answer to a question, or a small change.
    pub answer: Duration,
    /// A command that is waited for, in a container of its own or in one that runs.
    pub command: Duration,
    /// A pull that gets nowhere; one that goes on may take any time.
    pub stalled: Duration,
    /// How long a container that is stopped may take to end by itself; whole seconds.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(30),
            command: Duration::from_secs(600),
            stalled: Duration::from_secs(120),
            grace: Duration::from_secs(10),
        }
    }
}

impl Docker {
    /// Where Docker listens.
    pub const SOCKET: &str = "/var/run/docker.sock";

    /// The daemon that listens at `socket`, with the logins of root's [`DockerConfig`].
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        let limits = Limits::default();
        Self {
            connection: Arc::new(Connection::new(socket.into(), limits.answer)),
            logins: Arc::new(DockerConfig::default()),
            limits,
        }
    }

    /// Takes the logins for registries from there.
    #[must_use]
    pub fn with_logins(mut self, logins: Arc<dyn Logins>) -> Self {
        self.logins = logins;
        self
    }

    /// Waits so long and no longer.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        let socket = self.connection.socket().to_owned();
        self.connection = Arc::new(Connection::new(socket, limits.answer));
        self.limits = limits;
        self
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        self.connection.socket()
    }
}

impl Default for Docker {
    fn default() -> Self {
        Self::at(Self::SOCKET)
    }
}

impl std::fmt::Debug for Docker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { connection, logins: _, limits } = self;
        f.debug_struct("Docker")
            .field("socket", &connection.socket())
            .field("limits", limits)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl ContainerRuntime for Docker {
    async fn pull(
        &self,
        image: &ImageRef,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<Pulled, RuntimeError> {
        pull::pull(self, image, progress).await
    }

    async fn has(&self, image: &ImageRef) -> Result<bool, RuntimeError> {
        pull::is_here(self, image).await
    }

    async fn run(&self, spec: &RunSpec) -> Result<Output, RuntimeError> {
        run::run(self, spec).await
    }

    async fn exec(&self, spec: &ExecSpec) -> Result<Output, RuntimeError> {
        exec::exec(self, spec).await
    }

    async fn logs(&self, name: &str, spec: LogSpec) -> Result<LogLines, RuntimeError> {
        logs::logs(self, name, spec).await
    }

    async fn stop(&self, name: &str) -> Result<(), RuntimeError> {
        containers::stop(self, name).await
    }

    async fn is_running(&self, image: &ImageRef) -> Result<bool, RuntimeError> {
        containers::is_running(self, image).await
    }
}
