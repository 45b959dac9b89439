//! Runs a command line on a store in memory, and keeps what it wrote.

use std::path::Path;
use std::sync::Arc;

use clap::Parser;
use neco_schema::{
    Alive, Condition, Key, Lrn, MemberPlan, NecoVersion, Op, RecipeDigest, Record, RequestKind,
    Timestamp, Txn, UpdateRequest, UpdateStatus,
};
use neco_store::{Committed, MemoryStore, Store};
use necoctl::cli::{Cli, Output, Style};
use necoctl::io::Io;
use necoctl::session::Session;
use serde_json::Map;

pub(crate) const OLD: &str = "2026.11.20-40001";
pub(crate) const NEW: &str = "2026.11.21-40152";

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: u8,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Run {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A store, a root and what the input holds.
pub(crate) struct Bench {
    pub(crate) store: MemoryStore,
    pub(crate) root: tempfile::TempDir,
    pub(crate) input: &'static str,
    pub(crate) style: Style,
}

pub(crate) fn version(text: &str) -> NecoVersion {
    text.parse().expect("a version")
}

pub(crate) fn at(clock: &str) -> Timestamp {
    format!("2026-11-21T{clock}Z").parse().expect("a time")
}

pub(crate) fn lrn(number: u32) -> Lrn {
    Lrn::new(number)
}

fn now() -> Timestamp {
    at("09:00:00")
}

pub(crate) fn request() -> UpdateRequest {
    UpdateRequest {
        kind: Some(RequestKind::Release),
        ..UpdateRequest::new(version(NEW), [0, 1, 2].map(lrn).to_vec(), at("08:00:00"))
    }
}

const RECIPE: &str = r#"
format = 1
step = [
  { name = "fetch-images", effect = "none", reason = "a test" },
  { name = "serf", effect = "none", reason = "a test" },
  { name = "sabakan", effect = "none", reason = "a test" },
  { name = "restart-etcd", effect = "none", reason = "a test" },
]
"#;

impl Bench {
    /// An empty store, and a root with a recipe of four steps.
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let folder = root.path().join("usr/share/neco");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("recipe.toml"), RECIPE).expect("a recipe");
        Self { store: MemoryStore::default(), root, input: "", style: Style::Ours }
    }

    pub(crate) fn put(&self, key: &str, value: impl Into<Vec<u8>>) -> &Self {
        let op = Op::Put { key: key.to_owned(), value: value.into(), lease: None };
        let done = self.store.with(|mvcc| mvcc.commit(&Txn::default().then(op)));
        assert!(matches!(done, Ok(Committed::Done(_))), "{done:?}");
        self
    }

    pub(crate) fn set(&self, key: Key, record: &impl Record) -> &Self {
        self.put(&key.to_string(), record.encode())
    }

    pub(crate) fn delete(&self, key: &Key) -> &Self {
        let done = self.store.with(|mvcc| mvcc.commit(&Txn::default().then(Op::delete(key))));
        assert!(matches!(done, Ok(Committed::Done(_))), "{done:?}");
        self
    }

    pub(crate) fn get(&self, key: &str) -> Option<String> {
        let kv = self.store.with(|mvcc| mvcc.get(key));
        kv.map(|kv| String::from_utf8(kv.value).expect("text"))
    }

    /// Every key, in order.
    pub(crate) fn keys(&self) -> Vec<String> {
        let all = neco_plan::operator_ranges();
        let snapshot = self.store.with(|mvcc| mvcc.read(&all, None)).expect("a snapshot");
        snapshot.kvs.into_keys().collect()
    }

    /// Three registered, living servers on `runs`, the release NEW, and an updater that leads.
    pub(crate) fn three(runs: &str) -> Self {
        let bench = Self::new();
        bench
            .put("leader/updater//694d1", "boot-1")
            .put("leader/updater//694d2", "boot-0")
            .put("info/neco-release", NEW)
            .put(&format!("seen/{NEW}"), r#"{"at":"2026-11-21T07:55:00Z"}"#);
        for number in 0..3 {
            bench.put(&format!("info/bootservers/{number}"), "").alive(number, runs, &[]);
        }
        bench
    }

    pub(crate) fn alive(&self, number: u32, runs: &str, busy: &[&str]) -> &Self {
        let alive = Alive {
            machine_id: format!("machine-{number}"),
            boot_id: String::new(),
            version: version(runs),
            address: format!("10.69.0.{number}"),
            busy: busy.iter().map(|text| (*text).to_owned()).collect(),
            unfit: Vec::new(),
            unknown: Map::new(),
        };
        self.set(Key::Alive(lrn(number)), &alive)
    }

    pub(crate) fn status(&self, number: u32, step: u32, cond: Condition) -> &Self {
        let status = UpdateStatus {
            version: version(NEW),
            step,
            cond,
            message: String::new(),
            request: Some(request().id()),
            origin: None,
            unknown: Map::new(),
        };
        self.set(Key::Status(lrn(number)), &status)
    }

    pub(crate) fn plan(&self, number: u32, recipe: &str) -> &Self {
        let plan = MemberPlan {
            request: request().id(),
            recipe: RecipeDigest(recipe.to_owned()),
            changes: Vec::new(),
            unknown: Map::new(),
        };
        self.set(Key::Plan(lrn(number)), &plan)
    }

    /// The request, and every member in `step`.
    pub(crate) fn all_in(self, step: u32) -> Self {
        self.set(Key::Request, &request());
        for number in 0..3 {
            self.status(number, step, Condition::Running);
        }
        self
    }

    /// Runs a command line, without the program's name.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Run {
        self.run_on(Arc::new(self.store.clone()), arguments).await
    }

    /// As [`Self::run`], on another store.
    pub(crate) async fn run_on(&self, store: Arc<dyn Store>, arguments: &[&str]) -> Run {
        let name = if self.style == Style::Ours { "necoctl" } else { "neco" };
        let line = [name].into_iter().chain(arguments.iter().copied());
        let cli = Cli::try_parse_from(line).unwrap_or_else(|error| panic!("{error}"));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut input = self.input.as_bytes();
        let mut io = Io {
            out: &mut out,
            err: &mut err,
            input: &mut input,
            input_is_terminal: false,
            output_is_terminal: false,
            output: cli.global.output,
            style: self.style,
        };
        let mut session = Session {
            store,
            root: self.root.path().to_owned(),
            user: "alice".to_owned(),
            now,
            io: &mut io,
        };
        let command = cli.command.expect("a verb");
        let ended = command.run(&mut session).await.map_err(|failure| self.style.failure(failure));
        let (code, failure) = match ended {
            Ok(code) => (self.style.code(code), String::new()),
            Err(failure) => (failure.code, format!("{failure}\n")),
        };
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        Run { code: code as u8, out: text(out), err: text(err) + &failure }
    }
}

/// Copies a folder with everything in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder").flatten() {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("copied");
        }
    }
}

/// Compares with a file of `tests/golden/`, or writes it if `BLESS` is set.
pub(crate) fn golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, found).expect("writing a golden file");
        return;
    }
    let expected = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{name}: {error}; BLESS=1 writes it"));
    assert!(expected == found, "{name} differs; BLESS=1 writes it anew. Found:\n{found}");
}

/// The form of results, for tests that ask for both.
pub(crate) const FORMS: [(&str, Output); 2] = [("human", Output::Human), ("json", Output::Json)];
