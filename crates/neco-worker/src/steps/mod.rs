//! What the engine asks of whoever knows the recipe.

mod actions;
mod apply;
mod checks;
mod contents;
mod dry_run;
mod group;
mod host;
mod installed;
mod packages;
mod probe;
mod recipe;
mod sabakan;
mod set_up;
mod started;
mod stored;
mod tools;
mod tries;

pub(crate) use dry_run::of as dry_run;
pub use host::{About, StepHost};
pub use recipe::RecipeSteps;
pub use tries::Patience;

use async_trait::async_trait;
use neco_plan::RecipeShape;
use neco_schema::journal::Effect;
use neco_schema::{RequestId, UpdateRequest, Way};

use crate::context::{StepContext, StepError};

/// Why a server cannot tell what a request would change on it.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// It may be possible later: the disk or systemd does not answer.
    #[error("{0}")]
    NotYet(String),
    /// It stays so: what is desired cannot be told from what is known. The request is to be aborted with this cause.
    #[error("{0}")]
    Never(String),
}

/// The steps of a recipe, as things to do on this server.
#[async_trait]
pub trait Steps: Send + Sync + 'static {
    /// What the protocol needs to know of the recipe. Fixed from the start of the process on.
    fn shape(&self) -> &RecipeShape;

    /// The name of a step, from 1; for people.
    fn name(&self, step: u32) -> String;

    /// The components that `request` would change here.
    ///
    /// # Errors
    /// What kept this server from finding out.
    async fn changes(&self, request: &UpdateRequest) -> Result<Vec<String>, PlanError>;

    /// Writes down what units run with that somebody else started, as far as that can be told before a package brings the files
    /// anew with which they were started.
    async fn note_runs(&self, request: &UpdateRequest);

    /// Runs one step to its end. May be called again after a crash: effects are compared with what is there.
    ///
    /// # Errors
    /// Cancelled at a safe point, or failed.
    async fn run(&self, context: &StepContext) -> Result<(), StepError>;

    /// Gives back what an open group took: starts the service as it was (`back`) or as it is to be (`forward`).
    ///
    /// # Errors
    /// The service could not be started.
    async fn restore(&self, group: &str, request: &RequestId, way: Way) -> Result<(), StepError>;

    /// The units of a group that do not run here or do not start at boot, though nothing keeps them from it.
    async fn left(&self, group: &str) -> Vec<String>;

    /// Brings a begun effect of an earlier process to its end, without etcd.
    ///
    /// # Errors
    /// It could not be completed.
    async fn complete(&self, effect: &Effect) -> Result<(), StepError>;
}
