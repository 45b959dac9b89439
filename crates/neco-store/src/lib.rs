//! Speaks etcd: typed reads, guarded transactions, resuming watch, session, campaign, turn.
//!
//! The front door is [`Store`]: reads of several ranges at one revision, guarded transactions as data
//! ([`neco_schema::Txn`]), a watch that resumes itself, leases, health.
//!
//! Behind the feature `testing` is a model of etcd, `Mvcc`, and a store around it, which pass the same
//! contract suite as the real thing.

mod error;
#[cfg(any(test, feature = "testing"))]
pub mod mvcc;
mod store;

pub use error::{Cause, Severity, StoreError};
#[cfg(any(test, feature = "testing"))]
pub use mvcc::{Compacted, Mvcc};
pub use store::{
    Change, ClusterHealth, Committed, KeepAlive, MemberHealth, Store, Watch, WatchEvent,
};
