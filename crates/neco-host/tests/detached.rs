//! Units that outlive their starter: the fake and the processes of a sandbox keep the same promises.

#[path = "common/child.rs"]
mod child;

use std::path::Path;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use child::{OtherProcess, ready};
use neco_host::detached::contract::{self, Bench, Chore};
use neco_host::{DetachedProcess, FakeDetached, Root, RunDetached};

const UNIT: &str = "neco-install.service";

fn sh(script: &str) -> Vec<String> {
    ["sh", "-c", script].map(str::to_owned).to_vec()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(Instant::now() < deadline, "waited for: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn kill(pid: u32) {
    try_kill(pid).expect("it leads its group");
}

fn try_kill(pid: u32) -> nix::Result<()> {
    assert!(pid > 1, "group 0 is this one, and -1 is everybody");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a process id"));
    nix::sys::signal::killpg(pid, nix::sys::signal::Signal::SIGKILL)
}

/// Ends the unit with the test, whichever way the test ends.
struct Place {
    dir: tempfile::TempDir,
    engine: DetachedProcess,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let root = Root::new(dir.path()).expect("an absolute path");
        Self { dir, engine: DetachedProcess::new(root) }
    }

    fn pid(&self) -> u32 {
        self.engine.pid(UNIT).expect("readable").expect("running")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for unit in [UNIT, contract::UNIT] {
            if let Ok(Some(pid @ 2..)) = self.engine.pid(unit) {
                // It may end by itself meanwhile, and a second panic would hide the first.
                let _ = try_kill(pid);
            }
        }
    }
}

/// The fake, whose commands are noted and not run.
struct FakeBench(FakeDetached);

#[async_trait(?Send)]
impl Bench for FakeBench {
    fn engine(&self) -> &dyn RunDetached {
        &self.0
    }

    fn chore(&self, more: &[&str]) -> Vec<String> {
        ["chore"].iter().chain(more).map(|&word| word.to_owned()).collect()
    }

    fn runs(&self) -> Vec<Vec<String>> {
        self.0.log().into_iter().map(|(_, argv)| argv[1..].to_vec()).collect()
    }

    fn end(&self) {
        self.0.end(contract::UNIT);
    }

    async fn start_elsewhere(&self, _unit: &str, _argv: &[String]) -> bool {
        false
    }

    async fn boot(&self) -> bool {
        self.0.reboot();
        true
    }
}

/// Processes of this machine.
struct ProcessBench {
    place: Place,
    chore: Chore,
}

impl ProcessBench {
    fn new() -> Self {
        let place = Place::new();
        let dir = place.dir.path().join("chore");
        std::fs::create_dir(&dir).expect("writable");
        Self { place, chore: Chore::new(dir) }
    }
}

#[async_trait(?Send)]
impl Bench for ProcessBench {
    fn engine(&self) -> &dyn RunDetached {
        &self.place.engine
    }

    fn chore(&self, more: &[&str]) -> Vec<String> {
        self.chore.argv(more)
    }

    fn runs(&self) -> Vec<Vec<String>> {
        self.chore.runs()
    }

    fn end(&self) {
        self.chore.end();
    }

    async fn start_elsewhere(&self, unit: &str, argv: &[String]) -> bool {
        let asked =
            serde_json::json!({ "root": self.place.dir.path(), "unit": unit, "argv": argv });
        let test = "another_process_starts_a_unit_where_it_is_asked";
        drop(OtherProcess::run(test, ASKED, &asked.to_string()));
        true
    }

    async fn boot(&self) -> bool {
        let engine = &self.place.engine;
        if let Ok(Some(pid)) = engine.pid(contract::UNIT) {
            kill(pid);
        }
        let running = async || engine.is_running(contract::UNIT).await.expect("an answer");
        until("its end", async || !running().await).await;
        engine.boot().await.expect("booted");
        true
    }
}

/// The variable that asks for a unit.
const ASKED: &str = "NECO_CONTRACT_UNIT";

#[tokio::test]
async fn another_process_starts_a_unit_where_it_is_asked() {
    let Ok(asked) = std::env::var(ASKED) else { return };
    let asked: serde_json::Value = serde_json::from_str(&asked).expect("json");
    let word = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let argv: Vec<_> = asked["argv"].as_array().expect("a list").iter().map(word).collect();
    let root = Root::new(word(&asked["root"])).expect("an absolute path");
    DetachedProcess::new(root).start(&word(&asked["unit"]), &argv).await.expect("started");
    ready();
}

#[tokio::test]
async fn the_fake_keeps_the_contract() {
    contract::holds(|| FakeBench(FakeDetached::new())).await;
}

#[tokio::test]
async fn processes_keep_the_contract() {
    contract::holds(ProcessBench::new).await;
}

#[tokio::test]
async fn a_process_has_a_session_of_its_own_and_its_output_is_kept() {
    let place = Place::new();
    let (dir, engine) = (&place.dir, &place.engine);
    engine.start(UNIT, &sh("echo $$; echo oh >&2; exec sleep 600")).await.expect("started");
    let pid = place.pid();
    let log = dir.path().join(format!("run/neco/{UNIT}.log"));
    let wanted = format!("{pid}\noh\n");
    until("the output", async || std::fs::read_to_string(&log).is_ok_and(|text| text == wanted))
        .await;
    let id = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a process id"));
    assert_eq!(nix::unistd::getsid(Some(id)), Ok(id), "the leader of its session");
}

#[tokio::test]
async fn another_process_with_the_same_id_is_not_the_unit() {
    let place = Place::new();
    let (dir, engine) = (&place.dir, &place.engine);
    engine.start(UNIT, &sh("sleep 600")).await.expect("started");
    let path = dir.path().join(format!("run/neco/{UNIT}.pid"));
    let text = std::fs::read_to_string(&path).expect("there");
    // The record of an earlier process with this id: it began to live at another time.
    let mut record: serde_json::Value = serde_json::from_str(&text).expect("json");
    record["started"] = 1.into();
    std::fs::write(&path, record.to_string()).expect("room");
    assert!(!engine.is_running(UNIT).await.expect("an answer"));
    std::fs::write(&path, "garbage").expect("room");
    assert!(!engine.is_running(UNIT).await.expect("an answer"));
    // A record of init, true in every field: a signal to "its group" would reach every process there is.
    let init = std::fs::read_to_string("/proc/1/stat").expect("Linux has it");
    let mut fields = init.rsplit(')').next().expect("fields").split_whitespace();
    let started: u64 = fields.nth(19).and_then(|text| text.parse().ok()).expect("a number");
    (record["pid"], record["started"]) = (1.into(), started.into());
    std::fs::write(&path, record.to_string()).expect("room");
    assert_eq!(engine.pid(UNIT).expect("readable"), None);
    std::fs::write(&path, text).expect("room");
    assert!(engine.is_running(UNIT).await.expect("an answer"));
}

#[tokio::test]
async fn booting_starts_what_is_enabled_and_not_running() {
    let place = Place::new();
    let (dir, engine) = (&place.dir, &place.engine);
    assert_eq!(engine.boot().await.expect("nothing enabled"), [] as [String; 0]);
    engine.enable(UNIT, &sh("sleep 600")).await.expect("enabled");
    assert!(Path::new(&dir.path().join(format!("var/lib/neco/enabled/{UNIT}.json"))).exists());
    assert_eq!(engine.boot().await.expect("started"), [UNIT]);
    assert_eq!(engine.boot().await.expect("running"), [] as [String; 0]);
    kill(place.pid());
    until("its end", async || !engine.is_running(UNIT).await.expect("an answer")).await;
    assert_eq!(engine.boot().await.expect("started again"), [UNIT]);
    kill(place.pid());
    engine.disable(UNIT).await.expect("disabled");
    until("its end", async || !engine.is_running(UNIT).await.expect("an answer")).await;
    assert_eq!(engine.boot().await.expect("disabled"), [] as [String; 0]);
}
