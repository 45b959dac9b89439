//! A hint to look again.
//!
//! Decisions that act are made from a fresh view of the whole, never from an event. A [`Follower`] turns everything
//! that may mean a change (an event, a reconnect, a compaction, the passing of time) into the same
//! "look again"; many of them at once into one.
//!
//! Where nothing but events has come since a snapshot, the follower can tell them: the snapshot is then brought forward
//! instead of read again, to see whether there is anything to act upon at all.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use neco_base::{Backoff, jittered};
use neco_schema::{Range, Revision, Snapshot};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::{Change, Store, StoreError, Watch, WatchEvent};

/// How long it may be quiet until there is a hint anyway.
const LOOK_EVERY: Duration = Duration::from_secs(30);

const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// As many changes are kept for somebody who does not listen, and as many bytes of values; after that only a look helps.
const KEPT: usize = 1_000;
const KEPT_BYTES: usize = 1 << 20;

/// Follows ranges of keys and says when to look again.
#[derive(Debug)]
pub struct Follower {
    pending: Arc<Mutex<Pending>>,
    hints: watch::Receiver<()>,
    /// Up to where changes were told.
    told: Revision,
    task: JoinHandle<()>,
}

/// What a follower has heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Something may have changed, and only a look tells what.
    Look,
    /// These changes, in the order of their revisions, are all that there was in the followed ranges after the revision in
    /// question.
    Changes(Vec<Change>),
}

/// What there is to say.
#[derive(Debug)]
struct Pending {
    /// There was a reason to look that no change tells, such as a reconnect.
    look: bool,
    /// The changes since.
    changes: Vec<Change>,
    /// The bytes of their values.
    bytes: usize,
    /// The revision of the change that came last.
    newest: Revision,
}

impl Pending {
    /// Nothing is known but what a look tells.
    fn nothing() -> Self {
        Self { look: true, changes: Vec::new(), bytes: 0, newest: Revision(0) }
    }

    /// Changes come in the order of their revisions; one that comes again is passed over.
    fn add(&mut self, changes: Vec<Change>) {
        let newest = self.newest;
        for change in changes.into_iter().filter(|change| change.revision > newest) {
            self.newest = change.revision;
            self.bytes += change.kv.as_ref().map_or(0, |kv| kv.value.len());
            self.changes.push(change);
        }
        if self.changes.len() > KEPT || self.bytes > KEPT_BYTES {
            *self = Self { newest: self.newest, ..Self::nothing() };
        }
    }

    /// What there is to say to somebody who has seen `revision`, and was told everything up to `told`; it is said once.
    fn take(&mut self, revision: Revision, told: Revision) -> Option<Heard> {
        let changes = std::mem::take(&mut self.changes);
        self.bytes = 0;
        if std::mem::take(&mut self.look) {
            return Some(Heard::Look);
        }
        let new: Vec<_> = changes.into_iter().filter(|change| change.revision > revision).collect();
        match new.is_empty() {
            true => None,
            // Some of what came after `revision` was told before, and is not here any more.
            false if told > revision => Some(Heard::Look),
            false => Some(Heard::Changes(new)),
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Follower {
    /// Follows these ranges, with a hint at least every 30 s.
    pub fn new(store: Arc<dyn Store>, ranges: Vec<Range>) -> Self {
        Self::every(store, ranges, LOOK_EVERY)
    }

    /// Follows these ranges, with a hint at least about this often.
    pub fn every(store: Arc<dyn Store>, ranges: Vec<Range>, look_every: Duration) -> Self {
        // The first look is due at once.
        let pending = Arc::new(Mutex::new(Pending::nothing()));
        let (hint, mut hints) = watch::channel(());
        hints.mark_changed();
        let post = Post { pending: Arc::clone(&pending), hint };
        let task = tokio::spawn(follow(store, ranges, look_every, post));
        Self { pending, hints, told: Revision(0), task }
    }

    /// Resolves when something may have changed since it last did; at once for the first time.
    /// Dropping the future loses nothing.
    ///
    /// Whatever is committed after the look that follows a hint brings another hint.
    pub async fn changed(&mut self) {
        self.heard_since(Revision(0)).await;
    }

    /// The same for somebody who has looked at `revision`: changes that this look has shown are passed over.
    pub async fn changed_since(&mut self, revision: Revision) {
        self.heard_since(revision).await;
    }

    /// What has changed after `revision`, of which the caller has a snapshot; resolves when there is something to say.
    /// Dropping the future loses nothing. To be used with one snapshot that is looked at anew or brought forward
    /// ([`bring_forward`]), as the answer says.
    pub async fn heard_since(&mut self, revision: Revision) -> Heard {
        loop {
            if self.hints.changed().await.is_err() {
                // The task ends with the follower alone. Should it panic, the timer is what is left.
                sleep(LOOK_EVERY).await;
                return Heard::Look;
            }
            let mut pending = lock(&self.pending);
            let heard = pending.take(revision, self.told);
            self.told = pending.newest;
            if let Some(heard) = heard {
                return heard;
            }
        }
    }
}

/// Applies changes to a snapshot of the ranges that were followed.
pub fn bring_forward(snapshot: &mut Snapshot, changes: Vec<Change>) {
    for change in changes {
        snapshot.revision = change.revision;
        match change.kv {
            Some(kv) => drop(snapshot.kvs.insert(change.key, kv)),
            None => drop(snapshot.kvs.remove(&change.key)),
        }
    }
}

fn lock(pending: &Mutex<Pending>) -> MutexGuard<'_, Pending> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the task leaves what it hears.
struct Post {
    pending: Arc<Mutex<Pending>>,
    hint: watch::Sender<()>,
}

impl Post {
    /// Only a look tells what has changed.
    fn look_again(&self) {
        *lock(&self.pending) = Pending::nothing();
        self.hint.send_modify(|()| {});
    }

    fn changed(&self, changes: Vec<Change>) {
        lock(&self.pending).add(changes);
        self.hint.send_modify(|()| {});
    }
}

async fn follow(store: Arc<dyn Store>, ranges: Vec<Range>, look_every: Duration, post: Post) {
    let mut retry = Backoff::new(FIRST_WAIT, LONGEST_WAIT).retry();
    loop {
        match timeout(look_every, open(&*store, &ranges)).await {
            Ok(Ok(mut watch)) => {
                retry.reset();
                // What changed before the watch began is seen by this look.
                post.look_again();
                while let Some(error) = listen(&mut *watch, look_every, &post).await {
                    tracing::debug!(%error, "a followed watch failed");
                    post.look_again();
                    sleep(retry.pause()).await;
                }
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "following waits for etcd");
                post.look_again();
                sleep(retry.pause()).await;
            }
            Err(_) => post.look_again(),
        }
    }
}

/// A watch from the newest revision on.
async fn open(store: &dyn Store, ranges: &[Range]) -> Result<Box<dyn Watch>, StoreError> {
    let now = store.read(&[], None).await?;
    store.watch(ranges, Revision(now.revision.0 + 1)).await
}

/// Passes hints on until the watch is lost, or fails with an error.
async fn listen(watch: &mut dyn Watch, look_every: Duration, post: &Post) -> Option<StoreError> {
    let mut quiet_until = tokio::time::Instant::now() + jittered(look_every);
    loop {
        let event = tokio::select! {
            biased;
            event = watch.next() => event,
            () = tokio::time::sleep_until(quiet_until) => {
                quiet_until = tokio::time::Instant::now() + jittered(look_every);
                post.look_again();
                continue;
            }
        };
        match event {
            Ok(WatchEvent::Changed(changes)) => post.changed(changes),
            Ok(WatchEvent::Progress(_)) => {}
            Ok(WatchEvent::Lost { .. }) => return None,
            Err(error) => return Some(error),
        }
    }
}
