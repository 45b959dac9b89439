//! The updater that leads is lost, for good or for a while.

use neco_playground::{HELD_UNIT, Held};
use neco_scenarios::{LONG, Scenario};
use neco_schema::{Lrn, Range, Revision};
use neco_store::Store;
use nix::sys::signal::Signal;

/// What only a leader writes.
fn is_leaders(key: &str) -> bool {
    let folders = ["clock/", "seen/", "history/", "info/neco-release"];
    // A worker writes its own part of the history.
    let of_a_worker = key.starts_with("history/") && key.matches('/').count() == 2;
    key == "status/current"
        || (folders.iter().any(|folder| key.starts_with(folder)) && !of_a_worker)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_updater_leads_on_when_the_leader_is_killed() {
    let scenario = Scenario::begin().await;
    let from = scenario.recorded();
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
    let record = view.history.values().flatten().find(|record| record.version == version);
    let by = &record.expect("a record").by;
    assert!(by.contains(&format!("boot-{next}")), "recorded by {by}");
    scenario.verdict(&version).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_frozen_beyond_its_lease_writes_nothing_when_it_thaws() {
    let scenario = Scenario::begin().await;
    let from = scenario.recorded();
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
    let record = view.history.values().flatten().find(|record| record.version == version);
    let by = &record.expect("a record").by;
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
