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
    hints: watch::Receiver<u64>,
    task: JoinHandle<()>,
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
        let (hint, mut hints) = watch::channel(0);
        // The first look is due at once.
        hints.mark_changed();
        let task = tokio::spawn(follow(store, ranges, look_every, hint));
        Self { hints, task }
    }

    /// Resolves when something may have changed since it last did; at once for the first time.
    /// Dropping the future loses nothing.
    ///
    /// Whatever is committed after the look that follows a hint brings another hint.
    pub async fn changed(&mut self) {
        if self.hints.changed().await.is_err() {
            // The task ends with the follower alone. Should it panic, the timer is what is left.
            sleep(LOOK_EVERY).await;
        }
    }
}

async fn follow(
    store: Arc<dyn Store>,
    ranges: Vec<Range>,
    look_every: Duration,
    hint: watch::Sender<u64>,
) {
    let look_again = || hint.send_modify(|count| *count = count.wrapping_add(1));
    let mut retry = Backoff::new(FIRST_WAIT, LONGEST_WAIT).retry();
    loop {
        match timeout(look_every, open(&*store, &ranges)).await {
            Ok(Ok(mut watch)) => {
                retry.reset();
                // What changed before the watch began is seen by this look.
                look_again();
                while let Some(error) = listen(&mut *watch, look_every, &look_again).await {
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
            Ok(WatchEvent::Changed(_)) => look_again(),
            Ok(WatchEvent::Progress(_)) => {}
            Ok(WatchEvent::Lost { .. }) => return None,
            Err(error) => return Some(error),
        }
    }
}
