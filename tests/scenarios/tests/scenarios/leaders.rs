//! The updater that leads is lost, for good or for a while; there is none, or there are too many.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use neco_plan::View;
use neco_playground::{BootServer, HELD_UNIT, Held, outcome_of};
use neco_scenarios::{LONG, Said, Scenario, copy, updater};
use neco_schema::{Condition, ConfigKey, Key, Lrn, NecoVersion, Range, Revision};
use neco_store::Store;
use nix::sys::signal::Signal;
use tokio::process::Command;
use tokio::time::timeout;

/// What only a leader writes.
fn is_leaders(key: &str) -> bool {
    let folders = ["clock/", "seen/", "history/", "info/neco-release"];
    // A worker writes its own part of the history.
    let of_a_worker = key.starts_with("history/") && key.matches('/').count() == 2;
    key == "status/current"
        || (folders.iter().any(|folder| key.starts_with(folder)) && !of_a_worker)
}

/// Who recorded the update to `version`.
fn recorded_by(view: &View, version: &NecoVersion) -> String {
    let record = view.history.values().flatten().find(|record| record.version == *version);
    record.expect("a record").by.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn another_updater_leads_on_when_the_leader_is_killed() {
    let scenario = Scenario::begin().await;
    let from = scenario.recorded().await;
    let held = Held::next_start_of(scenario.server(2), HELD_UNIT).expect("room");
    let version = scenario.publish_update().await;
    held.reached(&scenario, &version, LONG, |_| {}).await.expect("a stopped service");
    let leader = scenario.leading().await;
    let updater = leader.updater().expect("it has an updater");
    updater.signal(Signal::SIGKILL).await.expect("it runs");
    let next = scenario.other_leader(leader.lrn()).await;
    assert_ne!(next, leader.lrn());
    held.release().expect("room");
    let view = scenario.completed(&version).await;

    let requests = scenario.requests(from).await;
    assert_eq!(requests.len(), 1, "nobody asks for it a second time: {requests:?}");
    let by = recorded_by(&view, &version);
    assert!(by.contains(&format!("boot-{next}")), "recorded by {by}");
    scenario.verdict(&version).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_frozen_beyond_its_lease_writes_nothing_when_it_thaws() {
    let scenario = Scenario::begin().await;
    let from = scenario.recorded().await;
    let held = Held::next_start_of(scenario.server(2), HELD_UNIT).expect("room");
    let version = scenario.publish_update().await;
    held.reached(&scenario, &version, LONG, |_| {}).await.expect("a stopped service");
    let leader = scenario.leading().await;
    let lrn = leader.lrn();
    let updater = leader.updater().expect("it has an updater");
    let own_key = candidate_of(&scenario, lrn).await.expect("it is a candidate");
    updater.signal(Signal::SIGSTOP).await.expect("it runs");
    let next = scenario.other_leader(lrn).await;
    // The other leads alone now, and everything that a leader writes is its.
    let frozen_out = scenario.view().await.expect("an answer").revision;
    updater.signal(Signal::SIGCONT).await.expect("it is still there");
    scenario
        .until_true("the thawed updater behind the other", async || {
            let candidate = candidate_of(&scenario, lrn).await;
            candidate.is_some_and(|candidate| candidate != own_key)
        })
        .await;
    assert_eq!(scenario.leading().await.lrn(), next, "it does not lead again");
    let thawed = scenario.view().await.expect("an answer").revision;
    held.release().expect("room");
    let view = scenario.completed(&version).await;

    let requests = scenario.requests(from).await;
    assert_eq!(requests.len(), 1, "the request is written once: {requests:?}");
    let by = recorded_by(&view, &version);
    assert!(by.contains(&format!("boot-{next}")), "recorded by {by}");
    // While the update is held, a leader has nothing to write but the time that passes.
    let between = |at: &Revision| *at > frozen_out && *at <= thawed;
    for (at, changes) in scenario.history().await.iter().filter(|(at, _)| between(at)) {
        for change in changes.iter().filter(|change| is_leaders(&change.key)) {
            assert!(change.key.starts_with("clock/"), "{} changed at revision {at}", change.key);
        }
    }
    scenario.verdict(&version).await;
}

/// The candidate of the updater on a server.
async fn candidate_of(scenario: &Scenario, lrn: Lrn) -> Option<String> {
    let range = Range::Prefix("leader/updater/".to_owned());
    let candidates = scenario.store().read(&[range], None).await.ok()?;
    let host = format!("boot-{lrn}").into_bytes();
    candidates.kvs.into_values().find(|kv| kv.value == host).map(|kv| kv.key)
}

/// How long a step may take while nobody counts.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn without_any_updater_workers_finish_and_deadlines_stand_still() {
    let scenario = Scenario::begin().await;
    let from = scenario.recorded().await;
    let held = Held::next_start_of(scenario.server(2), HELD_UNIT).expect("room");
    let version = scenario.publish_update().await;
    held.reached(&scenario, &version, LONG, |_| {}).await.expect("a stopped service");
    // Counted time is written down now and then; without any nobody could tell that it stands still.
    let view = scenario
        .until("some time that was counted", |view| {
            let clock = view.current().and_then(|request| view.clocks.get(&request.id()));
            clock.is_some_and(|clock| clock.value.elapsed > 0)
        })
        .await;
    let request = view.current().expect("a request").clone();
    let view = gone(&scenario).await;
    let since = Instant::now();
    let clock = &view.clocks[&request.id()].value;
    let allowed = Duration::from_nanos(clock.step_elapsed) + PATIENCE;
    let setting = Key::Config(ConfigKey::StepTimeout).to_string();
    scenario.write(&setting, &allowed.as_nanos().to_string()).await;
    let clock = Key::Clock(request.id()).to_string();
    let counted = scenario.value(&clock).await;
    assert!(counted.is_some(), "some time was counted");
    // Time itself is what this is about.
    scenario
        .until_true("more time than a step may take", async || since.elapsed() > PATIENCE * 3 / 2)
        .await;
    assert_eq!(scenario.value(&clock).await, counted, "nobody has counted");
    let decided = Said::until_now(scenario.server(1), "neco-updater", &["decided: "]);
    updater(scenario.server(1)).up().await;
    decided.more(&scenario).await;
    let decided = decided.since(&scenario);
    assert!(decided.iter().all(|line| line.contains("decided: wait-for-workers")), "{decided:#?}");
    let minutes = Duration::from_secs(20 * 60);
    scenario.write(&setting, &minutes.as_nanos().to_string()).await;
    let view = gone(&scenario).await;
    assert!(!view.current().expect("a request").stop, "nobody waited for too long");

    // Workers need no leader to finish; only the history does.
    held.release().expect("room");
    let view = scenario
        .until("all servers through all steps", |view| {
            let done = view.member_statuses(&request);
            done.filter(|(_, status)| status.value.cond == Condition::Complete).count() == 3
        })
        .await;
    assert_eq!(outcome_of(&view, &request), None, "nobody has recorded it");
    updater(scenario.server(0)).up().await;
    let view = scenario.completed(&version).await;
    assert!(recorded_by(&view, &version).contains("boot-0"));
    assert_eq!(scenario.requests(from).await.len(), 1, "one request, never stopped");
    updater(scenario.server(1)).up().await;
    scenario.verdict(&version).await;
}

/// All updaters are killed and stay away; gives what etcd holds when their leases are over, too.
async fn gone(scenario: &Scenario) -> View {
    for server in scenario.updaters() {
        updater(server).kill().await;
    }
    scenario
        .until_true("the end of the last leadership", async || {
            scenario.leader().await.is_ok_and(|leader| leader.is_none())
        })
        .await;
    scenario.view().await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn updaters_started_by_hand_do_not_act_beside_the_one_that_leads() {
    let scenario = Scenario::begin().await;
    let from = scenario.recorded().await;
    // On a server that has one, a second ends at once.
    let server = scenario.server(0);
    let first = updater(server).pid().expect("it runs");
    let second = by_hand(server, server.root().to_owned()).output();
    let second = timeout(LONG, second).await.expect("it ends").expect("it starts");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    let said: Vec<&str> = said.lines().collect();
    let refusal = format!("neco-updater.lock is locked by process {first}; stop it first");
    assert!(matches!(said[..], [line] if line.ends_with(&refusal)), "{said:?}");
    assert_eq!(updater(server).pid(), Some(first), "the first does not mind");

    // On another host it is one more candidate.
    let elsewhere = elsewhere(&scenario);
    let log = std::fs::File::create(elsewhere.join("log")).expect("room");
    let mut guest = by_hand(server, elsewhere.clone()).stderr(log).spawn().expect("it starts");
    scenario.until_true("three candidates", async || candidates(&scenario).await.len() == 3).await;
    let held = Held::next_start_of(scenario.server(2), HELD_UNIT).expect("room");
    let version = scenario.publish_update().await;
    held.reached(&scenario, &version, LONG, |_| {}).await.expect("a stopped service");
    for server in scenario.updaters() {
        updater(server).stop().await;
    }
    scenario
        .until_true("its leadership", async || candidates(&scenario).await == ["elsewhere"])
        .await;
    for server in scenario.updaters() {
        updater(server).up().await;
    }
    scenario.until_true("three candidates", async || candidates(&scenario).await.len() == 3).await;
    held.release().expect("room");
    let view = scenario.completed(&version).await;
    assert!(recorded_by(&view, &version).contains("elsewhere"));
    let said = std::fs::read_to_string(elsewhere.join("log")).expect("its log");
    let first = |words: &str| said.lines().position(|line| line.contains(words));
    let (led, decided) = (first("leading host=elsewhere"), first("decided: "));
    assert!(led.is_some() && led < decided, "it decides nothing before it leads: {said}");
    assert_eq!(scenario.requests(from).await.len(), 1, "one request, written once");
    guest.kill().await.expect("ended");
    scenario.verdict(&version).await;
}

/// An updater that a person starts, with the binary of `server`, below `root`.
fn by_hand(server: &BootServer, root: PathBuf) -> Command {
    let mut command = Command::new(server.root().join("usr/sbin/neco-updater"));
    command.arg("--root").arg(root).args(["--session-ttl", "5s"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    command
}

/// A host that is no boot server, with the configuration of one and its own copy of what is installed.
fn elsewhere(scenario: &Scenario) -> PathBuf {
    let (root, model) = (scenario.path().join("elsewhere"), scenario.server(0).root());
    for folder in ["etc/neco", "usr"] {
        std::fs::create_dir_all(root.join(folder)).expect("room");
    }
    for file in ["etc/neco/config.yml", "etc/neco/cluster", "etc/machine-id"] {
        std::fs::copy(model.join(file), root.join(file)).expect("room");
    }
    std::fs::write(root.join("etc/hostname"), "elsewhere\n").expect("room");
    copy(&model.join("usr/share"), &root.join("usr/share"));
    root
}

/// The hosts that stand for election, the leader first.
async fn candidates(scenario: &Scenario) -> Vec<String> {
    let range = Range::Prefix("leader/updater/".to_owned());
    let read = scenario.store().read(&[range], None).await.expect("an answer");
    let mut found: Vec<(Revision, String)> = read
        .kvs
        .into_values()
        .map(|kv| (kv.create_revision, String::from_utf8_lossy(&kv.value).into_owned()))
        .collect();
    found.sort();
    found.into_iter().map(|(_, host)| host).collect()
}
