//! What the journal of a server says of a request.

use neco_playground::BootServer;
use neco_schema::journal::{Entry, Phase};
use neco_schema::{Revision, UpdateRequest};

/// Every line of the journal of a server.
///
/// # Panics
/// It cannot be read.
pub(crate) fn entries(server: &BootServer) -> impl Iterator<Item = Entry> {
    let journal = server.journal().unwrap_or_else(|error| panic!("{error}"));
    journal.into_iter().map(|record| record.entry)
}

/// The attempts at a step of a request that the journal of a server speaks of.
///
/// # Panics
/// It cannot be read.
#[must_use]
pub fn attempts(server: &BootServer, request: &UpdateRequest, of_step: u32) -> Vec<u32> {
    let id = request.id();
    let attempt = |entry| match entry {
        Entry::StepBegun { request, step, attempt, .. } if request == id && step == of_step => {
            Some(attempt)
        }
        _ => None,
    };
    entries(server).filter_map(attempt).collect()
}

/// Whether the journal of a server says that it has done a step of a request.
///
/// # Panics
/// It cannot be read.
#[must_use]
pub fn has_done(server: &BootServer, request: &UpdateRequest, of_step: u32) -> bool {
    let id = request.id();
    entries(server).any(|entry| {
        matches!(entry, Entry::StepDone { request, step } if request == id && step == of_step)
    })
}

/// What a server has begun since line `seq` of its journal, each with the revision of the view that allowed it.
///
/// # Panics
/// The journal cannot be read.
#[must_use]
pub fn begun_since(server: &BootServer, seq: u64) -> Vec<(String, Revision)> {
    let journal = server.journal().unwrap_or_else(|error| panic!("{error}"));
    let since = journal.into_iter().filter(|record| record.seq > seq);
    since
        .filter_map(|record| match record.entry {
            Entry::StepBegun { step, revision, .. } => Some((format!("step {step}"), revision)),
            Entry::IntentBegun { intent, revision } => Some((intent.to_string(), revision)),
            Entry::GroupOpened { group, revision, .. } => Some((group, revision)),
            Entry::Effect { what, phase: Phase::Begin, revision, .. } => Some((what, revision)),
            _ => None,
        })
        .collect()
}
