//! Reads and guarded writes as data: what a pure decision produces and a store executes.

use std::collections::BTreeMap;

use crate::{Key, Record};

/// A revision of etcd's key space.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Revision(pub i64);

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The identity of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

/// What to read or delete; keys are relative to the store's prefix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Range {
    /// One key.
    Key(String),
    /// Every key that begins with this text.
    Prefix(String),
    /// Every key that begins with this text, without the values.
    KeysOnly(String),
}

impl Range {
    /// Whether `key` is in the range.
    pub fn contains(&self, key: &str) -> bool {
        match self {
            Self::Key(one) => one == key,
            Self::Prefix(prefix) | Self::KeysOnly(prefix) => key.starts_with(prefix.as_str()),
        }
    }

    /// The key, or the text that all keys begin with.
    pub fn text(&self) -> &str {
        match self {
            Self::Key(text) | Self::Prefix(text) | Self::KeysOnly(text) => text,
        }
    }
}

impl From<&Key> for Range {
    fn from(key: &Key) -> Self {
        Self::Key(key.to_string())
    }
}

/// A key with its value and the revisions etcd keeps for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key, relative to the prefix.
    pub key: String,
    /// The value; empty in a read without values.
    pub value: Vec<u8>,
    /// The revision at which the key came into being.
    pub create_revision: Revision,
    /// The revision of its last change.
    pub mod_revision: Revision,
    /// How often it was written since it came into being, from 1.
    pub version: i64,
    /// The lease it is bound to.
    pub lease: Option<LeaseId>,
}

/// Keys and values as they stood together at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The revision.
    pub revision: Revision,
    /// The cluster that answered.
    pub cluster_id: u64,
    /// The keys, in byte order.
    pub kvs: BTreeMap<String, KeyValue>,
}

/// A condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Compare {
    /// The key it is about.
    pub key: String,
    /// What must hold.
    pub target: Target,
}

/// What must hold of a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// It does not exist.
    Absent,
    /// It exists.
    Exists,
    /// Its last change was at this revision; revision 0 means that it does not exist.
    ModRevision(Revision),
    /// It came into being at this revision; revision 0 means that it does not exist.
    CreateRevision(Revision),
    /// Its value is this.
    Value(Vec<u8>),
}

impl Compare {
    /// `key` does not exist.
    pub fn absent(key: &Key) -> Self {
        Self { key: key.to_string(), target: Target::Absent }
    }

    /// `key` exists.
    pub fn exists(key: &Key) -> Self {
        Self { key: key.to_string(), target: Target::Exists }
    }

    /// `key` is as it was last changed at `revision`, or absent for revision 0.
    pub fn unchanged(key: &Key, revision: Revision) -> Self {
        Self { key: key.to_string(), target: Target::ModRevision(revision) }
    }

    /// `key` is the one that came into being at `revision`.
    pub fn same(key: &Key, revision: Revision) -> Self {
        Self { key: key.to_string(), target: Target::CreateRevision(revision) }
    }
}

/// A write of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Sets a key.
    Put {
        /// The key.
        key: String,
        /// Its value.
        value: Vec<u8>,
        /// The lease to bind it to.
        lease: Option<LeaseId>,
    },
    /// Deletes what is in the range.
    Delete(Range),
}

impl Op {
    /// Sets `key` to `record`.
    pub fn put(key: &Key, record: &impl Record) -> Self {
        Self::put_bytes(key, record.encode())
    }

    /// Sets `key` to `value`.
    pub fn put_bytes(key: &Key, value: impl Into<Vec<u8>>) -> Self {
        Self::Put { key: key.to_string(), value: value.into(), lease: None }
    }

    /// The same write, bound to a lease. A deletion stays as it is.
    pub fn with_lease(self, lease: LeaseId) -> Self {
        match self {
            Self::Put { key, value, .. } => Self::Put { key, value, lease: Some(lease) },
            delete @ Self::Delete(_) => delete,
        }
    }

    /// Deletes `key`.
    pub fn delete(key: &Key) -> Self {
        Self::Delete(Range::from(key))
    }

    /// Deletes every key that begins with `prefix`.
    pub fn delete_prefix(prefix: impl Into<String>) -> Self {
        Self::Delete(Range::Prefix(prefix.into()))
    }
}

/// A guarded transaction: if all conditions hold, all writes happen, in one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// The conditions.
    pub compares: Vec<Compare>,
    /// The writes. A key may be touched once.
    pub ops: Vec<Op>,
}

impl Txn {
    /// The same with one more condition.
    pub fn when(mut self, compare: Compare) -> Self {
        self.compares.push(compare);
        self
    }

    /// The same with one more write.
    pub fn then(mut self, op: Op) -> Self {
        self.ops.push(op);
        self
    }
}
