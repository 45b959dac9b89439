//! A hint to look again.
//!
//! Decisions are made from a view of the whole, never from an event. A [`Follower`] turns everything
//! that may mean a change (an event, a reconnect, a compaction, the passing of time) into the same
//! "look again"; many of them at once into one.

use std::sync::Arc;
use std::time::Duration;

use neco_base::{Backoff, jittered};
use neco_schema::{Range, Revision};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::{Store, StoreError, Watch, WatchEvent};

/// How long it may be quiet until there is a hint anyway.
const LOOK_EVERY: Duration = Duration::from_secs(30);

const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Follows ranges of keys and says when to look again.
#[derive(Debug)]
pub struct Follower {
    hints: watch::Receiver<Hints>,
    /// The reasons that were heard.
    heard: u64,
    task: JoinHandle<()>,
}

/// What there was to say so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hints {
    /// How often there was a reason to look that no revision tells, such as a reconnect.
    reasons: u64,
    /// The revision of the change that was told last.
    newest: Revision,
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
        let (hint, mut hints) = watch::channel(Hints { reasons: 1, newest: Revision(0) });
        hints.mark_changed();
        let task = tokio::spawn(follow(store, ranges, look_every, hint));
        Self { hints, heard: 0, task }
    }

    /// Resolves when something may have changed since it last did; at once for the first time.
    /// Dropping the future loses nothing.
    ///
    /// Whatever is committed after the look that follows a hint brings another hint.
    pub async fn changed(&mut self) {
        self.changed_since(Revision(0)).await;
    }

    /// The same for somebody who has looked at `revision`: changes that this look has shown are passed over.
    pub async fn changed_since(&mut self, revision: Revision) {
        loop {
            if self.hints.changed().await.is_err() {
                // The task ends with the follower alone. Should it panic, the timer is what is left.
                return sleep(LOOK_EVERY).await;
            }
            let hints = *self.hints.borrow_and_update();
            let reason = std::mem::replace(&mut self.heard, hints.reasons) != hints.reasons;
            if reason || hints.newest > revision {
                return;
            }
        }
    }
}

async fn follow(
    store: Arc<dyn Store>,
    ranges: Vec<Range>,
    look_every: Duration,
    hint: watch::Sender<Hints>,
) {
    let look_again = || hint.send_modify(|hints| hints.reasons = hints.reasons.wrapping_add(1));
    let changed = |newest| hint.send_modify(|hints| hints.newest = newest);
    let mut retry = Backoff::new(FIRST_WAIT, LONGEST_WAIT).retry();
    loop {
        match timeout(look_every, open(&*store, &ranges)).await {
            Ok(Ok(mut watch)) => {
                retry.reset();
                // What changed before the watch began is seen by this look.
                look_again();
                while let Some(error) = listen(&mut *watch, look_every, &look_again, &changed).await
                {
                    tracing::debug!(%error, "a followed watch failed");
                    look_again();
                    sleep(retry.pause()).await;
                }
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "following waits for etcd");
                look_again();
                sleep(retry.pause()).await;
            }
            Err(_) => look_again(),
        }
    }
}

/// A watch from the newest revision on.
async fn open(store: &dyn Store, ranges: &[Range]) -> Result<Box<dyn Watch>, StoreError> {
    let now = store.read(&[], None).await?;
    store.watch(ranges, Revision(now.revision.0 + 1)).await
}

/// Passes hints on until the watch is lost, or fails with an error.
async fn listen(
    watch: &mut dyn Watch,
    look_every: Duration,
    look_again: &impl Fn(),
    changed: &impl Fn(Revision),
) -> Option<StoreError> {
    let mut quiet_until = tokio::time::Instant::now() + jittered(look_every);
    loop {
        let event = tokio::select! {
            biased;
            event = watch.next() => event,
            () = tokio::time::sleep_until(quiet_until) => {
                quiet_until = tokio::time::Instant::now() + jittered(look_every);
                look_again();
                continue;
            }
        };
        match event {
            Ok(WatchEvent::Changed(changes)) => {
                // They come in the order of their revisions.
                if let Some(last) = changes.last() {
                    changed(last.revision);
                }
            }
            Ok(WatchEvent::Progress(_)) => {}
            Ok(WatchEvent::Lost { .. }) => return None,
            Err(error) => return Some(error),
        }
    }
}
