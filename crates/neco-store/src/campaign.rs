//! Leader election, compatible with Go's `concurrency.Election`.
//!
//! A candidate is the key `leader/<name>//<lease in hex>` bound to a lease; the candidate with the
//! smallest create-revision leads. A candidate waits for the deletion of the youngest older key and
//! then looks again, so that one deletion wakes one candidate.

use std::sync::Arc;
use std::time::Duration;

use neco_base::{Backoff, jittered};
use neco_schema::{Compare, Key, KeyValue, LeaseId, Op, Range, Revision, Snapshot, Txn};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::{Committed, KeepAlive, Session, SessionLost, Store, StoreError, WatchEvent};

/// How long a candidate waits at most until it looks again, whatever a watch says.
const LOOK_EVERY: Duration = Duration::from_secs(30);

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Why a campaign was not won.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CampaignError {
    /// The session is over.
    #[error("the campaign for {election} ended with its session")]
    Session {
        /// The election.
        election: String,
        /// Why the session is over.
        #[source]
        source: SessionLost,
    },
    /// Somebody deleted our candidate.
    #[error("the candidate {key} was deleted by somebody else")]
    Removed {
        /// Its key.
        key: String,
    },
    /// The store refuses us for a reason that stays.
    #[error("the campaign for {election} failed")]
    Store {
        /// The election.
        election: String,
        /// What the store said.
        #[source]
        source: StoreError,
    },
}

/// The proof of a campaign that was won: what writes of a leader are guarded by. It does not say that
/// the leadership lasts; the guard does, when the write is executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    key: Key,
    create_revision: Revision,
    lease: LeaseId,
}

impl Leadership {
    /// The candidate's key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The revision at which it came into being: a number that only grows from leader to leader.
    pub fn create_revision(&self) -> Revision {
        self.create_revision
    }

    /// The lease it is bound to.
    pub fn lease(&self) -> LeaseId {
        self.lease
    }

    /// The guard: our candidate is still the one with which the campaign was won.
    pub fn compare(&self) -> Compare {
        Compare::same(&self.key, self.create_revision)
    }

    /// A leadership that no campaign was won for; for tests of what leaders do.
    #[cfg(any(test, feature = "testing"))]
    pub fn assumed(key: Key, create_revision: Revision, lease: LeaseId) -> Self {
        Self { key, create_revision, lease }
    }
}

/// The candidate that leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Its key, relative to the prefix.
    pub key: String,
    /// Its value: a host name or a logical rack number.
    pub value: Vec<u8>,
    /// The revision at which it came into being.
    pub create_revision: Revision,
}

/// An election, by the name that stands in `leader/<name>/`.
#[derive(Clone)]
pub struct Election {
    store: Arc<dyn Store>,
    name: String,
}

impl std::fmt::Debug for Election {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Election").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Election {
    /// The election `updater`, `worker`, `sabakan-state-setter` or `neco-rebooter`.
    pub fn new(store: Arc<dyn Store>, name: impl Into<String>) -> Self {
        Self { store, name: name.into() }
    }

    /// Stands as a candidate and waits until it leads.
    ///
    /// Outages of the store are waited out as long as the session lasts. Dropping the future deletes
    /// the candidate. With a session that has a candidate here already, that one goes on, with the
    /// new value.
    ///
    /// # Errors
    /// The session is over, somebody deleted the candidate, or the store refuses for good.
    pub async fn campaign(
        &self,
        session: &Session,
        value: impl Into<Vec<u8>>,
    ) -> Result<Leadership, CampaignError> {
        self.campaign_telling(session, value, || {}).await
    }

    /// The same, and calls `stands` once the candidate stands: etcd lets us read and write here.
    ///
    /// # Errors
    /// As [`campaign`](Self::campaign).
    pub async fn campaign_telling(
        &self,
        session: &Session,
        value: impl Into<Vec<u8>>,
        stands: impl Fn() + Sync,
    ) -> Result<Leadership, CampaignError> {
        let lost = session.lost();
        let won = self.run(session, value.into(), &stands);
        tokio::select! {
            biased;
            source = lost => Err(CampaignError::Session { election: self.name.clone(), source }),
            result = won => result,
        }
    }

    /// The candidate that leads now, if any.
    ///
    /// # Errors
    /// Whatever keeps the store from answering.
    pub async fn leader(&self) -> Result<Option<Leader>, StoreError> {
        let candidates = self.store.read(&[Range::Prefix(self.prefix())], None).await?;
        let first = candidates.kvs.into_values().min_by_key(|kv| kv.create_revision);
        Ok(first.map(|KeyValue { key, value, create_revision, .. }| Leader {
            key,
            value,
            create_revision,
        }))
    }

    /// Gives leadership back. A candidate that is gone already is fine.
    ///
    /// # Errors
    /// Whatever keeps the store from answering; the candidate ends with its lease then.
    pub async fn resign(&self, leadership: &Leadership) -> Result<(), StoreError> {
        let txn = farewell(&leadership.key, leadership.create_revision);
        match self.store.commit(&txn).await {
            Ok(_) => Ok(()),
            Err(error @ StoreError::Unknown { .. }) => {
                let now = self.store.read(&[Range::from(&leadership.key)], None).await?;
                let key = leadership.key.to_string();
                let still = now.kvs.get(&key).map(|kv| kv.create_revision);
                if still == Some(leadership.create_revision) { Err(error) } else { Ok(()) }
            }
            Err(error) => Err(error),
        }
    }

    /// The prefix of the candidates; Go's library adds the second slash.
    fn prefix(&self) -> String {
        format!("leader/{}//", self.name)
    }

    async fn run(
        &self,
        session: &Session,
        value: Vec<u8>,
        stands: &(impl Fn() + Sync),
    ) -> Result<Leadership, CampaignError> {
        let lease = session.lease();
        let key = Key::Candidate { election: self.name.clone(), lease: lease.0.cast_unsigned() };
        let mut retry = Backoff::new(FIRST_WAIT, LONGEST_WAIT).retry();
        // From here on the candidate may exist.
        let mut candidate =
            Candidacy { key, create_revision: None, farewells: session.say_farewell(), won: false };
        loop {
            match self.step(&mut candidate, lease, &value, stands).await {
                Ok(Some(leadership)) => return Ok(leadership),
                Ok(None) => retry.reset(),
                Err(Failure::Removed) => {
                    return Err(CampaignError::Removed { key: candidate.key.to_string() });
                }
                Err(Failure::Expired) => {
                    let election = self.name.clone();
                    return Err(CampaignError::Session { election, source: SessionLost::Expired });
                }
                Err(Failure::Store(error)) if error.severity() == crate::Severity::TryAgain => {
                    tracing::debug!(election = self.name, %error, "a campaign waits for etcd");
                    tokio::time::sleep(retry.pause()).await;
                }
                Err(Failure::Store(source)) => {
                    return Err(CampaignError::Store { election: self.name.clone(), source });
                }
            }
        }
    }

    /// One round: make sure the candidate stands, see who is before it, wait for the youngest of
    /// them to go.
    async fn step(
        &self,
        candidacy: &mut Candidacy,
        lease: LeaseId,
        value: &[u8],
        stands: &(impl Fn() + Sync),
    ) -> Result<Option<Leadership>, Failure> {
        if candidacy.create_revision.is_none() {
            candidacy.create_revision = self.stand(&candidacy.key, lease, value).await?;
            let Some(_) = candidacy.create_revision else { return Ok(None) };
            stands();
        }
        let now = self.store.read(&[Range::KeysOnly(self.prefix())], None).await?;
        let own = now.kvs.get(&candidacy.key.to_string()).map(|kv| kv.create_revision);
        let Some(create_revision) = candidacy.create_revision.filter(|mine| own == Some(*mine))
        else {
            return Err(self.why_gone(lease).await);
        };
        match youngest_before(&now, create_revision) {
            None => {
                candidacy.won = true;
                let key = candidacy.key.clone();
                Ok(Some(Leadership { key, create_revision, lease }))
            }
            Some(key) => {
                self.wait_for_deletion(key, now.revision).await?;
                Ok(None)
            }
        }
    }

    /// A candidate goes with its lease, which may be seen here before the session has noticed, or by
    /// somebody's hand.
    async fn why_gone(&self, lease: LeaseId) -> Failure {
        match self.store.keep_alive(lease).await {
            Ok(KeepAlive::Alive(_)) => Failure::Removed,
            Ok(KeepAlive::Expired) => Failure::Expired,
            Err(error) => Failure::Store(error),
        }
    }

    /// Creates the candidate, or takes over the one that the lease has already.
    async fn stand(
        &self,
        key: &Key,
        lease: LeaseId,
        value: &[u8],
    ) -> Result<Option<Revision>, StoreError> {
        let put = || Op::put_bytes(key, value).with_lease(lease);
        let create = Txn::default().when(Compare::absent(key)).then(put());
        if let Committed::Done(revision) = self.store.commit(&create).await? {
            return Ok(Some(revision));
        }
        let now = self.store.read(&[Range::from(key)], None).await?;
        let Some(kv) = now.kvs.get(&key.to_string()) else { return Ok(None) };
        if kv.value != value {
            let proclaim =
                Txn::default().when(Compare::unchanged(key, kv.mod_revision)).then(put());
            if self.store.commit(&proclaim).await? == Committed::Refused {
                return Ok(None);
            }
        }
        Ok(Some(kv.create_revision))
    }

    /// Waits until the key is gone, or might be.
    async fn wait_for_deletion(&self, key: String, seen: Revision) -> Result<(), StoreError> {
        let range = Range::Key(key);
        let mut watch = self.store.watch(&[range], Revision(seen.0 + 1)).await?;
        let gone = async {
            loop {
                match watch.next().await? {
                    WatchEvent::Changed(changes)
                        if changes.iter().any(|change| change.kv.is_none()) =>
                    {
                        return Ok(());
                    }
                    WatchEvent::Lost { .. } => return Ok(()),
                    WatchEvent::Changed(_) | WatchEvent::Progress(_) => {}
                }
            }
        };
        timeout(jittered(LOOK_EVERY), gone).await.unwrap_or(Ok(()))
    }
}

/// Why a round failed.
enum Failure {
    Removed,
    Expired,
    Store(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// The candidate with the greatest create-revision before ours.
fn youngest_before(candidates: &Snapshot, mine: Revision) -> Option<String> {
    let older = candidates.kvs.values().filter(|kv| kv.create_revision < mine);
    older.max_by_key(|kv| kv.create_revision).map(|kv| kv.key.clone())
}

fn farewell(key: &Key, create_revision: Revision) -> Txn {
    Txn::default().when(Compare::same(key, create_revision)).then(Op::delete(key))
}

/// Our candidate; unless it wins, it is deleted when the campaign ends in whatever way.
struct Candidacy {
    key: Key,
    create_revision: Option<Revision>,
    farewells: mpsc::Sender<Txn>,
    won: bool,
}

impl Drop for Candidacy {
    fn drop(&mut self) {
        if self.won {
            return;
        }
        let txn = match self.create_revision {
            Some(revision) => farewell(&self.key, revision),
            // The key is ours alone, as the lease is part of its name.
            None => Txn::default().when(Compare::exists(&self.key)).then(Op::delete(&self.key)),
        };
        // A session that is over has taken its keys along.
        let _ = self.farewells.try_send(txn);
    }
}
