//! Updaters and operators of the original take part.

use neco_plan::testing::GoAction;
use neco_playground::{HELD_UNIT, Held, outcome_of};
use neco_scenarios::{LONG, Scenario, all_settled, go_leads, lines, necoctl};
use neco_schema::{Condition, Outcome};

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
#[ignore = "long; `cargo xtask test --all` runs it"]
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
    let view = all_settled(&scenario, &version).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn leadership_passes_to_and_fro_between_the_original_and_ours_within_one_update() {
    let scenario = Scenario::begin().await;
    let from = scenario.recorded();
    let held = Held::next_start_of(scenario.server(2), HELD_UNIT).expect("room");
    let version = scenario.publish_update().await;
    held.reached(&scenario, &version, LONG, |_| {}).await.expect("a stopped service");
    for _ in 0..2 {
        let go = go_leads(&scenario).await;
        assert_eq!(go.act(&scenario).await.expect("acted"), GoAction::WaitWorkers);
        go.leave().await.expect("gone");
        ours_decides(&scenario, "wait-for-workers").await;
    }
    let requests = scenario.requests(from).await;
    assert_eq!(requests.len(), 1, "nobody writes what stands there: {requests:?}");

    // It stops ours, as it knows to: with no word of what ours wrote beside.
    let go = go_leads(&scenario).await;
    go.carry_out(&scenario, &GoAction::Stop).await.expect("stopped");
    go.leave().await.expect("gone");
    held.release().expect("room");
    let view = all_settled(&scenario, &version).await;
    let stopped = view.current().expect("a request").clone();
    assert_eq!((&stopped.kind, &stopped.package), (&None, &None), "{stopped:?}");
    ours_decides(&scenario, "wait").await;

    // Ours asks again, the other sees it to its end, and ours writes it down.
    let held = Held::next_start_of(scenario.server(1), "vault.service").expect("room");
    necoctl(scenario.server(0), &["recover", "--reason", "the guest has gone"]).await.ended(0);
    scenario
        .until("the next request", |view| {
            view.current().is_some_and(|request| !request.stop && request.id() != stopped.id())
        })
        .await;
    let go = go_leads(&scenario).await;
    held.release().expect("room");
    let view = scenario
        .until("all servers through all steps", |view| {
            view.current().is_some_and(|request| {
                let members = view.member_statuses(request);
                members.filter(|(_, status)| status.value.cond == Condition::Complete).count() == 3
            })
        })
        .await;
    let request = view.current().expect("a request").clone();
    assert_eq!(outcome_of(&view, &request), None, "the original keeps no history");
    go.leave().await.expect("gone");
    let view = scenario.completed(&version).await;
    assert_eq!(outcome_of(&view, &stopped), Some(Outcome::Stopped));
    assert_eq!(outcome_of(&view, &request), Some(Outcome::Completed));
    scenario.verdict(&version).await;
}

/// Waits until an updater of ours leads and its latest decision has `word`.
async fn ours_decides(scenario: &Scenario, word: &str) {
    let what = format!("a leader of ours that decides {word}");
    scenario
        .until_true(&what, async || {
            let Ok(Some(leader)) = scenario.leader().await else { return false };
            let log = lines(leader, "neco-updater", &[""]);
            let led = log.iter().rposition(|line| line.contains("leading host="));
            let decided = log.iter().rposition(|line| line.contains("decided: "));
            led < decided && decided.is_some_and(|at| log[at].contains(word))
        })
        .await;
}
