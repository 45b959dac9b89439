//! Workers are killed, and those that follow them go on where they were.

use neco_playground::{HELD_UNIT, Held};
use neco_scenarios::{LONG, Scenario, attempts, kill_worker};
use neco_schema::{Condition, UpdateRequest};

/// An image that only the update brings; it is pulled in step 1.
const IMAGE: &str = "pull ghcr.io/cybozu/vault:1.18.1.2";

fn current(view: &neco_plan::View) -> UpdateRequest {
    view.current().expect("a request").clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_killed_in_a_step_does_that_step_again() {
    let scenario = Scenario::begin().await;
    let from = scenario.recorded();
    let victim = scenario.server(1);
    victim.hold(IMAGE).expect("room");
    let version = scenario.publish_update().await;
    let view = scenario
        .until("boot-1 in its first step", |view| {
            let request = view.current().filter(|request| request.version == version);
            request.is_some_and(|request| {
                view.progress.get(&victim.lrn()).is_some_and(|progress| {
                    progress.value.request == request.id() && progress.value.step == 1
                })
            })
        })
        .await;
    let request = current(&view);
    kill_worker(victim).await;
    victim.release(IMAGE).expect("room");
    scenario.completed(&version).await;

    assert_eq!(attempts(victim, &request, 1), [1, 2], "begun by both workers");
    assert_eq!(attempts(victim, &request, 2), [1]);
    assert_eq!(attempts(scenario.server(0), &request, 1), [1], "nobody else is disturbed");
    let first = scenario.posted(victim, from).await;
    assert_eq!(first.iter().filter(|status| status.step == 1).count(), 1, "posted once");
    scenario.verdict(&version).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_killed_at_a_step_boundary_waits_there_again_without_a_word() {
    let scenario = Scenario::begin().await;
    let from = scenario.recorded();
    let (victim, slow) = (scenario.server(1), scenario.server(2));
    slow.hold(IMAGE).expect("room");
    let version = scenario.publish_update().await;
    let view = scenario
        .until("boot-1 at the barrier before step 2", |view| {
            let request = view.current().filter(|request| request.version == version);
            let posted = |lrn| {
                let status = request.and_then(|request| view.status_of(request, lrn));
                status.map(|status| (status.value.step, status.value.cond))
            };
            posted(victim.lrn()) == Some((2, Condition::Running))
                && posted(slow.lrn()) == Some((1, Condition::Running))
        })
        .await;
    let request = current(&view);
    kill_worker(victim).await;
    // The next worker has looked when it says that it is ready and lives.
    scenario.until_true("the next worker", async || victim.ready("neco-worker").is_some()).await;
    slow.release(IMAGE).expect("room");
    scenario.completed(&version).await;

    assert_eq!(attempts(victim, &request, 1), [1], "what is done is not done again");
    let posted = scenario.posted(victim, from).await;
    assert_eq!(posted.iter().filter(|status| status.step == 2).count(), 1, "posted once");
    scenario.verdict(&version).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_killed_between_a_stop_and_its_start_starts_what_it_stopped() {
    let scenario = Scenario::begin().await;
    let victim = scenario.server(1);
    let held = Held::next_start_of(victim, HELD_UNIT).expect("room");
    let version = scenario.publish_update().await;
    held.reached(&scenario, &version, LONG, |_| {}).await.expect("a stopped service");
    assert_eq!(scenario.done_to(victim, HELD_UNIT), [format!("stop {HELD_UNIT}")]);
    kill_worker(victim).await;
    held.release().expect("room");
    scenario.completed(&version).await;

    let done = scenario.done_to(victim, HELD_UNIT);
    assert_eq!(done, [format!("stop {HELD_UNIT}"), format!("start {HELD_UNIT}")]);
    scenario.verdict(&version).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_without_etcd_starts_what_it_stopped() {
    let scenario = Scenario::begin().await;
    let victim = scenario.server(1);
    let held = Held::next_start_of(victim, HELD_UNIT).expect("room");
    let version = scenario.publish_update().await;
    held.reached(&scenario, &version, LONG, |_| {}).await.expect("a stopped service");
    {
        let mut etcd = scenario.etcd().await;
        etcd.stop().await.expect("stopped");
        kill_worker(victim).await;
        held.release().expect("room");
        let unit = HELD_UNIT.parse().expect("a name");
        scenario
            .until_true("the service, while etcd is down", async || {
                let unit = victim.units().record(&unit).expect("readable");
                unit.is_some_and(|unit| unit.active)
            })
            .await;
        etcd.restart().await.expect("started");
    }
    scenario.completed(&version).await;
    scenario.verdict(&version).await;
}
