//! Speaks etcd: typed reads, guarded transactions, resuming watch, session, campaign, turn.
//!
//! The front door is [`Store`]: reads of several ranges at one revision, guarded transactions as data
//! ([`neco_schema::Txn`]), a watch that resumes itself, leases, health. [`Members`] changes who belongs to the cluster.
//! [`EtcdStore`] is the real one of both.
//! On top of it, for any store: [`Session`], [`Election`] and the [`Candidate`] of one, [`turn`], [`Heart`], [`Follower`].
//!
//! What surprises a newcomer:
//!
//! - [`EtcdStore::connect`] succeeds with nothing listening: daemons ride out outages. To know, make a
//!   real call: [`EtcdStore::ping`].
//! - [`StoreError::Unknown`] is an answer: the transaction may have happened. Look again.
//! - A watch never ends by itself; when it says [`WatchEvent::Lost`], list and watch anew.
//!
//! Behind the feature `testing` are a model of etcd, `Mvcc`, and a store around it, `MemoryStore`,
//! which pass the same contract suite as the real thing.

pub mod alive;
mod campaign;
mod error;
mod etcd;
mod follower;
mod members;
#[cfg(any(test, feature = "testing"))]
mod memory;
#[cfg(any(test, feature = "testing"))]
mod memory_members;
#[cfg(any(test, feature = "testing"))]
pub mod mvcc;
mod session;
mod store;
mod term;
pub mod turn;

pub use alive::{Beat, Heart};
pub use campaign::{CampaignError, Election, Leader, Leadership};
pub use error::{Cause, StoreError};
pub use etcd::{EtcdStore, Options, Renew};
pub use follower::{Follower, Heard, bring_forward};
pub use members::{Added, Member, Members, Promoted};
#[cfg(any(test, feature = "testing"))]
pub use memory::MemoryStore;
#[cfg(any(test, feature = "testing"))]
pub use mvcc::{Compacted, Mvcc};
pub use neco_schema::Severity;
pub use session::{Session, SessionLost};
pub use store::{
    Change, ClusterHealth, Committed, KeepAlive, MemberHealth, Store, Watch, WatchEvent,
};
pub use term::{Candidate, Over, Stage, TermError};
