//! `withdraw`: a version is declared unfit.

use clap::Args;
use neco_plan::operator;
use neco_process::exit::{ExitCode, Failure};
use neco_schema::NecoVersion;

use crate::cli::Change;
use crate::order;
use crate::session::Session;

/// Declare a version unfit: it is not chosen, and stopped where it runs.
///
/// The next target is the newest release that is not withdrawn, also if that is an older one.
#[derive(Debug, Args)]
pub struct Withdraw {
    /// The version, such as 2026.11.21-40152
    version: NecoVersion,
    /// What every change takes.
    #[command(flatten)]
    pub change: Change,
}

impl Withdraw {
    /// Withdraws it.
    ///
    /// # Errors
    /// etcd does not answer.
    pub async fn run(self, session: &mut Session<'_, '_>) -> Result<ExitCode, Failure> {
        let version = &self.version;
        order::carry_out(
            session,
            &self.change,
            &|view, _, order| operator::withdraw(view, version, order),
            &|view| {
                let runs = view.current().is_some_and(|request| request.version == *version);
                let stops =
                    if runs { "; the update to it is stopped where it still runs" } else { "" };
                format!("{version} is withdrawn{stops}")
            },
        )
        .await
    }
}
