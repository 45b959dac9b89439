//! A journal for tests, in memory.

use std::sync::{Mutex, MutexGuard, PoisonError};

use neco_schema::Timestamp;
use neco_schema::journal::Entry;

use super::{JournalError, JournalStore, Record};
use crate::FileError;

/// A journal in memory: it survives the engine that writes it, as the one on disk does, and fails on demand.
#[derive(Debug, Default)]
pub struct MemoryJournal {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    records: Vec<Record>,
    now: Timestamp,
    errno: Option<i32>,
}

impl MemoryJournal {
    /// An empty journal.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the time that the next entries carry.
    pub fn set_time(&self, now: Timestamp) {
        self.state().now = now;
    }

    /// Lets every append fail with this error number (such as `ENOSPC`), or none.
    pub fn fail_with(&self, errno: Option<i32>) {
        self.state().errno = errno;
    }

    /// Forgets everything: the disk was replaced.
    pub fn wipe(&self) {
        self.state().records.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl JournalStore for MemoryJournal {
    fn append(&self, entries: &[Entry]) -> Result<(), JournalError> {
        let mut state = self.state();
        if let Some(errno) = state.errno {
            let source = std::io::Error::from_raw_os_error(errno);
            let source = FileError::new("writing", "the journal in memory", source);
            return Err(JournalError::writing(source));
        }
        let (next, at) = (state.records.last().map_or(1, |last| last.seq + 1), state.now);
        let records = (next..).zip(entries);
        let records = records.map(|(seq, entry)| Record { seq, at, entry: entry.clone() });
        state.records.extend(records);
        Ok(())
    }

    fn entries(&self) -> Result<Vec<Record>, JournalError> {
        Ok(self.state().records.clone())
    }
}
