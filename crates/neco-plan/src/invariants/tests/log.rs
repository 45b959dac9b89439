//! A small etcd that tells an auditor everything that is written to it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use neco_schema::journal::{Effect, Entry, IntentEnd, IntentId, Mark};
use neco_schema::{
    Alive, Compare, Condition, HistoryRecord, Key, KeyValue, LeaseId, Lrn, MemberPlan, NecoVersion,
    Op, Origin, Outcome, PackageRef, Range, RecipeDigest, Record, RequestId, RequestKind, Revision,
    Snapshot, StopNote, Timestamp, Turn, Txn, UpdateRequest, UpdateStatus,
};

use crate::invariants::{
    Auditor, Fact, Feed, InvariantId, JournalLine, KvChange, Report, Rules, Stamp, Tally,
    Violation, Writer, part_of,
};
use crate::{GroupShape, RecipeShape};

pub(super) const A: Lrn = Lrn::new(0);
pub(super) const B: Lrn = Lrn::new(1);
pub(super) const C: Lrn = Lrn::new(2);

/// The identity of the etcd.
pub(super) const CLUSTER: u64 = 1;

pub(super) fn version(text: &str) -> NecoVersion {
    text.parse().expect("a version")
}

/// A request of ours for `version` by A and B, made in the given second.
pub(super) fn request(text: &str, second: i64) -> UpdateRequest {
    UpdateRequest {
        kind: Some(RequestKind::Release),
        package: Some(package('a')),
        ..UpdateRequest::new(version(text), vec![A, B], Timestamp::from_unix(second))
    }
}

pub(super) fn package(digit: char) -> PackageRef {
    PackageRef {
        file: "neco.deb".to_owned(),
        size: 1,
        sha256: digit.to_string().repeat(64),
        unknown: Default::default(),
    }
}

pub(super) fn stopped(request: &UpdateRequest) -> UpdateRequest {
    let note = StopNote {
        by: "somebody".to_owned(),
        leader: false,
        reason: "because".to_owned(),
        at: Timestamp::from_unix(9),
        unknown: Default::default(),
    };
    UpdateRequest { stop: true, stopped: Some(note), ..request.clone() }
}

pub(super) fn status(request: &UpdateRequest, step: u32, cond: Condition) -> UpdateStatus {
    let origin = (cond == Condition::Abort).then(|| Origin {
        lrn: A,
        step,
        cause: "it broke".to_owned(),
        unknown: Default::default(),
    });
    UpdateStatus {
        version: request.version.clone(),
        step,
        cond,
        message: String::new(),
        request: Some(request.id()),
        origin,
        unknown: serde_json::Map::new(),
    }
}

pub(super) fn record(request: &UpdateRequest, outcome: Outcome) -> HistoryRecord {
    HistoryRecord {
        id: request.id(),
        version: request.version.clone(),
        servers: request.servers.clone(),
        kind: "release".to_owned(),
        started_at: request.started_at,
        ended_at: Timestamp::from_unix(99),
        outcome,
        by: "updater on boot-0".to_owned(),
        cause: String::new(),
        origin: None,
        notices: Vec::new(),
        unknown: serde_json::Map::new(),
    }
}

pub(super) fn history_key(request: &UpdateRequest) -> Key {
    Key::History(request.started_at, request.id())
}

pub(super) fn alive(text: &str) -> Alive {
    Alive {
        machine_id: "m".to_owned(),
        boot_id: "b".to_owned(),
        version: version(text),
        address: String::new(),
        busy: Vec::new(),
        unfit: Vec::new(),
        unknown: serde_json::Map::new(),
    }
}

pub(super) fn turn(lrn: Lrn, request: &UpdateRequest) -> Turn {
    Turn {
        lrn,
        request: request.id(),
        since: Timestamp::from_unix(1),
        unknown: serde_json::Map::new(),
    }
}

pub(super) fn plan(request: &UpdateRequest, digest: &str) -> MemberPlan {
    MemberPlan {
        request: request.id(),
        recipe: RecipeDigest(digest.to_owned()),
        changes: Vec::new(),
        unknown: serde_json::Map::new(),
    }
}

pub(super) fn recipe(steps: u32, groups: &[(u32, u32)]) -> RecipeShape {
    let shape = |(stop, apply): &(u32, u32)| GroupShape {
        name: "vault".to_owned(),
        stop: *stop,
        apply: *apply,
    };
    RecipeShape {
        steps,
        groups: groups.iter().map(shape).collect(),
        digest: RecipeDigest("d".to_owned()),
    }
}

pub(super) fn rules() -> Rules {
    Rules { recipe: Some(recipe(3, &[])), ..Rules::default() }
}

/// The log, and a copy of everything that the auditor was told but for facts.
pub(super) struct Log {
    pub(super) auditor: Auditor,
    rules: Rules,
    kvs: BTreeMap<String, KeyValue>,
    pub(super) revision: Revision,
    pub(super) changes: Vec<(Revision, Vec<KvChange>)>,
    pub(super) journals: BTreeMap<Lrn, Vec<JournalLine>>,
}

impl Log {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            auditor: Auditor::new(rules.clone()),
            rules,
            kvs: BTreeMap::new(),
            revision: Revision(0),
            changes: Vec::new(),
            journals: BTreeMap::new(),
        }
    }

    /// A and B are registered, and `request` is in force.
    pub(super) fn with_request(rules: Rules, request: &UpdateRequest) -> Self {
        let mut log = Self::new(rules);
        for lrn in [A, B] {
            log.write([Op::put_bytes(&Key::BootServer(lrn), "")]);
        }
        log.put(&Key::Request, request);
        log
    }

    /// The same, and both have come to `step` and done what is before it.
    pub(super) fn at_step(rules: Rules, request: &UpdateRequest, step: u32) -> Self {
        let mut log = Self::with_request(rules, request);
        log.both_go_on(request, 1..=step);
        log
    }

    pub(super) fn both_go_on(
        &mut self,
        request: &UpdateRequest,
        steps: std::ops::RangeInclusive<u32>,
    ) {
        for step in steps {
            for lrn in [A, B] {
                if step > 1 {
                    self.line(lrn, begun(request, step - 1, 1, self.revision));
                    self.line(lrn, Entry::StepDone { request: request.id(), step: step - 1 });
                }
            }
            for lrn in [A, B] {
                self.status(lrn, request, step, Condition::Running);
            }
        }
    }

    /// Both have completed `request` of three steps.
    pub(super) fn both_complete(&mut self, request: &UpdateRequest) {
        for lrn in [A, B] {
            self.line(lrn, begun(request, 3, 1, self.revision));
            self.line(lrn, Entry::StepDone { request: request.id(), step: 3 });
        }
        for lrn in [A, B] {
            self.status(lrn, request, 3, Condition::Complete);
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot { revision: self.revision, cluster_id: CLUSTER, kvs: self.kvs.clone() }
    }

    pub(super) fn time(&mut self, seconds: u64) {
        self.auditor.fact(Fact::Time(Duration::from_secs(seconds)));
    }

    pub(super) fn put(&mut self, key: &Key, record: &impl Record) {
        self.write([Op::put(key, record)]);
    }

    pub(super) fn delete(&mut self, key: &Key) {
        self.write([Op::delete(key)]);
    }

    pub(super) fn status(&mut self, lrn: Lrn, request: &UpdateRequest, step: u32, cond: Condition) {
        self.put(&Key::Status(lrn), &status(request, step, cond));
    }

    pub(super) fn line(&mut self, lrn: Lrn, entry: Entry) {
        self.auditor.journal(lrn, &entry, Stamp::default());
        let lines = self.journals.entry(lrn).or_default();
        lines.push(JournalLine { seq: lines.len() as u64 + 1, entry });
    }

    /// Writes by somebody known, under conditions that are told and not asked for.
    pub(super) fn write_by(
        &mut self,
        writer: Writer,
        compares: Vec<Compare>,
        ops: impl IntoIterator<Item = Op>,
    ) {
        let revision = Revision(self.revision.0 + 1);
        self.auditor.fact(Fact::Transaction { revision, writer, compares });
        self.write(ops);
    }

    /// Carries out a transaction if its conditions hold.
    pub(super) fn txn(&mut self, writer: Writer, txn: &Txn) -> bool {
        use neco_schema::CompareTarget as Target;
        let holds = |compare: &Compare| {
            let kv = self.kvs.get(&compare.key);
            match &compare.target {
                Target::Absent => kv.is_none(),
                Target::Exists => kv.is_some(),
                Target::ModRevision(at) => kv.map_or(0, |kv| kv.mod_revision.0) == at.0,
                Target::CreateRevision(at) => kv.map_or(0, |kv| kv.create_revision.0) == at.0,
                Target::Value(value) => kv.is_some_and(|kv| kv.value == *value),
            }
        };
        if !txn.compares.iter().all(holds) {
            return false;
        }
        self.write_by(writer, txn.compares.clone(), txn.ops.clone());
        true
    }

    pub(super) fn write(&mut self, ops: impl IntoIterator<Item = Op>) {
        self.revision = Revision(self.revision.0 + 1);
        let mut changes = Vec::new();
        for op in ops {
            match op {
                Op::Put { key, value, lease } => changes.push(self.set(key, value, lease)),
                Op::Delete(range) => {
                    let keys: Vec<String> = match &range {
                        Range::Key(key) => vec![key.clone()],
                        _ => self.kvs.keys().filter(|key| range.contains(key)).cloned().collect(),
                    };
                    for key in keys {
                        if let Some(before) = self.kvs.remove(&key) {
                            changes.push(KvChange { key, before: Some(before), after: None });
                        }
                    }
                }
            }
        }
        self.auditor.change(self.revision, &changes);
        self.changes.push((self.revision, changes));
    }

    fn set(&mut self, key: String, value: Vec<u8>, lease: Option<LeaseId>) -> KvChange {
        let before = self.kvs.get(&key).cloned();
        let after = KeyValue {
            key: key.clone(),
            value,
            create_revision: before.as_ref().map_or(self.revision, |kv| kv.create_revision),
            mod_revision: self.revision,
            version: before.as_ref().map_or(1, |kv| kv.version + 1),
            lease,
        };
        self.kvs.insert(key.clone(), after.clone());
        KvChange { key, before, after: Some(after) }
    }

    /// What stood at `revision`.
    pub(super) fn snapshot_at(&self, revision: Revision) -> Snapshot {
        let mut kvs = BTreeMap::new();
        for (_, changes) in self.changes.iter().filter(|(at, _)| *at <= revision) {
            for change in changes {
                match &change.after {
                    Some(kv) => drop(kvs.insert(change.key.clone(), kv.clone())),
                    None => drop(kvs.remove(&change.key)),
                }
            }
        }
        Snapshot { revision, cluster_id: CLUSTER, kvs }
    }

    /// The same again as a live cluster leaves it behind, with everything up to `compacted` forgotten.
    pub(super) fn fed_from(&self, compacted: Option<Revision>) -> (Report, BTreeMap<Lrn, Tally>) {
        let rules = self.rules.clone();
        let mut feed = Feed::new(match compacted {
            Some(revision) => Auditor::start_from(&self.snapshot_at(revision), rules),
            None => Auditor::new(rules),
        });
        let found = Mark { cluster_id: CLUSTER, revision: self.revision, epoch: 0 };
        for (lrn, lines) in &self.journals {
            feed.add_journal(*lrn, lines, part_of(lines, found).expect("of this etcd"));
        }
        for (revision, changes) in &self.changes {
            if compacted.is_none_or(|compacted| compacted < *revision) {
                let changes = changes.iter().cloned();
                feed.change(*revision, changes.map(|change| (change.key, change.after)));
            }
        }
        feed.finish(self.revision)
    }

    pub(super) fn finish(&mut self) -> Report {
        let report = self.auditor.finish();
        assert_eq!(report.log_faults, Vec::<String>::new());
        report
    }

    /// The log breaks exactly this invariant.
    #[track_caller]
    pub(super) fn breaks(mut self, invariant: InvariantId) -> Vec<Violation> {
        let report = self.finish();
        let broken: BTreeSet<InvariantId> =
            report.violations.iter().map(|violation| violation.invariant).collect();
        assert_eq!(broken, BTreeSet::from([invariant]), "{report}");
        report.violations
    }

    /// The log keeps every invariant and puts this one to the test.
    #[track_caller]
    pub(super) fn keeps(mut self, invariant: InvariantId) {
        let report = self.finish();
        assert!(report.violations.is_empty(), "{report}");
        assert!(report.holding.contains(&invariant), "{invariant} was not put to the test");
    }

    /// The log says nothing about this invariant.
    #[track_caller]
    pub(super) fn says_nothing_about(mut self, invariant: InvariantId) {
        let report = self.finish();
        assert!(report.violations.is_empty(), "{report}");
        assert_eq!(report.exercised[&invariant], 0, "{invariant}");
    }
}

pub(super) fn begun(request: &UpdateRequest, step: u32, attempt: u32, revision: Revision) -> Entry {
    Entry::StepBegun { request: request.id(), step, attempt, revision }
}

pub(super) fn started(text: &str) -> Entry {
    Entry::ProcessStarted { version: version(text), boot_id: "b".to_owned(), pid: 1 }
}

pub(super) fn posting(request: &UpdateRequest, step: u32, cond: Condition) -> Entry {
    Entry::Posting { request: request.id(), step, cond: cond.code() }
}

/// The newest state of etcd that a server has seen.
pub(super) fn mark(cluster_id: u64, revision: i64) -> Entry {
    Entry::Mark(Mark { cluster_id, revision: Revision(revision), epoch: 0 })
}

/// The intent to install `to` over 0.9.0.
pub(super) fn install(request: &UpdateRequest, to: &str, package: PackageRef) -> Entry {
    intent(
        &request.id(),
        Effect::Install {
            from: version("0.9.0"),
            to: version(to),
            package,
            way_back: Some("neco_0.9.0.deb".to_owned()),
        },
    )
}

pub(super) fn intent(request: &RequestId, effect: Effect) -> Entry {
    Entry::IntentOpened {
        intent: IntentId("i".to_owned()),
        request: request.clone(),
        step: 0,
        effect,
    }
}

pub(super) fn intent_begun(revision: Revision) -> Entry {
    Entry::IntentBegun { intent: IntentId("i".to_owned()), revision }
}

pub(super) fn intent_failed() -> Entry {
    let end = IntentEnd::Failed { cause: "postinst".to_owned() };
    Entry::IntentClosed { intent: IntentId("i".to_owned()), end }
}
