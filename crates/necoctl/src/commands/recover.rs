//! `recover`: a stopped update is put away.

use std::time::Duration;

use clap::Args;
use neco_plan::operator::{self, Recovery, Refusal};
use neco_process::exit::{ExitCode, Failure};
use neco_schema::Lrn;
use neco_store::Follower;

use crate::cli::{Change, Style, duration};
use crate::failure;
use crate::order::{self, Outcome};
use crate::session::Session;

/// Put a stopped update away, so that the leader starts afresh.
///
/// Deletes the request, all statuses and all results of once-per-cluster steps, after every living member has settled
/// and none is busy.
#[derive(Debug, Args)]
pub struct Recover {
    /// How long to wait for members to settle
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    wait: Duration,
    /// Do not wait, and recover although the update is not stopped
    #[arg(long)]
    force: bool,
    /// Try the same version again, although its update was aborted
    #[arg(long)]
    retry: bool,
    /// What every change takes.
    #[command(flatten)]
    pub change: Change,
}

impl Recover {
    /// Puts it away.
    ///
    /// # Errors
    /// A safety rule forbids it; members do not settle in time; etcd does not answer.
    pub async fn run(self, session: &mut Session<'_, '_>) -> Result<ExitCode, Failure> {
        let how = Recovery { force: self.force, retry: self.retry };
        let deadline = tokio::time::Instant::now() + self.wait;
        let mut follower: Option<Follower> = None;
        let mut missing: Vec<Lrn> = Vec::new();
        loop {
            let outcome = order::attempt(session, &self.change, &|view, _, order| {
                operator::recover(view, how, order)
            })
            .await?;
            let refusal = match outcome {
                Outcome::Refused(refusal @ Refusal::NotYet { .. }) => refusal,
                outcome => return self.tell(session, outcome),
            };
            if let Refusal::NotYet { servers, .. } = &refusal
                && *servers != missing
            {
                missing.clone_from(servers);
                if session.io.style == Style::Ours {
                    let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
                    session.io.remark(format_args!(
                        "waiting for boot servers {} to settle (--force does not wait)",
                        names.join(", ")
                    ));
                }
            }
            let ranges = neco_plan::worker_ranges();
            let follower = follower.get_or_insert_with(|| {
                Follower::every(session.store.clone(), ranges, Duration::from_secs(5))
            });
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(deadline) => return Err(failure::of_refusal(refusal)),
                () = follower.changed() => {}
            }
        }
    }

    fn tell(&self, session: &mut Session<'_, '_>, outcome: Outcome) -> Result<ExitCode, Failure> {
        let retry = self.retry;
        order::tell(session, outcome, &|view| match view.current() {
            Some(request) => {
                let again = if retry { "; the version may be chosen again" } else { "" };
                format!("the update to {} is put away{again}", request.version)
            }
            None => "the unreadable request is put away".to_owned(),
        })
    }
}
