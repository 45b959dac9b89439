//! What all actors share: etcd, virtual time, the machines, and the log of everything that happened.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hasher as _};
use std::rc::Rc;
use std::time::Duration;

use neco_plan::invariants::Daemon;
use neco_plan::{View, leader_ranges, worker_ranges};
use neco_schema::journal::Entry;
use neco_schema::{LeaseId, NecoVersion, Range, Revision, Snapshot, Timestamp, Txn};
use neco_store::{Change, Committed, KeepAlive, Mvcc};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::bugs::Bug;
use super::counts::{Counts, Kind};
use super::evidence::{Evidence, Source};
use super::host::{ETCD, Host};
use super::oracle::Oracle;
use super::release::{Recipe, Release};

/// How many past views a lagging reader may still be looking at.
const KEPT_VIEWS: usize = 12;
/// When virtual time begins, for wall clocks.
const EPOCH: i64 = 1_795_248_000;

/// What became of a call to etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It was executed.
    Done,
    /// A condition did not hold.
    Refused,
    /// The answer was lost: it may have been executed.
    Unknown,
    /// etcd could not be reached.
    Unreachable,
}

/// Counters that tell an idle actor that something it looks at has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick {
    /// Keys that workers read.
    pub workers: u64,
    /// Keys that leaders read.
    pub leaders: u64,
    /// Machines, connections, units.
    pub machines: u64,
}

/// A record that nobody can read.
struct Garbled {
    key: String,
    /// The revision that is garbled; a later one can be read.
    revision: Revision,
    until: Duration,
}

/// What all actors share.
pub struct World {
    /// etcd.
    pub etcd: Mvcc,
    /// Time since the run began; nobody sets it.
    pub now: Duration,
    /// The machines.
    pub hosts: Vec<Host>,
    /// The machines that are members of etcd, by index.
    pub members: BTreeSet<usize>,
    /// The steps of every release.
    pub recipe: Recipe,
    /// Every release there is.
    pub releases: BTreeMap<NecoVersion, Release>,
    /// The newest release that the mirror offers.
    pub latest: Option<NecoVersion>,
    /// Until when etcd answers nobody.
    pub outage_until: Duration,
    /// Until when the release window is closed.
    pub window_closed_until: Duration,
    /// Until when a probe finds something wrong.
    pub trouble_until: Duration,
    /// A record that nobody can read.
    garbled: Option<Garbled>,
    /// Whether views lag behind.
    pub lag: bool,
    /// In how many of a thousand transactions the answer is lost.
    pub lost_answers: u32,
    /// A backup of etcd.
    pub backup: Option<Mvcc>,
    /// What is planted.
    pub bug: Option<Bug>,
    /// How often things happened.
    pub counts: Counts,
    /// The judge of what only a simulation sees.
    pub oracle: Oracle,
    /// What the auditor is told.
    pub evidence: Evidence,
    /// The story of the run, if it is told.
    pub story: Option<Vec<String>>,
    /// How often processes have asked etcd, by machine.
    pub requests: BTreeMap<(usize, Daemon), u64>,
    /// Changes that idle actors wait for.
    pub tick: Tick,
    rng: StdRng,
    hash: DefaultHasher,
    collected: Revision,
    worker_views: VecDeque<Rc<View>>,
    leader_view: Option<Rc<View>>,
    ranges: (Vec<Range>, Vec<Range>),
}

impl World {
    /// A world with these machines, all members of etcd.
    pub fn new(seed: u64, recipe: Recipe, hosts: Vec<Host>, members: usize) -> Self {
        Self {
            etcd: Mvcc::new(1),
            now: Duration::ZERO,
            members: (0..members).collect(),
            hosts,
            recipe,
            releases: BTreeMap::new(),
            latest: None,
            outage_until: Duration::ZERO,
            window_closed_until: Duration::ZERO,
            trouble_until: Duration::ZERO,
            garbled: None,
            lag: false,
            lost_answers: 0,
            backup: None,
            bug: None,
            counts: Counts::default(),
            oracle: Oracle::default(),
            evidence: Evidence::default(),
            story: None,
            requests: BTreeMap::new(),
            tick: Tick::default(),
            rng: StdRng::seed_from_u64(seed),
            hash: DefaultHasher::new(),
            collected: neco_store::mvcc::FIRST_REVISION,
            worker_views: VecDeque::new(),
            leader_view: None,
            ranges: (worker_ranges(), leader_ranges()),
        }
    }

    /// A number below `bound`, by the seed.
    pub fn random(&mut self, bound: usize) -> usize {
        if bound <= 1 { 0 } else { self.rng.random_range(0..bound) }
    }

    /// True once in `times`, by the seed.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.random(times) == 0
    }

    /// The time by a wall clock that is `skew` seconds off.
    pub fn wall(&self, skew: i64) -> Timestamp {
        // Virtual time stands still between actions; a real clock does not.
        let nanos = i64::try_from(self.now.as_nanos()).unwrap_or(i64::MAX - self.etcd.revision().0)
            + self.etcd.revision().0;
        Timestamp::from_unix(EPOCH + skew).plus_nanos(nanos)
    }

    /// Writes a line into the story.
    pub fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            let at = format!("{:>8.1}s r{:<4} ", self.now.as_secs_f64(), self.etcd.revision().0);
            story.push(at + &line());
        }
    }

    /// Adds something to the hash of the run's events.
    pub fn note(&mut self, what: impl std::hash::Hash) {
        what.hash(&mut self.hash);
    }

    /// The hash of everything that happened so far.
    pub fn event_hash(&self) -> u64 {
        self.hash.finish()
    }

    /// Something about machines or connections changed.
    pub fn machines_changed(&mut self) {
        self.tick.machines += 1;
        self.tell_conditions();
    }

    /// Tells the auditor whether the window is open and quorum stands.
    fn tell_conditions(&mut self) {
        self.evidence.window(self.now >= self.window_closed_until);
        self.evidence.quorum(self.now >= self.outage_until && self.quorum());
    }

    /// Somebody on the machine `at` asked etcd something.
    pub fn asked(&mut self, at: usize, daemon: Daemon) {
        *self.requests.entry((at, daemon)).or_default() += 1;
    }

    /// Whether a majority of etcd's members runs.
    pub fn quorum(&self) -> bool {
        let running = self.members.iter().filter(|at| self.serves(**at)).count();
        running * 2 > self.members.len()
    }

    /// Whether the etcd of this machine runs.
    pub fn serves(&self, at: usize) -> bool {
        let host = &self.hosts[at];
        host.powered && host.running(ETCD).is_some()
    }

    /// Whether a process on this machine gets answers from etcd.
    pub fn reachable(&self, at: usize) -> bool {
        self.now >= self.outage_until && self.now >= self.hosts[at].cut_until && self.quorum()
    }

    /// What workers see now.
    pub fn worker_view(&mut self) -> Rc<View> {
        if let Some(view) = self.worker_views.back()
            && view.revision == self.etcd.revision()
            && view.cluster_id == self.etcd.cluster_id()
        {
            return Rc::clone(view);
        }
        let view = Rc::new(View::assemble(&self.seen(&self.ranges.0)));
        if self.worker_views.len() == KEPT_VIEWS {
            self.worker_views.pop_front();
        }
        self.worker_views.push_back(Rc::clone(&view));
        view
    }

    /// What a worker sees whose watch lags behind, but not behind `seen`.
    pub fn lagging_view(&mut self, seen: Revision) -> Rc<View> {
        let possible = self.worker_views.iter().filter(|view| view.revision >= seen).count();
        if self.lag && possible > 0 && self.one_in(3) {
            let back = self.random(possible);
            let view = Rc::clone(&self.worker_views[self.worker_views.len() - 1 - back]);
            if view.revision < self.etcd.revision() {
                self.counts.add(Kind::Fault, "lagging view");
            }
            return view;
        }
        self.worker_view()
    }

    /// What leaders and operators see now.
    pub fn leader_view(&mut self) -> Rc<View> {
        if let Some(view) = &self.leader_view
            && view.revision == self.etcd.revision()
            && view.cluster_id == self.etcd.cluster_id()
        {
            return Rc::clone(view);
        }
        let view = Rc::new(View::assemble(&self.seen(&self.ranges.1)));
        self.leader_view = Some(Rc::clone(&view));
        view
    }

    /// Reads at the newest revision, which is always there.
    pub fn read(&self, ranges: &[Range]) -> Snapshot {
        self.etcd.read(ranges, None).unwrap_or_default()
    }

    /// What a look at etcd shows: the record that is garbled cannot be read, until somebody writes it anew.
    fn seen(&self, ranges: &[Range]) -> Snapshot {
        let mut snapshot = self.read(ranges);
        if let Some(garbled) = &self.garbled
            && let Some(kv) = snapshot.kvs.get_mut(&garbled.key)
            && kv.mod_revision == garbled.revision
        {
            kv.value = b"{".to_vec();
        }
        snapshot
    }

    /// Makes the record at `key` unreadable for a while, if there is one: whoever looks sees nonsense in its place.
    pub fn garble(&mut self, key: &str, until: Duration) {
        if let Some(revision) = self.etcd.get(key).map(|kv| kv.mod_revision) {
            self.tell(|| format!("{key} cannot be read"));
            self.garbled = Some(Garbled { key: key.to_owned(), revision, until });
            self.looks_different();
        }
    }

    /// Somebody has put right what was garbled.
    pub fn mend(&mut self) {
        if self.garbled.take().is_some() {
            self.tell(|| "what could not be read is put right".to_owned());
            self.looks_different();
        }
    }

    fn looks_different(&mut self) {
        self.worker_views.clear();
        self.leader_view = None;
        self.tick.workers += 1;
        self.tick.leaders += 1;
    }

    /// Sends a transaction from the machine `at`, or from an operator's place that always reaches etcd when it answers.
    pub fn commit(&mut self, source: Source, at: Option<usize>, txn: &Txn) -> Reply {
        let reachable = match at {
            Some(at) => self.reachable(at),
            None => self.now >= self.outage_until && self.quorum(),
        };
        if !reachable {
            return Reply::Unreachable;
        }
        let before = self.etcd.revision();
        let reply = match self.etcd.commit(txn) {
            Ok(Committed::Done(_)) => Reply::Done,
            Ok(Committed::Refused) => Reply::Refused,
            // A lease that has run out: the writer finds out.
            Err(neco_store::StoreError::LeaseGone { .. }) => Reply::Refused,
            Err(error) => {
                self.oracle.object(format!("a transaction that etcd refuses: {error}: {txn:?}"));
                Reply::Refused
            }
        };
        self.note(("commit", reply as u8));
        if self.etcd.revision() > before {
            self.evidence.transaction(self.etcd.revision(), &source, &txn.compares);
            self.collect(&source);
        }
        let lost = usize::try_from(self.lost_answers).unwrap_or_default();
        if lost > 0 && self.random(1000) < lost {
            self.counts.add(Kind::Fault, "lost answer");
            return Reply::Unknown;
        }
        reply
    }

    /// Looks through the changes since the last time.
    pub fn collect(&mut self, source: &Source) {
        let everything = [Range::Prefix(String::new())];
        let from = Revision(self.collected.0 + 1);
        let changes = self.etcd.changes_since(from, &everything).unwrap_or_default();
        self.collected = self.etcd.revision();
        if changes.is_empty() {
            return;
        }
        for change in &changes {
            self.note((&change.key, change.revision.0, change.kv.as_ref().map(|kv| &kv.value)));
            if self.ranges.0.iter().any(|range| range.contains(&change.key)) {
                self.tick.workers += 1;
            }
            self.tick.leaders += 1;
            if self.story.is_some() {
                let value = change.kv.as_ref().map(|kv| String::from_utf8_lossy(&kv.value).into());
                let line = format!(
                    "  etcd {} = {}",
                    change.key,
                    value.unwrap_or_else(|| "(deleted)".to_owned())
                );
                self.tell(|| line);
            }
        }
        self.judge(&changes, source);
        self.evidence.changes(&changes);
    }

    fn judge(&mut self, changes: &[Change], source: &Source) {
        // Taken out so that it may look at the world.
        let mut oracle = std::mem::take(&mut self.oracle);
        for change in changes {
            oracle.changed(self, change, source);
        }
        self.oracle = oracle;
    }

    /// Writes an entry into a machine's journal.
    pub fn journal(&mut self, at: usize, entry: &Entry) {
        let revision = self.etcd.revision();
        let host = &mut self.hosts[at];
        host.journal.push(entry.clone());
        host.entries += 1;
        let (lrn, seq) = (host.lrn, host.entries);
        self.note((lrn.get(), seq, std::mem::discriminant(entry)));
        self.tell(|| format!("  journal {lrn}: {entry:?}"));
        self.evidence.journal(lrn, seq, revision, entry);
        let mut oracle = std::mem::take(&mut self.oracle);
        oracle.journalled(self, at, entry);
        self.oracle = oracle;
    }

    /// A service came up (with a definition) or went down.
    pub fn service(&mut self, at: usize, unit: &str, running: Option<String>, planned: bool) {
        let up = running.is_some();
        let lrn = self.hosts[at].lrn;
        self.tell(|| format!("  {lrn}: {unit} {}", running.as_deref().unwrap_or("stopped")));
        self.hosts[at].units.entry(unit.to_owned()).or_default().running = running;
        self.machines_changed();
        self.note((lrn.get(), unit, up));
        self.evidence.service(lrn, unit, up, planned);
        let mut oracle = std::mem::take(&mut self.oracle);
        if up {
            oracle.service_started(self, at, unit);
        } else if planned {
            oracle.service_stopped(self, at, unit);
        }
        self.oracle = oracle;
    }

    /// Grants a lease.
    pub fn grant(&mut self, ttl: Duration) -> LeaseId {
        self.etcd.grant(ttl)
    }

    /// Renews a lease.
    pub fn keep_alive(&mut self, lease: LeaseId) -> bool {
        self.etcd.keep_alive(lease) != KeepAlive::Expired
    }

    /// Ends a lease.
    pub fn revoke(&mut self, lease: LeaseId, source: &Source) {
        self.etcd.revoke(lease);
        self.collect(source);
    }

    /// Lets time pass; leases run out only while etcd has a leader to see it.
    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        self.evidence.now = self.now;
        if self.garbled.as_ref().is_some_and(|garbled| garbled.until <= self.now) {
            self.mend();
        }
        self.tell_conditions();
        if self.now >= self.outage_until && self.quorum() {
            self.etcd.advance(time);
            self.collect(&Source::Nobody);
        }
    }

    /// Forgets the history of etcd and every view that lags behind.
    pub fn compact(&mut self) {
        let revision = self.etcd.revision();
        // Compacted already: nothing more to forget.
        let _ = self.etcd.compact(revision);
        self.worker_views.clear();
    }

    /// Puts a backup in the place of etcd.
    pub fn restore_backup(&mut self, other_cluster: bool) -> bool {
        let Some(backup) = self.backup.take() else { return false };
        let id = self.etcd.cluster_id() + u64::from(other_cluster);
        let newest_lease = self.etcd.grant(Duration::from_secs(1));
        self.etcd.restore(&backup, id);
        // Real lease identities are random; here they must not come again either.
        loop {
            let lease = self.etcd.grant(Duration::from_secs(1));
            self.etcd.revoke(lease);
            if lease > newest_lease {
                break;
            }
        }
        self.collected = self.etcd.revision();
        self.worker_views.clear();
        self.leader_view = None;
        self.tick.workers += 1;
        self.tick.leaders += 1;
        let everything = self.read(&[Range::Prefix(String::new())]);
        self.evidence.rewound(everything);
        let current = self.leader_view().current().cloned();
        self.oracle.rewound(current);
        true
    }
}
