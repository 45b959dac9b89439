//! Runs containers: the trait, a recorder for sandboxes, and a fake.
//!
//! [`ContainerRuntime`] is what Neco asks of a container engine.
//!
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
mod error;
#[cfg(any(test, feature = "testing"))]
mod fake;
mod image;
mod recorder;
mod runtime;

pub use call::{Mount, Output, PullProgress, Pulled, RunSpec};
pub use containers::Call;
pub use error::RuntimeError;
#[cfg(any(test, feature = "testing"))]
pub use fake::Fake;
pub use image::{ImageRef, ImageRefError};
pub use recorder::Recorder;
pub use runtime::ContainerRuntime;
