//! A store in memory, for tests: the model of etcd behind the store's trait, with faults on demand.
//!
//! Leases follow tokio's clock, so that a test with a paused clock decides when they end;
//! [`MemoryStore::advance`] moves their time further still. Clones share the same data.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use neco_schema::{LeaseId, Range, Revision, Snapshot, Txn};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::memory_members::{ENDPOINT, Model};
use crate::{
    Added, Change, ClusterHealth, Committed, KeepAlive, Member, Members, Mvcc, Promoted, Store,
    StoreError, Watch, WatchEvent,
};

/// A store in memory.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    /// Counts everything that a watch may be waiting for.
    stirred: watch::Sender<u64>,
}

#[derive(Debug)]
struct Inner {
    mvcc: Mvcc,
    members: Model,
    clock: Instant,
    faults: Faults,
}

/// The faults that are in force.
#[derive(Debug, Default)]
struct Faults {
    down: bool,
    failing_calls: usize,
    lost_answers: usize,
    held_watches: bool,
    repeats: usize,
    /// Raised to end all watches that are open.
    closed: u64,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new(Mvcc::default())
    }
}

impl MemoryStore {
    /// A store around this state.
    pub fn new(mvcc: Mvcc) -> Self {
        let members = Model::default();
        let inner = Inner { mvcc, members, clock: Instant::now(), faults: Faults::default() };
        let shared = Shared { inner: Mutex::new(inner), stirred: watch::Sender::new(0) };
        Self { shared: Arc::new(shared) }
    }

    /// Looks at or changes the state itself, past all faults: a compaction, a restore, a look.
    pub fn with<T>(&self, act: impl FnOnce(&mut Mvcc) -> T) -> T {
        let result = act(&mut self.inner().mvcc);
        self.stir();
        result
    }

    /// Lets time pass for leases, beyond what tokio's clock says.
    pub fn advance(&self, time: Duration) {
        self.with(|mvcc| mvcc.advance(time));
    }

    /// From now on no call is answered, and watches stand still.
    pub fn go_down(&self) {
        self.fault(|faults| faults.down = true);
    }

    /// Ends what [`MemoryStore::go_down`] began. Watches go on where they were.
    pub fn come_back(&self) {
        self.fault(|faults| faults.down = false);
    }

    /// The next calls, this many, are not answered and do nothing.
    pub fn fail_calls(&self, count: usize) {
        self.fault(|faults| faults.failing_calls = count);
    }

    /// The next commits, this many, happen, and their answers are lost.
    pub fn lose_answers(&self, count: usize) {
        self.fault(|faults| faults.lost_answers = count);
    }

    /// Watches say nothing until released.
    pub fn hold_watches(&self, hold: bool) {
        self.fault(|faults| faults.held_watches = hold);
    }

    /// The next changes that watches tell, this many, are told twice. No store does this; what
    /// takes events as a hint to look again does not mind.
    pub fn repeat_events(&self, count: usize) {
        self.fault(|faults| faults.repeats = count);
    }

    /// All open watches end as lost.
    pub fn close_watches(&self) {
        self.fault(|faults| faults.closed += 1);
    }

    /// From now on these are the members, by name and peer URL: all of them vote and run. Without this there is one,
    /// `memory`. While no majority runs, no call is answered but [`Store::health`].
    pub fn set_members<'a>(&self, voters: impl IntoIterator<Item = (&'a str, &'a str)>) {
        self.inner().members = Model::of(voters);
    }

    /// The member at this address runs from now on, under this name, and has caught up. Says whether there is one.
    pub fn start_member(&self, peer_url: &str, name: &str) -> bool {
        self.inner().members.start(peer_url, name)
    }

    /// The member of this name runs no more.
    pub fn stop_member(&self, name: &str) {
        self.inner().members.stop(name);
    }

    fn fault(&self, set: impl FnOnce(&mut Faults)) {
        set(&mut self.inner().faults);
        self.stir();
    }

    fn stir(&self) {
        self.shared.stirred.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// The state, with all leases ended that have run out by now.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.shared.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let passed = now.saturating_duration_since(inner.clock);
        inner.clock = now;
        if !inner.mvcc.advance(passed).is_empty() {
            self.stir();
        }
        inner
    }

    /// The state for a call, unless a fault keeps it from being answered.
    fn call(&self) -> Result<MutexGuard<'_, Inner>, StoreError> {
        let inner = self.local_call()?;
        if inner.members.quorum() { Ok(inner) } else { Err(unreachable("knows no leader")) }
    }

    /// The state for a call that any member answers by itself.
    fn local_call(&self) -> Result<MutexGuard<'_, Inner>, StoreError> {
        let mut inner = self.inner();
        let faults = &mut inner.faults;
        if faults.down || faults.failing_calls > 0 {
            faults.failing_calls = faults.failing_calls.saturating_sub(1);
            return Err(unreachable("down by order of the test"));
        }
        Ok(inner)
    }
}

fn unreachable(reason: &str) -> StoreError {
    StoreError::Unreachable {
        endpoints: vec![ENDPOINT.to_owned()],
        within: Duration::ZERO,
        reason: reason.to_owned(),
        source: None,
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn read(&self, ranges: &[Range], at: Option<Revision>) -> Result<Snapshot, StoreError> {
        self.call()?.mvcc.read(ranges, at)
    }

    async fn commit(&self, txn: &Txn) -> Result<Committed, StoreError> {
        let mut inner = self.call()?;
        let result = inner.mvcc.commit(txn);
        let lost = inner.faults.lost_answers > 0;
        inner.faults.lost_answers = inner.faults.lost_answers.saturating_sub(1);
        drop(inner);
        self.stir();
        if lost {
            return Err(StoreError::Unknown {
                endpoints: vec![ENDPOINT.to_owned()],
                reason: "lost by order of the test".to_owned(),
                source: None,
            });
        }
        result
    }

    async fn watch(&self, ranges: &[Range], from: Revision) -> Result<Box<dyn Watch>, StoreError> {
        let inner = self.call()?;
        let newest = inner.mvcc.revision();
        Ok(Box::new(MemoryWatch {
            store: self.clone(),
            stirred: self.shared.stirred.subscribe(),
            ranges: ranges.to_vec(),
            next: if from.0 <= 0 { Revision(newest.0 + 1) } else { from },
            cluster_id: inner.mvcc.cluster_id(),
            closed: inner.faults.closed,
            lost: None,
        }))
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        Ok(self.call()?.mvcc.grant(ttl))
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<KeepAlive, StoreError> {
        Ok(self.call()?.mvcc.keep_alive(lease))
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.call()?.mvcc.revoke(lease);
        self.stir();
        Ok(())
    }

    async fn health(&self) -> Result<ClusterHealth, StoreError> {
        let inner = self.local_call()?;
        Ok(inner.members.health(inner.mvcc.cluster_id()))
    }
}

#[async_trait]
impl Members for MemoryStore {
    async fn members(&self) -> Result<Vec<Member>, StoreError> {
        Ok(self.local_call()?.members.list())
    }

    async fn add(&self, peer_url: &str) -> Result<Added, StoreError> {
        self.call()?.members.add(peer_url)
    }

    async fn promote(&self, id: u64) -> Result<Promoted, StoreError> {
        self.call()?.members.promote(id)
    }

    async fn remove(&self, id: u64) -> Result<(), StoreError> {
        self.call()?.members.remove(id)
    }
}

struct MemoryWatch {
    store: MemoryStore,
    stirred: watch::Receiver<u64>,
    ranges: Vec<Range>,
    next: Revision,
    cluster_id: u64,
    closed: u64,
    lost: Option<Revision>,
}

impl MemoryWatch {
    /// What there is to tell now; else how long until a lease may end.
    fn poll(&mut self) -> Result<WatchEvent, Option<Duration>> {
        if let Some(revision) = self.lost {
            return Ok(WatchEvent::Lost { revision });
        }
        let mut inner = self.store.inner();
        let expiry = inner.mvcc.next_expiry();
        let Inner { mvcc, faults, .. } = &mut *inner;
        if faults.down || faults.held_watches {
            return Err(None);
        }
        let restored = self.cluster_id != mvcc.cluster_id() || mvcc.revision().0 + 1 < self.next.0;
        if restored || self.closed != faults.closed {
            self.lost = Some(mvcc.revision());
            return Ok(WatchEvent::Lost { revision: mvcc.revision() });
        }
        let changes = match mvcc.changes_since(self.next, &self.ranges) {
            Ok(changes) => changes,
            Err(compacted) => {
                self.lost = Some(compacted.oldest);
                return Ok(WatchEvent::Lost { revision: compacted.oldest });
            }
        };
        if !changes.is_empty() && faults.repeats > 0 {
            faults.repeats -= 1;
            return Ok(WatchEvent::Changed(changes));
        }
        if mvcc.revision() < self.next {
            return Err(expiry);
        }
        self.next = Revision(mvcc.revision().0 + 1);
        Ok(if changes.is_empty() {
            WatchEvent::Progress(mvcc.revision())
        } else {
            WatchEvent::Changed(changes)
        })
    }
}

#[async_trait]
impl Watch for MemoryWatch {
    async fn next(&mut self) -> Result<WatchEvent, StoreError> {
        loop {
            self.stirred.borrow_and_update();
            let expiry = match self.poll() {
                Ok(event) => return Ok(event),
                Err(expiry) => expiry,
            };
            // Leases count whole seconds of time that is looked at in finer steps.
            let expires = async {
                match expiry {
                    Some(time) => sleep(time).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                _ = self.stirred.changed() => {}
                () = expires => {}
            }
        }
    }
}

impl MemoryStore {
    /// All changes of the ranges since a revision, that one included.
    ///
    /// # Panics
    /// If the revision is compacted.
    pub fn changes_since(&self, from: Revision, ranges: &[Range]) -> Vec<Change> {
        self.with(|mvcc| mvcc.changes_since(from, ranges)).expect("the revision is not compacted")
    }
}
