//! Lists of random operations, answered by a store and by the model of etcd.
//!
//! Each list has keys of its own. Revisions are compared relative to the list's start, leases by the
//! order of their granting.

use std::collections::BTreeMap;
use std::time::Duration;

use neco_schema::{Compare, CompareTarget, KeyValue, LeaseId, Op, Range, Revision, Snapshot, Txn};
use neco_store::{Change, Committed, KeepAlive, MemoryStore, Mvcc, StoreError, Watch, WatchEvent};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;

use super::{Rig, WITHIN};

/// Operations in a list.
pub const OPERATIONS: usize = 50;

const KEYS: [&str; 7] = ["a", "a/b", "a/c", "ab", "b", "b/\u{e9}", "c"];
const PREFIXES: [&str; 5] = ["", "a", "a/", "b", "zz"];
const VALUES: [&[u8]; 5] = [b"", b"1", b"2", b"{\"k\":\"v\"}", b"\xff\x00"];

/// The key that ends a drain of a watch.
const SENTINEL: &str = "sentinel";

/// A revision counted from the list's start.
type Since = i64;

/// A lease by the order of its granting.
type Nth = usize;

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<(&'static str, Target)>, Vec<Write>),
    Read(Vec<Range>, Option<Since>),
    Grant,
    KeepAlive(Nth),
    Revoke(Nth),
    Replay(Vec<Range>, Since),
    Compact(Since),
}

#[derive(Clone, Debug)]
enum Target {
    Absent,
    Exists,
    Mod(Since),
    Created(Since),
    Never,
    Value(&'static [u8]),
}

#[derive(Clone, Debug)]
enum Write {
    Put(&'static str, &'static [u8], Option<Nth>),
    Delete(Range),
}

/// What was answered, in terms of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Done(Since),
    Refused,
    Keys(Since, Vec<Pair>),
    Granted,
    Alive(Duration),
    Expired,
    Ok,
    Changes(Vec<(String, Since, Option<Pair>)>),
    Lost(Since),
    Compacted,
    Future,
    LeaseGone,
    Duplicate,
    Failed(String),
}

/// A key with everything etcd keeps for it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pair {
    key: String,
    value: Vec<u8>,
    created: Since,
    changed: Since,
    version: i64,
    lease: Option<Option<Nth>>,
}

/// Runs `count` lists beginning with `seed`; each list's seed is the next number. Lists on one rig
/// run one after the other, as revisions and compactions are the cluster's; several rigs share them.
///
/// # Panics
/// If an answer differs from the model's: with the seed, the step and both answers. If some kind of
/// operation or answer never occurred: then the lists prove nothing about it.
pub async fn run(rigs: &[Rig], seed: u64, count: u64) {
    let mut players = JoinSet::new();
    for (first, rig) in (seed..).zip(rigs.iter().cloned()) {
        let seeds = (first..seed + count).step_by(rigs.len());
        players.spawn(async move {
            let mut seen = Coverage::default();
            for seed in seeds {
                run_one(&rig, seed, &mut seen).await;
            }
            seen
        });
    }
    let mut all = Coverage::default();
    for seen in players.join_all().await {
        for (kind, times) in seen.0 {
            *all.0.entry(kind).or_default() += times;
        }
    }
    all.report(count);
}

async fn run_one(rig: &Rig, seed: u64, seen: &mut Coverage) {
    let mut random = StdRng::seed_from_u64(seed);
    let folder = format!("{seed}/");
    let memory = MemoryStore::new(Mvcc::new(7));
    let model = Rig {
        store: std::sync::Arc::new(memory.clone()),
        compact: std::sync::Arc::new(move |at| {
            let result = memory.with(|mvcc| mvcc.compact(at));
            Box::pin(async move { result })
        }),
    };
    let mut real = Player::start(rig.clone(), folder.clone()).await;
    let mut model = Player::start(model, folder).await;
    let mut limits = Limits { revision: 0, leases: 0, compacted: 0 };
    for number in 0..OPERATIONS {
        let step = choose(&mut random, &limits);
        // What watches have not told yet may be compacted away or not: told first, it counts.
        if matches!(step, Step::Compact(at) if limits.compacted < at && at <= limits.revision) {
            settle(seed, &mut real, &mut model, seen).await;
        }
        let (got, expected) = (real.play(&step).await, model.play(&step).await);
        assert_eq!(
            got, expected,
            "\nlist {seed}, step {number}: {step:?}\nleft is the store, right the model"
        );
        seen.count(&step, &got);
        match (&step, &got) {
            (Step::Grant, _) => limits.leases += 1,
            (Step::Compact(at), Answer::Ok) => limits.compacted = *at,
            _ => {}
        }
        limits.revision = model.now().await;
    }
    settle(seed, &mut real, &mut model, seen).await;
    assert_eq!(real.now().await, model.now().await, "\nlist {seed}: the newest revision");
}

/// Compares what the watches told.
async fn settle(seed: u64, real: &mut Player, model: &mut Player, seen: &mut Coverage) {
    let (got, expected) = (real.settle().await, model.settle().await);
    assert_eq!(got, expected, "\nlist {seed}: a replay");
    for answer in &got {
        seen.count_replay(answer);
    }
    let (got, expected) = (real.drain_live().await, model.drain_live().await);
    assert_eq!(got, expected, "\nlist {seed}: the watch that was open all the time");
}

/// What there is to choose from.
struct Limits {
    revision: Since,
    leases: usize,
    compacted: Since,
}

fn choose(random: &mut StdRng, limits: &Limits) -> Step {
    let revision = |random: &mut StdRng| random.random_range(0..=limits.revision + 2);
    match random.random_range(0..100) {
        0..50 => {
            let compares = (0..random.random_range(0..3usize).saturating_sub(1))
                .map(|_| (pick(random, &KEYS), target(random, limits)))
                .collect();
            let writes = (0..random.random_range(0..4)).map(|_| write(random, limits)).collect();
            Step::Commit(compares, writes)
        }
        50..65 => {
            let at = random.random_bool(0.6).then(|| revision(random));
            Step::Read(ranges(random), at)
        }
        65..72 => Step::Grant,
        72..77 => Step::KeepAlive(random.random_range(0..=limits.leases)),
        77..83 => Step::Revoke(random.random_range(0..=limits.leases)),
        83..97 => {
            let mut from = random.random_range(1..=limits.revision + 1);
            // From the very revision of a compaction, etcd leaves out deletions.
            if from == limits.compacted {
                from += 1;
            }
            Step::Replay(ranges(random), from)
        }
        _ => Step::Compact(revision(random)),
    }
}

fn pick<T: Copy>(random: &mut StdRng, from: &[T]) -> T {
    *from.choose(random).expect("there are some")
}

fn range(random: &mut StdRng) -> Range {
    match random.random_range(0..4) {
        0 | 1 => Range::Key(pick(random, &KEYS).to_owned()),
        2 => Range::Prefix(pick(random, &PREFIXES).to_owned()),
        _ => Range::KeysOnly(pick(random, &PREFIXES).to_owned()),
    }
}

fn ranges(random: &mut StdRng) -> Vec<Range> {
    (0..random.random_range(1..4)).map(|_| range(random)).collect()
}

fn target(random: &mut StdRng, limits: &Limits) -> Target {
    let recent = |random: &mut StdRng| (limits.revision - random.random_range(0..6)).max(0);
    match random.random_range(0..6) {
        0 => Target::Absent,
        1 => Target::Exists,
        2 => Target::Mod(recent(random)),
        3 => Target::Created(recent(random)),
        4 => Target::Never,
        _ => Target::Value(pick(random, &VALUES)),
    }
}

fn write(random: &mut StdRng, limits: &Limits) -> Write {
    match random.random_range(0..10) {
        0..2 => Write::Delete(range(random)),
        2..4 => {
            let lease = random.random_range(0..=limits.leases);
            Write::Put(pick(random, &KEYS), pick(random, &VALUES), Some(lease))
        }
        _ => Write::Put(pick(random, &KEYS), pick(random, &VALUES), None),
    }
}

/// Plays steps on one store.
struct Player {
    rig: Rig,
    folder: String,
    start: Revision,
    leases: Vec<LeaseId>,
    live: Option<Box<dyn Watch>>,
    live_told: Vec<Change>,
    replays: Vec<Replay>,
}

/// A watch of the past, up to a revision. etcd takes up to 100 ms to look into the past, so the
/// answers are waited for together.
struct Replay {
    watch: Box<dyn Watch>,
    end: Revision,
}

impl Player {
    async fn start(rig: Rig, folder: String) -> Self {
        let start = rig.read(&[]).await.revision;
        let live = rig.watch(&[Range::Prefix(folder.clone())], Revision(start.0 + 1)).await;
        Self {
            rig,
            folder,
            start,
            leases: Vec::new(),
            live: Some(live),
            live_told: Vec::new(),
            replays: Vec::new(),
        }
    }

    async fn now(&mut self) -> Since {
        self.rig.read(&[]).await.revision.0 - self.start.0
    }

    async fn play(&mut self, step: &Step) -> Answer {
        match step {
            Step::Commit(compares, writes) => {
                match self.rig.store.commit(&self.txn(compares, writes)).await {
                    Ok(Committed::Done(at)) => Answer::Done(at.0 - self.start.0),
                    Ok(Committed::Refused) => Answer::Refused,
                    Err(error) => self.failed(error),
                }
            }
            Step::Read(ranges, at) => {
                let at = at.map(|at| self.at(at));
                match self.rig.store.read(&self.ranges(ranges), at).await {
                    Ok(snapshot) => self.keys(snapshot),
                    Err(error) => self.failed(error),
                }
            }
            Step::Grant => match self.rig.store.grant(Duration::from_secs(600)).await {
                Ok(lease) => {
                    self.leases.push(lease);
                    Answer::Granted
                }
                Err(error) => self.failed(error),
            },
            Step::KeepAlive(nth) => match self.rig.store.keep_alive(self.lease(*nth)).await {
                Ok(KeepAlive::Alive(ttl)) => Answer::Alive(ttl),
                Ok(KeepAlive::Expired) => Answer::Expired,
                Err(error) => self.failed(error),
            },
            Step::Revoke(nth) => match self.rig.store.revoke(self.lease(*nth)).await {
                Ok(()) => Answer::Ok,
                Err(error) => self.failed(error),
            },
            Step::Replay(ranges, from) => self.replay(ranges, *from).await,
            Step::Compact(at) => match (self.rig.compact)(self.at(*at)).await {
                Ok(()) => Answer::Ok,
                Err(error) => self.failed(error),
            },
        }
    }

    /// Opens a watch of all changes of the ranges from a revision until now.
    async fn replay(&mut self, ranges: &[Range], from: Since) -> Answer {
        let mut ranges = self.ranges(ranges);
        ranges.push(Range::Key(format!("{}{SENTINEL}", self.folder)));
        let end = self.write_sentinel().await;
        let watch = self.rig.watch(&ranges, self.at(from)).await;
        self.replays.push(Replay { watch, end });
        Answer::Ok
    }

    /// What the watches of the past told.
    async fn settle(&mut self) -> Vec<Answer> {
        let mut answers = Vec::new();
        for mut replay in std::mem::take(&mut self.replays) {
            let mut told = Vec::new();
            let answer = self.collect(&mut *replay.watch, replay.end, &mut told).await;
            told.retain(|change| change.revision <= replay.end);
            answers.push(answer.unwrap_or_else(|| self.changes(&told)));
        }
        answers
    }

    /// All changes that the watch of the whole list told so far.
    async fn drain_live(&mut self) -> Answer {
        let end = self.write_sentinel().await;
        let mut told = std::mem::take(&mut self.live_told);
        let mut live = self.live.take().expect("it is put back below");
        let answer = self.collect(&mut *live, end, &mut told).await;
        (self.live, self.live_told) = (Some(live), told);
        answer.unwrap_or_else(|| self.changes(&self.live_told))
    }

    async fn write_sentinel(&mut self) -> Revision {
        self.rig.commit(&super::put(&format!("{}{SENTINEL}", self.folder), "")).await
    }

    /// Gathers changes up to a revision, that one included.
    async fn collect(
        &mut self,
        watch: &mut dyn Watch,
        end: Revision,
        told: &mut Vec<Change>,
    ) -> Option<Answer> {
        while told.last().is_none_or(|change| change.revision < end) {
            match tokio::time::timeout(WITHIN, watch.next()).await {
                Ok(Ok(WatchEvent::Changed(changes))) => told.extend(changes),
                Ok(Ok(WatchEvent::Progress(_))) => {}
                Ok(Ok(WatchEvent::Lost { revision })) => {
                    return Some(Answer::Lost(revision.0 - self.start.0));
                }
                Ok(Err(error)) => return Some(self.failed(error)),
                Err(_) => return Some(Answer::Failed("the watch says nothing".to_owned())),
            }
        }
        None
    }

    fn txn(&self, compares: &[(&'static str, Target)], writes: &[Write]) -> Txn {
        let compares = compares.iter().map(|(key, target)| Compare {
            key: format!("{}{key}", self.folder),
            target: match target {
                Target::Absent => CompareTarget::Absent,
                Target::Exists => CompareTarget::Exists,
                Target::Mod(at) => CompareTarget::ModRevision(self.at(*at)),
                Target::Created(at) => CompareTarget::CreateRevision(self.at(*at)),
                Target::Never => CompareTarget::ModRevision(Revision(0)),
                Target::Value(value) => CompareTarget::Value(value.to_vec()),
            },
        });
        let ops = writes.iter().map(|write| match write {
            Write::Put(key, value, lease) => Op::Put {
                key: format!("{}{key}", self.folder),
                value: value.to_vec(),
                lease: lease.map(|nth| self.lease(nth)),
            },
            Write::Delete(range) => Op::Delete(self.range(range)),
        });
        Txn { compares: compares.collect(), ops: ops.collect() }
    }

    fn at(&self, since: Since) -> Revision {
        Revision(self.start.0 + since)
    }

    fn ranges(&self, ranges: &[Range]) -> Vec<Range> {
        ranges.iter().map(|range| self.range(range)).collect()
    }

    fn range(&self, range: &Range) -> Range {
        let text = format!("{}{}", self.folder, range.text());
        match range {
            Range::Key(_) => Range::Key(text),
            Range::Prefix(_) => Range::Prefix(text),
            Range::KeysOnly(_) => Range::KeysOnly(text),
        }
    }

    /// One beyond the last stands for a lease that never was.
    fn lease(&self, nth: Nth) -> LeaseId {
        self.leases.get(nth).copied().unwrap_or(LeaseId(0x0bad_cafe))
    }

    fn nth(&self, lease: LeaseId) -> Option<Nth> {
        self.leases.iter().position(|known| *known == lease)
    }

    fn keys(&self, snapshot: Snapshot) -> Answer {
        let pairs = snapshot.kvs.into_values().map(|kv| self.pair(&kv)).collect();
        Answer::Keys(snapshot.revision.0 - self.start.0, pairs)
    }

    fn changes(&self, told: &[Change]) -> Answer {
        Answer::Changes(told.iter().map(|change| self.change(change)).collect())
    }

    fn pair(&self, kv: &KeyValue) -> Pair {
        Pair {
            key: kv.key.clone(),
            value: kv.value.clone(),
            created: kv.create_revision.0 - self.start.0,
            changed: kv.mod_revision.0 - self.start.0,
            version: kv.version,
            lease: kv.lease.map(|lease| self.nth(lease)),
        }
    }

    fn change(&self, change: &Change) -> (String, Since, Option<Pair>) {
        let since = change.revision.0 - self.start.0;
        (change.key.clone(), since, change.kv.as_ref().map(|kv| self.pair(kv)))
    }

    fn failed(&self, error: StoreError) -> Answer {
        match error {
            StoreError::Compacted { .. } => Answer::Compacted,
            StoreError::FutureRevision { .. } => Answer::Future,
            StoreError::LeaseGone { .. } => Answer::LeaseGone,
            StoreError::DuplicateKey => Answer::Duplicate,
            other => Answer::Failed(other.to_string()),
        }
    }
}

/// How often each kind of operation and answer occurred.
#[derive(Default)]
struct Coverage(BTreeMap<&'static str, usize>);

const KINDS: [&str; 32] = [
    "put",
    "put with lease",
    "put with unknown or ended lease",
    "delete of a key",
    "delete of a range",
    "transaction without writes",
    "transaction of several writes",
    "transaction touching a key twice",
    "compare absent",
    "compare exists",
    "compare mod revision",
    "compare create revision",
    "compare value",
    "transaction done",
    "transaction refused",
    "read at the newest revision",
    "read of the past",
    "read of the compacted past",
    "read of the future",
    "read of keys alone",
    "read that found a leased key",
    "grant",
    "keep-alive of a living lease",
    "keep-alive of an ended lease",
    "revoke",
    "replay",
    "replay with a deletion",
    "replay of the compacted past",
    "compaction",
    "compaction of what is compacted",
    "compaction of the future",
    "read that found nothing",
];

impl Coverage {
    fn hit(&mut self, kind: &'static str) {
        assert!(KINDS.contains(&kind), "{kind} is not listed");
        *self.0.entry(kind).or_default() += 1;
    }

    fn count(&mut self, step: &Step, answer: &Answer) {
        match step {
            Step::Commit(compares, writes) => {
                for (_, target) in compares {
                    self.hit(match target {
                        Target::Absent => "compare absent",
                        Target::Exists => "compare exists",
                        Target::Mod(_) | Target::Never => "compare mod revision",
                        Target::Created(_) => "compare create revision",
                        Target::Value(_) => "compare value",
                    });
                }
                for write in writes {
                    self.hit(match write {
                        Write::Put(_, _, None) => "put",
                        Write::Put(_, _, Some(_)) => "put with lease",
                        Write::Delete(Range::Key(_)) => "delete of a key",
                        Write::Delete(_) => "delete of a range",
                    });
                }
                match writes.len() {
                    0 => self.hit("transaction without writes"),
                    1 => {}
                    _ => self.hit("transaction of several writes"),
                }
                match answer {
                    Answer::Done(_) => self.hit("transaction done"),
                    Answer::Refused => self.hit("transaction refused"),
                    Answer::LeaseGone => self.hit("put with unknown or ended lease"),
                    Answer::Duplicate => self.hit("transaction touching a key twice"),
                    other => panic!("unexpected {other:?}"),
                }
            }
            Step::Read(ranges, at) => {
                match (answer, at) {
                    (Answer::Compacted, _) => self.hit("read of the compacted past"),
                    (Answer::Future, _) => self.hit("read of the future"),
                    (_, None) => self.hit("read at the newest revision"),
                    (_, Some(_)) => self.hit("read of the past"),
                }
                if ranges.iter().any(|range| matches!(range, Range::KeysOnly(_))) {
                    self.hit("read of keys alone");
                }
                if let Answer::Keys(_, pairs) = answer {
                    if pairs.is_empty() {
                        self.hit("read that found nothing");
                    }
                    if pairs.iter().any(|pair| pair.lease.is_some()) {
                        self.hit("read that found a leased key");
                    }
                }
            }
            Step::Grant => self.hit("grant"),
            Step::KeepAlive(_) if *answer == Answer::Expired => {
                self.hit("keep-alive of an ended lease");
            }
            Step::KeepAlive(_) => self.hit("keep-alive of a living lease"),
            Step::Revoke(_) => self.hit("revoke"),
            Step::Replay(..) => {}
            Step::Compact(_) => match answer {
                Answer::Ok => self.hit("compaction"),
                Answer::Compacted => self.hit("compaction of what is compacted"),
                Answer::Future => self.hit("compaction of the future"),
                other => panic!("unexpected {other:?}"),
            },
        }
    }

    fn count_replay(&mut self, answer: &Answer) {
        match answer {
            Answer::Lost(_) => self.hit("replay of the compacted past"),
            Answer::Changes(changes) => {
                self.hit("replay");
                if changes.iter().any(|(_, _, now)| now.is_none()) {
                    self.hit("replay with a deletion");
                }
            }
            other => panic!("unexpected {other:?}"),
        }
    }

    fn report(&self, lists: u64) {
        println!("{lists} lists of {OPERATIONS} operations answered alike:");
        for kind in KINDS {
            println!("  {:>6}  {kind}", self.0.get(kind).copied().unwrap_or_default());
        }
        let never: Vec<_> = KINDS.iter().filter(|kind| !self.0.contains_key(*kind)).collect();
        assert!(never.is_empty(), "never occurred: {never:?}");
    }
}
