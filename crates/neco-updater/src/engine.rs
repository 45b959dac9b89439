//! The life of an updater: stand for election, lead, stand again.

use std::sync::Arc;
use std::time::Duration;

use neco_base::Backoff;
use neco_store::{Candidate, Stage, TermError};
use tokio_util::sync::CancellationToken;

use crate::leading::{Context, lead};

/// Delays after an election that failed.
const TRY_AGAIN: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));

/// One updater.
pub struct Engine {
    context: Arc<Context>,
    session_ttl: Duration,
}

impl Engine {
    /// An updater whose leadership lasts `session_ttl` (whole seconds) beyond its last sign of life.
    pub fn new(context: Arc<Context>, session_ttl: Duration) -> Self {
        Self { context, session_ttl }
    }

    /// Runs until `stop` is cancelled. Nothing that etcd or a release source does ends it.
    pub async fn run(self, stop: CancellationToken) {
        let mut retry = TRY_AGAIN.retry();
        while !stop.is_cancelled() {
            // Ends by itself when told to: leadership is given back first.
            let Err(trouble) = self.term(&stop).await else {
                retry.reset();
                continue;
            };
            self.context.observe(|observation| observation.leads = false);
            match trouble {
                TermError::Store(error) => self.context.without_etcd(&error),
                TermError::Broken(why) => {
                    tracing::error!(%why, "a part of the leader broke: a new term begins");
                    self.context.observe(|observation| observation.waiting_for = why);
                }
                TermError::Campaign(error) => {
                    let why = neco_connect::one_line(&error);
                    tracing::debug!(%why, "standing again");
                    self.context.observe(|observation| observation.waiting_for = why);
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(retry.pause()) => {}
            }
        }
    }

    /// One term: stands for election, and leads until leadership is lost or `stop`.
    async fn term(&self, stop: &CancellationToken) -> Result<(), TermError> {
        let context = &self.context;
        let candidate = Candidate {
            store: Arc::clone(&context.store),
            election: "updater",
            value: context.local.host.clone(),
            session_ttl: self.session_ttl,
        };
        let told = |stage| match stage {
            // A lease is granted to anybody: etcd has answered once it has taken the candidate.
            Stage::Stands => {
                context.etcd_answered();
                context.observe(|observation| {
                    observation.leads = false;
                    observation.waiting_for = "another updater leads".to_owned();
                });
            }
            Stage::Leads => context.observe(|observation| {
                observation.leads = true;
                observation.waiting_for.clear();
            }),
            Stage::Ended => context.observe(|observation| observation.leads = false),
        };
        let leading = async |leadership| lead(context, &leadership).await;
        candidate.term(stop, told, leading).await
    }
}
