//! Updaters and operators of the original take part.

use neco_plan::testing::GoAction;
use neco_playground::{HELD_UNIT, Held, outcome_of};
use neco_scenarios::{LONG, Said, Scenario, all_settled, go_leads, is_up, lines, necoctl};
use neco_schema::{Condition, Outcome};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_of_the_original_is_carried_out_from_the_signed_release() {
    let scenario = Scenario::begin().await;
    let from = scenario.recorded().await;
    let go = go_leads(&scenario).await;
    let version = scenario.publish_update().await;
    go.note_release(&version).await;
    assert_eq!(go.act().await, GoAction::NewVersion(version.clone()));
    let view = scenario
        .until("all servers at work for it", |view| {
            view.current().is_some_and(|request| {
                request.version == version && view.member_statuses(request).count() == 3
            })
        })
        .await;
    let request = view.current().expect("a request");
    assert!(request.kind.is_none() && request.package.is_none(), "{request:?}");
    go.leave().await;
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
    go.note_release(&version).await;
    assert_eq!(go.act().await, GoAction::NewVersion(version.clone()));
    held.reached(&scenario, &version, LONG, |_| {}).await.expect("a stopped service");
    go.carry_out(&GoAction::Stop).await;
    go.leave().await;
    held.release().expect("room");
    let view = all_settled(&scenario, &version).await;
    let stopped = view.current().expect("a request").clone();
    for server in scenario.servers() {
        for unit in ["vault.service", HELD_UNIT] {
            assert!(is_up(server, unit), "{unit} is left stopped on boot-{}", server.lrn());
        }
    }
    let order = ["recover", "--wait=180s", "--reason=the guest has gone"];
    necoctl(scenario.server(0), &order).await.ended(0);
    let view = scenario.completed(&version).await;
    assert_eq!(outcome_of(&view, &stopped), Some(Outcome::Stopped));
    scenario.verdict(&version).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn leadership_passes_to_and_fro_between_the_original_and_ours_within_one_update() {
    let scenario = Scenario::begin().await;
    let from = scenario.recorded().await;
    let held = Held::next_start_of(scenario.server(2), HELD_UNIT).expect("room");
    let version = scenario.publish_update().await;
    held.reached(&scenario, &version, LONG, |_| {}).await.expect("a stopped service");
    for _ in 0..2 {
        let go = go_leads(&scenario).await;
        assert_eq!(go.act().await, GoAction::WaitWorkers);
        let led = Said::by_updaters(&scenario, &[LEADS]);
        go.leave().await;
        ours_decides(&scenario, &led, "wait-for-workers").await;
    }
    let requests = scenario.requests(from).await;
    assert_eq!(requests.len(), 1, "nobody writes what stands there: {requests:?}");

    // It stops ours, as it knows to: with no word of what ours wrote beside.
    let go = go_leads(&scenario).await;
    go.carry_out(&GoAction::Stop).await;
    let led = Said::by_updaters(&scenario, &[LEADS]);
    go.leave().await;
    held.release().expect("room");
    let view = all_settled(&scenario, &version).await;
    let stopped = view.current().expect("a request").clone();
    assert_eq!((&stopped.kind, &stopped.package), (&None, &None), "{stopped:?}");
    ours_decides(&scenario, &led, "wait-for-user-recovery").await;

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
    go.leave().await;
    let view = scenario.completed(&version).await;
    assert_eq!(outcome_of(&view, &stopped), Some(Outcome::Stopped));
    assert_eq!(outcome_of(&view, &request), Some(Outcome::Completed));
    scenario.verdict(&version).await;
}

/// What an updater of ours logs when it begins to lead.
const LEADS: &str = "leading host=";

/// Waits until an updater of ours has begun to lead since `led` was taken, and the latest that it decided since is `name`.
async fn ours_decides(scenario: &Scenario, led: &[Said], name: &str) {
    let decided = format!("decided: {name} ");
    scenario
        .until_true(&format!("a leader of ours with {decided:?}"), async || {
            let Some(leader) = led.iter().find(|led| led.is_more(scenario)) else { return false };
            let log = lines(scenario.server(leader.lrn.get()), "neco-updater", &[""]);
            let began = log.iter().rposition(|line| line.contains(LEADS));
            let latest = log.iter().rposition(|line| line.contains("decided: "));
            began < latest && latest.is_some_and(|at| log[at].contains(&decided))
        })
        .await;
}
