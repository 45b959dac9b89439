//! etcd is restarted, and forgets its history.

use neco_playground::{HELD_UNIT, Held};
use neco_scenarios::{LONG, Scenario};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_restarted_member_by_member_and_compacted_does_not_disturb_an_update() {
    let scenario = Scenario::begin().await;
    let from = scenario.recorded();
    let held = Held::next_start_of(scenario.server(1), HELD_UNIT).expect("room");
    let version = scenario.publish_update().await;
    held.reached(&scenario, &version, LONG, |_| {}).await.expect("a stopped service");
    let pids = |scenario: &Scenario| {
        scenario.servers().iter().map(|server| server.worker().pid()).collect::<Vec<_>>()
    };
    let before = pids(&scenario);
    {
        let mut etcd = scenario.etcd().await;
        for number in 0..etcd.len() {
            etcd.member_mut(number).restart().await.expect("it comes back");
            // Whoever watches from an older revision has to list again.
            scenario.compact().await;
        }
    }
    held.release().expect("room");
    scenario.completed(&version).await;

    assert_eq!(pids(&scenario), before, "no worker ended for it");
    assert_eq!(scenario.requests(from).await.len(), 1, "one request");
    scenario.verdict(&version).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_goes_on_after_an_outage_of_all_of_etcd() {
    let scenario = Scenario::begin().await;
    let from = scenario.recorded();
    let held = Held::next_start_of(scenario.server(1), HELD_UNIT).expect("room");
    let version = scenario.publish_update().await;
    held.reached(&scenario, &version, LONG, |_| {}).await.expect("a stopped service");
    scenario.etcd().await.restart().await.expect("it comes back");
    held.release().expect("room");
    scenario.completed(&version).await;
    assert_eq!(scenario.requests(from).await.len(), 1, "one request");
    scenario.verdict(&version).await;
}
