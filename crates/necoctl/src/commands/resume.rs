//! `resume`: the end of a pause.

use clap::Args;
use neco_plan::operator;
use neco_process::exit::{ExitCode, Failure};

use crate::cli::Change;
use crate::order;
use crate::session::Session;

/// End a pause.
///
/// Everything goes on where it was.
#[derive(Debug, Args)]
pub struct Resume {
    /// What every change takes.
    #[command(flatten)]
    pub change: Change,
}

impl Resume {
    /// Goes on.
    ///
    /// # Errors
    /// etcd does not answer.
    pub async fn run(self, session: &mut Session<'_, '_>) -> Result<ExitCode, Failure> {
        order::carry_out(
            session,
            &self.change,
            &|view, _, order| operator::resume(view, order),
            &|view| match view.pause.value() {
                Some(pause) => format!(
                    "goes on; it was paused by {}: {}",
                    crate::words::one_line(&pause.by),
                    crate::words::one_line(&pause.reason)
                ),
                None => "goes on".to_owned(),
            },
        )
        .await
    }
}
