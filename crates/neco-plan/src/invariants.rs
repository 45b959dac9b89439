//! The invariants of the update protocol, evaluated on what really happened.
//!
//! An [`Auditor`] is fed with everything that a run leaves behind: the changes of etcd in the order of their revisions,
//! the journal lines of the servers, and what only a harness can know ([`Fact`]). It says which invariants were put to
//! the test, how often, and which did not hold. It decides nothing and repairs nothing, so the same code watches over
//! the unit tests, the model, the simulation, real processes and a live cluster.
//!
//! - A change is judged against the state before it, all changes of one revision together.
//! - A journal line is judged by the view that allowed it. A line whose view the log has not come to yet waits for the
//!   log, so the two may be fed independently, each in its own order.
//! - A Go peer writes without identities, without guards and with a deadline by the wall clock. What it may do is not
//!   held against it. [`Fact::Transaction`] names the writer of a revision; where nobody says, a record without our
//!   fields counts as a Go peer's.
//! - What needs facts is not counted as put to the test without them.
//! - A log may begin in the middle. What came before it is known as far as it left something behind, and not judged.
//!
//! [`Feed`] merges a history and journals by revisions alone, as a live cluster leaves them behind.
//!
//! Accepted, because no rule can prevent it: one effect that was fenced before its request ended; an install unit that
//! goes on after its server left; another host that dies between a health proof and the stop that it allowed.
//!
//! `docs/invariants.md` lists all invariants and where each is evaluated.

mod authority;
mod barrier;
mod event;
mod evidence;
mod feed;
mod id;
mod installed;
mod installs;
mod liveness;
mod record;
mod server;
mod state;
mod stops;
#[cfg(test)]
mod tests;
mod trail;
mod turns;
mod verdict;

use std::collections::BTreeMap;

use neco_schema::journal::Entry;
use neco_schema::{Compare, KeyValue, Lrn, Revision, Snapshot};

use event::Event;
pub use evidence::{Daemon, Fact, HowEnded, KvChange, Rules, Secret, Stamp, Writer};
pub use feed::{Feed, JournalLine, OtherEtcd, Tally, part_of};
pub use id::{InvariantId, Needs};
pub use installs::Installs;
use server::{Line, Server};
use state::State;
use verdict::Verdicts;
pub use verdict::{Report, Violation};

/// Judges a log of key-value changes, journal lines and facts.
#[derive(Clone, Debug, Default)]
pub struct Auditor {
    rules: Rules,
    state: State,
    servers: BTreeMap<Lrn, Server>,
    transactions: BTreeMap<Revision, (Writer, Vec<Compare>)>,
    world: liveness::World,
    verdicts: Verdicts,
    changes: u64,
}

/// A change with everything it is judged by.
struct Change<'a> {
    event: &'a Event,
    /// The state before the change.
    state: &'a State,
    world: &'a liveness::World,
    rules: &'a Rules,
}

impl Change<'_> {
    fn revision(&self) -> Revision {
        self.event.revision
    }
}

impl Auditor {
    /// An auditor for a log that begins with an empty etcd.
    pub fn new(rules: Rules) -> Self {
        Self { rules, ..Self::default() }
    }

    /// An auditor for a log that begins in the middle: what came before `snapshot` is not judged.
    pub fn start_from(snapshot: &Snapshot, rules: Rules) -> Self {
        Self { rules, state: State::start_from(snapshot), ..Self::default() }
    }

    /// Takes in all changes of one revision; revisions ascend.
    pub fn change(&mut self, revision: Revision, changes: &[KvChange]) {
        self.changes += 1;
        self.check_log(revision, changes);
        self.transactions = self.transactions.split_off(&revision);
        let event = Event::new(revision, changes, self.transactions.remove(&revision));
        let change =
            Change { event: &event, state: &self.state, world: &self.world, rules: &self.rules };
        authority::judge_change(&change, &mut self.verdicts);
        barrier::judge_change(&change, &mut self.verdicts);
        turns::judge_change(&change, &mut self.verdicts);
        stops::judge_change(&change, &mut self.verdicts);
        installed::judge_change(&change, &mut self.verdicts);
        record::judge_change(&change, &mut self.verdicts);
        liveness::judge_change(&change, &mut self.verdicts);
        self.world.follow(&event, self.state.now);
        self.state.apply(&event);
        self.state.note_who_went_on(&event);
        barrier::judge_state(&self.state, &mut self.verdicts);
        self.catch_up(Some(revision));
    }

    /// Nothing else has changed up to `revision`.
    pub fn complete_up_to(&mut self, revision: Revision) {
        if revision > self.state.revision {
            self.state.revision = revision;
            self.catch_up(Some(revision));
        }
    }

    /// What stands under each key by now.
    pub fn standing(&self) -> &BTreeMap<String, KeyValue> {
        &self.state.kvs
    }

    /// Whether the log tells what held at `revision`, or will.
    pub fn covers(&self, revision: Revision) -> bool {
        self.state.covers(revision)
    }

    /// Takes in a line that `lrn` wrote into its journal before the log begins: it is known, and not judged. Such lines
    /// come before those that are.
    pub fn journal_before(&mut self, lrn: Lrn, entry: &Entry) {
        self.servers.entry(lrn).or_default().apply(entry);
    }

    /// Takes in something that came about before the log begins: it is known, and not judged.
    pub fn fact_before(&mut self, fact: &Fact) {
        self.world.learn(fact, self.state.now, self.state.revision);
    }

    /// Takes in one line of the journal of `lrn`; the lines of one server come in their order. One that was written
    /// before the log begins is not judged.
    pub fn journal(&mut self, lrn: Lrn, entry: &Entry, at: Stamp) {
        self.servers.entry(lrn).or_default().waiting.push_back((entry.clone(), at));
        self.catch_up(Some(self.state.revision));
    }

    /// Takes in something that only the harness knows.
    pub fn fact(&mut self, fact: Fact) {
        match &fact {
            Fact::Transaction { revision, writer, compares } => {
                if *revision <= self.state.revision {
                    self.verdicts
                        .log_faults
                        .push(format!("the writer of revision {revision} was told too late"));
                }
                self.transactions.insert(*revision, (*writer, compares.clone()));
            }
            Fact::Time(now) => self.state.now = Some(*now),
            Fact::GoPeer { lrn } => drop(self.state.go_peers.insert(*lrn)),
            Fact::JournalLost { lrn } => drop(self.servers.remove(lrn)),
            _ => {}
        }
        turns::judge_fact(&fact, &self.world, &self.state, &self.rules, &mut self.verdicts);
        installed::judge_fact(&fact, &self.world, &self.state, &self.rules, &mut self.verdicts);
        record::judge_fact(&fact, &self.world, &self.state, &self.rules, &mut self.verdicts);
        liveness::judge_fact(&fact, &self.world, &self.state, &self.rules, &mut self.verdicts);
        self.world.learn(&fact, self.state.now, self.state.revision);
    }

    /// What has been found so far.
    pub fn violations(&self) -> &[Violation] {
        &self.verdicts.violations
    }

    /// Ends the log and says what it came to.
    pub fn finish(&mut self) -> Report {
        self.catch_up(None);
        liveness::judge_end(
            &self.state,
            &self.servers,
            &self.world,
            &self.rules,
            &mut self.verdicts,
        );
        self.verdicts.report(self.changes)
    }

    /// A log with holes proves nothing.
    fn check_log(&mut self, revision: Revision, changes: &[KvChange]) {
        if revision <= self.state.revision {
            let last = self.state.revision;
            self.verdicts.log_faults.push(format!("revision {revision} comes after {last}"));
        }
        for change in changes {
            let before = change.before.as_ref();
            let shown = self.state.kvs.get(&change.key) == before;
            let follows = match &change.after {
                Some(after) => {
                    let (version, created) = before
                        .map_or((0, after.mod_revision), |kv| (kv.version, kv.create_revision));
                    after.version == version + 1 && after.create_revision == created
                }
                None => before.is_some(),
            };
            if !shown || !follows {
                self.verdicts.log_faults.push(format!(
                    "key {} stood otherwise before revision {revision} than the log had shown",
                    change.key
                ));
            }
        }
    }

    /// Judges the journal lines whose views the log has come to; without a revision, all of them.
    fn catch_up(&mut self, come_to: Option<Revision>) {
        for (lrn, server) in &mut self.servers {
            while let Some((entry, stamp)) = server.waiting.front() {
                let needs = Line::view_of(entry).max(stamp.revision);
                if come_to.is_some_and(|come_to| needs.is_some_and(|needs| needs > come_to)) {
                    break;
                }
                let (entry, stamp) = (entry.clone(), *stamp);
                server.waiting.pop_front();
                if needs.is_some_and(|needs| !self.state.covers(needs)) {
                    server.apply(&entry);
                    continue;
                }
                let line = Line {
                    lrn: *lrn,
                    entry: &entry,
                    stamp,
                    server,
                    state: &self.state,
                    rules: &self.rules,
                };
                let late = authority::judge_line(&line, &mut self.verdicts);
                barrier::judge_line(&line, &mut self.verdicts);
                turns::judge_line(&line, &mut self.verdicts);
                stops::judge_line(&line, &mut self.verdicts);
                installed::judge_line(&line, &mut self.verdicts);
                record::judge_line(&line, &mut self.verdicts);
                let package = installed::package_of(&line);
                if let Some(begin) = late {
                    server.late.entry(begin.request).or_default().insert(begin.view);
                }
                if let Some((request, sha256)) = package
                    && let Some(trail) = self.state.trails.get_mut(&request)
                {
                    trail.packages.insert(*lrn, sha256);
                }
                server.apply(&entry);
            }
        }
    }
}
