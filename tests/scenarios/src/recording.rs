//! Everything that is known of a run from outside, and what the auditor makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use neco_plan::invariants::{Auditor, Fact, Installs, KvChange, Report, Rules, Stamp, Writer};
use neco_schema::journal::Entry;
use neco_schema::{Compare, Lrn, Revision, Snapshot};

/// One thing that happened.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a run has some thousand of them, most of them large"
)]
pub enum Event {
    /// etcd changed.
    Change {
        /// The revision.
        revision: Revision,
        /// Everything that it changed.
        changes: Vec<KvChange>,
    },
    /// A server wrote a line into its journal.
    Line {
        /// Which server.
        lrn: Lrn,
        /// The number of the line.
        seq: u64,
        /// The line.
        entry: Entry,
    },
    /// Something that neither of them tells.
    Fact(Fact),
    /// etcd was put back to an earlier time, and holds this now.
    Restored(Snapshot),
}

/// A run, in the order of time.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// What happened, and when by the one clock of this machine.
    pub events: Vec<(Timestamp, Event)>,
    /// Who made a revision, and under which conditions, where that is known; since the last restoration.
    pub writers: BTreeMap<Revision, (Writer, Vec<Compare>)>,
    /// What holds in it.
    pub rules: Rules,
}

impl Recording {
    /// Adds something that happened at `at`. What happened at the same time stays in the order in which it was added.
    pub fn add(&mut self, at: Timestamp, event: Event) {
        self.events.push((at, event));
    }

    /// Adds the journal of a server, and what it says about installations as facts.
    pub fn add_journal(&mut self, lrn: Lrn, lines: Vec<(Timestamp, u64, Entry)>) {
        let mut installs = Installs::default();
        let mut latest = Timestamp::MIN;
        for (at, seq, entry) in lines {
            // Lines have an order of their own, whatever the clock does.
            latest = latest.max(at);
            let fact = installs.take(lrn, &entry);
            self.add(latest, Event::Line { lrn, seq, entry });
            if let Some(fact) = fact {
                self.add(latest, Event::Fact(fact));
            }
        }
    }

    /// What the auditor makes of it. Where etcd was put back to an earlier time, another log begins.
    pub fn audit(&self) -> Report {
        let mut events: Vec<&(Timestamp, Event)> = self.events.iter().collect();
        events.sort_by_key(|(at, _)| *at);
        let begin = events.first().map_or(Timestamp::UNIX_EPOCH, |(at, _)| *at);
        let mut auditor = Auditor::new(self.rules.clone());
        let mut come_to = None;
        let (mut whole, mut before) = (Report::default(), Vec::<&Event>::new());
        let lives = events.iter().filter(|(_, event)| matches!(event, Event::Restored(_))).count();
        let mut life = 0;
        for (at, event) in events {
            let since = Duration::try_from(at.duration_since(begin)).unwrap_or_default();
            auditor.fact(Fact::Time(since));
            match event {
                Event::Change { revision, changes } => {
                    if let Some((writer, compares)) =
                        self.writers.get(revision).filter(|_| life == lives)
                    {
                        let (revision, writer) = (*revision, *writer);
                        let compares = compares.clone();
                        auditor.fact(Fact::Transaction { revision, writer, compares });
                    }
                    auditor.change(*revision, changes);
                    come_to = Some(*revision);
                }
                Event::Line { lrn, seq, entry } => {
                    // A revision that was seen by then had been made by then.
                    auditor.journal(*lrn, entry, Stamp { seq: *seq, revision: come_to });
                }
                Event::Fact(fact) => auditor.fact(fact.clone()),
                Event::Restored(snapshot) => {
                    whole = together(whole, auditor.finish());
                    auditor = Auditor::start_from(snapshot, self.rules.clone());
                    auditor.fact(Fact::Time(since));
                    for &event in &before {
                        match event {
                            Event::Fact(Fact::Transaction { .. }) => {}
                            Event::Fact(fact) => auditor.fact_before(fact),
                            Event::Line { lrn, entry, .. } => auditor.journal_before(*lrn, entry),
                            Event::Change { .. } | Event::Restored(_) => {}
                        }
                    }
                    (life, come_to) = (life + 1, None);
                }
            }
            before.push(event);
        }
        together(whole, auditor.finish())
    }

    /// The revisions that the test itself has written, past all programs.
    pub(crate) fn by_hand(&self) -> BTreeSet<Revision> {
        let told = self.events.iter().filter_map(|(_, event)| match event {
            Event::Fact(Fact::Transaction { revision, writer, .. }) => Some((revision, writer)),
            _ => None,
        });
        let known = self.writers.iter().map(|(revision, (writer, _))| (revision, writer));
        let by_hand = told.chain(known).filter(|(_, writer)| **writer == Writer::Stranger);
        by_hand.map(|(revision, _)| *revision).collect()
    }

    /// How many lines of journals and how many facts it has.
    pub fn lines_and_facts(&self) -> (usize, usize) {
        let lines = self.events.iter().filter(|(_, event)| matches!(event, Event::Line { .. }));
        let facts = self.events.iter().filter(|(_, event)| matches!(event, Event::Fact(_)));
        (lines.count(), facts.count() + self.writers.len())
    }

    /// Every change of every key, to be falsified.
    pub fn changes_mut(&mut self) -> impl Iterator<Item = (Revision, &mut KvChange)> {
        self.events
            .iter_mut()
            .filter_map(|(_, event)| match event {
                Event::Change { revision, changes } => Some((*revision, changes)),
                _ => None,
            })
            .flat_map(|(revision, changes)| {
                changes.iter_mut().map(move |change| (revision, change))
            })
    }

    /// Every line of every journal, to be falsified.
    pub fn lines_mut(&mut self) -> impl Iterator<Item = (Lrn, &mut Entry)> {
        self.events.iter_mut().filter_map(|(_, event)| match event {
            Event::Line { lrn, entry, .. } => Some((*lrn, entry)),
            _ => None,
        })
    }
}

/// What the audits of two logs come to.
fn together(mut all: Report, next: Report) -> Report {
    all.changes += next.changes;
    all.violations.extend(next.violations);
    all.log_faults.extend(next.log_faults);
    for (invariant, times) in next.exercised {
        *all.exercised.entry(invariant).or_default() += times;
    }
    all.holding.extend(next.holding);
    all.holding.sort_unstable();
    all.holding.dedup();
    let violated = |invariant| all.violations.iter().any(|found| found.invariant == invariant);
    all.holding.retain(|invariant| !violated(*invariant));
    all
}
