//! The store of a bench, with somebody else at work on it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use neco_schema::{LeaseId, Range, Revision, Snapshot, Txn};
use neco_store::{
    ClusterHealth, Committed, KeepAlive, MemoryStore, Mvcc, Store, StoreError, Watch,
};

/// A store, and what others do to it.
#[derive(Default)]
pub(crate) struct Disturbed {
    pub(crate) store: MemoryStore,
    /// So many commits come too late: somebody else was faster.
    pub(crate) lost_races: AtomicUsize,
    /// So many watches find their beginning compacted, each two revisions further on.
    pub(crate) compactions: AtomicUsize,
    /// How many revisions are of keys that are not ours.
    pub(crate) of_others: i64,
    /// A read takes so long.
    pub(crate) late: Duration,
}

/// Takes one of what is left, if there is any.
fn one_of(left: &AtomicUsize) -> bool {
    let less = |left: usize| left.checked_sub(1);
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
}

#[async_trait]
impl Store for Disturbed {
    async fn read(&self, ranges: &[Range], at: Option<Revision>) -> Result<Snapshot, StoreError> {
        tokio::time::sleep(self.late).await;
        let mut snapshot = self.store.read(ranges, at).await?;
        if at.is_none() {
            snapshot.revision.0 += self.of_others;
        }
        Ok(snapshot)
    }

    async fn commit(&self, txn: &Txn) -> Result<Committed, StoreError> {
        if one_of(&self.lost_races) {
            return Ok(Committed::Refused);
        }
        self.store.commit(txn).await
    }

    async fn watch(&self, ranges: &[Range], from: Revision) -> Result<Box<dyn Watch>, StoreError> {
        if one_of(&self.compactions) {
            let compact = |mvcc: &mut Mvcc| mvcc.compact(Revision(mvcc.compacted().0 + 2));
            self.store.with(compact)?;
        }
        self.store.watch(ranges, from).await
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.store.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<KeepAlive, StoreError> {
        self.store.keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.store.revoke(lease).await
    }

    async fn health(&self) -> Result<ClusterHealth, StoreError> {
        self.store.health().await
    }
}
