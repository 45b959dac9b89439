//! Merges a history of etcd and the journals of servers where nothing but revisions tells what came when.
//!
//! A harness knows the order of everything, because it has one clock. On a live cluster there is none: etcd orders its
//! changes by revisions, each journal orders its own lines, and a line says which revision its writer had seen. So a line
//! is taken in as soon as the history has come to the highest revision that its journal has spoken of by then. That is
//! never later than it was written, and every rule about a line asks for what held at the line's own view.

use std::collections::{BTreeMap, BTreeSet};

use neco_schema::journal::{Entry, Mark};
use neco_schema::{KeyValue, Lrn, RequestId, Revision};

use super::installs::Installs;
use super::server::Line;
use super::{Auditor, KvChange, Report, Stamp};
use crate::JournalState;

/// A line of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalLine {
    /// Its place in the journal.
    pub seq: u64,
    /// What it says.
    pub entry: Entry,
}

/// A journal was written in another etcd than the one that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it has seen revision {} of etcd cluster {:x}, and this is cluster {:x} at revision {}: \
     etcd was restored from a backup, or is another one",
    seen.revision, seen.cluster_id, found.cluster_id, found.revision
)]
pub struct OtherEtcd {
    /// What the journal has seen.
    pub seen: Mark,
    /// What is there.
    pub found: Mark,
}

/// Where in `lines` the part begins that was written in the etcd that is `found`: after the last time that its server was
/// made to believe an etcd that had gone back.
///
/// # Errors
/// No part was.
pub fn part_of(lines: &[JournalLine], found: Mark) -> Result<usize, OtherEtcd> {
    let (mut begin, mut last, mut highest) = (0, Mark::default(), Revision(0));
    for (at, line) in lines.iter().enumerate() {
        if let Some(mark) = mark_of(&line.entry) {
            let other = last.cluster_id != 0 && mark.cluster_id != last.cluster_id;
            if other || mark.revision < last.revision {
                (begin, highest) = (at, Revision(0));
            }
            last = mark;
        }
        highest = highest.max(seen_by(&line.entry).unwrap_or_default());
    }
    let seen = Mark { revision: highest.max(last.revision), ..last };
    let other = last.cluster_id != 0 && last.cluster_id != found.cluster_id;
    if other || seen.revision > found.revision { Err(OtherEtcd { seen, found }) } else { Ok(begin) }
}

/// The state of etcd that an entry makes its server believe in.
fn mark_of(entry: &Entry) -> Option<Mark> {
    match entry {
        Entry::Mark(mark) => Some(*mark),
        Entry::Checkpoint { .. } => {
            Some(JournalState::fold([entry]).mark).filter(|mark| mark.cluster_id != 0)
        }
        _ => None,
    }
}

/// The revision that the writer of an entry had seen, where it says so.
fn seen_by(entry: &Entry) -> Option<Revision> {
    match entry {
        Entry::Decision { revision, .. } => Some(*revision),
        _ => mark_of(entry).map(|mark| mark.revision).or_else(|| Line::view_of(entry)),
    }
}

/// How many lines of a journal were judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Those that were.
    pub judged: u64,
    /// Those that were not: they are older than the history, or were written in an etcd that is gone.
    pub unjudged: u64,
}

/// A journal on its way to the auditor.
#[derive(Clone, Debug)]
struct Reading<'j> {
    /// Those that were written in an etcd that is gone, until the history has come to the first that was not: when they
    /// were written, the history that is there tells of nothing that they say.
    before: &'j [JournalLine],
    lines: std::slice::Iter<'j, JournalLine>,
    /// The highest revision that it has spoken of.
    seen: Revision,
    installs: Installs,
    /// Requests of an etcd that is gone: what is done for them follows from nothing in the history.
    former: BTreeSet<RequestId>,
    tally: Tally,
}

/// Feeds an auditor with a history and with journals.
#[derive(Clone, Debug)]
pub struct Feed<'j> {
    auditor: Auditor,
    journals: BTreeMap<Lrn, Reading<'j>>,
}

impl<'j> Feed<'j> {
    /// Feeds `auditor`.
    pub fn new(auditor: Auditor) -> Self {
        Self { auditor, journals: BTreeMap::new() }
    }

    /// Adds the journal of a server, of which the lines from `begin` on were written in this etcd: see [`part_of`].
    pub fn add_journal(&mut self, lrn: Lrn, lines: &'j [JournalLine], begin: usize) {
        let (before, lines) = lines.split_at(begin.min(lines.len()));
        let reading = Reading {
            before,
            lines: lines.iter(),
            seen: Revision(0),
            installs: Installs::default(),
            former: before.iter().filter_map(|line| line.entry.request().cloned()).collect(),
            tally: Tally::default(),
        };
        self.journals.insert(lrn, reading);
    }

    /// Takes in everything that one revision changed; revisions ascend, and none is left out.
    pub fn change(
        &mut self,
        revision: Revision,
        changes: impl IntoIterator<Item = (String, Option<KeyValue>)>,
    ) {
        self.read_up_to(Revision(revision.0 - 1));
        let standing = self.auditor.standing();
        let changes: Vec<_> = changes
            .into_iter()
            .map(|(key, after)| KvChange { before: standing.get(&key).cloned(), key, after })
            .collect();
        self.auditor.change(revision, &changes);
    }

    /// What stands under each key by now.
    pub fn standing(&self) -> &BTreeMap<String, KeyValue> {
        self.auditor.standing()
    }

    /// Ends the history, which is complete up to `end`, and says what it came to.
    pub fn finish(mut self, end: Revision) -> (Report, BTreeMap<Lrn, Tally>) {
        self.read_up_to(end);
        let tally = |reading: Reading<'_>| Tally {
            unjudged: reading.tally.unjudged + (reading.before.len() + reading.lines.len()) as u64,
            ..reading.tally
        };
        let tallies = self.journals.into_iter().map(|(lrn, reading)| (lrn, tally(reading)));
        (self.auditor.finish(), tallies.collect())
    }

    /// Takes in the lines that had not seen more than `revision`, up to which the history is complete.
    fn read_up_to(&mut self, revision: Revision) {
        self.auditor.complete_up_to(revision);
        for (lrn, reading) in &mut self.journals {
            while let Some(line) = reading.lines.as_slice().first() {
                let seen = reading.seen.max(seen_by(&line.entry).unwrap_or_default());
                if seen > revision {
                    break;
                }
                for line in std::mem::take(&mut reading.before) {
                    reading.not_judged(&mut self.auditor, *lrn, &line.entry);
                }
                reading.seen = seen;
                reading.lines.next();
                reading.take(&mut self.auditor, *lrn, line);
            }
        }
    }
}

impl Reading<'_> {
    fn take(&mut self, auditor: &mut Auditor, lrn: Lrn, line: &JournalLine) {
        let entry = &line.entry;
        let former = entry.request().is_some_and(|request| self.former.contains(request));
        if former || !auditor.covers(self.seen) {
            return self.not_judged(auditor, lrn, entry);
        }
        self.tally.judged += 1;
        auditor.journal(lrn, entry, Stamp { seq: line.seq, revision: Some(self.seen) });
        if let Some(fact) = self.installs.take(lrn, entry) {
            auditor.fact(fact);
        }
    }

    fn not_judged(&mut self, auditor: &mut Auditor, lrn: Lrn, entry: &Entry) {
        self.tally.unjudged += 1;
        auditor.journal_before(lrn, entry);
        if let Some(fact) = self.installs.take(lrn, entry) {
            auditor.fact_before(&fact);
        }
    }
}
