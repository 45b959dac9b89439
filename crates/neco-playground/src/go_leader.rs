//! An updater of the original: it leads, and writes what the original would write.

use std::sync::Arc;
use std::time::Duration;

use neco_plan::testing::{GoAction, go_next_action, go_txn};
use neco_schema::{Compare, Key, NecoVersion, Op, Timestamp, Txn};
use neco_store::{CampaignError, Election, Leadership, Session, Store};

use crate::{Site, SiteError};

/// How long its leadership outlasts its last sign of life.
const TTL: Duration = Duration::from_secs(5);

/// How long the original lets a request take.
const TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// A leader that behaves like the original's.
#[derive(Debug)]
pub struct GoLeader {
    election: Election,
    session: Session,
    leadership: Leadership,
}

/// Why there is no such leader.
#[derive(Debug, thiserror::Error)]
pub enum GoLeaderError {
    /// etcd does not answer.
    #[error("talking to etcd as an updater of the original")]
    Store(#[from] neco_store::StoreError),
    /// The election was not won.
    #[error("leading as an updater of the original")]
    Campaign(#[from] CampaignError),
}

impl GoLeader {
    /// Stands for election beside our updaters and waits until it leads.
    ///
    /// # Errors
    /// etcd does not answer, or the election cannot be won.
    pub async fn elected(site: &Site) -> Result<Self, GoLeaderError> {
        let store: Arc<dyn Store> = site.store().clone();
        let session = Session::open(Arc::clone(&store), TTL).await?;
        let election = Election::new(store, "updater");
        let leadership = election.campaign(&session, "go-updater").await?;
        Ok(Self { election, session, leadership })
    }

    /// Notes that `version` is released, as the original does: only its own election key is compared.
    ///
    /// # Errors
    /// etcd does not answer.
    pub async fn note_release(&self, site: &Site, version: &NecoVersion) -> Result<(), SiteError> {
        let txn = Txn::default()
            .when(Compare::exists(self.leadership.key()))
            .then(Op::put_bytes(&Key::Release, version.as_str()));
        site.store().commit(&txn).await?;
        Ok(())
    }

    /// Does what the original does next, and says what that was.
    ///
    /// # Errors
    /// etcd does not answer.
    pub async fn act(&self, site: &Site) -> Result<GoAction, SiteError> {
        let action = go_next_action(&site.view().await?, now(), TIMEOUT);
        self.carry_out(site, &action).await?;
        Ok(action)
    }

    /// Carries out what the original would do in some situation.
    ///
    /// # Errors
    /// etcd does not answer.
    pub async fn carry_out(&self, site: &Site, action: &GoAction) -> Result<(), SiteError> {
        let view = site.view().await?;
        if let Some(txn) = go_txn(action, &view, self.leadership.key(), now()) {
            site.store().commit(&txn).await?;
        }
        Ok(())
    }

    /// Goes away in order.
    ///
    /// # Errors
    /// etcd does not answer.
    pub async fn leave(self) -> Result<(), SiteError> {
        self.election.resign(&self.leadership).await?;
        Ok(self.session.close().await?)
    }
}

fn now() -> Timestamp {
    Timestamp::new(jiff::Timestamp::now()).unwrap_or_default()
}
