//! Workers die with a turn in their hands.

use neco_playground::{BootServer, HELD_UNIT, Held};
use neco_scenarios::{
    LONG, Scenario, TURN_UNIT, add_turn_unit, attempts, given_up, is_held, necoctl, once, posted,
    request_for,
};
use neco_schema::Condition;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn a_turn_whose_holder_died_is_kept_until_it_returns_or_an_operator_releases_it() {
    let scenario = Scenario::begin().await;
    add_turn_unit(&scenario).await;
    let [desk, other, holder] = [0, 1, 2].map(|lrn| scenario.server(lrn));
    let others = [desk, other];
    // The others come to these steps after the holder.
    let (serf, last) = ("step serf", "step final-sync");
    for server in others {
        server.hold(serf).expect("room");
        server.hold(last).expect("room");
    }
    let held = Held::next_start_of(holder, HELD_UNIT).expect("room");
    let last_start = format!("start {TURN_UNIT}");
    holder.hold(&last_start).expect("room");
    let version = scenario.publish_update().await;
    let step = held.reached(&scenario, &version, LONG, |_| {}).await.expect("a stopped service");
    let request = request_for(&scenario, &version, &[]).await;

    // It dies and comes back.
    waits_for_the_dead(&scenario, holder, others, "serf", serf).await;
    for server in others {
        assert!(scenario.done_to(server, HELD_UNIT).is_empty(), "boot-{}", server.lrn());
    }
    held.release().expect("room");
    holder.worker().up().await;
    scenario
        .until("the step done everywhere", |view| {
            scenario.servers().iter().all(|server| {
                posted(view, &request, server).is_some_and(|(posted, _)| posted > step)
            })
        })
        .await;
    assert_eq!(attempts(holder, &request, step), [1, 2]);
    for server in scenario.servers() {
        assert_eq!(scenario.done_to(server, HELD_UNIT), once(HELD_UNIT), "boot-{}", server.lrn());
    }

    // It dies, and a person decides that the others need not wait.
    let calls = [last_start.clone()];
    let recipe_end = async || {
        let status = scenario.view().await.expect("an answer");
        let step = posted(&status, &request, holder).map_or(0, |(step, _)| step);
        is_held(holder, &request, step, 1, &calls)
    };
    scenario.until_true("the last restart in its middle", recipe_end).await;
    waits_for_the_dead(&scenario, holder, others, "etcd", last).await;
    let started = [format!("start {TURN_UNIT}")];
    for server in others {
        assert_eq!(scenario.done_to(server, TURN_UNIT), started, "boot-{}", server.lrn());
    }
    let release = ["turn", "release", "etcd", "--reason", "it burnt"];
    let told = necoctl(desk, &release).await.ended(0).out;
    assert!(told.contains("the turn etcd is released; boot server 2 held it"), "{told}");
    let restarted = ["start", "stop", "start"].map(|job| format!("{job} {TURN_UNIT}"));
    scenario
        .until("the others through", |view| {
            others.iter().all(|server| {
                posted(view, &request, server).is_some_and(|(_, cond)| cond == Condition::Complete)
            })
        })
        .await;
    for server in others {
        assert_eq!(scenario.done_to(server, TURN_UNIT), restarted, "boot-{}", server.lrn());
    }
    holder.release(&last_start).expect("room");
    holder.worker().up().await;
    scenario.completed(&version).await;

    assert_eq!(scenario.done_to(holder, TURN_UNIT), restarted);
    scenario.verdict(&version).await;
}

/// Kills the worker that holds a turn and keeps it down; the others come to the step, and wait as long as nobody decides.
async fn waits_for_the_dead(
    scenario: &Scenario,
    holder: &BootServer,
    others: [&BootServer; 2],
    turn: &str,
    step: &str,
) {
    let desk = others[0];
    let release = ["turn", "release", turn, "--reason", "too early"];
    let lrn = holder.lrn();
    let why = necoctl(desk, &["why"]).await.ended(0).out;
    assert!(why.contains(&format!("boot server {lrn} holds the turn {turn}")), "{why}");
    let refused = necoctl(desk, &release).await.ended(5).err;
    assert!(refused.contains("is alive: --force"), "{refused}");
    holder.worker().kill().await;
    for server in others {
        server.release(step).expect("room");
    }
    scenario
        .until("the others at the turn", |view| {
            others.iter().all(|server| {
                let progress = view.progress.get(&server.lrn());
                let words = format!("boot server {lrn} holds the turn {turn}");
                progress.is_some_and(|progress| progress.value.doing.contains(&words))
            })
        })
        .await;
    given_up(scenario, holder).await;
    let why = necoctl(desk, &["why"]).await.ended(0).out;
    let dead = format!("boot server {lrn}, which has no living worker, holds the turn {turn}");
    assert!(why.contains(&dead), "{why}");
    assert!(why.contains(&format!("necoctl turn release {turn} --reason TEXT")), "{why}");
}
