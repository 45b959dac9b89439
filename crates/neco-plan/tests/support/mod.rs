//! Clusters as they may stand in etcd, built key by key.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;

use neco_plan::{GroupShape, Local, RecipeShape, View};
use neco_schema::journal::Entry;
use neco_schema::{
    Alive, Condition, Control, Key, KeyValue, Lrn, MemberPlan, NecoVersion, Op, Origin, Range,
    RecipeDigest, Record, RequestKind, Revision, Snapshot, StopNote, Timestamp, Txn, UpdateRequest,
    UpdateStatus,
};
use serde_json::Map;

pub(crate) const V1: &str = "1.0.0";
pub(crate) const V2: &str = "1.1.0";

pub(crate) fn lrn(number: u32) -> Lrn {
    Lrn::new(number)
}

pub(crate) fn lrns(numbers: &[u32]) -> Vec<Lrn> {
    numbers.iter().copied().map(Lrn::new).collect()
}

pub(crate) fn version(text: &str) -> NecoVersion {
    text.parse().expect("a version")
}

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_unix(second)
}

/// A request of ours for 1.0.0.
pub(crate) fn request(servers: &[u32]) -> UpdateRequest {
    UpdateRequest {
        kind: Some(RequestKind::Release),
        ..UpdateRequest::new(version(V1), lrns(servers), at(1_000))
    }
}

/// The same as a Go leader writes it.
pub(crate) fn go_request(servers: &[u32]) -> UpdateRequest {
    UpdateRequest { kind: None, ..request(servers) }
}

pub(crate) fn stopped(request: &UpdateRequest, leader: bool) -> UpdateRequest {
    let note = StopNote {
        by: "somebody".into(),
        leader,
        reason: "because".into(),
        at: at(2_000),
        unknown: Default::default(),
    };
    UpdateRequest { stop: true, stopped: Some(note), ..request.clone() }
}

pub(crate) fn status(request: &UpdateRequest, step: u32, cond: Condition) -> UpdateStatus {
    UpdateStatus {
        version: request.version.clone(),
        step,
        cond,
        message: String::new(),
        request: Some(request.id()),
        origin: None,
        unknown: Map::new(),
    }
}

pub(crate) fn aborted(request: &UpdateRequest, step: u32, by: u32, cause: &str) -> UpdateStatus {
    let origin = Origin { lrn: lrn(by), step, cause: cause.into(), unknown: Default::default() };
    UpdateStatus { origin: Some(origin), ..status(request, step, Condition::Abort) }
}

pub(crate) fn recipe(steps: u32, groups: &[(&str, u32, u32)]) -> RecipeShape {
    let shape = |(name, stop, apply): &(&str, u32, u32)| GroupShape {
        name: (*name).into(),
        stop: *stop,
        apply: *apply,
    };
    RecipeShape {
        steps,
        groups: groups.iter().map(shape).collect(),
        digest: RecipeDigest("recipe-one".into()),
    }
}

/// A server with an empty journal that runs `version` and follows a recipe of three steps.
pub(crate) fn local(number: u32, text: &str) -> Local {
    Local::new(lrn(number), format!("machine-{number}"), version(text), recipe(3, &[]))
}

/// A cluster as it stands in etcd.
#[derive(Clone, Default)]
pub(crate) struct Cluster {
    pub(crate) revision: i64,
    pub(crate) kvs: BTreeMap<String, KeyValue>,
}

impl Cluster {
    /// Registered and living servers that run 1.0.0.
    pub(crate) fn of(servers: &[u32]) -> Self {
        let mut cluster = Self { revision: 100, ..Self::default() };
        for number in servers {
            cluster.bytes(&Key::BootServer(lrn(*number)), "");
            cluster.alive(*number, V1, &[]);
        }
        cluster
    }

    /// The same without a sign of life: servers that never ran a worker of ours.
    pub(crate) fn of_go(servers: &[u32]) -> Self {
        let mut cluster = Self { revision: 100, ..Self::default() };
        for number in servers {
            cluster.bytes(&Key::BootServer(lrn(*number)), "");
        }
        cluster
    }

    pub(crate) fn bytes(&mut self, key: &Key, value: impl Into<Vec<u8>>) -> &mut Self {
        self.revision += 1;
        let name = key.to_string();
        let before = self.kvs.get(&name);
        let kv = KeyValue {
            key: name.clone(),
            value: value.into(),
            create_revision: before.map_or(Revision(self.revision), |kv| kv.create_revision),
            mod_revision: Revision(self.revision),
            version: before.map_or(1, |kv| kv.version + 1),
            lease: None,
        };
        self.kvs.insert(name, kv);
        self
    }

    pub(crate) fn put(&mut self, key: Key, record: &impl Record) -> &mut Self {
        self.bytes(&key, record.encode())
    }

    pub(crate) fn delete(&mut self, key: Key) -> &mut Self {
        self.revision += 1;
        self.kvs.remove(&key.to_string());
        self
    }

    pub(crate) fn request(&mut self, request: &UpdateRequest) -> &mut Self {
        self.put(Key::Request, request)
    }

    /// A release that the leader has noted.
    pub(crate) fn release(&mut self, text: &str) -> &mut Self {
        let seen = neco_schema::Seen { at: at(900), ..neco_schema::Seen::default() };
        self.put(Key::Seen(version(text)), &seen).bytes(&Key::Release, text)
    }

    pub(crate) fn status(
        &mut self,
        number: u32,
        request: &UpdateRequest,
        step: u32,
        cond: Condition,
    ) -> &mut Self {
        self.put(Key::Status(lrn(number)), &status(request, step, cond))
    }

    /// All members stand at `step`.
    pub(crate) fn all_at(&mut self, request: &UpdateRequest, step: u32) -> &mut Self {
        for member in request.members() {
            self.status(member.get(), request, step, Condition::Running);
        }
        self
    }

    /// All members have completed, and it stands in the history.
    pub(crate) fn finished(&mut self, request: &UpdateRequest) -> &mut Self {
        for member in request.members() {
            self.status(member.get(), request, 3, Condition::Complete);
        }
        let key = Key::History(request.started_at, request.id());
        self.bytes(&key, "")
    }

    /// The same as Go workers leave it.
    pub(crate) fn go_finished(&mut self, request: &UpdateRequest) -> &mut Self {
        for member in request.members() {
            let status = UpdateStatus { request: None, ..status(request, 3, Condition::Complete) };
            self.put(Key::Status(member), &status);
        }
        self.bytes(&Key::History(request.started_at, request.id()), "")
    }

    pub(crate) fn plan(&mut self, number: u32, request: &UpdateRequest, digest: &str) -> &mut Self {
        let plan = MemberPlan {
            request: request.id(),
            recipe: RecipeDigest(digest.into()),
            changes: vec![],
            unknown: Map::new(),
        };
        self.put(Key::Plan(lrn(number)), &plan)
    }

    /// All members have published that they follow the same recipe.
    pub(crate) fn all_planned(&mut self, request: &UpdateRequest) -> &mut Self {
        for member in request.members() {
            self.plan(member.get(), request, "recipe-one");
        }
        self
    }

    pub(crate) fn alive(&mut self, number: u32, text: &str, busy: &[&str]) -> &mut Self {
        let alive = Alive {
            machine_id: format!("machine-{number}"),
            boot_id: String::new(),
            version: version(text),
            address: String::new(),
            busy: busy.iter().map(|text| (*text).to_owned()).collect(),
            unfit: vec![],
            unknown: Map::new(),
        };
        self.put(Key::Alive(lrn(number)), &alive)
    }

    pub(crate) fn dies(&mut self, number: u32) -> &mut Self {
        self.delete(Key::Alive(lrn(number)))
    }

    /// `leave`: its records go, with it its registration.
    pub(crate) fn leaves(&mut self, number: u32) -> &mut Self {
        self.delete(Key::BootServer(lrn(number))).delete(Key::Status(lrn(number)))
    }

    pub(crate) fn withdraw(&mut self, text: &str) -> &mut Self {
        self.put(Key::Withdrawn(version(text)), &Control::default())
    }

    pub(crate) fn pause(&mut self) -> &mut Self {
        let control = Control { by: "ops".into(), reason: "tea".into(), ..Control::default() };
        self.put(Key::Pause, &control)
    }

    /// Carries out a transaction whose conditions hold; says whether they did.
    pub(crate) fn commit(&mut self, txn: &Txn) -> bool {
        use neco_schema::CompareTarget as Target;
        let holds = |compare: &neco_schema::Compare| {
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
        for op in &txn.ops {
            match op {
                Op::Put { key, value, .. } => {
                    let key: Key = key.parse().expect("a key of Neco");
                    self.bytes(&key, value.clone());
                }
                Op::Delete(range) => self.kvs.retain(|key, _| match range {
                    Range::Key(one) => one != key,
                    _ => !range.contains(key),
                }),
            }
        }
        true
    }

    pub(crate) fn keys(&self) -> Vec<&str> {
        self.kvs.keys().map(String::as_str).collect()
    }

    pub(crate) fn view(&self) -> View {
        View::assemble(&Snapshot {
            revision: Revision(self.revision),
            cluster_id: 1,
            kvs: self.kvs.clone(),
        })
    }
}

/// What a journal holds once its server has posted `step` and done all steps before it.
pub(crate) fn journal_at(me: &mut Local, request: &UpdateRequest, step: u32) {
    let id = request.id();
    for done in 1..step {
        me.journal.apply(&Entry::StepDone { request: id.clone(), step: done });
    }
    me.journal.apply(&Entry::Posting { request: id, step, cond: 1 });
}
