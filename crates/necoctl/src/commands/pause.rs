//! `pause`: begin nothing new.

use clap::Args;
use neco_plan::operator;
use neco_process::exit::{ExitCode, Failure};

use crate::cli::Change;
use crate::order;
use crate::session::Session;

/// Begin no further step until 'resume'.
///
/// No member begins a further step and no new update is requested. Steps that run are finished, and a service that was
/// stopped for the update is started again first. Deadlines stand still.
#[derive(Debug, Args)]
pub struct Pause {
    /// What every change takes.
    #[command(flatten)]
    pub change: Change,
}

impl Pause {
    /// Pauses.
    ///
    /// # Errors
    /// etcd does not answer.
    pub async fn run(self, session: &mut Session<'_, '_>) -> Result<ExitCode, Failure> {
        order::carry_out(
            session,
            &self.change,
            &|view, _, order| operator::pause(view, order),
            &|_| "paused: 'necoctl resume' goes on".to_owned(),
        )
        .await
    }
}
