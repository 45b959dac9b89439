//! All changes of one revision, parsed.

use neco_schema::{
    Compare, CompareTarget, Key, KeyValue, Lrn, Record, Revision, UpdateRequest, UpdateStatus,
};

use super::{KvChange, Writer};

/// One change of one key.
#[derive(Clone, Debug)]
pub(super) struct Changed {
    /// The key, relative to the prefix.
    pub(super) name: String,
    /// The key, where it is one of Neco's.
    pub(super) key: Option<Key>,
    /// What stood there.
    pub(super) before: Option<KeyValue>,
    /// What stands there.
    pub(super) after: Option<KeyValue>,
}

impl Changed {
    /// The new value, where there is one that can be read.
    pub(super) fn now<T: Record>(&self) -> Option<T> {
        self.after.as_ref().and_then(|kv| T::decode(&kv.value).ok())
    }

    /// The old value, where there was one that can be read.
    pub(super) fn then<T: Record>(&self) -> Option<T> {
        self.before.as_ref().and_then(|kv| T::decode(&kv.value).ok())
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.after.is_none()
    }
}

/// All changes of one revision.
#[derive(Clone, Debug)]
pub(super) struct Event {
    /// The revision.
    pub(super) revision: Revision,
    /// The changes.
    pub(super) changes: Vec<Changed>,
    /// Who made them, and under which conditions, where the harness tells.
    pub(super) told: Option<(Writer, Vec<Compare>)>,
}

/// A change of the request.
pub(super) struct RequestChange {
    /// What stood there, where it could be read.
    pub(super) before: Option<UpdateRequest>,
    /// What stands there, where it can be read.
    pub(super) after: Option<UpdateRequest>,
    /// Whether the key is gone.
    pub(super) deleted: bool,
    /// The revision of what stood there; 0 when nothing did.
    pub(super) before_revision: Revision,
}

/// A status that was written.
pub(super) struct StatusPut {
    pub(super) lrn: Lrn,
    pub(super) before: Option<UpdateStatus>,
    pub(super) before_revision: Revision,
    pub(super) after: UpdateStatus,
    pub(super) key: String,
}

impl Event {
    pub(super) fn new(
        revision: Revision,
        changes: &[KvChange],
        told: Option<(Writer, Vec<Compare>)>,
    ) -> Self {
        let parsed = |change: &KvChange| Changed {
            name: change.key.clone(),
            key: change.key.parse().ok(),
            before: change.before.clone(),
            after: change.after.clone(),
        };
        Self { revision, changes: changes.iter().map(parsed).collect(), told }
    }

    pub(super) fn writer(&self) -> Option<Writer> {
        self.told.as_ref().map(|(writer, _)| *writer)
    }

    /// Whether the writer is known not to be bound by our rules.
    pub(super) fn is_foreign(&self) -> bool {
        matches!(self.writer(), Some(Writer::Go | Writer::Stranger))
    }

    pub(super) fn find(&self, wanted: &Key) -> Option<&Changed> {
        self.changes.iter().find(|change| change.key.as_ref() == Some(wanted))
    }

    pub(super) fn request(&self) -> Option<RequestChange> {
        let change = self.find(&Key::Request)?;
        Some(RequestChange {
            before: change.then(),
            after: change.now(),
            deleted: change.is_deleted(),
            before_revision: change.before.as_ref().map_or(Revision(0), |kv| kv.mod_revision),
        })
    }

    pub(super) fn statuses(&self) -> impl Iterator<Item = StatusPut> {
        self.changes.iter().filter_map(|change| {
            let Some(Key::Status(lrn)) = &change.key else { return None };
            Some(StatusPut {
                lrn: *lrn,
                before: change.then(),
                before_revision: change.before.as_ref().map_or(Revision(0), |kv| kv.mod_revision),
                after: change.now()?,
                key: change.name.clone(),
            })
        })
    }

    /// Whether the transaction compared that `key` was last changed at `revision` (0: is absent).
    pub(super) fn compared_unchanged(&self, key: &Key, revision: Revision) -> bool {
        let name = key.to_string();
        self.told.iter().flat_map(|(_, compares)| compares).any(|compare| {
            compare.key == name
                && match &compare.target {
                    CompareTarget::ModRevision(at) => *at == revision,
                    CompareTarget::Absent => revision == Revision(0),
                    _ => false,
                }
        })
    }
}
