//! Boot servers in one process: real engines and steps over recorders, one store in memory.
//!
//! Time is tokio's own and paused, so that nothing waits for real; a crash is an engine dropped at whatever it awaits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use neco_base::Backoff;
use neco_components::Recipe;
use neco_host::Root;
use neco_host::fs::RecordingFs;
use neco_host::journal::{JournalStore, MemoryJournal};
use neco_plan::invariants::{Auditor, KvChange, Rules, Stamp};
use neco_plan::{Local, RecipeShape, View, operator_ranges};
use neco_runtime::DockerConfig;
use neco_schema::journal::{Entry, Phase};
use neco_schema::{
    Condition, Control, Key, Lrn, NecoVersion, Op, Origin, Revision, Timestamp, Txn, UpdateRequest,
    UpdateStatus,
};
use neco_store::{MemoryStore, Store};
use neco_systemd::{Recorder, Units};
use neco_worker::sandbox::{self, SandboxSteps};
use neco_worker::{
    About, Engine, Exit, Identity, Patience, PatientRuntime, RecipeSteps, SandboxDebs, Services,
    Shared, StepHost, Steps,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::drivers::{Client, Faults, MayBeAway, NothingToInstall, Released, TestClock, Told};

pub(crate) const VAULT: &str = "vault.service";
pub(crate) const SERF: &str = "serf.service";
pub(crate) const TIMER: &str = "setup-serf-tags.timer";

/// How long a condition is waited for, in the time of the test.
const WITHIN: Duration = Duration::from_secs(600);

struct Process {
    engine: JoinHandle<Exit>,
    stop: CancellationToken,
    shared: Arc<Shared>,
    host: Arc<StepHost>,
}

/// One boot server: what survives its worker, and its worker.
pub(crate) struct Server {
    pub(crate) lrn: u32,
    root: tempfile::TempDir,
    pub(crate) journal: Arc<MemoryJournal>,
    /// The disk that steps write to.
    pub(crate) disk: Arc<RecordingFs>,
    calls: Arc<AtomicU64>,
    /// How often it was booted again.
    boots: u32,
    process: Option<Process>,
}

impl Server {
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    /// A file that somebody else puts there.
    pub(crate) fn set_up(&self, path: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    }

    pub(crate) fn units(&self) -> Recorder {
        Recorder::new(self.root.path())
    }

    pub(crate) fn containers(&self) -> neco_runtime::Recorder {
        neco_runtime::Recorder::new(self.root.path())
    }

    /// The unit effects so far, in words.
    pub(crate) fn effects(&self) -> Vec<String> {
        self.units().effects().unwrap().iter().map(|entry| entry.effect.words()).collect()
    }

    /// How often an effect is in the log.
    pub(crate) fn count(&self, words: &str) -> usize {
        self.effects().iter().filter(|effect| *effect == words).count()
    }

    pub(crate) async fn is_active(&self, unit: &str) -> bool {
        self.units().state(&unit.parse().unwrap()).await.unwrap().is_active()
    }

    pub(crate) async fn is_enabled(&self, unit: &str) -> bool {
        self.units().state(&unit.parse().unwrap()).await.unwrap().is_enabled()
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.journal.entries().unwrap().into_iter().map(|record| record.entry).collect()
    }

    /// The attempts of a step that the journal speaks of.
    pub(crate) fn attempts(&self, of_request: &UpdateRequest, of_step: u32) -> Vec<u32> {
        let attempt = |entry: Entry| match entry {
            Entry::StepBegun { request, step, attempt, .. }
                if request == of_request.id() && step == of_step =>
            {
                Some(attempt)
            }
            _ => None,
        };
        self.entries().into_iter().filter_map(attempt).collect()
    }

    /// How often the journal says that `what` begins.
    pub(crate) fn begun(&self, what: &str) -> usize {
        let begins = |entry: &Entry| matches!(entry, Entry::Effect { what: effect, phase: Phase::Begin, .. } if effect == what);
        self.entries().iter().filter(|entry| begins(entry)).count()
    }

    /// What the server made and wrote below its root, with when it was written.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
        let mut files = BTreeMap::new();
        let mut folders =
            ["etc", "usr/local", "var/lib/neco/published"].map(|dir| self.path(dir)).to_vec();
        while let Some(folder) = folders.pop() {
            let Ok(entries) = std::fs::read_dir(&folder) else { continue };
            for entry in entries {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let written = path.metadata().unwrap().modified().unwrap();
                    files.insert(path.clone(), (std::fs::read(&path).unwrap(), written));
                }
            }
        }
        files
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    pub(crate) fn local(&self) -> Local {
        self.process.as_ref().expect("runs").shared.local()
    }

    /// Lets a call of its sandbox that is no unit's hang, such as a whole step.
    pub(crate) fn hold(&self, call: &str) {
        sandbox::faults(self.root.path()).hold(call).unwrap();
    }

    /// Lets it go on.
    pub(crate) fn let_go(&self, call: &str) {
        sandbox::faults(self.root.path()).clear(call).unwrap();
    }

    /// What its steps act through.
    pub(crate) fn host(&self) -> Arc<StepHost> {
        Arc::clone(&self.process.as_ref().expect("runs").host)
    }

    pub(crate) fn waits_for(&self) -> String {
        self.process.as_ref().expect("runs").shared.observed().borrow().waiting_for.clone()
    }

    /// What it says that the disk refuses.
    pub(crate) fn unfit(&self, view: &View) -> Vec<String> {
        let alive = view.alive.get(&Lrn::new(self.lrn));
        alive.map(|alive| alive.value.unfit.clone()).unwrap_or_default()
    }

    /// What it cannot make sense of in etcd.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.process.as_ref().expect("runs").shared.observed().borrow().problems.clone()
    }

    /// Whether the engine has come to its end by itself.
    pub(crate) fn has_ended(&self) -> bool {
        self.process.as_ref().is_none_or(|process| process.engine.is_finished())
    }

    /// The worker is killed.
    pub(crate) async fn crash(&mut self) {
        let process = self.process.take().expect("runs");
        process.engine.abort();
        let _ = process.engine.await;
        // Its running task is dropped by the runtime now.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    /// The server goes down with its worker and comes up again; its worker is to be started.
    pub(crate) async fn reboot(&mut self) {
        self.crash().await;
        self.boots += 1;
        self.units().boot().await.unwrap();
    }

    /// The worker is told to end, and does.
    pub(crate) async fn end(&mut self) {
        let process = self.process.take().expect("runs");
        process.stop.cancel();
        let exit = tokio::time::timeout(WITHIN, process.engine).await.expect("ends").unwrap();
        assert_eq!(exit, Exit::Stopped);
        let entries = self.entries();
        let last = entries.last();
        assert!(matches!(last, Some(Entry::PlannedExit { .. })), "{last:?} after the end");
    }
}

pub(crate) struct Cluster {
    pub(crate) store: MemoryStore,
    pub(crate) servers: Vec<Server>,
    pub(crate) version: NecoVersion,
    order: Arc<Mutex<Vec<String>>>,
    pub(crate) faults: Arc<Faults>,
    began: tokio::time::Instant,
    requests: i64,
    recipes: BTreeMap<NecoVersion, RecipeShape>,
    /// The units that take a turn, for the auditor.
    pub(crate) turns: BTreeMap<String, String>,
    outfit: Outfit,
    /// How long servers try what others have a part in.
    pub(crate) patience: Patience,
}

/// What a server is given to act through in place of the services of its sandbox.
pub(crate) type Outfit = Box<dyn Fn(Services, &Root, &MemoryStore) -> Services>;

impl Cluster {
    /// Servers 0 to `count` - 1 that follow the package's own recipe; their workers run.
    pub(crate) async fn of(count: u32) -> Self {
        Self::with(count, |_| {}).await
    }

    /// The same, with a recipe that `edit` has changed.
    pub(crate) async fn with(count: u32, edit: impl Fn(&Path)) -> Self {
        Self::outfitted(count, edit, Box::new(|services, _, _| services)).await
    }

    /// The same, whose servers act through other services than those of a sandbox.
    pub(crate) async fn outfitted(count: u32, edit: impl Fn(&Path), outfit: Outfit) -> Self {
        let servers = (0..count).map(|lrn| Server {
            lrn,
            root: tempfile::tempdir().unwrap(),
            journal: Arc::new(MemoryJournal::new()),
            disk: Arc::new(RecordingFs::new()),
            calls: Arc::default(),
            boots: 0,
            process: None,
        });
        let mut cluster = Self {
            store: MemoryStore::default(),
            servers: servers.collect(),
            version: "2026.11.20-1".parse().unwrap(),
            order: Arc::default(),
            faults: Arc::default(),
            began: tokio::time::Instant::now(),
            requests: 0,
            recipes: BTreeMap::new(),
            turns: BTreeMap::from([
                (SERF.to_owned(), "serf".to_owned()),
                ("etcd-container.service".to_owned(), "etcd".to_owned()),
            ]),
            outfit,
            patience: Patience {
                tries: 3,
                between: Backoff::new(Duration::from_millis(5), Duration::from_millis(20)),
                ..Patience::default()
            },
        };
        for lrn in 0..count {
            cluster.write(Op::put_bytes(&Key::BootServer(Lrn::new(lrn)), "")).await;
            let folder = cluster.servers[lrn as usize].path("/usr/share/neco");
            let debian = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../debian");
            copy(&debian.join("usr/share/neco"), &folder);
            // A site that has made the examples its own.
            copy(&debian.join("usr/share/doc/neco/examples/site"), &folder);
            for key in ["etc/sabakan/etcd.key", "etc/sabakan/etcd.crt"] {
                cluster.servers[lrn as usize].set_up(key);
            }
            cluster.servers[lrn as usize].set_up("etc/neco/cluster");
            let name = cluster.servers[lrn as usize].path("/etc/neco/cluster");
            std::fs::write(name, "test\n").unwrap();
            edit(&folder);
            cluster.start(lrn);
        }
        cluster
    }

    pub(crate) fn server(&self, lrn: u32) -> &Server {
        &self.servers[lrn as usize]
    }

    /// Starts the worker of a server on what is there.
    pub(crate) fn start(&mut self, lrn: u32) {
        let (began, version, order) = (self.began, self.version.clone(), Arc::clone(&self.order));
        let server = &mut self.servers[lrn as usize];
        assert!(server.process.is_none(), "runs already");
        let recipe = Recipe::load(server.path("/usr/share/neco")).unwrap();
        self.recipes.insert(version.clone(), recipe.shape());
        let client = Arc::new(Client {
            store: self.store.clone(),
            calls: Arc::clone(&server.calls),
            faults: Arc::clone(&self.faults),
        });
        let store: Arc<dyn Store> = client.clone();
        let local =
            Local::new(Lrn::new(lrn), format!("{lrn:032}"), version.clone(), recipe.shape());
        let journal: Arc<dyn JournalStore> = server.journal.clone();
        let shared = Shared::new(store, Arc::new(TestClock(began)), journal, local).unwrap();
        let root = Root::new(server.root.path()).unwrap();
        let services = Services::sandbox(&root, server.disk.clone());
        let services = (self.outfit)(services, &root, &self.store);
        let host = Arc::new(StepHost {
            root: root.clone(),
            fs: server.disk.clone(),
            units: Arc::new(Told {
                lrn,
                units: server.units(),
                order,
                faults: Arc::clone(&self.faults),
            }),
            runtime: Arc::new(PatientRuntime::new(
                Arc::new(MayBeAway {
                    faults: Arc::clone(&self.faults),
                    lrn,
                    runtime: server.containers(),
                }),
                {
                    let shared = Arc::clone(&shared);
                    Arc::new(move |why: &str| shared.note_waiting(why))
                },
            )),
            logins: Arc::new(DockerConfig::new(server.path("/root/.docker/config.json"))),
            debs: Arc::new(Released {
                faults: Arc::clone(&self.faults),
                debs: SandboxDebs::new(root.clone()).bringing_units_of(&recipe),
            }),
            members: client.clone(),
            sabakan: services.sabakan,
            cke: services.cke,
            outside: services.outside,
            patience: self.patience,
            shared: Arc::clone(&shared),
            about: About {
                lrn: Lrn::new(lrn),
                os_name: "Debian".to_owned(),
                os_version: "12".to_owned(),
                serial: "S1".to_owned(),
            },
        });
        let steps: Arc<dyn Steps> = Arc::new(RecipeSteps::new(recipe, Arc::clone(&host)).unwrap());
        let steps = Arc::new(SandboxSteps::new(steps, sandbox::faults(server.root.path())));
        let stop = CancellationToken::new();
        let engine = Engine::new(
            Arc::clone(&shared),
            steps,
            Arc::new(NothingToInstall(version, Arc::clone(&self.faults))),
            Identity { boot_id: format!("boot {}", server.boots), address: String::new() },
        );
        let engine = tokio::spawn(engine.run(stop.clone()));
        server.process = Some(Process { engine, stop, shared, host });
    }

    /// A new version is installed on all servers, with a recipe that `edit` has changed, and their workers run it.
    pub(crate) async fn upgrade(&mut self, version: &str, edit: impl Fn(&Path)) {
        self.version = version.parse().unwrap();
        for lrn in 0..self.servers.len() {
            let server = &mut self.servers[lrn];
            if server.process.is_some() {
                server.end().await;
            }
            edit(&server.path("/usr/share/neco"));
            self.start(self.servers[lrn].lrn);
        }
    }

    pub(crate) async fn write(&self, op: Op) {
        self.store.commit(&Txn::default().then(op)).await.unwrap();
    }

    /// A second after the last request, and of one that comes after it.
    pub(crate) fn later(&self) -> i64 {
        1_000 + self.requests
    }

    /// Where and why the request was aborted, as the first server says it. Whoever has failed says so of itself, and its journal
    /// does; all others say what one of those says.
    pub(crate) async fn aborted(&self, request: &UpdateRequest) -> Origin {
        self.ended(request, Condition::Abort).await;
        let said = |lrn: u32| self.status(lrn).unwrap();
        for server in &self.servers {
            let status = said(server.lrn);
            let origin = status.origin.clone().unwrap();
            let failed = Entry::StepFailed {
                request: request.id(),
                step: origin.step,
                cause: origin.cause.clone(),
            };
            let of = origin.lrn.get();
            // A step whose plan cannot be made is not begun.
            let begun = !self.server(of).attempts(request, origin.step).is_empty();
            let failed = self.server(of).entries().contains(&failed);
            assert!(failed || (!begun && origin.step == 1), "not at {of}: {origin:?}");
            assert_eq!(said(of).origin, Some(origin.clone()), "{} says it", server.lrn);
            assert!(status.message.contains(&origin.cause), "{status:?}");
            assert!(!origin.cause.contains('\n'), "{origin:?}");
        }
        said(self.servers[0].lrn).origin.unwrap()
    }

    /// Requests the version of the moment of all servers.
    pub(crate) async fn request(&mut self) -> UpdateRequest {
        self.requests += 1;
        let servers = self.servers.iter().map(|server| Lrn::new(server.lrn)).collect();
        let at = Timestamp::from_unix(1_000 + self.requests);
        let request = UpdateRequest::new(self.version.clone(), servers, at);
        self.write(Op::put(&Key::Request, &request)).await;
        request
    }

    pub(crate) async fn stop_request(&self, request: &UpdateRequest) {
        self.write(Op::put(&Key::Request, &UpdateRequest { stop: true, ..request.clone() })).await;
    }

    pub(crate) async fn pause(&self, paused: bool) {
        let control = Control { by: "somebody".to_owned(), ..Control::default() };
        self.write(if paused { Op::put(&Key::Pause, &control) } else { Op::delete(&Key::Pause) })
            .await;
    }

    /// etcd as it is now, past all faults.
    pub(crate) fn view(&self) -> View {
        let snapshot = self.store.with(|mvcc| mvcc.read(&operator_ranges(), None)).unwrap();
        View::assemble(&snapshot)
    }

    pub(crate) fn status(&self, lrn: u32) -> Option<UpdateStatus> {
        self.view().statuses.get(&Lrn::new(lrn)).map(|status| status.value.clone())
    }

    pub(crate) fn stands(&self, lrn: u32, request: &UpdateRequest) -> Option<(u32, Condition)> {
        let view = self.view();
        let status = view.status_of(request, Lrn::new(lrn))?;
        Some((status.value.step, status.value.cond))
    }

    /// The number of the step of this name.
    pub(crate) fn step(&self, name: &str) -> u32 {
        let recipe = Recipe::load(self.servers[0].path("/usr/share/neco")).unwrap();
        recipe
            .steps()
            .find(|(_, step)| step.name.as_str() == name)
            .map(|(number, _)| number)
            .unwrap()
    }

    pub(crate) async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let waited = async {
            while !holds().await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(WITHIN, waited).await.is_err() {
            let view = self.view();
            let statuses: Vec<_> = view.statuses.values().map(|status| &status.value).collect();
            let waits: Vec<_> = self
                .servers
                .iter()
                .filter(|server| server.process.is_some())
                .map(|server| (server.lrn, server.waits_for(), server.local().doing))
                .collect();
            panic!(
                "not within {WITHIN:?}: {what}\nstatuses {statuses:#?}\nwaiting {waits:#?}\norder {:#?}",
                self.order()
            );
        }
    }

    /// Waits until all servers have ended the request so.
    pub(crate) async fn ended(&self, request: &UpdateRequest, cond: Condition) {
        self.until(&format!("all {cond}"), async || {
            self.servers
                .iter()
                .all(|server| self.stands(server.lrn, request).is_some_and(|(_, now)| now == cond))
        })
        .await;
    }

    pub(crate) async fn completed(&self, request: &UpdateRequest) {
        self.ended(request, Condition::Complete).await;
        let steps = self.recipes[&self.version].steps;
        for server in &self.servers {
            assert_eq!(self.stands(server.lrn, request), Some((steps, Condition::Complete)));
        }
    }

    /// A request for what is there now, to its end.
    pub(crate) async fn update(&mut self) -> UpdateRequest {
        let request = self.request().await;
        self.completed(&request).await;
        request
    }

    /// Effects on units of all servers, in the order in which they happened: `0: stop vault.service`.
    pub(crate) fn order(&self) -> Vec<String> {
        self.order.lock().unwrap().clone()
    }

    /// Those of `unit`, and forgets all.
    pub(crate) fn take_order(&self, unit: &str) -> Vec<String> {
        let order = std::mem::take(&mut *self.order.lock().unwrap());
        order.into_iter().filter(|line| line.ends_with(unit)).collect()
    }

    /// Ends everything and has it all judged: nothing is open, and no invariant was violated.
    pub(crate) async fn verdict(mut self) {
        // An abort is told while the group is still being restored.
        self.until("no group is open", async || {
            let running = self.servers.iter().filter(|server| server.process.is_some());
            running.map(Server::local).all(|local| local.journal.groups.is_empty())
        })
        .await;
        for server in &mut self.servers {
            if server.process.is_some() {
                let journal = server.local().journal;
                assert!(journal.intents.is_empty(), "{}: {:?}", server.lrn, journal.intents);
                assert!(journal.groups.is_empty(), "{}: {:?}", server.lrn, journal.groups);
                server.end().await;
            }
        }
        let rules =
            Rules { recipes: self.recipes.clone(), turns: self.turns.clone(), ..Rules::default() };
        let mut auditor = Auditor::new(rules);
        let mut changes: BTreeMap<Revision, Vec<KvChange>> = BTreeMap::new();
        let mut standing = BTreeMap::new();
        for change in self.store.changes_since(Revision(1), &operator_ranges()) {
            let kv = KvChange::of(&mut standing, change.key, change.kv);
            changes.entry(change.revision).or_default().push(kv);
        }
        for (revision, changes) in changes {
            auditor.change(revision, &changes);
        }
        for server in &self.servers {
            for record in server.journal.entries().unwrap() {
                let at = Stamp { seq: record.seq, revision: None };
                auditor.journal(Lrn::new(server.lrn), &record.entry, at);
            }
        }
        let report = auditor.finish();
        assert!(report.log_faults.is_empty() && report.violations.is_empty(), "{report}");
    }
}

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Replaces a text in a file of the package, which must be there.
pub(crate) fn edit(folder: &Path, file: &str, from: &str, to: &str) {
    let path = folder.join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has no {from:?}");
    std::fs::write(path, text.replace(from, to)).unwrap();
}

/// Another configuration of Vault.
pub(crate) fn change_vault(folder: &Path) {
    edit(folder, "templates/vault.config.hcl.j2", "1000d", "30d");
}

/// Another configuration of serf.
pub(crate) fn change_serf(folder: &Path) {
    edit(folder, "components/serf.toml", "0644", "0640");
    let path = folder.join("templates/serf.service.j2");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, text.replace("50G", "40G")).unwrap();
}
