//! What the engine and its running task have in common: the store, the journal and the folded local state.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use neco_base::Retry;
use neco_connect::one_line;
use neco_host::journal::{JournalError, JournalStore};
use neco_plan::{Doing, JournalState, Local, View, worker_ranges};
use neco_process::clock::Clock;
use neco_schema::journal::Entry;
use neco_schema::{NecoVersion, Revision, Timestamp};
use neco_store::{Store, StoreError};
use tokio::sync::watch;

use crate::Observation;
use crate::seen::Seen;

/// The worker's state that several tasks see.
pub struct Shared {
    /// etcd.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    journal: Arc<dyn JournalStore>,
    local: Mutex<Local>,
    observed: watch::Sender<Observation>,
    /// What is waited for outside of etcd, in words; empty where nothing is.
    waits_for: watch::Sender<String>,
    /// The revision that the engine has looked at last.
    seen: watch::Sender<Revision>,
    /// When progress was last written, by the monotonic clock.
    progress: Mutex<Option<Duration>>,
    /// What the disk refuses now, by who was refused.
    refused: Mutex<BTreeMap<Refused, String>>,
}

/// Whom the disk refuses something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refused {
    /// The journal.
    Journal,
    /// What runs: a step, an installation, the completion of something.
    Work,
}

impl Shared {
    /// Folds the journal into `local` and shares the result.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        journal: Arc<dyn JournalStore>,
        mut local: Local,
    ) -> Result<Arc<Self>, JournalError> {
        local.journal = fold(&*journal)?;
        let observed = watch::Sender::new(Observation::default());
        let (waits_for, seen) = (watch::Sender::default(), watch::Sender::new(Revision(0)));
        let (local, progress, refused) = (Mutex::new(local), Mutex::default(), Mutex::default());
        Ok(Arc::new(Self {
            store,
            clock,
            journal,
            local,
            observed,
            waits_for,
            seen,
            progress,
            refused,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Local> {
        // Whoever panicked had written nothing: every change below is one assignment after a durable append.
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The local state as it is now.
    pub fn local(&self) -> Local {
        self.lock().clone()
    }

    /// The wall clock; for people.
    pub fn now(&self) -> Timestamp {
        wall(&*self.clock)
    }

    /// Makes entries durable, then folds them.
    ///
    /// # Errors
    /// They are not durable, and nothing was folded.
    pub fn record(&self, entries: &[Entry]) -> Result<(), JournalError> {
        let mut local = self.lock();
        let appended = self.journal.append(entries);
        self.note_refused(Refused::Journal, appended.as_ref().err().map(|error| one_line(error)));
        appended?;
        for entry in entries {
            local.journal.apply(entry);
        }
        Ok(())
    }

    /// Writes entries that need not outlive a power cut, without waiting for the disk, then folds them. They are durable
    /// with whatever is recorded next.
    ///
    /// # Errors
    /// They were not written, and nothing was folded.
    pub(crate) fn note(&self, entries: &[Entry]) -> Result<(), JournalError> {
        let mut local = self.lock();
        let noted = self.journal.note(entries);
        self.note_refused(Refused::Journal, noted.as_ref().err().map(|error| one_line(error)));
        noted?;
        for entry in entries {
            local.journal.apply(entry);
        }
        Ok(())
    }

    /// Folds the journal again, because another process may have written to it.
    ///
    /// # Errors
    /// The journal cannot be read; the state stays as it was.
    pub fn reload(&self) -> Result<(), JournalError> {
        let mut local = self.lock();
        local.journal = fold(&*self.journal)?;
        Ok(())
    }

    /// Says what runs from here on.
    pub fn set_doing(&self, doing: Option<Doing>) {
        self.lock().doing = doing;
    }

    /// Says which version is installed from here on.
    pub fn set_installed(&self, version: NecoVersion) {
        self.lock().installed = version;
    }

    /// What the last look gave, for status pages and tests.
    pub fn observed(&self) -> watch::Receiver<Observation> {
        self.observed.subscribe()
    }

    /// Takes note of what the disk refuses, or refuses no more; what is new is logged. It stands in this server's sign of
    /// life, so that everybody can see it.
    pub(crate) fn note_refused(&self, whom: Refused, why: Option<String>) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        match why {
            Some(why) if refused.get(&whom) != Some(&why) => {
                tracing::error!(%why, "waiting for the disk");
                refused.insert(whom, why);
            }
            Some(_) => {}
            None if refused.remove(&whom).is_some() => {
                tracing::info!("the disk takes what it refused before");
            }
            None => {}
        }
    }

    /// What the disk refuses now, in words.
    pub(crate) fn refused(&self) -> Vec<String> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.values().cloned().collect()
    }

    /// Waits a moment because the disk refuses something, and says so.
    pub(crate) async fn wait_for_disk(&self, whom: Refused, why: String, retry: &mut Retry) {
        self.note_refused(whom, Some(why.clone()));
        self.observe(|observation| observation.waiting_for = why);
        tokio::time::sleep(retry.pause()).await;
    }

    /// Says that the engine has looked at etcd as it was at `revision`: who waits for a change looks again.
    pub(crate) fn note_seen(&self, revision: Revision) {
        self.seen.send_if_modified(|seen| std::mem::replace(seen, revision) != revision);
    }

    /// Waits until the engine has seen something newer than `revision`.
    pub(crate) async fn changed_since(&self, revision: Revision) {
        let mut seen = self.seen.subscribe();
        // The sender lives as long as this.
        let _ = seen.wait_for(|seen| *seen > revision).await;
    }

    /// How long it is until progress may be written again, at most once in `every`.
    pub(crate) fn until_progress(&self, every: Duration) -> Duration {
        let last = *self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        last.map_or(Duration::ZERO, |last| (last + every).saturating_sub(self.clock.monotonic()))
    }

    /// Progress is written now.
    pub(crate) fn note_progress(&self) {
        let now = self.clock.monotonic();
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// Takes note of what is waited for outside of etcd, or of the end of that.
    pub fn note_waiting(&self, why: &str) {
        self.waits_for.send_if_modified(|waits_for| {
            let is_news = waits_for != why;
            why.clone_into(waits_for);
            is_news
        });
        self.observe(|observation| why.clone_into(&mut observation.waiting_for));
    }

    /// What [`Self::note_waiting`] was told last.
    pub(crate) fn waits_for(&self) -> watch::Receiver<String> {
        self.waits_for.subscribe()
    }

    pub(crate) fn observe(&self, change: impl FnOnce(&mut Observation)) {
        self.observed.send_modify(change);
    }

    /// Takes a fresh, linearizable view.
    ///
    /// # Errors
    /// etcd did not answer: then nothing new may begin.
    pub async fn look(&self) -> Result<View, StoreError> {
        Ok(self.see().await?.view)
    }

    /// The same, with the keys that the view was made from.
    ///
    /// # Errors
    /// etcd did not answer.
    pub(crate) async fn see(&self) -> Result<Seen, StoreError> {
        Ok(Seen::new(self.store.read(&worker_ranges(), None).await?))
    }
}

/// The wall clock as a timestamp.
pub fn wall(clock: &dyn Clock) -> Timestamp {
    let since: Duration = clock.wall();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_unix(seconds).plus_nanos(i64::from(since.subsec_nanos()))
}

fn fold(journal: &dyn JournalStore) -> Result<JournalState, JournalError> {
    let records = journal.entries()?;
    Ok(JournalState::fold(records.iter().map(|record| &record.entry)))
}
