//! How the update stands: one report, from which text, JSON and the live picture are made.

pub mod human;
pub mod live;
pub mod original;
mod report;
pub mod stale;
mod steps;

pub(crate) use report::turns;
pub use report::{
    Notice, Progress, Report, RequestReport, ServerReport, State, StrayOrMalformed, TargetReport,
    TurnReport,
};
pub use steps::StepNames;
