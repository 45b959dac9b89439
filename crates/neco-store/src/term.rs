//! One term of a leader: stand for election, lead, give leadership back.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{CampaignError, Election, Leadership, Session, Store, StoreError};

/// How long giving leadership back may take; after that its lease ends it.
const FAREWELL: Duration = Duration::from_secs(5);

/// Who stands for election.
pub struct Candidate {
    /// Where the election is held.
    pub store: Arc<dyn Store>,
    /// The election, as in [`Election::new`].
    pub election: &'static str,
    /// What the candidate's key holds: most often the host's name.
    pub value: String,
    /// How long leadership lasts beyond the last sign of life; whole seconds.
    pub session_ttl: Duration,
}

/// What a candidate is told about, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its key stands in etcd, which lets us read and write, and another one leads.
    Stands,
    /// It leads.
    Leads,
    /// It leads no more, and gives leadership back if it still has it.
    Ended,
}

/// How leading ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Over {
    /// Leadership is lost; how that showed.
    Lost(String),
    /// Something that helps the leader broke; what.
    Broken(String),
}

/// Why a term did not come to pass, or ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum TermError {
    /// etcd does not answer, or refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The candidate is gone.
    #[error(transparent)]
    Campaign(CampaignError),
    /// Something that helps the leader broke.
    #[error("{0}")]
    Broken(String),
}

impl From<CampaignError> for TermError {
    fn from(error: CampaignError) -> Self {
        match error {
            CampaignError::Store { source, .. } => Self::Store(source),
            error => Self::Campaign(error),
        }
    }
}

impl Candidate {
    /// Stands for election, leads by `lead` until that ends, leadership is lost or `stop` is cancelled, and gives
    /// leadership back, so that the next candidate need not wait for a lease to end. `told` hears how far it came.
    ///
    /// `lead` is dropped when the session is lost: what was in flight is refused by its guard.
    ///
    /// # Errors
    /// etcd fails before there is a leadership, the candidate is taken away, or `lead` says that it broke.
    pub async fn term<F: Future<Output = Over>>(
        &self,
        stop: &CancellationToken,
        told: impl Fn(Stage) + Sync,
        lead: impl FnOnce(Leadership) -> F,
    ) -> Result<(), TermError> {
        let opened = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            opened = Session::open(Arc::clone(&self.store), self.session_ttl) => opened,
        };
        let session = opened?;
        let election = Election::new(Arc::clone(&self.store), self.election);
        // Dropping the campaign deletes the candidate.
        let stands = || told(Stage::Stands);
        let won = tokio::select! {
            biased;
            () = stop.cancelled() => None,
            won = election.campaign_telling(&session, self.value.as_bytes(), stands) => Some(won),
        };
        let leadership = match won {
            Some(Ok(leadership)) => leadership,
            not_won => {
                let error = not_won.and_then(Result::err);
                // A session that is over has nothing to be given back.
                if !matches!(error, Some(CampaignError::Session { .. })) {
                    let _ = timeout(FAREWELL, session.close()).await;
                }
                return error.map_or(Ok(()), |error| Err(error.into()));
            }
        };
        tracing::info!(host = %self.value, "leading");
        told(Stage::Leads);
        let over = tokio::select! {
            biased;
            lost = session.lost() => Over::Lost(lost.to_string()),
            over = lead(leadership.clone()) => over,
            () = stop.cancelled() => Over::Lost("told to stop".to_owned()),
        };
        let (Over::Lost(why) | Over::Broken(why)) = &over;
        tracing::info!(%why, "no longer leading");
        told(Stage::Ended);
        let farewell = async {
            let _ = election.resign(&leadership).await;
            let _ = session.close().await;
        };
        let _ = timeout(FAREWELL, farewell).await;
        match over {
            Over::Lost(_) => Ok(()),
            Over::Broken(why) => Err(TermError::Broken(why)),
        }
    }
}
