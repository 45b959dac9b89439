//! All versions of all keys since the last compaction.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use neco_schema::{KeyValue, LeaseId, Range, Revision};

use crate::Change;

/// One version of a key, or its deletion.
#[derive(Clone, Debug)]
struct Version {
    revision: Revision,
    state: Option<State>,
}

#[derive(Clone, Debug)]
struct State {
    created: Revision,
    version: i64,
    value: Arc<[u8]>,
    lease: Option<LeaseId>,
}

/// The versions of each key, oldest first, and the order in which they came.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    keys: BTreeMap<Arc<str>, Vec<Version>>,
    log: Vec<(Revision, Arc<str>)>,
    compacted: Revision,
}

impl History {
    pub(super) fn compacted(&self) -> Revision {
        self.compacted
    }

    /// The key as it stood at `revision`.
    pub(super) fn at(&self, key: &str, revision: Revision) -> Option<KeyValue> {
        as_of(key, self.keys.get(key)?, revision)
    }

    /// What is in the range at `revision`, in byte order.
    pub(super) fn range<'a>(
        &'a self,
        range: &'a Range,
        revision: Revision,
    ) -> impl Iterator<Item = KeyValue> + 'a {
        self.keys_in(range).filter_map(move |(key, versions)| as_of(key, versions, revision))
    }

    pub(super) fn put(
        &mut self,
        key: &str,
        value: Vec<u8>,
        lease: Option<LeaseId>,
        revision: Revision,
    ) {
        let name: Arc<str> = key.into();
        let versions = self.keys.entry(name.clone()).or_default();
        let before = versions.last().and_then(|last| last.state.as_ref());
        let (created, version) =
            before.map_or((revision, 1), |state| (state.created, state.version + 1));
        let state = Some(State { created, version, value: value.into(), lease });
        versions.push(Version { revision, state });
        self.log.push((revision, name));
    }

    /// Deletes what is in the range and tells how much that was.
    pub(super) fn delete(&mut self, range: &Range, revision: Revision) -> usize {
        let doomed: Vec<Arc<str>> = self
            .keys_in(range)
            .filter(|(_, versions)| current(versions).is_some())
            .map(|(key, _)| key.clone())
            .collect();
        self.bury(doomed, revision)
    }

    /// Deletes what is bound to the lease and tells how much that was.
    pub(super) fn delete_bound(&mut self, lease: LeaseId, revision: Revision) -> usize {
        let bound = |versions: &[Version]| {
            current(versions).is_some_and(|state| state.lease == Some(lease))
        };
        let doomed: Vec<Arc<str>> = self
            .keys
            .iter()
            .filter(|(_, versions)| bound(versions))
            .map(|(key, _)| key.clone())
            .collect();
        self.bury(doomed, revision)
    }

    /// The changes at `from` and later, in order.
    pub(super) fn changes(&self, from: Revision, ranges: &[Range]) -> Vec<Change> {
        let start = self.log.partition_point(|(revision, _)| *revision < from);
        self.log[start..]
            .iter()
            .filter(|(_, key)| ranges.iter().any(|range| range.contains(key)))
            .map(|(revision, key)| self.change(key, *revision))
            .collect()
    }

    pub(super) fn compact(&mut self, at: Revision) {
        self.compacted = at;
        // A deletion at the very revision stays in the log, as watches from there are allowed.
        self.log.retain(|(revision, _)| *revision >= at);
        for versions in self.keys.values_mut() {
            let old = versions.partition_point(|version| version.revision <= at);
            versions.drain(..old.saturating_sub(1));
            if versions.first().is_some_and(|first| first.state.is_none() && first.revision < at) {
                versions.remove(0);
            }
        }
        self.keys.retain(|_, versions| !versions.is_empty());
    }

    fn bury(&mut self, doomed: Vec<Arc<str>>, revision: Revision) -> usize {
        let count = doomed.len();
        for key in doomed {
            if let Some(versions) = self.keys.get_mut(&key) {
                versions.push(Version { revision, state: None });
                self.log.push((revision, key));
            }
        }
        count
    }

    fn change(&self, key: &str, revision: Revision) -> Change {
        Change { key: key.to_owned(), revision, kv: self.at(key, revision) }
    }

    fn keys_in<'a>(
        &'a self,
        range: &'a Range,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a Vec<Version>)> + 'a {
        let from = (Bound::Included(range.text()), Bound::Unbounded);
        self.keys.range::<str, _>(from).take_while(|(key, _)| range.contains(key))
    }
}

fn current(versions: &[Version]) -> Option<&State> {
    versions.last()?.state.as_ref()
}

fn as_of(key: &str, versions: &[Version], revision: Revision) -> Option<KeyValue> {
    let count = versions.partition_point(|version| version.revision <= revision);
    let version = versions[..count].last()?;
    let state = version.state.as_ref()?;
    Some(KeyValue {
        key: key.to_owned(),
        value: state.value.to_vec(),
        create_revision: state.created,
        mod_revision: version.revision,
        version: state.version,
        lease: state.lease,
    })
}
