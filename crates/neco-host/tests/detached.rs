//! Units that outlive their starter: the fake and the processes of a sandbox keep the same promises.

use std::path::Path;
use std::time::{Duration, Instant};

use neco_host::{DetachError, DetachedProcess, FakeDetached, Root, RunDetached};

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

/// What every engine promises. `end` lets the running unit come to its end.
async fn contract(engine: &dyn RunDetached, mut end: impl AsyncFnMut()) {
    let running = async || engine.is_running(UNIT).await.expect("an answer");
    assert!(!running().await, "unknown units do not run");
    engine.disable(UNIT).await.expect("nothing to take back");
    engine.start(UNIT, &sh("sleep 600")).await.expect("started");
    assert!(running().await);
    engine.start(UNIT, &sh("sleep 600")).await.expect("left alone");
    engine.enable(UNIT, &sh("sleep 600")).await.expect("enabled");
    engine.enable(UNIT, &sh("sleep 601")).await.expect("enabled anew");
    assert_eq!(engine.command(UNIT).await.expect("an answer"), Some(sh("sleep 601")));
    engine.disable(UNIT).await.expect("disabled");
    assert_eq!(engine.command(UNIT).await.expect("an answer"), None);
    assert!(running().await, "to disable is not to stop");
    end().await;
    until("the end of the unit", async || !running().await).await;
    engine.enable(UNIT, &sh("sleep 600")).await.expect("enabled");
    assert!(!running().await, "to enable is not to start");
    engine.start(UNIT, &sh("sleep 600")).await.expect("started again");
    assert!(running().await);
    end().await;
    until("the end of the unit", async || !running().await).await;
    for name in ["", "a/b", "../x", ".x", "a b", "a\n"] {
        let error = engine.start(name, &sh("true")).await.expect_err("no name");
        assert!(matches!(error, DetachError::Name(_)), "{name:?}");
        assert!(engine.is_running(name).await.is_err() && engine.disable(name).await.is_err());
    }
    let error = engine.start(UNIT, &[]).await.expect_err("no command");
    assert!(matches!(error, DetachError::NoCommand(_)));
    assert!(engine.enable(UNIT, &[]).await.is_err());
}

fn kill(pid: u32) {
    assert!(pid > 1, "group 0 is this one, and -1 is everybody");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a process id"));
    nix::sys::signal::killpg(pid, nix::sys::signal::Signal::SIGKILL).expect("it leads its group");
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
        if let Ok(Some(pid @ 2..)) = self.engine.pid(UNIT) {
            kill(pid);
        }
    }
}

#[tokio::test]
async fn the_fake_keeps_the_contract() {
    let fake = FakeDetached::new();
    contract(&fake, async || fake.end(UNIT)).await;
    assert_eq!(fake.unit(UNIT).starts, 2);
    assert!(fake.unit(UNIT).enabled.is_some());
    fake.reboot();
    assert_eq!(fake.unit(UNIT).running, Some(sh("sleep 600")));
}

#[tokio::test]
async fn processes_keep_the_contract() {
    let place = Place::new();
    contract(&place.engine, async || kill(place.pid())).await;
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
