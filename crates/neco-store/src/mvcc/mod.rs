//! A model of etcd in memory: synchronous, without clock or chance, cheap to clone.
//!
//! It keeps etcd's rules where they can be seen by a client:
//!
//! - Every transaction that changes something makes one new revision; one that changes nothing (no
//!   writes, or a deletion of what is not there) makes none.
//! - A transaction that writes a key twice, or writes and deletes it, is refused before its conditions
//!   are looked at. Overlapping deletions are fine.
//! - A lease must exist when a key is bound to it; a write without lease unbinds the key.
//! - The end of a lease deletes its keys, in byte order, in one revision.
//! - A compaction at R keeps what stood at R; reads before R fail, and so do watches from before R.
//!
//! Time passes by [`Mvcc::advance`] alone. A clone is a backup: [`Mvcc::restore`] puts it back.

mod history;
mod lease;

use std::collections::BTreeMap;
use std::time::Duration;

use neco_schema::{Compare, CompareTarget, KeyValue, LeaseId, Op, Range, Revision, Snapshot, Txn};

use self::history::History;
use self::lease::Leases;
use crate::{Change, Committed, KeepAlive, StoreError};

/// The revision of an etcd in which nothing was ever written.
pub const FIRST_REVISION: Revision = Revision(1);

/// The revision of a watch or read lies before the last compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("compacted up to revision {oldest}")]
pub struct Compacted {
    /// The oldest revision that can still be read and watched from.
    pub oldest: Revision,
}

/// One etcd cluster, as a value.
#[derive(Clone, Debug)]
pub struct Mvcc {
    cluster_id: u64,
    revision: Revision,
    history: History,
    leases: Leases,
}

impl Default for Mvcc {
    fn default() -> Self {
        Self::new(1)
    }
}

impl Mvcc {
    /// An empty cluster of this identity.
    pub fn new(cluster_id: u64) -> Self {
        Self {
            cluster_id,
            revision: FIRST_REVISION,
            history: History::default(),
            leases: Leases::default(),
        }
    }

    /// The cluster's identity.
    pub fn cluster_id(&self) -> u64 {
        self.cluster_id
    }

    /// The newest revision.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The revision of the last compaction; 0 before the first.
    pub fn compacted(&self) -> Revision {
        self.history.compacted()
    }

    /// Reads all ranges at one revision, the newest if none or 0 is given.
    ///
    /// # Errors
    /// The revision is compacted, or in the future.
    pub fn read(&self, ranges: &[Range], at: Option<Revision>) -> Result<Snapshot, StoreError> {
        let revision = at.filter(|at| *at > Revision(0)).unwrap_or(self.revision);
        if revision > self.revision {
            return Err(StoreError::FutureRevision { revision });
        }
        if revision < self.history.compacted() {
            return Err(StoreError::Compacted { revision });
        }
        let mut kvs: BTreeMap<String, KeyValue> = BTreeMap::new();
        for range in ranges {
            for kv in self.history.range(range, revision) {
                let bare = matches!(range, Range::KeysOnly(_));
                match kvs.get(&kv.key) {
                    Some(_) if bare => {}
                    _ => {
                        let value = if bare { Vec::new() } else { kv.value.clone() };
                        kvs.insert(kv.key.clone(), KeyValue { value, ..kv });
                    }
                }
            }
        }
        Ok(Snapshot { revision, cluster_id: self.cluster_id, kvs })
    }

    /// One key at the newest revision.
    pub fn get(&self, key: &str) -> Option<KeyValue> {
        self.history.at(key, self.revision)
    }

    /// Executes a guarded transaction.
    ///
    /// # Errors
    /// It touches a key twice, or binds a key to a lease that is not there; then nothing happened.
    pub fn commit(&mut self, txn: &Txn) -> Result<Committed, StoreError> {
        refuse_duplicates(&txn.ops)?;
        if !txn.compares.iter().all(|compare| self.holds(compare)) {
            return Ok(Committed::Refused);
        }
        for op in &txn.ops {
            if let Op::Put { lease: Some(lease), .. } = op
                && !self.leases.contains(*lease)
            {
                return Err(StoreError::LeaseGone { lease: *lease });
            }
        }
        let next = Revision(self.revision.0 + 1);
        let mut changed = false;
        for op in &txn.ops {
            match op {
                Op::Put { key, value, lease } => {
                    self.history.put(key, value.clone(), *lease, next);
                    changed = true;
                }
                Op::Delete(range) => changed |= self.history.delete(range, next) > 0,
            }
        }
        if changed {
            self.revision = next;
        }
        Ok(Committed::Done(self.revision))
    }

    /// The changes of the ranges at the revision `from` and later, in order. A revision in the future
    /// has none yet.
    ///
    /// # Errors
    /// `from` lies before the last compaction.
    pub fn changes_since(
        &self,
        from: Revision,
        ranges: &[Range],
    ) -> Result<Vec<Change>, Compacted> {
        // etcd takes 0 for "from now on".
        let from = if from.0 <= 0 { Revision(self.revision.0 + 1) } else { from };
        let oldest = self.history.compacted();
        if from < oldest {
            return Err(Compacted { oldest });
        }
        Ok(self.history.changes(from, ranges))
    }

    /// Forgets what is older than `at`.
    ///
    /// # Errors
    /// `at` is compacted already, or in the future.
    pub fn compact(&mut self, at: Revision) -> Result<(), StoreError> {
        if at > self.revision {
            return Err(StoreError::FutureRevision { revision: at });
        }
        if at <= self.history.compacted() {
            return Err(StoreError::Compacted { revision: at });
        }
        self.history.compact(at);
        Ok(())
    }

    /// Grants a lease, its time rounded up to whole seconds.
    pub fn grant(&mut self, ttl: Duration) -> LeaseId {
        self.leases.grant(ttl)
    }

    /// Renews a lease for its full time.
    pub fn keep_alive(&mut self, lease: LeaseId) -> KeepAlive {
        self.leases.renew(lease).map_or(KeepAlive::Expired, KeepAlive::Alive)
    }

    /// Ends a lease and deletes its keys. Says whether it was there.
    pub fn revoke(&mut self, lease: LeaseId) -> bool {
        if !self.leases.remove(lease) {
            return false;
        }
        let next = Revision(self.revision.0 + 1);
        if self.history.delete_bound(lease, next) > 0 {
            self.revision = next;
        }
        true
    }

    /// Lets time pass. Leases that run out end, the earliest first; they are returned.
    pub fn advance(&mut self, time: Duration) -> Vec<LeaseId> {
        let ended = self.leases.advance(time);
        for lease in &ended {
            self.revoke(*lease);
        }
        ended
    }

    /// When the next lease runs out if nobody renews it: how long from now.
    pub fn next_expiry(&self) -> Option<Duration> {
        self.leases.next_expiry()
    }

    /// Puts a backup (a clone of earlier) in the place of this cluster, under the given identity:
    /// the revision goes back, and leases begin their time anew.
    pub fn restore(&mut self, backup: &Self, cluster_id: u64) {
        *self = backup.clone();
        self.cluster_id = cluster_id;
        self.leases.renew_all();
    }

    fn holds(&self, compare: &Compare) -> bool {
        let kv = self.get(&compare.key);
        match &compare.target {
            CompareTarget::Absent => kv.is_none(),
            CompareTarget::Exists => kv.is_some(),
            CompareTarget::ModRevision(revision) => {
                kv.map_or(Revision(0), |kv| kv.mod_revision) == *revision
            }
            CompareTarget::CreateRevision(revision) => {
                kv.map_or(Revision(0), |kv| kv.create_revision) == *revision
            }
            CompareTarget::Value(value) => kv.is_some_and(|kv| kv.value == *value),
        }
    }
}

/// etcd's rule: no key is put twice, and none is put and deleted.
fn refuse_duplicates(ops: &[Op]) -> Result<(), StoreError> {
    let puts = ops.iter().enumerate().filter_map(|(index, op)| match op {
        Op::Put { key, .. } => Some((index, key)),
        Op::Delete(_) => None,
    });
    for (index, key) in puts {
        let again = ops.iter().enumerate().any(|(other, op)| match op {
            Op::Put { key: twin, .. } => other > index && twin == key,
            Op::Delete(range) => range.contains(key),
        });
        if again {
            return Err(StoreError::DuplicateKey);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
