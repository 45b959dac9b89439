//! The worker that installs: an engine with the real installer; the unit is run by the test, as a service manager would.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use neco_host::{Installed, PackageCache, RunDetached, Unsigned};
use neco_plan::{Local, RecipeShape, View, operator_ranges};
use neco_process::clock::SystemClock;
use neco_releases::ReleaseError;
use neco_schema::journal::{Effect, Entry, IntentEnd, IntentId};
use neco_schema::{
    Alive, Condition, Key, Lrn, NecoVersion, Op, PackageRef, RecipeDigest, RequestId, Timestamp,
    Txn, UpdateRequest, UpdateStatus, Way,
};
use neco_store::{MemoryStore, Store};
use neco_worker::install::{Fetcher, PackageInstaller, Program, UNIT, run_unit};
use neco_worker::{
    Engine, Exit, Identity, Installer, PlanError, Shared, StepContext, StepError, Steps,
};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::site::{FROM, Fixed, Site, TO, version};

const WITHIN: Duration = Duration::from_secs(60);

/// A recipe of one step that does nothing.
struct Nothing(RecipeShape);

#[async_trait]
impl Steps for Nothing {
    fn shape(&self) -> &RecipeShape {
        &self.0
    }

    fn name(&self, step: u32) -> String {
        format!("step {step}")
    }

    async fn changes(&self, _request: &UpdateRequest) -> Result<Vec<String>, PlanError> {
        Ok(Vec::new())
    }

    async fn note_runs(&self, _request: &UpdateRequest) {}

    async fn run(&self, _context: &StepContext) -> Result<(), StepError> {
        Ok(())
    }

    async fn restore(&self, _: &str, _: &RequestId, _: Way) -> Result<(), StepError> {
        Ok(())
    }

    async fn left(&self, _group: &str) -> Vec<String> {
        Vec::new()
    }

    async fn complete(&self, _effect: &Effect) -> Result<(), StepError> {
        Ok(())
    }
}

/// A boot server with its worker.
struct Machine {
    site: Arc<Site>,
    store: MemoryStore,
    installer: Arc<PackageInstaller>,
    shared: Arc<Shared>,
    stop: CancellationToken,
    /// Plays the service manager.
    manager: JoinSet<()>,
}

impl Machine {
    async fn new(site: Site) -> Self {
        let store = MemoryStore::default();
        let machine = Self::on(Arc::new(site), store);
        machine.write(Op::put_bytes(&Key::BootServer(Lrn::new(0)), "")).await;
        machine
    }

    /// The same, but units end at once.
    async fn without_manager(site: Site, verdict_within: Duration) -> Self {
        let mut machine = Self::on_with(Arc::new(site), MemoryStore::default(), verdict_within);
        machine.manager.shutdown().await;
        let plays = Arc::clone(&machine.site);
        machine.manager.spawn(async move {
            loop {
                plays.detached.fake.end(UNIT);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        machine
    }

    /// A worker on what is there.
    fn on(site: Arc<Site>, store: MemoryStore) -> Self {
        Self::on_with(site, store, WITHIN)
    }

    fn on_with(site: Arc<Site>, store: MemoryStore, verdict_within: Duration) -> Self {
        let shape = RecipeShape { steps: 1, groups: Vec::new(), digest: RecipeDigest("d".into()) };
        let dynamic: Arc<dyn Store> = Arc::new(store.clone());
        let local = Local::new(Lrn::new(0), "0".repeat(32), version(FROM), shape);
        let clock = Arc::new(SystemClock::default());
        let shared = Shared::new(Arc::clone(&dynamic), clock, site.journal.clone(), local).unwrap();
        let fetcher = Fetcher::new(
            site.root.clone(),
            site.cache.clone(),
            dynamic,
            Arc::new(Fixed(site.releases.clone())),
            "neco".to_owned(),
            Unsigned::Refuse,
        );
        let executable = site.dir.path().join("worker");
        std::fs::write(&executable, "#!/bin/sh\n").unwrap();
        let program = Program { executable, arguments: vec!["install".to_owned()] };
        let installer = PackageInstaller::new(
            Arc::clone(&shared),
            site.root.clone(),
            Arc::new(site.packages.clone()),
            site.detached.clone(),
            fetcher,
            site.cache.clone(),
            program,
        );
        let installer = Arc::new(installer.with_verdict_within(verdict_within));
        let mut manager = JoinSet::new();
        let plays = Arc::clone(&site);
        manager.spawn(async move {
            loop {
                if plays.detached.fake.unit(UNIT).running.is_some() {
                    run_unit(&plays.setup()).await.unwrap();
                    plays.detached.fake.end(UNIT);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        Self { site, store, installer, shared, stop: CancellationToken::new(), manager }
    }

    fn start(&self) -> JoinHandle<Exit> {
        let shape = self.shared.local().recipe;
        let engine = Engine::new(
            Arc::clone(&self.shared),
            Arc::new(Nothing(shape)),
            self.installer.clone(),
            Identity { boot_id: "boot".to_owned(), address: String::new() },
        );
        tokio::spawn(engine.run(self.stop.clone()))
    }

    async fn write(&self, op: Op) {
        self.store.commit(&Txn::default().then(op)).await.unwrap();
    }

    async fn request(&self, package: Option<PackageRef>, without: bool) -> UpdateRequest {
        let servers = vec![Lrn::new(0)];
        let mut request = UpdateRequest::new(version(TO), servers, Timestamp::from_unix(1_000));
        (request.package, request.allow_no_way_back) = (package, without);
        self.write(Op::put(&Key::Request, &request)).await;
        request
    }

    fn view(&self) -> View {
        View::assemble(&self.store.with(|mvcc| mvcc.read(&operator_ranges(), None)).unwrap())
    }

    fn own(&self) -> Option<UpdateStatus> {
        self.view().statuses.get(&Lrn::new(0)).map(|status| status.value.clone())
    }

    fn doing(&self) -> String {
        let view = self.view();
        view.progress.get(&Lrn::new(0)).map(|said| said.value.doing.clone()).unwrap_or_default()
    }

    async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let waited = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(WITHIN, waited).await.is_err() {
            let waits = self.shared.observed().borrow().clone();
            panic!("not within {WITHIN:?}: {what}; own {:?}, {waits:?}", self.own());
        }
    }

    /// The cause with which this server aborts.
    async fn abort(&self) -> String {
        self.until("the abort", || self.own().is_some_and(|own| own.cond == Condition::Abort))
            .await;
        let own = self.own().unwrap();
        assert_eq!(own.step, 1);
        own.origin.unwrap().cause
    }

    async fn end(mut self, engine: JoinHandle<Exit>) {
        self.stop.cancel();
        tokio::time::timeout(WITHIN, engine).await.expect("ends").unwrap();
        self.manager.shutdown().await;
    }
}

async fn exits_for_the_new_binary(engine: JoinHandle<Exit>) {
    let exit = tokio::time::timeout(WITHIN, engine).await.expect("ends").unwrap();
    assert_eq!(exit, Exit::NewBinary);
}

#[tokio::test]
async fn a_request_is_fetched_verified_installed_and_the_worker_makes_room() {
    let site = Site::new();
    site.publish(FROM, None);
    let package = site.publish(TO, None);
    let machine = Machine::new(site).await;
    machine.request(Some(package), false).await;
    exits_for_the_new_binary(machine.start()).await;
    assert_eq!(machine.site.verdict(), Some(IntentEnd::Completed));
    assert_eq!(machine.site.packages.log(), [TO]);
    let kept = machine.site.cache.packages().unwrap();
    assert_eq!(kept, [FROM, TO].map(|text| PackageCache::file_name(&version(text))));
    assert_eq!(machine.shared.local().installed, version(TO));
}

#[tokio::test]
async fn a_request_that_names_no_package_takes_the_signed_release() {
    let site = Site::new();
    site.publish(FROM, None);
    site.publish(TO, None);
    let machine = Machine::new(site).await;
    machine.request(None, false).await;
    exits_for_the_new_binary(machine.start()).await;
    assert_eq!(machine.site.packages.log(), [TO]);
}

#[tokio::test]
async fn a_package_that_does_not_start_is_taken_back_and_the_old_worker_aborts() {
    let site = Site::new();
    site.publish(FROM, None);
    let package = site.publish(TO, None);
    site.daemons.bad.lock().unwrap().insert(TO.to_owned());
    let machine = Machine::new(site).await;
    machine.request(Some(package), false).await;
    let engine = machine.start();
    let cause = machine.abort().await;
    assert!(cause.contains("was not ready within"), "{cause}");
    assert_eq!(machine.site.packages.log(), [TO, FROM]);
    assert_eq!(machine.shared.local().installed, version(FROM));
    machine.end(engine).await;
}

#[tokio::test]
async fn without_a_way_back_nothing_is_installed() {
    let site = Site::new();
    let package = site.publish(TO, None);
    let machine = Machine::new(site).await;
    machine.request(Some(package), false).await;
    let engine = machine.start();
    let cause = machine.abort().await;
    assert!(
        cause.contains("without a way back") && cause.contains("--allow-no-way-back"),
        "{cause}"
    );
    assert_eq!(machine.site.packages.log(), [""; 0]);
    machine.end(engine).await;
}

#[tokio::test]
async fn without_a_way_back_it_is_installed_where_the_request_allows_it() {
    let site = Site::new();
    let package = site.publish(TO, None);
    let machine = Machine::new(site).await;
    machine.request(Some(package), true).await;
    exits_for_the_new_binary(machine.start()).await;
    assert_eq!(machine.site.packages.log(), [TO]);
}

#[tokio::test]
async fn a_repository_that_is_away_is_waited_for() {
    let site = Site::new();
    site.publish(FROM, None);
    let package = site.publish(TO, None);
    site.releases.set_down(true);
    let machine = Machine::new(site).await;
    machine.request(Some(package), false).await;
    let engine = machine.start();
    machine
        .until("it says so", || {
            machine.doing().starts_with(&format!("waiting to fetch {TO} again"))
        })
        .await;
    assert_eq!(machine.own(), None);
    machine.site.releases.set_down(false);
    exits_for_the_new_binary(engine).await;
}

#[tokio::test]
async fn a_mirror_that_refuses_or_talks_nonsense_is_waited_for() {
    /// What the worker says of it, and how it comes about.
    type Trouble = (&'static str, fn() -> ReleaseError);
    fn url() -> String {
        "https://fake.invalid/".to_owned()
    }
    let site = Site::new();
    site.publish(FROM, None);
    let package = site.publish(TO, None);
    let troubles: [Trouble; 4] = [
        ("answered 403", || ReleaseError::Forbidden { url: url(), token_sent: true }),
        ("redirects in a loop", || ReleaseError::Redirect {
            url: url(),
            problem: "in a loop".to_owned(),
        }),
        ("sent bytes with SHA-256 b", || ReleaseError::WrongDigest {
            url: url(),
            expected: "a".to_owned(),
            found: "b".to_owned(),
        }),
        ("that are announced", || ReleaseError::TooLarge { url: url(), limit: 1, announced: true }),
    ];
    site.releases.set_trouble(Some(troubles[0].1));
    let machine = Machine::new(site).await;
    machine.request(Some(package), false).await;
    let engine = machine.start();
    for (words, trouble) in troubles {
        machine.site.releases.set_trouble(Some(trouble));
        let waits = || {
            let doing = machine.doing();
            doing.starts_with("waiting to fetch") && doing.contains(words)
        };
        machine.until(words, waits).await;
        assert_eq!(machine.own(), None, "nothing is aborted for it");
    }
    machine.site.releases.set_trouble(None);
    exits_for_the_new_binary(engine).await;
}

#[tokio::test]
async fn a_stop_is_heard_while_the_repository_is_away() {
    let site = Site::new();
    let package = site.publish(TO, None);
    site.releases.set_down(true);
    let machine = Machine::new(site).await;
    let request = machine.request(Some(package), false).await;
    let engine = machine.start();
    machine.until("it waits", || machine.doing().contains("waiting to fetch")).await;
    machine.write(Op::put(&Key::Request, &UpdateRequest { stop: true, ..request })).await;
    machine
        .until("it settles", || machine.own().is_some_and(|own| own.cond == Condition::NotRunning))
        .await;
    machine.end(engine).await;
}

#[tokio::test]
async fn a_package_with_a_wrong_signature_aborts_with_a_clear_cause() {
    let site = Site::new();
    site.publish(FROM, None);
    let package = site.publish(TO, Some(&site.other_key()));
    let machine = Machine::new(site).await;
    machine.request(Some(package), false).await;
    let engine = machine.start();
    let cause = machine.abort().await;
    assert!(cause.contains("signature") || cause.contains("signed"), "{cause}");
    assert_eq!(machine.site.packages.log(), [""; 0]);
    machine.end(engine).await;
}

#[tokio::test]
async fn a_package_of_other_bits_than_requested_is_refused() {
    let site = Site::new();
    site.publish(FROM, None);
    let package = PackageRef { sha256: "0".repeat(64), ..site.publish(TO, None) };
    let machine = Machine::new(site).await;
    machine.request(Some(package), false).await;
    let engine = machine.start();
    let cause = machine.abort().await;
    assert!(cause.contains("SHA-256"), "{cause}");
    machine.end(engine).await;
}

#[tokio::test]
async fn a_server_is_unfit_until_its_way_back_lies_ready() {
    let site = Site::new();
    let machine = Machine::new(site).await;
    let unfit = machine.installer.unfit().await;
    assert!(unfit.len() == 1 && unfit[0].starts_with(Alive::NO_WAY_BACK), "{unfit:?}");
    let keeper = machine.installer.clone();
    let keeping = tokio::spawn(async move { keeper.keep_way_back().await });
    let why = format!("no release of {FROM} is published");
    let told = async {
        while !machine.installer.unfit().await[0].contains(&why) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(WITHIN, told).await.expect("it says why");
    machine.site.publish(FROM, None);
    tokio::time::timeout(WITHIN, keeping).await.expect("found").unwrap();
    assert_eq!(machine.installer.unfit().await, [""; 0]);
    let file = PackageCache::file_name(&version(FROM));
    assert!(machine.site.cache.path(&file).exists());
    assert_eq!(machine.site.cache.signatures(&file).unwrap().len(), 1);
}

/// Writes down an installation that a worker began and did not live to see.
fn begun(site: &Site) {
    site.ready_to_install();
}

#[tokio::test]
async fn an_installation_that_nobody_carries_out_is_carried_out_by_the_next_worker() {
    let site = Site::new();
    begun(&site);
    let machine = Machine::new(site).await;
    machine.store.go_down();
    let engine = machine.start();
    machine.until("the verdict", || machine.site.verdict() == Some(IntentEnd::Completed)).await;
    machine.store.come_back();
    machine.request(None, false).await;
    exits_for_the_new_binary(engine).await;
    assert_eq!(machine.site.packages.log(), [TO]);
    assert!(machine.site.detached.fake.unit(UNIT).enabled.is_none());
}

/// What dpkg has put in the place of this program by now is what is to be judged.
#[tokio::test]
async fn an_installation_goes_on_with_the_program_that_began_it() {
    let site = Site::new();
    begun(&site);
    let kept = site.cache.path(&format!("neco-worker-{FROM}"));
    std::fs::write(&kept, "as it was when the installation began").unwrap();
    let argv = vec![kept.display().to_string(), "install".to_owned(), "--as-then".to_owned()];
    site.detached.fake.enable(UNIT, &argv).await.unwrap();
    let machine = Machine::new(site).await;
    let engine = machine.start();
    machine.until("the verdict", || machine.site.verdict() == Some(IntentEnd::Completed)).await;
    assert_eq!(*machine.site.detached.commands.lock().unwrap(), [argv]);
    let text = std::fs::read_to_string(&kept).unwrap();
    assert_eq!(text, "as it was when the installation began");
    machine.end(engine).await;
}

/// The copy that an earlier installation left enabled may be gone.
#[tokio::test]
async fn a_unit_whose_program_is_gone_is_started_with_this_one() {
    let site = Site::new();
    begun(&site);
    let gone = vec![site.cache.path("neco-worker-gone").display().to_string()];
    site.detached.fake.enable(UNIT, &gone).await.unwrap();
    let machine = Machine::new(site).await;
    let engine = machine.start();
    machine.until("the verdict", || machine.site.verdict() == Some(IntentEnd::Completed)).await;
    let copy = machine.site.cache.path(&format!("neco-worker-{FROM}"));
    let commands = machine.site.detached.commands.lock().unwrap().clone();
    assert_eq!(commands, [[copy.display().to_string(), "install".to_owned()]]);
    assert_eq!(std::fs::read_to_string(copy).unwrap(), "#!/bin/sh\n");
    machine.end(engine).await;
}

#[test]
fn this_program_is_kept_whatever_its_path_is_by_now() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::of_this_process(Vec::new());
    let cache = PackageCache::in_dir(dir.path());
    let kept = cache.keep_program(&program.executable, "copy").unwrap();
    let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    assert!(std::fs::read(kept).unwrap() == own);
}

/// A unit that ends at once and says nothing: it is not started again and again, and nobody gives up what may be half
/// done.
#[tokio::test]
async fn a_unit_that_gives_no_verdict_is_started_without_haste_and_not_given_up() {
    let site = Site::new();
    begun(&site);
    let half = Installed::Broken { version: TO.to_owned(), state: "half-installed".to_owned() };
    site.packages.fake.set("neco", half);
    let machine = Machine::without_manager(site, Duration::from_secs(2)).await;
    let engine = machine.start();
    let started = || machine.site.detached.asked.load(Ordering::SeqCst);
    machine.until("it was started often", || started() >= 4).await;
    machine
        .until("it says so", || {
            machine.shared.observed().borrow().waiting_for.contains("has given no verdict")
        })
        .await;
    assert!(started() <= 8, "{} times", started());
    assert_eq!(machine.site.verdict(), None);
    // Where nothing was changed, there is nothing to go back from.
    machine.site.packages.fake.set("neco", Installed::Yes(version(FROM)));
    machine.until("it is given up", || machine.site.verdict().is_some()).await;
    assert!(machine.site.cause().contains("has changed nothing"), "{}", machine.site.cause());
    assert!(machine.site.detached.fake.unit(UNIT).enabled.is_none());
    machine.end(engine).await;
}

#[tokio::test]
async fn a_unit_that_cannot_be_started_yet_is_started_later_without_haste() {
    let site = Site::new();
    begun(&site);
    site.detached.refusals.store(5, Ordering::SeqCst);
    let machine = Machine::new(site).await;
    let engine = machine.start();
    machine.until("the verdict", || machine.site.verdict() == Some(IntentEnd::Completed)).await;
    let asked = machine.site.detached.asked.load(Ordering::SeqCst);
    assert!(asked <= 10, "{asked} times");
    machine.end(engine).await;
}

#[tokio::test]
async fn a_service_manager_that_is_away_after_the_begin_is_no_failure() {
    let site = Site::new();
    site.publish(FROM, None);
    let package = site.publish(TO, None);
    site.detached.refusals.store(2, Ordering::SeqCst);
    let machine = Machine::new(site).await;
    machine.request(Some(package), false).await;
    exits_for_the_new_binary(machine.start()).await;
    assert_eq!(machine.site.verdict(), Some(IntentEnd::Completed));
}

#[tokio::test]
async fn what_somebody_installed_by_hand_is_not_installed_again() {
    let site = Site::new();
    site.publish(FROM, None);
    let package = site.publish(TO, None);
    let machine = Machine::new(site).await;
    let engine = machine.start();
    machine.until("it lives", || machine.view().alive.contains_key(&Lrn::new(0))).await;
    machine.site.packages.fake.set("neco", Installed::Yes(version(TO)));
    machine.request(Some(package), false).await;
    exits_for_the_new_binary(engine).await;
    assert_eq!(machine.site.packages.log(), [""; 0]);
    assert_eq!(machine.site.verdict(), None, "no installation was begun");
}

#[tokio::test]
async fn old_packages_leave_the_cache_before_a_new_one_comes() {
    let site = Site::new();
    site.keep("2026.11.1-1");
    site.publish(FROM, None);
    let package = site.publish(TO, None);
    let machine = Machine::new(site).await;
    machine.request(Some(package), false).await;
    exits_for_the_new_binary(machine.start()).await;
    let kept = machine.site.cache.packages().unwrap();
    assert_eq!(kept, [FROM, TO].map(|text| PackageCache::file_name(&version(text))));
}

/// An installer whose unit never ends.
struct Endless;

#[async_trait]
impl Installer for Endless {
    async fn installed(&self) -> Result<NecoVersion, String> {
        Ok(version(FROM))
    }

    async fn install(
        &self,
        context: &StepContext,
        to: &NecoVersion,
        _package: Option<PackageRef>,
        _allow_no_way_back: bool,
    ) -> Result<(), StepError> {
        let package = PackageRef {
            file: "f".to_owned(),
            size: 1,
            sha256: "0".repeat(64),
            unknown: Default::default(),
        };
        let (from, to) = (version(FROM), to.clone());
        let effect = Effect::Install { from, to, package, way_back: None };
        let intent = context.open_intent("install", effect)?;
        let view = context.fence().await?;
        context.begin_intent(&intent, "install", &view)?;
        self.await_verdict(&intent).await
    }

    async fn await_verdict(&self, _intent: &IntentId) -> Result<(), StepError> {
        std::future::pending().await
    }

    async fn unfit(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The unit ends the worker while that waits for the unit: neither is to wait for the other.
#[tokio::test(start_paused = true)]
async fn a_worker_that_the_unit_replaces_ends_at_once() {
    let site = Site::new();
    let machine = Machine::new(site).await;
    let shape = machine.shared.local().recipe;
    let engine = Engine::new(
        Arc::clone(&machine.shared),
        Arc::new(Nothing(shape)),
        Arc::new(Endless),
        Identity { boot_id: "boot".to_owned(), address: String::new() },
    );
    let engine = tokio::spawn(engine.run(machine.stop.clone()));
    machine.request(None, true).await;
    machine
        .until("it is begun", || machine.site.state().intents.values().any(|open| open.begun))
        .await;
    let told = tokio::time::Instant::now();
    machine.stop.cancel();
    assert_eq!(engine.await.unwrap(), Exit::Stopped);
    assert_eq!(told.elapsed(), Duration::ZERO, "in the time of the test");
    let planned = |entry: &Entry| matches!(entry, Entry::PlannedExit { .. });
    let records = neco_host::JournalStore::entries(&*machine.site.journal).unwrap();
    assert!(records.iter().any(|record| planned(&record.entry)));
}
