//! `stop`: ends the update orderly.

use clap::Args;
use neco_plan::operator;
use neco_process::exit::{ExitCode, Failure};

use crate::cli::Change;
use crate::order;
use crate::session::Session;

/// Stop the update: every member settles at its next safe point.
///
/// What a member has stopped for the update it starts again. Nothing is requested until 'recover', or until a newer
/// release appears.
#[derive(Debug, Args)]
pub struct Stop {
    /// What every change takes.
    #[command(flatten)]
    pub change: Change,
}

impl Stop {
    /// Stops it.
    ///
    /// # Errors
    /// There is nothing to stop; etcd does not answer.
    pub async fn run(self, session: &mut Session<'_, '_>) -> Result<ExitCode, Failure> {
        order::carry_out(
            session,
            &self.change,
            &|view, _, order| operator::stop(view, order),
            &|view| match view.current() {
                Some(request) => format!(
                    "the update to {} is stopped; its members settle at their next safe point",
                    request.version
                ),
                None => "the update is stopped".to_owned(),
            },
        )
        .await
    }
}
