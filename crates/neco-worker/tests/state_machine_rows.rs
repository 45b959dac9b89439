//! The worker state machine cases of the original (reference neco-cd-core §12.4), on the engine that runs in production.
//!
//! Where this worker does better than the original, the test says so.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use neco_host::journal::MemoryJournal;
use neco_plan::{Local, RecipeShape};
use neco_process::clock::SystemClock;
use neco_schema::Condition::{Abort, Complete, NotRunning, Running};
use neco_schema::journal::{Effect, IntentId};
use neco_schema::{
    Condition, Key, Lrn, NecoVersion, Op, PackageRef, Range, RecipeDigest, Record, RequestId,
    Revision, Timestamp, Txn, UpdateRequest, UpdateStatus, Way,
};
use neco_store::{MemoryStore, Store};
use neco_worker::{
    Engine, Exit, Identity, Installer, PlanError, Shared, StepContext, StepError, Steps,
};
use tokio_util::sync::CancellationToken;

const WITHIN: Duration = Duration::from_secs(20);

/// What the mocks saw.
#[derive(Default)]
struct Seen {
    updated: AtomicU32,
    asked_to_update: AtomicU32,
    /// How often it was written down what runs.
    noted: AtomicU32,
    last_step: AtomicU32,
    last_request: Mutex<Option<NecoVersion>>,
}

struct MockSteps {
    shape: RecipeShape,
    seen: Arc<Seen>,
    fails_at: Option<u32>,
}

#[async_trait]
impl Steps for MockSteps {
    fn shape(&self) -> &RecipeShape {
        &self.shape
    }

    fn name(&self, step: u32) -> String {
        format!("step {step}")
    }

    async fn changes(&self, _request: &UpdateRequest) -> Result<Vec<String>, PlanError> {
        Ok(Vec::new())
    }

    async fn note_runs(&self, _request: &UpdateRequest) {
        self.seen.noted.fetch_add(1, Ordering::SeqCst);
    }

    async fn run(&self, context: &StepContext) -> Result<(), StepError> {
        self.seen.last_step.store(context.step, Ordering::SeqCst);
        *self.seen.last_request.lock().unwrap() = Some(context.request.version.clone());
        if self.fails_at == Some(context.step) {
            return Err(StepError::Failed("the mock fails".to_owned()));
        }
        Ok(())
    }

    async fn restore(
        &self,
        _group: &str,
        _request: &RequestId,
        _way: Way,
    ) -> Result<(), StepError> {
        Ok(())
    }

    async fn left(&self, _group: &str) -> Vec<String> {
        Vec::new()
    }

    async fn complete(&self, _effect: &Effect) -> Result<(), StepError> {
        Ok(())
    }
}

struct MockInstaller {
    seen: Arc<Seen>,
    fails: bool,
}

#[async_trait]
impl Installer for MockInstaller {
    async fn installed(&self) -> Result<NecoVersion, String> {
        Ok(version("1.0.0"))
    }

    async fn install(
        &self,
        context: &StepContext,
        _version: &NecoVersion,
        _package: Option<PackageRef>,
        _allow_no_way_back: bool,
    ) -> Result<(), StepError> {
        let asked = self.seen.asked_to_update.fetch_add(1, Ordering::SeqCst);
        if self.seen.noted.load(Ordering::SeqCst) != asked + 1 {
            return Err(StepError::Failed("nobody has seen what runs with the old files".into()));
        }
        *self.seen.last_request.lock().unwrap() = Some(context.request.version.clone());
        if self.fails {
            return Err(StepError::Failed("dpkg failed".to_owned()));
        }
        self.seen.updated.fetch_add(1, Ordering::SeqCst);
        // In production this process is replaced now.
        context.cancel().cancelled().await;
        Err(StepError::Cancelled("replaced".to_owned()))
    }

    async fn await_verdict(&self, _intent: &IntentId) -> Result<(), StepError> {
        Ok(())
    }

    async fn unfit(&self) -> Vec<String> {
        Vec::new()
    }
}

fn version(text: &str) -> NecoVersion {
    text.parse().unwrap()
}

struct Bench {
    store: MemoryStore,
    seen: Arc<Seen>,
    stop: CancellationToken,
    engine: Option<tokio::task::JoinHandle<Exit>>,
    shared: Option<Arc<Shared>>,
    fails_at: Option<u32>,
    install_fails: bool,
    requests: i64,
}

impl Bench {
    async fn new() -> Self {
        let bench = Self {
            store: MemoryStore::default(),
            seen: Arc::default(),
            stop: CancellationToken::new(),
            engine: None,
            shared: None,
            fails_at: None,
            install_fails: false,
            requests: 0,
        };
        for lrn in [0, 1, 2, 3] {
            bench.write(Op::put_bytes(&Key::BootServer(Lrn::new(lrn)), "")).await;
        }
        bench
    }

    async fn write(&self, op: Op) {
        self.store.commit(&Txn::default().then(op)).await.unwrap();
    }

    fn start(mut self) -> Self {
        let shape =
            RecipeShape { steps: 2, groups: Vec::new(), digest: RecipeDigest("d".to_owned()) };
        let local = Local::new(Lrn::new(0), "0".repeat(32), version("1.0.0"), shape.clone());
        let store: Arc<dyn Store> = Arc::new(self.store.clone());
        let clock = Arc::new(SystemClock::default());
        let shared = Shared::new(store, clock, Arc::new(MemoryJournal::new()), local).unwrap();
        self.shared = Some(Arc::clone(&shared));
        let seen = Arc::clone(&self.seen);
        let steps = Arc::new(MockSteps { shape, seen, fails_at: self.fails_at });
        let seen = Arc::clone(&self.seen);
        let installer = Arc::new(MockInstaller { seen, fails: self.install_fails });
        let identity = Identity { boot_id: "boot".to_owned(), address: String::new() };
        let engine = Engine::new(shared, steps, installer, identity);
        self.engine = Some(tokio::spawn(engine.run(self.stop.clone())));
        self
    }

    async fn request(&mut self, text: &str, servers: &[u32]) -> UpdateRequest {
        self.requests += 1;
        let servers = servers.iter().copied().map(Lrn::new).collect();
        let at = Timestamp::from_unix(1_000 + self.requests);
        let request = UpdateRequest::new(version(text), servers, at);
        self.write(Op::put(&Key::Request, &request)).await;
        request
    }

    async fn stop_request(&self, request: &UpdateRequest) {
        self.write(Op::put(&Key::Request, &UpdateRequest { stop: true, ..request.clone() })).await;
    }

    /// A status as the original's worker writes it.
    async fn status(&self, lrn: u32, text: &str, step: u32, cond: Condition) {
        let status = UpdateStatus {
            version: version(text),
            step,
            cond,
            message: String::new(),
            request: None,
            origin: None,
            unknown: serde_json::Map::new(),
        };
        self.write(Op::put(&Key::Status(Lrn::new(lrn)), &status)).await;
    }

    async fn revision(&self) -> Revision {
        self.store.read(&[], None).await.unwrap().revision
    }

    async fn own(&self) -> Option<UpdateStatus> {
        let key = Range::from(&Key::Status(Lrn::new(0)));
        let snapshot = self.store.read(&[key], None).await.unwrap();
        snapshot.kvs.values().next().map(|kv| UpdateStatus::decode(&kv.value).unwrap())
    }

    async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let waited = async {
            while !holds().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(WITHIN, waited).await.is_err() {
            panic!("not within {WITHIN:?}: {what}; own status {:?}", self.own().await);
        }
    }

    async fn step_ran(&self, step: u32) {
        self.until(&format!("step {step} runs"), async || self.last_step() == step).await;
    }

    async fn own_cond(&self, cond: Condition) {
        let so = async || self.own().await.is_some_and(|own| own.cond == cond);
        self.until(&format!("own status {cond}"), so).await;
    }

    /// Waits until the engine rests on a view of everything written so far: its last look is not older, and it decided to
    /// rest.
    async fn rests(&self) {
        // The sign of life is the engine's own write and comes first.
        self.until("the server is alive", async || {
            let key = Range::from(&Key::Alive(Lrn::new(0)));
            !self.store.read(&[key], None).await.unwrap().kvs.is_empty()
        })
        .await;
        let written = self.revision().await;
        let observed = self.shared.as_ref().unwrap().observed();
        self.until("the engine rests", async || {
            let seen = observed.borrow();
            seen.revision >= written.0 && seen.decided == "rest" && seen.doing.is_empty()
        })
        .await;
    }

    fn last_step(&self) -> u32 {
        self.seen.last_step.load(Ordering::SeqCst)
    }

    fn updated(&self) -> bool {
        self.seen.updated.load(Ordering::SeqCst) > 0
    }

    fn last_request(&self) -> Option<String> {
        self.seen.last_request.lock().unwrap().as_ref().map(ToString::to_string)
    }

    async fn end(mut self) {
        self.stop.cancel();
        let engine = self.engine.take().unwrap();
        let exit = tokio::time::timeout(WITHIN, engine).await.expect("ends when told").unwrap();
        assert_eq!(exit, Exit::Stopped);
    }
}

#[tokio::test]
async fn update_neco() {
    let mut bench = Bench::new().await.start();
    bench.request("1.1.0", &[0, 1, 2]).await;
    bench.until("the package is updated", async || bench.updated()).await;
    assert_eq!((bench.last_step(), bench.last_request().as_deref()), (0, Some("1.1.0")));
    bench.end().await;
}

/// Better than the original: the failure stands in a status, and the daemon stays up.
#[tokio::test]
async fn update_neco_fail() {
    let mut bench = Bench::new().await;
    bench.install_fails = true;
    let mut bench = bench.start();
    bench.request("1.1.0", &[0, 1, 2]).await;
    bench.own_cond(Abort).await;
    bench.rests().await;
    let own = bench.own().await.unwrap();
    let cause = own.origin.map(|origin| origin.cause);
    assert_eq!((own.step, cause.as_deref()), (1, Some("dpkg failed")));
    assert_eq!((bench.updated(), bench.last_step()), (false, 0));
    let tries = bench.seen.asked_to_update.load(Ordering::SeqCst);
    assert_eq!(tries, 1, "an aborted install is not tried again");
    bench.end().await;
}

#[tokio::test]
async fn no_member() {
    let mut bench = Bench::new().await.start();
    bench.request("1.1.0", &[1, 2]).await;
    bench.rests().await;
    assert_eq!((bench.updated(), bench.last_step(), bench.last_request()), (false, 0, None));
    assert_eq!(bench.own().await, None);
    bench.end().await;
}

#[tokio::test]
async fn previous_abort() {
    let mut bench = Bench::new().await;
    bench.status(0, "1.0.0", 1, Abort).await;
    bench.status(1, "1.0.0", 1, Running).await;
    bench.request("1.0.0", &[0, 1]).await;
    let bench = bench.start();
    bench.rests().await;
    assert_eq!((bench.updated(), bench.last_step()), (false, 0));
    bench.end().await;
}

#[tokio::test]
async fn previous_abort_clear() {
    let mut bench = Bench::new().await;
    bench.status(0, "1.0.0", 1, Abort).await;
    bench.status(1, "1.0.0", 1, Running).await;
    let request = bench.request("1.0.0", &[0, 1]).await;
    bench.stop_request(&request).await;
    let mut bench = bench.start();
    bench.rests().await;
    bench.write(Op::delete_prefix("status/")).await;
    bench.request("1.0.0", &[0, 1]).await;
    bench.status(1, "1.0.0", 1, Running).await;
    bench.step_ran(1).await;
    assert_eq!((bench.updated(), bench.last_request().as_deref()), (false, Some("1.0.0")));
    bench.end().await;
}

#[tokio::test]
async fn previous_completed() {
    let mut bench = Bench::new().await;
    bench.status(0, "1.0.0", 2, Complete).await;
    bench.status(1, "1.0.0", 2, Complete).await;
    bench.request("1.0.0", &[0, 1]).await;
    let bench = bench.start();
    bench.rests().await;
    assert_eq!((bench.updated(), bench.last_step()), (false, 0));
    assert_eq!(bench.own().await.map(|own| own.cond), Some(Complete));
    bench.end().await;
}

/// Brings the request for 1.0.0 to where both servers have passed the barrier of step 1.
async fn passed_first_barrier(fails_at: Option<u32>) -> (Bench, UpdateRequest) {
    let mut bench = Bench::new().await;
    bench.fails_at = fails_at;
    let mut bench = bench.start();
    let request = bench.request("1.0.0", &[0, 1]).await;
    bench.status(1, "1.0.0", 1, Running).await;
    bench.status(3, "1.0.0", 1, Running).await;
    bench.step_ran(1).await;
    (bench, request)
}

async fn completed() -> Bench {
    let (bench, _) = passed_first_barrier(None).await;
    bench.status(1, "1.0.0", 2, Running).await;
    bench.step_ran(2).await;
    bench.status(1, "1.0.0", 2, Complete).await;
    bench.own_cond(Complete).await;
    bench
}

#[tokio::test]
async fn update_successful() {
    let bench = completed().await;
    assert_eq!((bench.updated(), bench.last_step()), (false, 2));
    assert_eq!(bench.last_request().as_deref(), Some("1.0.0"));
    bench.end().await;
}

#[tokio::test]
async fn then_new_request() {
    let mut bench = completed().await;
    bench.request("1.1.0", &[0, 1, 2]).await;
    bench.until("the package is updated", async || bench.updated()).await;
    assert_eq!((bench.last_step(), bench.last_request().as_deref()), (2, Some("1.1.0")));
    bench.end().await;
}

/// Better than the original: the stop is answered, so that `recover` knows that nothing runs any more.
#[tokio::test]
async fn cancel_request() {
    let (bench, request) = passed_first_barrier(None).await;
    bench.stop_request(&request).await;
    bench.own_cond(NotRunning).await;
    assert_eq!((bench.updated(), bench.last_step()), (false, 1));
    bench.end().await;
}

/// Better than the original: a request that was replaced is left, and the new one is followed instead of aborted.
#[tokio::test]
async fn unexpected_request() {
    let (mut bench, _) = passed_first_barrier(None).await;
    bench.request("1.1.0", &[0, 1, 2]).await;
    bench.until("the package is updated", async || bench.updated()).await;
    assert_eq!((bench.last_step(), bench.last_request().as_deref()), (1, Some("1.1.0")));
    bench.end().await;
}

#[tokio::test]
async fn unexpected_version() {
    let (bench, _) = passed_first_barrier(None).await;
    bench.status(1, "1.1.0", 2, Running).await;
    bench.own_cond(Abort).await;
    assert_eq!((bench.updated(), bench.last_step()), (false, 1));
    bench.end().await;
}

#[tokio::test]
async fn unexpected_step() {
    let (bench, _) = passed_first_barrier(None).await;
    bench.status(1, "1.0.0", 3, Running).await;
    bench.own_cond(Abort).await;
    assert_eq!((bench.updated(), bench.last_step()), (false, 1));
    bench.end().await;
}

/// Better than the original: the abort names where it began.
#[tokio::test]
async fn aborted() {
    let (bench, _) = passed_first_barrier(None).await;
    bench.status(1, "1.0.0", 1, Abort).await;
    bench.own_cond(Abort).await;
    assert_eq!((bench.updated(), bench.last_step()), (false, 1));
    let origin = bench.own().await.unwrap().origin;
    assert_eq!(origin.map(|origin| origin.lrn), Some(Lrn::new(1)));
    bench.end().await;
}

#[tokio::test]
async fn unexpected_completion() {
    let (bench, _) = passed_first_barrier(None).await;
    bench.status(1, "1.0.0", 1, Complete).await;
    bench.own_cond(Abort).await;
    assert_eq!((bench.updated(), bench.last_step()), (false, 1));
    bench.end().await;
}

#[tokio::test]
async fn fail_at_step2() {
    let (bench, _) = passed_first_barrier(Some(2)).await;
    bench.status(1, "1.0.0", 2, Running).await;
    bench.own_cond(Abort).await;
    assert_eq!((bench.updated(), bench.last_step()), (false, 2));
    assert_eq!(bench.own().await.unwrap().message, "boot server 0 in step 2: the mock fails");
    bench.end().await;
}

/// The original tests this only when asked to; here it always holds.
#[tokio::test]
async fn compaction() {
    let mut bench = Bench::new().await;
    let request = bench.request("1.0.0", &[0, 1]).await;
    bench.stop_request(&request).await;
    bench.status(1, "1.0.0", 1, Running).await;
    let now = bench.revision().await;
    bench.store.with(|mvcc| mvcc.compact(now)).unwrap();
    let bench = bench.start();
    bench.own_cond(NotRunning).await;
    let now = bench.revision().await;
    bench.store.with(|mvcc| mvcc.compact(now)).unwrap();
    bench.write(Op::delete_prefix("status/")).await;
    bench.rests().await;
    assert_eq!(bench.last_step(), 0);
    bench.end().await;
}
