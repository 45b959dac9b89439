//! `leave`: a boot server goes.

use clap::Args;
use neco_plan::operator;
use neco_process::exit::{ExitCode, Failure};
use neco_schema::Lrn;

use crate::cli::{Change, Style};
use crate::order::{self, Outcome, Write};
use crate::session::Session;

/// Take a boot server out of the cluster.
///
/// Exactly its own records are deleted, and an update that runs goes on without it by itself. Refused while the server is
/// alive, and for the last one.
#[derive(Debug, Args)]
pub struct Leave {
    /// The logical rack number of the server
    lrn: Lrn,
    /// Take it out although it is alive
    #[arg(long)]
    force: bool,
    /// What every change takes.
    #[command(flatten)]
    pub change: Change,
}

impl Leave {
    /// Takes it out.
    ///
    /// # Errors
    /// A safety rule forbids it; there is no such server; etcd does not answer.
    pub async fn run(self, session: &mut Session<'_, '_>) -> Result<ExitCode, Failure> {
        let (lrn, force) = (self.lrn, self.force);
        let outcome = order::attempt(session, &self.change, &|view, _, order| {
            operator::leave(view, lrn, force, order)
        })
        .await?;
        let removed: Vec<Write> = match &outcome {
            Outcome::Done { writes, .. } => writes
                .iter()
                .filter(|write| matches!(write, Write::Delete { .. }))
                .cloned()
                .collect(),
            _ => Vec::new(),
        };
        let code = order::tell(session, outcome, &|view| {
            let member = view.current().is_some_and(|request| request.is_member(lrn));
            let replaced =
                if member { "; the leader replaces the request by one without it" } else { "" };
            format!("boot server {lrn} has left{replaced}")
        })?;
        if !session.io.is_json() && session.io.style == Style::Ours {
            for write in removed {
                session.io.line(format_args!("  {write}"))?;
            }
        }
        Ok(code)
    }
}
