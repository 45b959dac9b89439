//! The power fails.

use neco_plan::invariants::Fact;
use neco_playground::{HELD_UNIT, Held};
use neco_scenarios::{LONG, Scenario};
use neco_worker::install::UNIT;

/// The first thing that an installation changes.
const UNPACK: &str = "unpack neco";

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
    let units = || std::fs::read_dir(&enabled).map_or(0, Iterator::count);
    first.hold(UNPACK).expect("room");
    let version = scenario.publish_update().await;
    scenario.until_true("the unit that installs", async || first.detached(UNIT).is_some()).await;
    first.power_off().await.expect("off");
    assert_eq!(units(), 1, "the unit that installs comes up at boot");
    first.release(UNPACK).expect("room");
    first.power_on().await.expect("on");
    scenario.completed(&version).await;
    assert_eq!(units(), 0, "the unit that installs is disabled after its verdict");
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
    {
        let mut etcd = scenario.etcd().await;
        scenario.fact(Fact::Quorum { stands: false });
        for member in 0..etcd.len() {
            etcd.member_mut(member).kill().await.expect("off");
        }
        scenario.fact(Fact::Quorum { stands: true });
        etcd.restart().await.expect("etcd again");
    }
    held.release().expect("room");
    for server in scenario.servers() {
        server.power_on().await.expect("on");
    }
    scenario.completed(&version).await;
    scenario.verdict(&version).await;
}
