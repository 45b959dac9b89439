//! The updater's engine on the in-memory store: what it writes, what it waits for, and that nothing ends it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use neco_connect::{Settings, Sources};
use neco_process::clock::SystemClock;
use neco_releases::ReleaseSource;
use neco_releases::testing::FakeReleases;
use neco_schema::{
    Alive, Condition, ConfigKey, HistoryRecord, Key, Lrn, NecoVersion, Op, Outcome, Range, Record,
    RequestId, RequestKind, Revision, Target, Timestamp, Txn, UpdateRequest, UpdateStatus,
    prefixes,
};
use neco_store::{MemoryStore, Store};
use neco_updater::{Context, Engine, Local, Notify, Outline, Probe, Told};
use tokio_util::sync::CancellationToken;

const WITHIN: Duration = Duration::from_secs(30);
const OLD: &str = "2026.11.20-40151";
const NEW: &str = "2026.11.21-40152";

/// Panics that were ordered.
#[derive(Default)]
struct Panics(AtomicU32);

impl Panics {
    fn order(&self, times: u32) {
        self.0.store(times, Ordering::SeqCst);
    }

    /// Panics, if one is due.
    fn carry_out(&self) {
        let left = |panics: u32| panics.checked_sub(1);
        let due = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left);
        assert!(due.is_err(), "a panic that was asked for");
    }
}

/// Releases in memory.
#[derive(Default)]
struct Source {
    releases: Arc<FakeReleases>,
    panics: Panics,
}

#[async_trait]
impl Sources for Source {
    async fn source(&self, _settings: &Settings) -> Result<Arc<dyn ReleaseSource>, String> {
        self.panics.carry_out();
        Ok(Arc::clone(&self.releases) as Arc<dyn ReleaseSource>)
    }
}

/// Takes notices; refuses so many that a request ended.
#[derive(Default)]
struct Recorded {
    begun: Mutex<Vec<Told>>,
    ended: Mutex<Vec<HistoryRecord>>,
    failures: Mutex<u32>,
    since: Mutex<Option<Revision>>,
    panics: Panics,
}

#[async_trait]
impl Notify for Recorded {
    fn name(&self) -> &str {
        "recorded"
    }

    async fn wanted_since(&self) -> Result<Option<Revision>, String> {
        Ok(*self.since.lock().unwrap())
    }

    async fn send(&self, told: &Told) -> Result<(), String> {
        let Told::Ended(record) = told else {
            self.panics.carry_out();
            self.begun.lock().unwrap().push(told.clone());
            return Ok(());
        };
        {
            let mut failures = self.failures.lock().unwrap();
            if *failures > 0 {
                *failures -= 1;
                return Err("the webhook is down".to_owned());
            }
        }
        self.ended.lock().unwrap().push((**record).clone());
        Ok(())
    }
}

#[derive(Default)]
struct Trouble(Mutex<Vec<String>>);

#[async_trait]
impl Probe for Trouble {
    async fn check(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

struct Bench {
    store: MemoryStore,
    source: Arc<Source>,
    notices: Arc<Recorded>,
    trouble: Arc<Trouble>,
    local: Local,
    contexts: Vec<Arc<Context>>,
    engines: Vec<(CancellationToken, tokio::task::JoinHandle<()>)>,
}

fn version(text: &str) -> NecoVersion {
    text.parse().unwrap()
}

impl Bench {
    /// Three registered servers that live on `OLD`, a repository that follows `prod` with `OLD` in it.
    async fn new() -> Self {
        let bench = Self {
            store: MemoryStore::default(),
            source: Arc::default(),
            notices: Arc::default(),
            trouble: Arc::default(),
            local: Local {
                host: String::new(),
                package: "neco".to_owned(),
                needs_signature: false,
                recipe: Outline::default(),
            },
            contexts: Vec::new(),
            engines: Vec::new(),
        };
        *bench.notices.since.lock().unwrap() = Some(Revision(0));
        for lrn in 0..3 {
            bench.put(Key::BootServer(Lrn::new(lrn)), "").await;
            bench.alive(lrn, OLD, &[]).await;
        }
        bench.put(Key::Config(ConfigKey::Env), "prod").await;
        bench.put(Key::Config(ConfigKey::CheckUpdateInterval), "50000000").await;
        bench.publish(OLD);
        bench
    }

    fn publish(&self, text: &str) {
        let file = format!("neco_{text}_amd64.deb");
        self.source.releases.publish(&format!("release-{text}"), &[(&file, text.as_bytes())]);
    }

    fn start(&mut self, host: &str) {
        let context = Arc::new(Context::new(
            Arc::new(self.store.clone()),
            Arc::new(SystemClock::default()),
            Arc::clone(&self.source) as Arc<dyn Sources>,
            vec![Arc::clone(&self.trouble) as Arc<dyn Probe>],
            Arc::clone(&self.notices) as Arc<dyn Notify>,
            Local { host: host.to_owned(), ..self.local.clone() },
        ));
        let stop = CancellationToken::new();
        let engine = Engine::new(Arc::clone(&context), Duration::from_secs(5));
        let task = tokio::spawn(engine.run(stop.clone()));
        self.contexts.push(context);
        self.engines.push((stop, task));
    }

    async fn put(&self, key: Key, value: &str) {
        let op = Op::put_bytes(&key, value);
        self.store.commit(&Txn::default().then(op)).await.unwrap();
    }

    async fn write(&self, op: Op) {
        self.store.commit(&Txn::default().then(op)).await.unwrap();
    }

    async fn alive(&self, lrn: u32, text: &str, busy: &[&str]) {
        let alive = Alive {
            machine_id: format!("{lrn:032}"),
            boot_id: String::new(),
            version: version(text),
            address: String::new(),
            busy: busy.iter().map(|&what| what.to_owned()).collect(),
            unfit: Vec::new(),
            unknown: serde_json::Map::new(),
        };
        self.write(Op::put(&Key::Alive(Lrn::new(lrn)), &alive)).await;
    }

    async fn request(&self) -> Option<UpdateRequest> {
        let read = self.store.read(&[Range::from(&Key::Request)], None).await.unwrap();
        read.kvs.values().next().and_then(|kv| UpdateRequest::decode(&kv.value).ok())
    }

    async fn post(&self, request: &UpdateRequest, lrn: u32, step: u32, cond: Condition) {
        let status = UpdateStatus {
            version: request.version.clone(),
            step,
            cond,
            message: String::new(),
            request: Some(request.id()),
            origin: None,
            unknown: serde_json::Map::new(),
        };
        self.write(Op::put(&Key::Status(Lrn::new(lrn)), &status)).await;
    }

    async fn complete(&self, request: &UpdateRequest) {
        for lrn in 0..3 {
            self.post(request, lrn, 18, Condition::Complete).await;
            self.alive(lrn, request.version.as_str(), &[]).await;
        }
    }

    async fn history(&self) -> Vec<HistoryRecord> {
        let range = Range::Prefix(prefixes::HISTORY.to_owned());
        let read = self.store.read(&[range], None).await.unwrap();
        let records = read.kvs.values().filter(|kv| matches!(kv.key.parse(), Ok(Key::History(..))));
        records.map(|kv| HistoryRecord::decode(&kv.value).unwrap()).collect()
    }

    async fn until<T>(&self, what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
        let waited = async {
            loop {
                if let Some(found) = found().await {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(WITHIN, waited).await {
            Ok(found) => found,
            Err(_) => {
                let seen: Vec<_> = self
                    .contexts
                    .iter()
                    .map(|context| context.observed().borrow().clone())
                    .collect();
                panic!("not within {WITHIN:?}: {what}; {seen:#?}; {:?}", self.request().await)
            }
        }
    }

    async fn requested(&self, text: &str) -> UpdateRequest {
        let wanted =
            async || self.request().await.filter(|request| request.version == version(text));
        self.until(&format!("a request for {text}"), wanted).await
    }

    async fn waits_for(&self, words: &str) {
        let says = async || {
            let told = self.contexts.iter().any(|context| {
                let seen = context.observed().borrow().clone();
                seen.waiting_for.contains(words)
                    || seen.release_trouble.contains(words)
                    || seen.problems.iter().any(|problem| problem.contains(words))
                    || seen.strays.iter().any(|stray| stray.contains(words))
            });
            told.then_some(())
        };
        self.until(&format!("an updater says {words:?}"), says).await;
    }

    async fn end(self) {
        for (stop, task) in self.engines {
            stop.cancel();
            tokio::time::timeout(WITHIN, task).await.expect("ends when told").unwrap();
        }
        let left = self.store.read(&[Range::Prefix("leader/".to_owned())], None).await.unwrap();
        assert!(left.kvs.is_empty(), "leadership was not given back: {:?}", left.kvs.keys());
    }
}

#[tokio::test]
async fn the_first_request_is_made_for_the_newest_release_with_its_bits() {
    let mut bench = Bench::new().await;
    bench.start("boot-0");
    let request = bench.requested(OLD).await;
    assert_eq!(request.servers, [0, 1, 2].map(Lrn::new));
    assert_eq!(request.kind, Some(RequestKind::Release));
    let package = request.package.clone().expect("its package");
    assert_eq!((package.file.as_str(), package.size), ("neco_2026.11.20-40151_amd64.deb", 16));
    let begun = || bench.notices.begun.lock().unwrap().clone();
    bench.until("a notice", async || begun().pop()).await;
    assert!(matches!(&begun()[..], [Told::Begun { .. }]), "{:?}", begun());
    bench.end().await;
}

#[tokio::test]
async fn keys_that_mean_nothing_are_named_with_a_remedy_and_left_alone() {
    let mut bench = Bench::new().await;
    let strays = ["stray/thing", "install/boot-x", "info/bootservers/one", "seen/newest"];
    for key in strays {
        let (key, value) = (key.to_owned(), b"somebody's".to_vec());
        bench.write(Op::Put { key, value, lease: None }).await;
    }
    bench.start("boot-0");
    for key in strays {
        bench.waits_for(&format!("key {key}: ")).await;
    }
    bench.waits_for("put a right value there or delete the key").await;
    bench.requested(OLD).await;
    let ranges = strays.map(|key| Range::Key(key.to_owned()));
    assert_eq!(bench.store.read(&ranges, None).await.unwrap().kvs.len(), strays.len());
    bench.end().await;
}

#[tokio::test]
async fn a_finished_request_is_recorded_and_a_newer_release_follows() {
    let mut bench = Bench::new().await;
    bench.start("boot-0");
    let first = bench.requested(OLD).await;
    bench.complete(&first).await;
    bench.publish(NEW);
    let second = bench.requested(NEW).await;
    assert!(second.started_at > first.started_at);
    let history = bench.history().await;
    assert_eq!(history.len(), 1);
    assert_eq!((history[0].id.clone(), history[0].outcome), (first.id(), Outcome::Completed));
    bench.end().await;
}

#[tokio::test]
async fn an_abort_stops_the_request_and_a_newer_release_heals_it() {
    let mut bench = Bench::new().await;
    bench.start("boot-0");
    let first = bench.requested(OLD).await;
    for lrn in 0..3 {
        bench.post(&first, lrn, 3, Condition::Abort).await;
    }
    let stopped = bench
        .until("the stop", async || bench.request().await.filter(|request| request.stop))
        .await;
    assert_eq!(stopped.id(), first.id());
    assert!(stopped.stopped.is_some_and(|note| note.leader && note.by == "updater on boot-0"));
    bench.publish(NEW);
    bench.requested(NEW).await;
    let history = bench.history().await;
    assert_eq!(history.iter().map(|record| record.outcome).collect::<Vec<_>>(), [Outcome::Aborted]);
    bench.end().await;
}

#[tokio::test]
async fn a_busy_or_unhealthy_cluster_gets_no_request_until_it_is_well() {
    let mut bench = Bench::new().await;
    bench.alive(1, OLD, &["group vault"]).await;
    bench.start("boot-0");
    bench.waits_for("boot server 1 is busy: group vault").await;
    *bench.trouble.0.lock().unwrap() = vec!["etcd member boot-2 is not healthy".to_owned()];
    bench.alive(1, OLD, &[]).await;
    bench.waits_for("etcd member boot-2 is not healthy").await;
    assert_eq!(bench.request().await, None);
    bench.trouble.0.lock().unwrap().clear();
    bench.requested(OLD).await;
    bench.end().await;
}

#[tokio::test]
async fn notices_are_sent_again_until_they_are_taken_and_then_never() {
    let mut bench = Bench::new().await;
    *bench.notices.failures.lock().unwrap() = 2;
    bench.start("boot-0");
    let request = bench.requested(OLD).await;
    bench.complete(&request).await;
    bench
        .until("the history shows the notice", async || {
            bench.history().await.first().filter(|record| record.notices.len() == 1).map(|_| ())
        })
        .await;
    let sent = bench.notices.ended.lock().unwrap().len();
    assert_eq!((sent, *bench.notices.failures.lock().unwrap()), (1, 0));
    bench.end().await;
}

#[tokio::test]
async fn a_repository_out_of_order_is_named_and_waited_for() {
    let mut bench = Bench::new().await;
    bench.source.releases.set_down(true);
    bench.start("boot-0");
    bench
        .until("the trouble", async || {
            let told = !bench.contexts[0].observed().borrow().release_trouble.is_empty();
            told.then_some(())
        })
        .await;
    assert_eq!(bench.request().await, None);
    bench.source.releases.set_down(false);
    bench.requested(OLD).await;
    bench.end().await;
}

#[tokio::test]
async fn settings_and_records_that_cannot_be_read_are_named_and_ended_by_nothing() {
    let mut bench = Bench::new().await;
    bench.put(Key::Config(ConfigKey::WorkerTimeout), "soon").await;
    bench.write(Op::Put { key: "status/stray".into(), value: b"{".to_vec(), lease: None }).await;
    bench.put(Key::Request, "{not json").await;
    bench.start("boot-0");
    bench.waits_for("key config/worker-timeout").await;
    bench.waits_for("key status/stray").await;
    bench.waits_for("key status/current cannot be read").await;
    let kept = bench.store.read(&[Range::from(&Key::Request)], None).await.unwrap();
    assert_eq!(kept.kvs["status/current"].value, b"{not json", "nothing is lost");
    bench.write(Op::delete(&Key::Request)).await;
    bench.requested(OLD).await;
    bench.end().await;
}

#[tokio::test]
async fn a_store_that_is_away_for_a_while_changes_nothing_but_time() {
    let mut bench = Bench::new().await;
    bench.start("boot-0");
    let request = bench.requested(OLD).await;
    bench.store.go_down();
    bench.waits_for("etcd does not answer").await;
    bench.store.come_back();
    bench.complete(&request).await;
    bench.until("the record", async || bench.history().await.first().map(|_| ())).await;
    bench.end().await;
}

#[tokio::test]
async fn of_two_updaters_one_leads_and_the_other_takes_over() {
    let mut bench = Bench::new().await;
    bench.start("boot-0");
    let first = bench.requested(OLD).await;
    bench.start("boot-1");
    bench.waits_for("another updater leads").await;
    let (stop, task) = bench.engines.remove(0);
    stop.cancel();
    tokio::time::timeout(WITHIN, task).await.expect("ends when told").unwrap();
    bench.complete(&first).await;
    let record = bench.until("the record", async || bench.history().await.pop()).await;
    assert_eq!(record.by, "updater on boot-1");
    bench.end().await;
}

#[tokio::test]
async fn nothing_is_written_while_nothing_changes() {
    let mut bench = Bench::new().await;
    bench.start("boot-0");
    let request = bench.requested(OLD).await;
    bench.complete(&request).await;
    bench.waits_for("everything is up to date").await;
    let notified =
        async || bench.history().await.first().filter(|r| !r.notices.is_empty()).map(|_| ());
    bench.until("the notice", notified).await;
    let revision = |snapshot: neco_schema::Snapshot| snapshot.revision;
    let before: Revision = bench.store.read(&[], None).await.map(revision).unwrap();
    let looks = || bench.contexts[0].observed().borrow().looks;
    let enough = looks() + 3;
    bench.until("three more looks", async || (looks() >= enough).then_some(())).await;
    let after = bench.store.read(&[], None).await.map(revision).unwrap();
    assert_eq!(after, before);
    bench.end().await;
}

#[tokio::test]
async fn every_ended_request_is_told_once_however_long_the_webhook_was_down() {
    let mut bench = Bench::new().await;
    let record = |number: i64| {
        let at = Timestamp::from_unix(1_000 + number);
        let id = RequestId::claimed(format!("{number:016x}"));
        let record = HistoryRecord {
            id: id.clone(),
            version: version(OLD),
            servers: Vec::new(),
            kind: "release".to_owned(),
            started_at: at,
            ended_at: at,
            outcome: Outcome::Completed,
            by: "updater on boot-2".to_owned(),
            cause: String::new(),
            origin: None,
            notices: Vec::new(),
            unknown: serde_json::Map::new(),
        };
        Op::put(&Key::History(at, id), &record)
    };
    for number in 0..3 {
        bench.write(record(number)).await;
    }
    // From here on notices are wanted.
    let read = bench.store.read(&[], None).await.unwrap();
    *bench.notices.since.lock().unwrap() = Some(Revision(read.revision.0 + 1));
    for number in 3..50 {
        bench.write(record(number)).await;
    }
    bench.start("boot-0");
    let told = || {
        let ended = bench.notices.ended.lock().unwrap();
        ended.iter().map(|record| record.started_at.get().as_second() - 1_000).collect::<Vec<_>>()
    };
    bench.until("the last of them", async || told().contains(&49).then_some(())).await;
    assert_eq!(told(), (3..50).collect::<Vec<_>>());
    let marked = async || bench.history().await.iter().filter(|r| !r.notices.is_empty()).count();
    bench.until("all are marked", async || (marked().await == 47).then_some(())).await;
    bench.end().await;
}

/// The order to go to NEW, given at some second.
fn named(second: i64) -> Op {
    let target = Target {
        version: version(NEW),
        pinned: true,
        allow_downgrade: false,
        allow_no_way_back: false,
        by: "ops".to_owned(),
        reason: "now".to_owned(),
        at: Timestamp::from_unix(second),
        unknown: serde_json::Map::new(),
    };
    Op::put(&Key::Target, &target)
}

#[tokio::test]
async fn a_version_that_does_not_exist_is_asked_for_again_after_a_while_or_when_it_is_ordered_again()
 {
    let mut bench = Bench::new().await;
    bench.put(Key::Config(ConfigKey::CheckUpdateInterval), "3600000000000").await;
    bench.write(named(1)).await;
    bench.start("boot-0");
    bench.waits_for("release release-2026.11.21-40152 does not exist").await;
    let looks = || bench.contexts[0].observed().borrow().looks;
    let (enough, asked) = (looks() + 5, || bench.source.releases.asked());
    bench.until("five more looks", async || (looks() >= enough).then_some(())).await;
    assert_eq!(asked(), 1);
    bench.waits_for("does not exist").await;
    bench.publish(NEW);
    bench.write(named(2)).await;
    bench.requested(NEW).await;
    assert_eq!(asked(), 2);
    bench.end().await;
}

#[tokio::test]
async fn a_release_without_its_signature_is_not_published_yet() {
    let mut bench = Bench::new().await;
    bench.local.needs_signature = true;
    bench.publish(NEW);
    bench.start("boot-0");
    let file = format!("neco_{NEW}_amd64.deb");
    bench.waits_for(&format!("publish {file}.minisig beside it")).await;
    let known = [Range::from(&Key::Release)];
    let known = async || bench.store.read(&known, None).await.unwrap().kvs.pop_first();
    assert_eq!(known().await, None);
    // Naming it makes it no more complete.
    bench.write(named(1)).await;
    bench
        .waits_for(&format!("{NEW} cannot be requested: release release-{NEW} is not complete"))
        .await;
    assert_eq!(bench.request().await, None);
    let files: [(&str, &[u8]); 2] = [(&file, b"bits"), (&format!("{file}.minisig"), b"by a key")];
    bench.source.releases.publish(&format!("release-{NEW}"), &files);
    bench.requested(NEW).await;
    bench.until("it is known", known).await;
    let seen = bench.contexts[0].observed().borrow().release_trouble.clone();
    assert_eq!(seen, "");
    bench.end().await;
}

#[tokio::test]
async fn a_latest_release_that_goes_back_is_told_and_not_followed() {
    let mut bench = Bench::new().await;
    bench.start("boot-0");
    let first = bench.requested(OLD).await;
    bench.complete(&first).await;
    bench.publish(NEW);
    let request = bench.requested(NEW).await;
    bench.complete(&request).await;
    bench.source.releases.remove(&format!("release-{NEW}"));
    let told = format!("the latest release {OLD} is older than {NEW}");
    bench.waits_for(&told).await;
    assert_eq!(bench.requested(NEW).await.id(), request.id());
    // It comes back, and all is said to be well.
    bench.publish(NEW);
    let silent =
        async || bench.contexts[0].observed().borrow().release_trouble.is_empty().then_some(());
    bench.until("nothing is wrong", silent).await;
    // To go back is an order.
    bench.put(Key::Withdrawn(version(NEW)), r#"{"by":"a","reason":"b"}"#).await;
    bench.source.releases.remove(&format!("release-{NEW}"));
    bench.requested(OLD).await;
    assert!(!bench.contexts[0].observed().borrow().release_trouble.contains(&told));
    bench.end().await;
}

#[tokio::test]
async fn a_leader_whose_helpers_break_begins_another_term_with_new_ones() {
    let mut bench = Bench::new().await;
    bench.source.panics.order(1);
    bench.notices.panics.order(1);
    bench.start("boot-0");
    let first = bench.requested(OLD).await;
    bench.complete(&first).await;
    bench.publish(NEW);
    bench.requested(NEW).await;
    bench.until("a notice", async || bench.notices.begun.lock().unwrap().pop()).await;
    bench.end().await;
}

#[tokio::test]
async fn a_step_has_the_time_that_the_recipe_gives_it() {
    let mut bench = Bench::new().await;
    bench.put(Key::Config(ConfigKey::StepTimeout), "3600000000000").await;
    bench.local.recipe.timeouts = BTreeMap::from([(2, Duration::from_millis(1))]);
    bench.start("boot-0");
    let request = bench.requested(OLD).await;
    for lrn in 0..3 {
        bench.post(&request, lrn, 1, Condition::Running).await;
    }
    bench.waits_for("in step 1").await;
    for lrn in 0..3 {
        bench.post(&request, lrn, 2, Condition::Running).await;
    }
    let stopped = async || bench.request().await.filter(|request| request.stop);
    let stopped = bench.until("the stop", stopped).await.stopped.expect("a note");
    assert!(stopped.reason.contains("no progress within 1ms"), "{}", stopped.reason);
    assert!(stopped.reason.contains("are in step 2"), "{}", stopped.reason);
    bench.end().await;
}
