//! Brings one boot server to the requested state, step by step, and resumes after any crash.
//!
//! The [`Engine`] looks at etcd, asks `neco-plan` what to do and does it; a [`Steps`] knows the recipe, an [`Installer`]
//! the package. What must not be cut off stands in the journal before it begins, so that the next process of this server,
//! after a crash or a power cut, completes it before it asks etcd anything.

#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

mod act;
mod context;
mod debs;
mod decision;
mod drivers;
mod engine;
pub mod install;
mod installer;
mod kept;
mod observation;
mod patient;
mod progress;
mod running;
pub mod sandbox;
mod seen;
mod shared;
mod steps;
mod times;

pub use context::{StepContext, StepError};
pub use debs::{Debs, ReleasedDebs, SandboxDebs};
pub use drivers::Drivers;
pub use engine::{Engine, Exit, Identity};
pub use installer::Installer;
pub use kept::kept;
pub use observation::Observation;
pub use patient::PatientUnits;
pub use progress::ProgressSink;
pub use shared::{Shared, wall};
pub use steps::{About, PlanError, RecipeSteps, StepHost, Steps};
