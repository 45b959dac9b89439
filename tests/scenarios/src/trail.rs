//! Everything that changes in etcd, from its first revision on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use neco_plan::invariants::KvChange;
use neco_schema::{Key, KeyValue, Range, Record, Revision, Snapshot};
use neco_store::{EtcdStore, Store, WatchEvent};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How long the newest changes may take to arrive.
const WITHIN: Duration = Duration::from_secs(60);
/// Delay after a watch that failed.
const AGAIN: Duration = Duration::from_millis(200);

/// All changes so far, by revision.
#[derive(Debug)]
pub(crate) struct Trail {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    changes: BTreeMap<Revision, Vec<KvChange>>,
    /// Every key as it stands.
    standing: BTreeMap<String, KeyValue>,
    /// When each was seen.
    seen_at: BTreeMap<Revision, jiff::Timestamp>,
    /// Everything up to this revision is in `changes`.
    up_to: Revision,
    /// Why the trail has a hole.
    hole: Option<String>,
}

impl Drop for Trail {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Trail {
    /// Begins to follow; what was there before is taken in from the first revision on.
    pub(crate) fn follow(store: Arc<EtcdStore>) -> Self {
        Self::go_on(store, Seen::default())
    }

    /// Begins with what stands there now; how it came about is not asked.
    pub(crate) fn follow_from(store: Arc<EtcdStore>, now: &Snapshot) -> Self {
        let (standing, up_to) = (now.kvs.clone(), now.revision);
        Self::go_on(store, Seen { standing, up_to, ..Seen::default() })
    }

    fn go_on(store: Arc<EtcdStore>, seen: Seen) -> Self {
        let seen = Arc::new(Mutex::new(seen));
        let task = tokio::spawn(follow(store, Arc::clone(&seen)));
        Self { seen, task }
    }

    /// Waits until everything up to `revision` has been seen, and gives it.
    ///
    /// # Panics
    /// It did not come, or has a hole.
    pub(crate) async fn up_to(&self, revision: Revision) -> BTreeMap<Revision, Vec<KvChange>> {
        let all = async {
            while self.seen().up_to < revision && self.seen().hole.is_none() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        let in_time = timeout(WITHIN, all).await.is_ok();
        let seen = self.seen();
        if let Some(hole) = &seen.hole {
            panic!("the trail has a hole: {hole}");
        }
        assert!(in_time, "the trail ends at {}, not at {revision}", seen.up_to);
        seen.changes.range(..=revision).map(|(at, changes)| (*at, changes.clone())).collect()
    }

    /// When each revision was seen: never before it was made.
    pub(crate) fn seen_at(&self) -> BTreeMap<Revision, jiff::Timestamp> {
        self.seen().seen_at.clone()
    }

    /// How far it has come.
    pub(crate) fn end(&self) -> Revision {
        self.seen().up_to
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The values of `key` after each of its changes, the oldest first; nothing where it was deleted.
pub(crate) fn values_of<T: Record>(
    changes: &BTreeMap<Revision, Vec<KvChange>>,
    key: &Key,
) -> Vec<(Revision, Option<T>)> {
    let name = key.to_string();
    let decoded = |kv: &KeyValue| T::decode(&kv.value).unwrap_or_else(|e| panic!("{name}: {e}"));
    changes
        .iter()
        .flat_map(|(at, changes)| changes.iter().map(move |change| (*at, change)))
        .filter(|(_, change)| change.key == name)
        .map(|(at, change)| (at, change.after.as_ref().map(decoded)))
        .collect()
}

async fn follow(store: Arc<EtcdStore>, seen: Arc<Mutex<Seen>>) {
    let locked = || seen.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let from = Revision(locked().up_to.0 + 1);
        let Ok(mut watch) = store.watch(&[Range::Prefix(String::new())], from).await else {
            sleep(AGAIN).await;
            continue;
        };
        loop {
            match watch.next().await {
                Ok(WatchEvent::Changed(changes)) => {
                    let mut seen = locked();
                    let now = jiff::Timestamp::now();
                    for change in changes {
                        seen.seen_at.entry(change.revision).or_insert(now);
                        seen.up_to = seen.up_to.max(change.revision);
                        let kv = KvChange::of(&mut seen.standing, change.key, change.kv);
                        seen.changes.entry(change.revision).or_default().push(kv);
                    }
                }
                Ok(WatchEvent::Progress(revision)) => {
                    let mut seen = locked();
                    seen.up_to = seen.up_to.max(revision);
                }
                Ok(WatchEvent::Lost { revision }) => {
                    let mut seen = locked();
                    seen.hole = Some(format!("{} to {revision} are compacted", seen.up_to));
                    return;
                }
                Err(_) => break,
            }
        }
        sleep(AGAIN).await;
    }
}
