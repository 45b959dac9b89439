//! Brings one boot server to the requested state, step by step, and resumes after any crash.
//!
//! The [`Engine`] looks at etcd, asks `neco-plan` what to do and does it; a [`Steps`] knows the recipe, an [`Installer`]
//! the package. What must not be cut off stands in the journal before it begins, so that the next process of this server,
//! after a crash or a power cut, completes it before it asks etcd anything.

#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

mod act;
mod cke;
mod context;
mod debs;
mod decision;
mod drivers;
mod engine;
pub mod install;
mod installer;
mod kept;
mod observation;
mod outside;
mod patient;
pub mod preview;
mod progress;
mod published;
mod running;
pub mod sandbox;
mod seen;
mod shared;
mod steps;
mod times;

pub use cke::{Cke, Ckecli, SandboxCke};
pub use context::{StepContext, StepError};
pub use debs::{DebError, Debs, ReleasedDebs, SandboxDebs};
pub use drivers::{Drivers, Services};
pub use engine::{Engine, Exit, Identity};
pub use installer::Installer;
pub use kept::kept;
pub use observation::Observation;
pub use outside::{Internet, Outside, OutsideError, SandboxOutside, WebError};
pub use patient::{PatientRuntime, PatientUnits, Say};
pub use progress::ProgressSink;
pub use published::SandboxSabakan;
pub use shared::{Shared, wall};
pub use steps::{About, Patience, PlanError, RecipeSteps, StepHost, Steps};
