//! Workers are killed wherever they can be.

use std::collections::BTreeSet;

use neco_components::StepScope;
use neco_playground::{BootServer, has_settled, outcome_of};
use neco_scenarios::{
    GROUPED_UNIT, LONG, Scenario, TURN_UNIT, add_turn_unit, attempts, holds, is_held,
    kill_and_wait, kill_worker, kind, necoctl, nothing_was_done_twice, posted, recipe_of,
    request_for,
};
use neco_schema::{Condition, Outcome, UpdateRequest};
use nix::sys::signal::Signal;

/// Waits until a server has posted this, and `slow` has not.
async fn is_at(
    scenario: &Scenario,
    request: &UpdateRequest,
    server: &BootServer,
    what: (u32, Condition),
    slow: &BootServer,
) {
    let words = format!("boot-{} at step {}: {}", server.lrn(), what.0, what.1);
    let view = scenario.until(&words, |view| posted(view, request, server) == Some(what)).await;
    assert_ne!(posted(&view, request, slow), Some(what));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn workers_killed_at_every_step_boundary_wait_there_again() {
    let scenario = Scenario::begin().await;
    let from = scenario.recorded().await;
    let recipe =
        recipe_of(&scenario, scenario.packages().of(scenario.packages().update()).expect("it"));
    let last = recipe.len();
    // Each boundary is kept open by another server that is still in the step before it, or in the installation.
    let server = |number: u32| scenario.server(number % 3);
    let before = |step: u32| match recipe.step(step) {
        None => "unpack neco".to_owned(),
        Some(step) => format!("step {}", step.name),
    };
    let slow_at = |boundary: u32| (server(boundary), before(boundary - 1));
    for boundary in 1..=last + 1 {
        let (slow, call) = slow_at(boundary);
        slow.hold(&call).expect("room");
    }
    let version = scenario.publish_update().await;
    let request = request_for(&scenario, &version, &[]).await;
    for boundary in 1..=last + 1 {
        let ((slow, call), victim) = (slow_at(boundary), server(boundary + 2));
        let what = match boundary {
            _ if boundary <= last => (boundary, Condition::Running),
            _ => (last, Condition::Complete),
        };
        is_at(&scenario, &request, victim, what, slow).await;
        kill_and_wait(&scenario, victim).await;
        slow.release(&call).expect("room");
    }
    scenario.completed(&version).await;

    for server in scenario.servers() {
        for step in 1..=last {
            assert_eq!(attempts(server, &request, step), [1], "boot-{} step {step}", server.lrn());
        }
    }
    nothing_was_done_twice(&scenario, from, last).await;
    scenario.verdict(&version).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn workers_killed_inside_every_kind_of_step_do_it_again() {
    let scenario = Scenario::begin().await;
    add_turn_unit(&scenario).await;
    let from = scenario.recorded().await;
    let packages = scenario.packages();
    let [old, new] = [packages.first(), packages.update()]
        .map(|version| recipe_of(&scenario, packages.of(version).expect("a package")));
    for server in scenario.servers() {
        // Written only where it is not as it should be already.
        std::fs::remove_file(server.root().join("var/lib/neco/published/dhcp.json")).ok();
    }
    // Each step has another victim; where one server works for all, whoever that is.
    let victims = |step: u32| -> Vec<&BootServer> {
        let of_all = new
            .step(step)
            .expect("a step")
            .parts
            .iter()
            .any(|part| matches!(part.scope, StepScope::OncePerCluster { .. }));
        if of_all { scenario.servers().iter().collect() } else { vec![scenario.server(step % 3)] }
    };
    let change = |servers: &[&BootServer], calls: &[String], held: bool| {
        for (server, call) in servers.iter().flat_map(|s| calls.iter().map(move |call| (s, call))) {
            if held { server.hold(call) } else { server.release(call) }.expect("room");
        }
    };
    for step in 1..=new.len() {
        change(&victims(step), &holds(&new, &old, step)[0], true);
    }
    let version = scenario.publish_update().await;
    let request = request_for(&scenario, &version, &[]).await;
    let mut kinds = BTreeSet::new();
    for step in 1..=new.len() {
        let (mut servers, calls) = (victims(step), holds(&new, &old, step));
        for (number, alternatives) in calls.iter().enumerate() {
            let attempt = u32::try_from(number).expect("few") + 1;
            let what =
                format!("a worker held in step {step} ({}): {alternatives:?}", kind(&new, step));
            let mut held = Vec::new();
            scenario
                .until_true(&what, async || {
                    let is_held = |server: &&&BootServer| {
                        is_held(server, &request, step, attempt, alternatives)
                    };
                    held = servers.iter().filter(is_held).copied().collect();
                    !held.is_empty()
                })
                .await;
            kill_worker(held[0]).await;
            if let Some(next) = calls.get(number + 1) {
                change(&held[..1], next, true);
            }
            change(&servers, alternatives, false);
            servers = vec![held[0]];
        }
        kinds.insert(kind(&new, step));
        let all: Vec<u32> = (1..=u32::try_from(calls.len()).expect("few") + 1).collect();
        scenario
            .until_true(
                &format!("the end of step {step} on boot-{}", servers[0].lrn()),
                async || attempts(servers[0], &request, step) == all,
            )
            .await;
        for other in scenario.servers().iter().filter(|other| other.lrn() != servers[0].lrn()) {
            // Whoever waits for a turn has begun, too.
            let begun = attempts(other, &request, step);
            assert!(
                begun.is_empty() || begun == [1],
                "boot-{} step {step}: {begun:?}",
                other.lrn()
            );
        }
    }
    scenario.completed(&version).await;

    let every: BTreeSet<String> = (1..=new.len()).map(|step| kind(&new, step)).collect();
    assert_eq!(kinds, every);
    nothing_was_done_twice(&scenario, from, new.len()).await;
    for server in scenario.servers() {
        let done = ["start", "stop", "start"].map(|job| format!("{job} {TURN_UNIT}"));
        assert_eq!(scenario.done_to(server, TURN_UNIT), done, "boot-{}", server.lrn());
    }
    scenario.verdict(&version).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_workers_killed_at_once_between_stop_and_start_start_what_they_stopped() {
    let scenario = Scenario::begin().await;
    let from = scenario.recorded().await;
    let start = format!("start {GROUPED_UNIT}");
    for server in scenario.servers() {
        server.hold(&start).expect("room");
    }
    let version = scenario.publish_update().await;
    let request = request_for(&scenario, &version, &[]).await;
    let recipe = recipe_of(&scenario, scenario.packages().of(&version).expect("it"));
    let group = recipe.groups().first().expect("a group");
    let calls = [start.clone()];
    scenario
        .until_true("all servers held with the service stopped", async || {
            let held = |server| is_held(server, &request, group.apply, 1, &calls);
            scenario.servers().iter().all(held)
        })
        .await;
    for server in scenario.servers() {
        assert_eq!(scenario.done_to(server, GROUPED_UNIT), [format!("stop {GROUPED_UNIT}")]);
    }
    let mut killed = Vec::new();
    for server in scenario.servers() {
        killed.push((server, server.kill_worker(Signal::SIGKILL).await.expect("a worker")));
    }
    for (server, killed) in killed {
        server.worker().successor_of(killed, LONG).await.expect("a successor");
        server.release(&start).expect("room");
    }
    scenario.completed(&version).await;

    for server in scenario.servers() {
        let lrn = server.lrn();
        assert_eq!(attempts(server, &request, group.apply), [1, 2], "boot-{lrn}");
        assert_eq!(attempts(server, &request, group.apply + 1), [1], "boot-{lrn}");
    }
    nothing_was_done_twice(&scenario, from, recipe.len()).await;
    scenario.verdict(&version).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn a_step_that_kills_its_worker_three_times_aborts_and_goes_on_once_its_cause_is_gone() {
    let scenario = Scenario::begin().await;
    let packages = scenario.packages().clone();
    let (update, healing) = (packages.update().clone(), packages.healing().expect("it").clone());
    let recipe = recipe_of(&scenario, packages.of(&update).expect("it"));
    let victim = scenario.server(1);
    let deadly = recipe.step(2).expect("a second step").name.to_string();
    let call = [format!("step {deadly}")];
    victim.hold(&call[0]).expect("room");
    scenario.publish_update().await;
    let cause = "step 2 ended the worker 3 times";
    let mut aborted = Vec::new();
    for version in [&update, &healing] {
        if *version == healing {
            // It replaces the one before by itself, and fails for the same cause.
            scenario.publish_sound(&healing).await;
        }
        let request = request_for(&scenario, version, &[]).await;
        for attempt in 1..=3 {
            scenario
                .until_true(&format!("attempt {attempt}"), async || {
                    is_held(victim, &request, 2, attempt, &call)
                })
                .await;
            kill_worker(victim).await;
        }
        let view = scenario
            .until("the end of the request", |view| {
                let current = view.current().filter(|current| current.id() == request.id());
                current.is_some_and(|current| current.stop && has_settled(view, current))
            })
            .await;
        assert_eq!(attempts(victim, &request, 2), [1, 2, 3], "it is not begun a fourth time");
        for server in scenario.servers() {
            let status = &view.status_of(&request, server.lrn()).expect("a status").value;
            // Whoever hears of the stop before the abort settles.
            if server.lrn() == victim.lrn() || status.cond == Condition::Abort {
                let origin = status.origin.as_ref().expect("an origin");
                assert_eq!((origin.lrn, origin.step), (victim.lrn(), 2), "{origin:?}");
                assert_eq!(origin.cause, cause);
            }
            assert!(attempts(server, &request, 3).is_empty(), "boot-{}", server.lrn());
        }
        // Any server tells what happened, and what to do about it.
        let desk = scenario.server(0);
        for verb in ["status", "why"] {
            let told = necoctl(desk, &[verb]).await.out;
            assert!(told.contains(cause) && told.contains("boot server 1"), "{verb}: {told}");
        }
        let why = necoctl(desk, &["why"]).await.ended(0).out;
        assert!(why.contains("command necoctl recover --retry"), "{why}");
        aborted.push(request);
    }
    victim.release(&call[0]).expect("room");
    necoctl(scenario.server(0), &["recover", "--retry", "--reason", "mended"]).await.ended(0);
    let view = scenario.completed(&healing).await;
    for request in aborted {
        let outcome = outcome_of(&view, &request);
        assert_eq!(outcome, Some(Outcome::Aborted), "{}", request.version);
    }
    scenario.verdict(&healing).await;
}
