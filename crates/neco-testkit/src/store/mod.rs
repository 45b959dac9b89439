//! What every store must do, and lists of random operations that two stores must answer alike.
//!
//! [`contract`] runs named cases on stores that the caller makes; [`lists::run`] compares a store with
//! the model of etcd; [`members::contract`] is about the members of a cluster. All run against the in-memory store and against real etcd, so that what is
//! tested on the one holds on the other.

mod data;
pub mod lists;
pub mod members;
mod roles;
mod terms;
mod watching;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use neco_schema::{KeyValue, Op, Range, Revision, Snapshot, Txn};
use neco_store::{Committed, Store, StoreError, Watch, WatchEvent};

/// How long a case waits for a condition that must come true.
pub const WITHIN: Duration = Duration::from_secs(20);

/// What a future of a [`Rig`] looks like.
pub type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A store to be tested, with what its trait has no words for. Its keys are its own.
#[derive(Clone)]
pub struct Rig {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Compacts the whole cluster up to a revision.
    pub compact: Arc<dyn Fn(Revision) -> Boxed<Result<(), StoreError>> + Send + Sync>,
}

/// A named case.
type Case = (&'static str, fn(Rig) -> Boxed<()>);

/// Runs every case on a store of its own, and panics naming those that failed.
///
/// # Panics
/// If a case fails.
pub async fn contract(make: impl AsyncFn(&'static str) -> Rig) {
    let cases: Vec<Case> =
        [data::cases(), watching::cases(), roles::cases(), terms::cases()].concat();
    let mut failed = Vec::new();
    for (name, case) in &cases {
        let rig = make(name).await;
        println!("{name}");
        if tokio::spawn(case(rig)).await.is_err() {
            failed.push(*name);
        }
    }
    assert!(failed.is_empty(), "{} of {} cases failed: {failed:?}", failed.len(), cases.len());
    println!("{} cases passed", cases.len());
}

/// The named cases of a module.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(super) fn cases() -> Vec<super::Case> {
            vec![$((stringify!($name), |rig| Box::pin($name(rig)))),*]
        }
    };
}
use cases;

/// A put, as a transaction.
pub fn put(key: &str, value: impl AsRef<[u8]>) -> Txn {
    Txn::default().then(op_put(key, value))
}

/// A put, as part of one.
pub fn op_put(key: &str, value: impl AsRef<[u8]>) -> Op {
    Op::Put { key: key.to_owned(), value: value.as_ref().to_vec(), lease: None }
}

/// A deletion, as a transaction.
pub fn delete(range: Range) -> Txn {
    Txn::default().then(Op::Delete(range))
}

/// One key.
pub fn one(key: &str) -> Range {
    Range::Key(key.to_owned())
}

/// All keys that begin with this.
pub fn all(prefix: &str) -> Range {
    Range::Prefix(prefix.to_owned())
}

impl Rig {
    /// Commits what must succeed.
    ///
    /// # Panics
    /// If it does not.
    pub async fn commit(&self, txn: &Txn) -> Revision {
        match self.store.commit(txn).await {
            Ok(Committed::Done(revision)) => revision,
            other => panic!("{txn:?} gave {other:?}"),
        }
    }

    /// Reads ranges at the newest revision.
    ///
    /// # Panics
    /// If the store does not answer.
    pub async fn read(&self, ranges: &[Range]) -> Snapshot {
        self.store.read(ranges, None).await.expect("the store answers")
    }

    /// Reads one key at the newest revision.
    ///
    /// # Panics
    /// If the store does not answer.
    pub async fn get(&self, key: &str) -> Option<KeyValue> {
        self.read(&[one(key)]).await.kvs.remove(key)
    }

    /// Opens a watch.
    ///
    /// # Panics
    /// If the store does not answer.
    pub async fn watch(&self, ranges: &[Range], from: Revision) -> Box<dyn Watch> {
        self.store.watch(ranges, from).await.expect("the store answers")
    }
}

/// The next event that is no mere progress.
///
/// # Panics
/// If none comes in time.
pub async fn next_event(watch: &mut dyn Watch) -> WatchEvent {
    let event = async {
        loop {
            match watch.next().await.expect("the watch goes on") {
                WatchEvent::Progress(_) => {}
                event => return event,
            }
        }
    };
    tokio::time::timeout(WITHIN, event).await.expect("an event comes in time")
}

/// Waits until `probe` gives something.
///
/// # Panics
/// If that takes too long.
pub async fn eventually<T, Fut: Future<Output = Option<T>>>(
    what: &str,
    mut probe: impl FnMut() -> Fut,
) -> T {
    let found = async {
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(WITHIN, found).await {
        Ok(found) => found,
        Err(_) => panic!("{what} did not come true in time"),
    }
}
