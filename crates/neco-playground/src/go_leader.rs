//! An updater of the original: it leads, and writes what the original would write.

use std::sync::Arc;
use std::time::Duration;

use neco_plan::testing::{GoAction, go_next_action, go_txn};
use neco_schema::{Compare, Key, NecoVersion, Op, Revision, Timestamp, Txn};
use neco_store::{CampaignError, Committed, Election, Leadership, Session, Store};

use crate::{BootServer, Site, SiteError};

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

/// Something that such a leader has written.
#[derive(Clone, Debug)]
#[must_use = "who judges the run has to know who wrote it"]
pub struct Written {
    /// The revision that it made.
    pub revision: Revision,
    /// What it compared.
    pub compares: Vec<Compare>,
}

/// Why there is no such leader, or why it cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum GoLeaderError {
    /// etcd does not answer.
    #[error("talking to etcd as an updater of the original")]
    Store(#[from] neco_store::StoreError),
    /// The election was not won.
    #[error("leading as an updater of the original")]
    Campaign(#[from] CampaignError),
    /// The site cannot be looked at.
    #[error("looking at the site as an updater of the original")]
    Site(#[from] SiteError),
    /// It does not lead any more.
    #[error("etcd refused a write of the original's updater: it does not lead any more")]
    Refused,
}

impl GoLeader {
    /// Stands for election before our updaters, which are stopped for that, and waits until it leads.
    ///
    /// # Errors
    /// etcd does not answer, or the election cannot be won.
    pub async fn before_ours(site: &Site) -> Result<Self, GoLeaderError> {
        let ours = || site.updaters().filter_map(BootServer::updater);
        for updater in ours() {
            updater.stop().await;
        }
        let elected = Self::elected(site).await;
        for updater in ours() {
            updater.up().await;
        }
        elected
    }

    async fn elected(site: &Site) -> Result<Self, GoLeaderError> {
        let store: Arc<dyn Store> = site.store().clone();
        let session = Session::open(Arc::clone(&store), TTL).await?;
        let election = Election::new(store, "updater");
        let leadership = election.campaign(&session, "go-updater").await?;
        Ok(Self { election, session, leadership })
    }

    /// Notes that `version` is released, as the original does: only its own election key is compared.
    ///
    /// # Errors
    /// etcd does not answer, or it does not lead any more.
    pub async fn note_release(
        &self,
        site: &Site,
        version: &NecoVersion,
    ) -> Result<Written, GoLeaderError> {
        let txn = Txn::default()
            .when(Compare::exists(self.leadership.key()))
            .then(Op::put_bytes(&Key::Release, version.as_str()));
        commit(site, txn).await
    }

    /// Does what the original does next; says what that was, and what it wrote.
    ///
    /// # Errors
    /// etcd does not answer, or it does not lead any more.
    pub async fn act(&self, site: &Site) -> Result<(GoAction, Option<Written>), GoLeaderError> {
        let action = go_next_action(&site.view().await?, now(), TIMEOUT);
        let written = self.carry_out(site, &action).await?;
        Ok((action, written))
    }

    /// Carries out what the original would do in some situation; says what it wrote.
    ///
    /// # Errors
    /// etcd does not answer, or it does not lead any more.
    pub async fn carry_out(
        &self,
        site: &Site,
        action: &GoAction,
    ) -> Result<Option<Written>, GoLeaderError> {
        let view = site.view().await?;
        match go_txn(action, &view, self.leadership.key(), now()) {
            Some(txn) => Ok(Some(commit(site, txn).await?)),
            None => Ok(None),
        }
    }

    /// Goes away in order.
    ///
    /// # Errors
    /// etcd does not answer.
    pub async fn leave(self) -> Result<(), GoLeaderError> {
        self.election.resign(&self.leadership).await?;
        Ok(self.session.close().await?)
    }
}

async fn commit(site: &Site, txn: Txn) -> Result<Written, GoLeaderError> {
    match site.store().commit(&txn).await? {
        Committed::Done(revision) => Ok(Written { revision, compares: txn.compares }),
        Committed::Refused => Err(GoLeaderError::Refused),
    }
}

fn now() -> Timestamp {
    Timestamp::new(jiff::Timestamp::now()).unwrap_or_default()
}
