//! Updaters and operators of the original take part.

use neco_plan::testing::GoAction;
use neco_playground::{HELD_UNIT, Held, has_settled, outcome_of};
use neco_scenarios::{LONG, Scenario, go_leads};
use neco_schema::Outcome;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_of_the_original_is_carried_out_from_the_signed_release() {
    let scenario = Scenario::begin().await;
    let from = scenario.recorded();
    let go = go_leads(&scenario).await;
    let version = scenario.publish_update().await;
    go.note_release(&scenario, &version).await.expect("noted");
    assert_eq!(go.act(&scenario).await.expect("acted"), GoAction::NewVersion(version.clone()));
    let view = scenario
        .until("all servers at work for it", |view| {
            view.current().is_some_and(|request| {
                request.version == version && view.member_statuses(request).count() == 3
            })
        })
        .await;
    let request = view.current().expect("a request");
    assert!(request.kind.is_none() && request.package.is_none(), "{request:?}");
    go.leave().await.expect("gone");
    scenario.completed(&version).await;
    assert_eq!(scenario.requests(from).await.len(), 1, "ours does not ask again");
    scenario.verdict(&version).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_of_the_original_settles_all_members_and_recovery_goes_on() {
    let scenario = Scenario::begin().await;
    let held = Held::next_start_of(scenario.server(2), HELD_UNIT).expect("room");
    let go = go_leads(&scenario).await;
    let version = scenario.publish_update().await;
    go.note_release(&scenario, &version).await.expect("noted");
    go.act(&scenario).await.expect("acted");
    held.reached(&scenario, &version, LONG, |_| {}).await.expect("a stopped service");
    go.carry_out(&scenario, &GoAction::Stop).await.expect("stopped");
    go.leave().await.expect("gone");
    held.release().expect("room");
    let view = scenario
        .until("all members settled", |view| {
            let request = view.current().filter(|request| request.stop);
            request.is_some_and(|request| has_settled(view, request))
        })
        .await;
    let stopped = view.current().expect("a request").clone();
    for server in scenario.servers() {
        for unit in ["vault.service", HELD_UNIT] {
            let unit = unit.parse().expect("a name");
            let record = server.units().record(&unit).expect("readable").expect("known");
            assert!(record.active, "{unit} is left stopped on boot-{}", server.lrn());
        }
    }
    scenario.recover().await;
    let view = scenario.completed(&version).await;
    assert_eq!(outcome_of(&view, &stopped), Some(Outcome::Stopped));
    scenario.verdict(&version).await;
}
