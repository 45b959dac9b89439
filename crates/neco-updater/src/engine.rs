//! The life of an updater: stand for election, lead, stand again.

use std::sync::Arc;
use std::time::Duration;

use neco_base::Backoff;
use neco_store::{CampaignError, Election, Session, StoreError};
use tokio_util::sync::CancellationToken;

use crate::leading::{Context, Over, lead};

/// Delays after an election that failed.
const TRY_AGAIN: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
/// How long giving leadership back may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why a term did not come to pass.
enum Trouble {
    /// etcd does not answer, or refuses.
    Etcd(StoreError),
    /// The candidate is gone; in words.
    Election(String),
    /// Something that helps a leader broke; in words.
    Broken(String),
}

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
            let trouble = self.term(&stop).await;
            let Some(trouble) = trouble else {
                retry.reset();
                continue;
            };
            self.context.observe(|observation| observation.leads = false);
            match trouble {
                Trouble::Etcd(error) => self.context.without_etcd(&error),
                Trouble::Broken(why) => {
                    tracing::error!(%why, "a part of the leader broke: a new term begins");
                    self.context.observe(|observation| observation.waiting_for = why);
                }
                Trouble::Election(why) => {
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

    /// One term: campaigns, leads until leadership is lost or `stop`. `None` after a term that was led.
    async fn term(&self, stop: &CancellationToken) -> Option<Trouble> {
        let store = Arc::clone(&self.context.store);
        let opened = tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            opened = Session::open(Arc::clone(&store), self.session_ttl) => opened,
        };
        let session = match opened {
            Ok(session) => session,
            Err(error) => return Some(Trouble::Etcd(error)),
        };
        let election = Election::new(store, "updater");
        // A lease is granted to anybody: etcd has answered once it has taken the candidate.
        let stands = || {
            self.context.etcd_answered();
            self.context.observe(|observation| {
                observation.leads = false;
                observation.waiting_for = "another updater leads".to_owned();
            });
        };
        let host = self.context.local.host.as_bytes();
        // Dropping the campaign deletes the candidate.
        let won = tokio::select! {
            biased;
            () = stop.cancelled() => None,
            won = election.campaign_telling(&session, host, stands) => Some(won),
        };
        let leadership = match won {
            Some(Ok(leadership)) => leadership,
            Some(Err(error @ CampaignError::Session { .. })) => {
                return Some(Trouble::Election(neco_connect::one_line(&error)));
            }
            Some(Err(error)) => {
                let _ = tokio::time::timeout(FAREWELL, session.close()).await;
                return Some(match error {
                    CampaignError::Store { source, .. } => Trouble::Etcd(source),
                    error => Trouble::Election(neco_connect::one_line(&error)),
                });
            }
            None => {
                let _ = tokio::time::timeout(FAREWELL, session.close()).await;
                return None;
            }
        };
        tracing::info!(host = %self.context.local.host, "leading");
        self.context.observe(|observation| {
            observation.leads = true;
            observation.waiting_for.clear();
        });
        // Dropped when the session is lost: what was in flight is refused by its guard.
        let over = tokio::select! {
            biased;
            lost = session.lost() => Over::Lost(lost.to_string()),
            over = lead(&self.context, &leadership) => over,
            () = stop.cancelled() => Over::Lost("told to stop".to_owned()),
        };
        let (Over::Lost(why) | Over::Broken(why)) = &over;
        tracing::info!(%why, "no longer leading");
        self.context.observe(|observation| observation.leads = false);
        let farewell = async {
            let _ = election.resign(&leadership).await;
            let _ = session.close().await;
        };
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
        match over {
            Over::Lost(_) => None,
            Over::Broken(why) => Some(Trouble::Broken(why)),
        }
    }
}
