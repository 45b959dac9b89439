//! etcd is put back to an earlier time.

use neco_playground::{HELD_UNIT, Held, outcome_of};
use neco_scenarios::{Backup, LONG, Said, Scenario, all_say_more, effects, necoctl};
use neco_schema::{Condition, Outcome};

/// A backup is taken in the middle of an update, the update comes to its end, and the backup is put back.
async fn nobody_resumes_after(backup: impl AsyncFn(&Scenario) -> Backup, says: &[&str]) {
    let mut scenario = Scenario::begin().await;
    let held = Held::next_start_of(scenario.server(1), HELD_UNIT).expect("room");
    let version = scenario.packages().update().clone();
    scenario.publish_sound(&version).await;
    held.reached(&scenario, &version, LONG, |_| {}).await.expect("a stopped service");
    let taken = backup(&scenario).await;
    held.release().expect("room");
    let view = scenario.completed(&version).await;
    let request = view.current().expect("a request").clone();
    let done: Vec<_> = scenario.servers().iter().map(effects).collect();
    let running: Vec<_> = scenario.servers().iter().map(|server| server.worker().pid()).collect();
    let rest = Said::by_workers(&scenario, says);
    scenario.learn_recipe(&version);
    scenario.restore(&taken).await;

    let from = scenario.recorded().await;
    let view = scenario.view().await.expect("an answer");
    let half_way = view.current().expect("the request as it stood");
    assert_eq!(half_way.id(), request.id());
    assert!(
        view.member_statuses(half_way).all(|(_, status)| status.value.cond == Condition::Running)
    );
    all_say_more(&scenario, &rest).await;
    for server in scenario.servers() {
        let said = necoctl(server, &["why"]).await.ended(0);
        let missing: Vec<_> = says.iter().filter(|word| !said.out.contains(**word)).collect();
        assert!(missing.is_empty(), "{missing:?} in {}", said.out);
        assert!(said.out.contains("command necoctl recover --force"), "{}", said.out);
        assert_eq!(scenario.posted(server, from).await, [], "nobody says anything");
    }
    assert_eq!(scenario.requests(from).await, [], "the leader waits, too");

    let order = ["recover", "--force", "--reason", "etcd was restored", "--by", "alice"];
    necoctl(scenario.server(0), &order).await.ended(0);
    let view = scenario.completed(&version).await;
    let next = view.current().expect("a request").id();
    assert_ne!(next, request.id());
    assert_eq!(outcome_of(&view, &request), Some(Outcome::Stopped), "as far as this etcd knows");
    let after: Vec<_> = scenario.servers().iter().map(effects).collect();
    assert_eq!(after, done, "everything is as it should be already");
    let now: Vec<_> = scenario.servers().iter().map(|server| server.worker().pid()).collect();
    assert_eq!(now, running, "no worker ended");
    let next = scenario.packages().healing().expect("a third").clone();
    scenario.publish_sound(&next).await;
    scenario.completed(&next).await;
    scenario.verdict(&next).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn nobody_resumes_after_etcd_went_back_to_copies_taken_in_mid_update() {
    let says = ["etcd was restored from a backup", "this server has seen"];
    nobody_resumes_after(Backup::copies, &says).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn nobody_resumes_after_etcd_was_restored_from_a_snapshot_taken_in_mid_update() {
    let says = ["etcd is another cluster than the one this server knows"];
    nobody_resumes_after(Backup::snapshot, &says).await;
}
