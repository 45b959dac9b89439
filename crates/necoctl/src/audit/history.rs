//! The history that etcd still has, from its oldest revision to the present one.
//!
//! It is read as a watch tells it, change by change, so that of the whole history only the present state is kept in
//! memory. etcd may compact what is being read; then it is begun anew with what stands at the new beginning.

use std::time::Duration;

use anyhow::anyhow;
use neco_plan::invariants::Feed;
use neco_process::exit::{ExitCode, Failure};
use neco_schema::{Range, Revision, Snapshot};
use neco_store::{Change, Store, StoreError, WatchEvent};
use tokio::time::{Instant, timeout};

use crate::failure;
use crate::words::span;

/// How long etcd may say nothing while more must come.
const SILENT_FOR: Duration = Duration::from_secs(30);

/// What came after the last change of what stands now was deletions of what did not stand long, or changes of keys that
/// are not ours. The former are told and the latter are not: so long it is listened for the former.
const LISTEN_FOR: Duration = Duration::from_millis(500);

/// How often the history is begun anew because its beginning was compacted in the meantime.
const TRIES: usize = 5;

/// From where to where a history goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first revision; what stood then is known, and how it came about is not. Nothing if the history is whole.
    pub from: Option<Revision>,
    /// The last revision that was told.
    pub to: Revision,
    /// The revision of etcd when it was asked. Between both, others changed keys of theirs, unless etcd was slow.
    pub present: Revision,
}

/// Everything under the prefix.
pub fn everything() -> Vec<Range> {
    vec![Range::Prefix(String::new())]
}

/// Feeds what has changed up to `present` to what `begin` makes, which is given the state that the history begins with if
/// it does not begin with nothing.
///
/// # Errors
/// etcd does not answer, or not within `within`.
pub async fn replay<'j>(
    store: &dyn Store,
    present: &Snapshot,
    within: Duration,
    begin: impl Fn(Option<&Snapshot>) -> Feed<'j>,
) -> Result<(Feed<'j>, Extent), Failure> {
    let deadline = Deadline { at: Instant::now() + within, within, to: present.revision };
    let mut from = None;
    for _ in 0..TRIES {
        let (mut feed, next) = match from {
            None => (begin(None), Revision(1)),
            Some(from) => match store.read(&everything(), Some(from)).await {
                Ok(beginning) => (begin(Some(&beginning)), Revision(from.0 + 1)),
                // It went while it was asked for, and the watch tells how far.
                Err(StoreError::Compacted { .. }) => (begin(None), Revision(1)),
                Err(error) => return Err(failure::of_store(error)),
            },
        };
        match follow(store, present, next, &mut feed, &deadline).await? {
            Followed::To(to) => return Ok((feed, Extent { from, to, present: present.revision })),
            Followed::Compacted(oldest) if oldest > present.revision => break,
            Followed::Compacted(oldest) => from = Some(oldest),
        }
    }
    Err(Failure::new(
        ExitCode::Conflict,
        anyhow!("etcd has compacted its history faster than it could be read"),
    )
    .with_hint("try again"))
}

/// How long it may take.
struct Deadline {
    at: Instant,
    within: Duration,
    to: Revision,
}

impl Deadline {
    /// Waits for `event`, which must come if `needed`; nothing if it did not come and need not.
    async fn wait<T>(
        &self,
        event: impl Future<Output = T>,
        needed: bool,
        come_to: Revision,
    ) -> Result<Option<T>, Failure> {
        let patience = if needed { SILENT_FOR } else { LISTEN_FOR };
        let left = self.at.saturating_duration_since(Instant::now());
        match timeout(patience.min(left), event).await {
            Ok(event) => Ok(Some(event)),
            Err(_) if !needed => Ok(None),
            Err(_) => Err(self.failure(left < patience, come_to)),
        }
    }

    fn failure(&self, is_over: bool, come_to: Revision) -> Failure {
        let to = self.to;
        if is_over {
            let within = span(self.within);
            let what = anyhow!("the history was read up to revision {come_to} of {to} in {within}");
            return Failure::new(ExitCode::Unknown, what).with_hint("--within waits longer");
        }
        let silent = span(SILENT_FOR);
        let what = anyhow!("etcd has said nothing for {silent} after revision {come_to} of {to}");
        Failure::new(ExitCode::Unknown, what).with_hint("look at etcd, then try again")
    }
}

/// How far a history could be followed.
enum Followed {
    /// To the present, of which this revision was told last.
    To(Revision),
    /// Its beginning went meanwhile; this is the oldest revision that is left.
    Compacted(Revision),
}

/// Feeds the changes from `next` on.
async fn follow(
    store: &dyn Store,
    present: &Snapshot,
    next: Revision,
    feed: &mut Feed<'_>,
    deadline: &Deadline,
) -> Result<Followed, Failure> {
    let last_write = present.kvs.values().map(|kv| kv.mod_revision).max().unwrap_or_default();
    let mut come_to = Revision(next.0 - 1);
    let watch = deadline.wait(store.watch(&everything(), next), true, come_to).await?;
    let mut watch = match watch {
        Some(watch) => watch.map_err(failure::of_store)?,
        None => return Err(deadline.failure(false, come_to)),
    };
    loop {
        if come_to >= present.revision {
            return Ok(Followed::To(present.revision));
        }
        let stands_as_now = come_to >= last_write && *feed.standing() == present.kvs;
        match deadline.wait(watch.next(), !stands_as_now, come_to).await? {
            None => return Ok(Followed::To(come_to)),
            Some(Ok(WatchEvent::Changed(changes))) => {
                for changes in changes.chunk_by(|a, b| a.revision == b.revision) {
                    let revision = changes[0].revision;
                    let is_new = revision > come_to;
                    come_to = come_to.max(revision);
                    if is_new && revision <= present.revision {
                        let change = |change: &Change| (change.key.clone(), change.kv.clone());
                        feed.change(revision, changes.iter().map(change));
                    }
                }
            }
            // Told for all keys of etcd, and in some of its versions too early.
            Some(Ok(WatchEvent::Progress(_))) => {}
            Some(Ok(WatchEvent::Lost { revision })) => {
                return Ok(Followed::Compacted(revision));
            }
            Some(Err(error)) => return Err(failure::of_store(error)),
        }
    }
}
