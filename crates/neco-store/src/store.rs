//! What every store can do.

use std::time::Duration;

use async_trait::async_trait;
use neco_schema::{KeyValue, LeaseId, Range, Revision, Snapshot, Txn};

use crate::StoreError;

/// A key-value store with the semantics of etcd, seen below one prefix.
///
/// Keys in arguments and answers are relative to that prefix. Every call ends within a bound of its
/// own, whatever the servers do.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Reads all ranges as they stood together at one revision: the newest, or `at`.
    ///
    /// The read is linearizable: it sees every transaction that was answered before it began. A key
    /// that several ranges name has its value unless all of them are without values.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] and [`StoreError::FutureRevision`] for an `at` that is not there
    /// any more or not yet; whatever keeps the store from answering.
    async fn read(&self, ranges: &[Range], at: Option<Revision>) -> Result<Snapshot, StoreError>;

    /// Executes a guarded transaction.
    ///
    /// It happens at most once. A transaction whose answer was lost is sent again only if its own
    /// guards keep a second run from succeeding.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] if it cannot be told whether it happened: read again and decide anew.
    /// Every other error means that it did not happen.
    async fn commit(&self, txn: &Txn) -> Result<Committed, StoreError>;

    /// Watches ranges from a revision, that one included; going on over reconnects by itself.
    ///
    /// To miss nothing, begin one after the revision of a snapshot. From exactly the revision of the last
    /// compaction, etcd leaves out deletions.
    ///
    /// # Errors
    /// Whatever keeps the store from answering. A revision that is compacted already is no error
    /// here but the watch's first event.
    async fn watch(&self, ranges: &[Range], from: Revision) -> Result<Box<dyn Watch>, StoreError>;

    /// Grants a lease. The time is rounded up to whole seconds, and the server may grant more.
    ///
    /// # Errors
    /// Whatever keeps the store from answering; a lease granted without anybody knowing expires.
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError>;

    /// Renews a lease once.
    ///
    /// # Errors
    /// Whatever keeps the store from answering; then the lease may be alive or not.
    async fn keep_alive(&self, lease: LeaseId) -> Result<KeepAlive, StoreError>;

    /// Ends a lease and deletes its keys in one revision. A lease that is gone already is fine.
    ///
    /// # Errors
    /// Whatever keeps the store from answering; then the lease lasts for the rest of its time.
    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// Asks every member how it is.
    ///
    /// # Errors
    /// No member answers.
    async fn health(&self) -> Result<ClusterHealth, StoreError>;
}

/// A stream of changes. It does not end: a lost connection is opened again from where it was.
#[async_trait]
pub trait Watch: Send {
    /// Waits for the next event. Dropping the future loses nothing.
    ///
    /// # Errors
    /// What a new try does not mend, such as a password that is not valid any more.
    async fn next(&mut self) -> Result<WatchEvent, StoreError>;
}

/// What a watch has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// Changes in order; those of one revision come together and once.
    Changed(Vec<Change>),
    /// The next revision is compacted or otherwise gone, and changes may be missing: list again and
    /// watch anew from there. Nothing comes after this.
    Lost {
        /// The oldest revision that can still be had.
        revision: Revision,
    },
    /// Everything up to this revision has been told.
    Progress(Revision),
}

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: String,
    /// The revision of the change.
    pub revision: Revision,
    /// What the key is now; nothing if it was deleted.
    pub kv: Option<KeyValue>,
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// All conditions held and all writes happened at this revision. If there was nothing to
    /// change, this is the newest revision.
    Done(Revision),
    /// A condition did not hold, and nothing happened.
    Refused,
}

/// How a lease is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    /// It lasts for this long from now.
    Alive(Duration),
    /// It ended, or never was; its keys are gone.
    Expired,
}

/// How a cluster is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterHealth {
    /// Its identity, which a restore from a backup changes.
    pub cluster_id: u64,
    /// Its members, by name and then by identity.
    pub members: Vec<MemberHealth>,
    /// Whether the healthy voting members are a majority of all voting members.
    pub quorum: bool,
}

impl ClusterHealth {
    /// Whether every member is healthy.
    pub fn all_healthy(&self) -> bool {
        self.members.iter().all(|member| member.healthy)
    }
}

/// How a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberHealth {
    /// Its identity.
    pub id: u64,
    /// Its name; empty for one that was added and never started.
    pub name: String,
    /// Where the other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty for one that never started.
    pub client_urls: Vec<String>,
    /// Whether it answers, knows a leader and has no error to tell.
    pub healthy: bool,
    /// Whether it is the leader.
    pub is_leader: bool,
    /// Whether it is a learner, which has no vote.
    pub is_learner: bool,
    /// Why it is not healthy; empty if it is.
    pub trouble: String,
}
