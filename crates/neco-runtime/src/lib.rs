//! Runs containers: the trait, the Docker engine, a recorder for sandboxes, and a fake.
//!
//! [`ContainerRuntime`] is what Neco asks of a container engine.
//!
//! - [`Docker`] asks a Docker daemon over its socket. Registries that want to know who comes learn it from [`Logins`].
//! - [`Recorder`] runs nothing: it keeps images and containers of one root in a file, notes every call in a log, and
//!   fails or hangs where it is told to.
//! - `Fake`, behind the feature `testing`, does the same in memory for unit tests.
//! - `contract`, behind the same feature, is the suite that every engine passes.
//!
//! Images are never pulled as a side effect: running one that was not pulled is an error, as with `docker run
//! --pull never`.

mod call;
mod containers;
#[cfg(any(test, feature = "testing"))]
pub mod contract;
mod docker;
mod docker_config;
mod error;
#[cfg(any(test, feature = "testing"))]
mod fake;
mod image;
mod log;
mod login;
mod recorder;
mod refusal;
mod runtime;
mod watch;

pub use call::{ExecSpec, Mount, Output, PullProgress, Pulled, RunSpec};
pub use containers::Call;
pub use docker::{Docker, Limits};
pub use docker_config::DockerConfig;
pub use error::RuntimeError;
#[cfg(any(test, feature = "testing"))]
pub use fake::Fake;
pub use image::{ImageRef, ImageRefError};
pub use log::{LogLine, LogLines, LogSource, LogSpec};
pub use login::{Login, Logins};
pub use recorder::Recorder;
pub use runtime::ContainerRuntime;
