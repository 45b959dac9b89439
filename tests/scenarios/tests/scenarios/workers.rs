//! Workers that are frozen, that are there twice, or that have no etcd.

use std::process::Stdio;

use neco_plan::invariants::Fact;
use neco_playground::{BootServer, HELD_UNIT, Held};
use neco_scenarios::{
    LONG, Said, Scenario, attempts, begun_since, given_up, holds, is_held, is_up, kill_worker,
    lines, necoctl, once, one_says_more, posted, recipe_of, request_for, settled,
};
use neco_schema::journal::{Entry, Phase};
use neco_schema::{Alive, Condition, Key, Lrn, Record, Revision, UpdateRequest};
use nix::sys::signal::Signal;
use tokio::process::Command;

/// How far the journal of a server has come.
fn journalled(server: &BootServer) -> u64 {
    let journal = server.journal().unwrap_or_else(|error| panic!("{error}"));
    journal.last().map_or(0, |record| record.seq)
}

/// Freezes the worker of a server until nobody hears of it any more; says how far its journal has come.
async fn freeze(scenario: &Scenario, server: &BootServer) -> u64 {
    server.worker().signal(Signal::SIGSTOP).await.expect("it runs");
    given_up(scenario, server).await;
    journalled(server)
}

/// Thaws it again; gives the revision of etcd right before that.
async fn thaw(scenario: &Scenario, server: &BootServer) -> Revision {
    let now = scenario.view().await.expect("an answer").revision;
    server.worker().signal(Signal::SIGCONT).await.expect("it is still there");
    now
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn a_worker_that_was_frozen_beyond_its_lease_does_nothing_before_it_has_looked_again() {
    let scenario = Scenario::begin().await;
    let [desk, victim, sleeper] = [0, 1, 2].map(|lrn| scenario.server(lrn));

    // In the middle of a pull. The others wait for it; then its request is ended behind its back.
    let packages = scenario.packages();
    let [old, new] = [packages.first(), packages.update()]
        .map(|version| recipe_of(&scenario, packages.of(version).expect("a package")));
    // The first of several: what follows it is to be seen.
    let pull = &holds(&new, &old, 1)[0];
    sleeper.hold(&pull[0]).expect("room");
    let version = scenario.publish_update().await;
    let ended = request_for(&scenario, &version, &[]).await;
    scenario.until_true("a pull", async || is_held(sleeper, &ended, 1, 1, pull)).await;
    let frozen_at = freeze(&scenario, sleeper).await;
    let view = scenario
        .until("the others at the barrier", |view| {
            let at_barrier = |server| posted(view, &ended, server) == Some((2, Condition::Running));
            at_barrier(desk) && at_barrier(victim)
        })
        .await;
    assert_eq!(posted(&view, &ended, sleeper), Some((1, Condition::Running)));
    let why = necoctl(desk, &["why"]).await.ended(0).out;
    assert!(why.contains("boot server 2 has no living worker"), "{why}");
    assert!(attempts(desk, &ended, 2).is_empty(), "nobody passes the barrier");
    necoctl(desk, &["stop", "--reason", "weather"]).await.ended(0);
    settled(&scenario, &ended, &[desk, victim]).await;
    let words = ["decided: wait ", "boot server 2 is not alive"];
    let away = Said::by_updaters(&scenario, &words);
    necoctl(desk, &["recover", "--reason", "weather"]).await.ended(0);
    one_says_more(&scenario, &away).await;
    // For later: the next request is held where a server has stopped a service and not started it.
    let held = Held::next_start_of(victim, HELD_UNIT).expect("room");
    sleeper.release(&pull[0]).expect("room");
    let view = scenario.view().await.expect("an answer");
    assert!(view.current().is_none(), "no new request while a member is away: {view:?}");
    let thawed_at = thaw(&scenario, sleeper).await;

    // Between a stop and its start. What was taken away is given back, and nothing else is done.
    let stopped = request_for(&scenario, &version, &[&ended]).await;
    held.reached(&scenario, &version, LONG, |_| {}).await.expect("a stopped service");
    assert_looked_again(sleeper, frozen_at, thawed_at, &ended);
    let frozen_at = freeze(&scenario, victim).await;
    let done = || [desk, sleeper].map(|server| scenario.done_to(server, HELD_UNIT));
    let why = necoctl(desk, &["why"]).await.ended(0).out;
    let holder = "boot server 1, which has no living worker, holds the turn serf";
    assert!(why.contains(holder), "{why}");
    let done_by_others = done();
    necoctl(desk, &["stop", "--reason", "weather"]).await.ended(0);
    settled(&scenario, &stopped, &[desk, sleeper]).await;
    assert_eq!(done(), done_by_others, "nobody restarts while another has the turn");
    held.release().expect("room");
    let thawed_at = thaw(&scenario, victim).await;
    settled(&scenario, &stopped, &[victim]).await;
    assert_eq!(scenario.done_to(victim, HELD_UNIT), once(HELD_UNIT), "given back, once");
    assert_looked_again(victim, frozen_at, thawed_at, &stopped);
    necoctl(desk, &["recover", "--reason", "weather"]).await.ended(0);
    scenario.completed(&version).await;

    for server in scenario.servers() {
        assert_eq!(scenario.done_to(server, HELD_UNIT), once(HELD_UNIT), "boot-{}", server.lrn());
    }
    scenario.verdict(&version).await;
}

/// Checks that a server has begun nothing for `request`, and nothing else with an older view, since it was thawed.
#[track_caller]
fn assert_looked_again(
    server: &BootServer,
    frozen: u64,
    thawed: Revision,
    request: &UpdateRequest,
) {
    for (what, revision) in begun_since(server, frozen) {
        assert!(revision >= thawed, "{what} was begun as of {revision}, thawed at {thawed}");
        assert!(!what.contains(&request.id().to_string()), "{what} was begun for what is over");
    }
    let journal = server.journal().unwrap_or_else(|error| panic!("{error}"));
    for record in journal.iter().filter(|record| record.seq > frozen) {
        let begun = match &record.entry {
            Entry::StepBegun { request: id, .. } | Entry::IntentOpened { request: id, .. } => {
                Some(id)
            }
            Entry::Effect { request: id, phase: Phase::Begin, .. } => Some(id),
            _ => None,
        };
        assert_ne!(begun, Some(&request.id()), "{:?}", record.entry);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn of_two_workers_with_one_number_the_second_rests_and_says_so() {
    let scenario = Scenario::begin().await;
    let first = scenario.server(1);
    let ran = first.worker().pid().expect("it runs");

    // On the same machine.
    let second = Command::new(first.root().join("usr/sbin/neco-worker"))
        .arg("--root")
        .arg(first.root())
        .arg("--sandbox")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let second = tokio::time::timeout(LONG, second).await.expect("it ends").expect("it runs");
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    let clear = said.lines().filter(|line| line.contains(&format!("locked by process {ran}")));
    assert_eq!(clear.count(), 1, "{said}");
    assert!(said.contains("one worker runs on a boot server"), "{said}");
    assert!(!said.contains("panicked"), "{said}");

    // On another machine, whose rack number is mistaken.
    let from = scenario.recorded().await;
    let twin = scenario.install_spare(1).await.expect("installed");
    twin.power_on().await.expect("on");
    let words = ["machine", "uses this logical rack number too", "/etc/neco/rack"];
    scenario.logged(&twin, "neco-worker", &words).await;
    let why = necoctl(&twin, &["why"]).await.ended(0).out;
    for words in ["boot server 1 rests: machine", "uses this logical rack number too"] {
        assert!(why.contains(words), "{why}");
    }
    let version = scenario.publish_update().await;
    scenario.completed(&version).await;

    // Nothing in etcd is the twin's, and nothing was done on its side.
    let own = std::fs::read_to_string(first.root().join("etc/machine-id")).expect("a machine id");
    let alive = Key::Alive(Lrn::new(1)).to_string();
    for (at, changes) in scenario.history().await.into_iter().filter(|(at, _)| *at > from) {
        for change in changes.iter().filter(|change| change.key == alive) {
            let Some(kv) = &change.after else { continue };
            let told = Alive::decode(&kv.value).expect("readable");
            assert_eq!(told.machine_id, own.trim(), "at revision {at}");
        }
    }
    for record in twin.journal().unwrap_or_else(|error| panic!("{error}")) {
        let rests = match &record.entry {
            Entry::Decision { decided, .. } => decided.starts_with("row 5 rest"),
            entry => matches!(
                entry,
                Entry::ProcessStarted { .. } | Entry::Mark(_) | Entry::Checkpoint { .. }
            ),
        };
        assert!(rests, "{:?}", record.entry);
    }
    let effects = twin.units().effects().expect("a log of units");
    let done: Vec<String> = effects.iter().map(|entry| entry.effect.words()).collect();
    assert_eq!(done, ["boot"]);
    assert_eq!(twin.version_on_disk().as_deref(), Some(scenario.packages().first().as_str()));
    // Said once, and the worker has not ended for it.
    assert_eq!(lines(&twin, "neco-worker", &words).len(), 1);
    assert_eq!(twin.worker().state().starts, 1);
    drop(twin);
    scenario.verdict(&version).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn a_worker_without_etcd_starts_what_it_stopped() {
    let scenario = Scenario::begin().await;
    let victim = scenario.server(1);
    let held = Held::next_start_of(victim, HELD_UNIT).expect("room");
    let version = scenario.publish_update().await;
    held.reached(&scenario, &version, LONG, |_| {}).await.expect("a stopped service");
    {
        let mut etcd = scenario.etcd().await;
        etcd.stop().await.expect("stopped");
        scenario.fact(Fact::Quorum { stands: false });
        kill_worker(victim).await;
        held.release().expect("room");
        scenario
            .until_true("the service, while etcd is down", async || is_up(victim, HELD_UNIT))
            .await;
        scenario.fact(Fact::Quorum { stands: true });
        etcd.restart().await.expect("started");
    }
    scenario.completed(&version).await;
    scenario.verdict(&version).await;
}
