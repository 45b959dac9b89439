//! The sign of life of a boot server, `alive/<LRN>`.
//!
//! It is bound to a lease, and written only if absent or of the same machine: of two machines that
//! claim one logical rack number the second must rest.

use std::sync::Arc;
use std::time::Duration;

use neco_schema::{Alive, Compare, Key, LeaseId, Lrn, Op, Range, Record, Revision, Txn};

use crate::{Committed, KeepAlive, Store, StoreError};

/// How long a sign of life lasts without being renewed, where nothing else is said.
pub const ALIVE_TTL: Duration = Duration::from_secs(30);

/// How often it is renewed before it runs out.
const BEATS: u32 = 3;

/// How often a record that changes under our hands is looked at again.
const TRIES: usize = 5;

/// What became of a sign of life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beat {
    /// The record says what it should, and lasts.
    Ours,
    /// Another machine is this server.
    HeldByOther(Box<Alive>),
}

/// Keeps the sign of life of one server.
pub struct Heart {
    store: Arc<dyn Store>,
    key: Key,
    ttl: Duration,
    lease: Option<LeaseId>,
}

impl std::fmt::Debug for Heart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lease = &self.lease;
        f.debug_struct("Heart")
            .field("key", &self.key)
            .field("lease", lease)
            .finish_non_exhaustive()
    }
}

impl Heart {
    /// For this server. Nothing is written yet.
    pub fn new(store: Arc<dyn Store>, lrn: Lrn) -> Self {
        Self { store, key: Key::Alive(lrn), ttl: ALIVE_TTL, lease: None }
    }

    /// Lets the sign of life last this long without being renewed.
    #[must_use]
    pub fn lasting(self, ttl: Duration) -> Self {
        Self { ttl, ..self }
    }

    /// How often to [renew](Self::beat) it.
    pub fn beat_every(&self) -> Duration {
        self.ttl / BEATS
    }

    /// Makes sure that the record stands as given and lasts. To be called every [`Self::beat_every`] and
    /// when the record changes. If the lease was lost, there is a new one.
    ///
    /// # Errors
    /// The record of another cannot be read; whatever keeps the store from answering.
    pub async fn beat(&mut self, alive: &Alive) -> Result<Beat, StoreError> {
        let lease = self.lease().await?;
        let bytes = alive.encode();
        for _ in 0..TRIES {
            let now = self.store.read(&[Range::from(&self.key)], None).await?;
            let mut seen = Revision(0);
            if let Some(kv) = now.kvs.get(&self.key.to_string()) {
                if kv.value == bytes && kv.lease == Some(lease) {
                    return Ok(Beat::Ours);
                }
                let other = Alive::decode(&kv.value).map_err(|error| StoreError::Malformed {
                    key: kv.key.clone(),
                    reason: error.to_string(),
                })?;
                if other.machine_id != alive.machine_id {
                    return Ok(Beat::HeldByOther(Box::new(other)));
                }
                seen = kv.mod_revision;
            }
            let txn = Txn::default()
                .when(Compare::unchanged(&self.key, seen))
                .then(Op::put_bytes(&self.key, bytes.clone()).with_lease(lease));
            match self.store.commit(&txn).await {
                Ok(Committed::Done(_)) => return Ok(Beat::Ours),
                Ok(Committed::Refused) | Err(StoreError::Unknown { .. }) => {}
                Err(error) => {
                    if matches!(error, StoreError::LeaseGone { .. }) {
                        self.lease = None;
                    }
                    return Err(error);
                }
            }
        }
        Err(StoreError::Unreachable {
            endpoints: Vec::new(),
            within: Duration::ZERO,
            reason: format!("{} changes too fast to be written", self.key),
            source: None,
        })
    }

    /// Takes the sign of life back, in an orderly end.
    ///
    /// # Errors
    /// The store did not answer; then it runs out by itself.
    pub async fn stop(mut self) -> Result<(), StoreError> {
        match self.lease.take() {
            Some(lease) => self.store.revoke(lease).await,
            None => Ok(()),
        }
    }

    /// The lease, renewed or new.
    async fn lease(&mut self) -> Result<LeaseId, StoreError> {
        if let Some(lease) = self.lease
            && let KeepAlive::Alive(_) = self.store.keep_alive(lease).await?
        {
            return Ok(lease);
        }
        let lease = self.store.grant(self.ttl).await?;
        self.lease = Some(lease);
        Ok(lease)
    }
}
