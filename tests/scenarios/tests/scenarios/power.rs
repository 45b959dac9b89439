//! The power fails.

use neco_playground::{HELD_UNIT, Held};
use neco_scenarios::{LONG, Scenario};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn a_power_cut_between_a_stop_and_its_start_is_got_over() {
    let scenario = Scenario::begin().await;
    let victim = scenario.server(2);
    let held = Held::next_start_of(victim, HELD_UNIT).expect("room");
    let version = scenario.publish_update().await;
    held.reached(&scenario, &version, LONG, |_| {}).await.expect("a stopped service");
    victim.power_off().await.expect("off");
    held.release().expect("room");
    victim.power_on().await.expect("on");
    scenario.completed(&version).await;
    scenario.verdict(&version).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn a_power_cut_of_the_first_server_while_it_installs_is_got_over() {
    let scenario = Scenario::begin().await;
    let first = scenario.server(0);
    let enabled = first.root().join("var/lib/neco/enabled");
    let version = scenario.publish_update().await;
    scenario
        .until_true("the unit that installs", async || {
            std::fs::read_dir(&enabled).is_ok_and(|mut units| units.next().is_some())
        })
        .await;
    first.power_cut().await.expect("off and on");
    scenario.completed(&version).await;
    let left = std::fs::read_dir(&enabled).map_or(0, Iterator::count);
    assert_eq!(left, 0, "the unit that installs is disabled after its verdict");
    scenario.verdict(&version).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_of_everything_is_got_over() {
    let scenario = Scenario::begin().await;
    let held = Held::next_start_of(scenario.server(1), HELD_UNIT).expect("room");
    let version = scenario.publish_update().await;
    held.reached(&scenario, &version, LONG, |_| {}).await.expect("a stopped service");
    for server in scenario.servers() {
        server.power_off().await.expect("off");
    }
    scenario.etcd().await.restart().await.expect("etcd again");
    held.release().expect("room");
    for server in scenario.servers() {
        server.power_on().await.expect("on");
    }
    scenario.completed(&version).await;
    scenario.verdict(&version).await;
}
