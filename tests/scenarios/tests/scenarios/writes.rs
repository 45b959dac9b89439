//! Writes that are under way when something happens to who makes them.

use neco_plan::View;
use neco_scenarios::{LONG, Scenario, Verdict, Wire, attempts, leads, updater};
use neco_schema::{Key, Lrn, NecoVersion, UpdateRequest};
use nix::sys::signal::Signal;

/// What only the write of a request for `version` has.
fn request_for(version: &NecoVersion) -> [String; 2] {
    ["\"servers\":[".to_owned(), format!("\"version\":\"{version}\"")]
}

/// What only the write of a status has that says: `step` is running.
fn status_at(lrn: Lrn, step: u32) -> [String; 2] {
    [Key::Status(lrn).to_string(), format!("\"step\":{step},\"cond\":1")]
}

fn words(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// Whether a request for `version` stands.
fn is_requested(view: &View, version: &NecoVersion) -> bool {
    view.current().is_some_and(|request| request.version == *version)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_killed_between_decision_and_write_or_before_it_knew_leaves_one_request() {
    let mut scenario = Scenario::begin().await;
    let wire = Wire::lay(&scenario, scenario.server(0)).await;
    let versions = [scenario.packages().update(), scenario.packages().healing().expect("a third")]
        .map(Clone::clone);
    for (version, written) in versions.iter().zip([false, true]) {
        leads(&scenario, scenario.server(0)).await;
        let from = scenario.recorded().await;
        let marks = request_for(version);
        if written {
            wire.cut_behind(&words(&marks));
        } else {
            wire.cut_before(&words(&marks));
        }
        scenario.publish_sound(version).await;
        wire.caught().await;
        if written {
            scenario.until("its request", |view| is_requested(view, version)).await;
        } else {
            assert_eq!(scenario.requests(from).await, [], "it had decided, and not written");
        }
        updater(scenario.server(0)).signal(Signal::SIGKILL).await.expect("it runs");
        // What was under way ends with the connection. Whoever leads next, its own successor too, finds what is there.
        wire.mend();
        scenario.completed(version).await;
        let requests = scenario.requests(from).await;
        assert_eq!(requests.len(), 1, "written once: {requests:?}");
        scenario.learn_recipe(version);
    }
    scenario.verdict(&versions[1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn a_write_of_a_leader_that_arrives_after_its_lease_is_refused_and_nothing_is_lost() {
    let scenario = Scenario::begin().await;
    let wire = Wire::lay(&scenario, scenario.server(0)).await;
    leads(&scenario, scenario.server(0)).await;
    let from = scenario.recorded().await;
    wire.cut_before(&words(&request_for(scenario.packages().update())));
    let version = scenario.publish_update().await;
    wire.caught().await;
    scenario.other_leader(Lrn::new(0)).await;
    let view =
        scenario.until("the request of the other", |view| is_requested(view, &version)).await;
    let others = view.current().expect("a request").id();
    // On its way for longer than its writer led.
    assert_eq!(wire.deliver().await, Verdict::Refused);
    scenario.completed(&version).await;

    let requests = scenario.requests(from).await;
    let ids: Vec<_> =
        requests.iter().flat_map(|(_, request)| request).map(UpdateRequest::id).collect();
    assert_eq!(ids, [others], "the request is written once, by the other");
    scenario.verdict(&version).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn a_worker_killed_before_its_post_reached_etcd_or_before_it_knew_posts_once() {
    let scenario = Scenario::begin().await;
    let victim = scenario.server(2);
    let wire = Wire::lay(&scenario, victim).await;
    let from = scenario.recorded().await;
    wire.cut_before(&words(&status_at(victim.lrn(), 3)));
    let version = scenario.publish_update().await;
    let mut request = None;
    for (step, written) in [(3, false), (5, true)] {
        wire.caught().await;
        let posted = |view: &View| {
            let status = view.current().and_then(|request| view.status_of(request, victim.lrn()));
            status.map_or(0, |status| status.value.step)
        };
        let stands = if written { step } else { step - 1 };
        let what = format!("boot-2 in step {stands}, as etcd has it");
        let view = scenario.until(&what, |view| posted(view) == stands).await;
        request = view.current().cloned();
        let killed = victim.kill_worker(Signal::SIGKILL).await.expect("a worker");
        if step == 3 {
            wire.cut_behind(&words(&status_at(victim.lrn(), 5)));
        }
        wire.mend();
        victim.worker().successor_of(killed, LONG).await.expect("a successor");
    }
    scenario.completed(&version).await;

    let request = request.expect("a request");
    let posted = scenario.posted(victim, from).await;
    for step in [3, 5] {
        let times = posted.iter().filter(|status| status.step == step).count();
        assert_eq!(times, 1, "step {step} is posted once");
        assert_eq!(attempts(victim, &request, step - 1), [1], "what was done is not done again");
    }
    scenario.verdict(&version).await;
}
