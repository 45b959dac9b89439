//! Boot servers come and go: they join, leave, die for good, and vanish when all wait for them.

use neco_plan::{View, outcome};
use neco_playground::{BootServer, HELD_UNIT, Held, has_settled, is_completed, outcome_of};
use neco_scenarios::{IMAGE, LONG, Scenario, Told, attempts, given_up, necoctl, request_of, says};
use neco_schema::{Condition, Ending, Key, Lrn, Outcome, RequestKind, Revision, UpdateRequest};
use neco_worker::install::UNIT;

/// Registers a boot server, as setup does.
async fn register(scenario: &Scenario, lrn: u32) {
    scenario.write(&Key::BootServer(Lrn::new(lrn)).to_string(), "").await;
}

/// The numbers of servers.
fn numbers(lrns: impl IntoIterator<Item = Lrn>) -> Vec<u32> {
    lrns.into_iter().map(Lrn::get).collect()
}

/// Waits until exactly these servers have completed the update together.
async fn completed_by(scenario: &Scenario, members: &[u32]) -> View {
    let version = scenario.packages().update();
    scenario
        .until(&format!("the completion by boot servers {members:?}"), |view| {
            let request = view.current().map(|request| numbers(request.members()));
            request.as_deref() == Some(members) && is_completed(view, version)
        })
        .await
}

/// The requests that were made since `from`: their kinds and members.
async fn made(scenario: &Scenario, from: Revision) -> Vec<(RequestKind, Vec<u32>)> {
    let requests = scenario.requests(from).await.into_iter().filter_map(|(_, request)| request);
    let mut requests: Vec<UpdateRequest> = requests.collect();
    requests.dedup_by_key(|request| request.id());
    let words = |request: UpdateRequest| {
        let members = numbers(request.members());
        (request.kind.expect("made by ours"), members)
    };
    requests.into_iter().map(words).collect()
}

async fn leave(desk: &BootServer, arguments: &[&str]) -> Told {
    necoctl(desk, &[&["leave"], arguments].concat()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn a_server_that_joins_in_an_update_or_after_it_and_one_that_leaves_after_it_are_reconfigured_for()
 {
    let mut scenario = Scenario::begin().await;
    let first = scenario.packages().first().clone();
    for lrn in [3, 4] {
        let spare = scenario.install_spare(lrn).await.expect("installed");
        spare.power_on().await.expect("on");
        scenario.add(spare);
    }
    let from = scenario.recorded().await;
    let desk = scenario.server(0);

    // While an update runs: it comes to its end as it was requested.
    let held = Held::next_start_of(scenario.server(1), HELD_UNIT).expect("room");
    let version = scenario.publish_update().await;
    held.reached(&scenario, &version, LONG, |_| {}).await.expect("a stopped service");
    let view = scenario.view().await.expect("an answer");
    let request = view.current().expect("a request").clone();
    register(&scenario, 3).await;
    scenario.until("a new server that lives", |view| view.alive.contains_key(&Lrn::new(3))).await;
    let status = necoctl(desk, &["status"]).await.ended(0).out;
    let line = status.lines().find(|line| line.starts_with("3 ")).expect("a line about it");
    says(line, &["yes", first.as_str(), "no member"]);
    held.release().expect("room");
    let view = completed_by(&scenario, &[0, 1, 2, 3]).await;
    assert_eq!(outcome_of(&view, &request), Some(Outcome::Completed), "undisturbed");
    let on_disk = scenario.server(3).version_on_disk();
    assert_eq!(on_disk.as_deref(), Some(version.as_str()), "it has caught up");

    // While none runs.
    register(&scenario, 4).await;
    completed_by(&scenario, &[0, 1, 2, 3, 4]).await;
    let before = completed_by(&scenario, &[0, 1, 2, 3, 4]).await.revision;

    // One that lives leaves only if that is meant.
    let refused = leave(desk, &["3"]).await.ended(5).err;
    says(&refused, &["boot server 3 is alive", "--force"]);
    let told = leave(desk, &["3", "--force", "--by=alice", "--reason=moved"]).await.ended(0).out;
    says(&told, &["boot server 3 has left", "delete info/bootservers/3"]);
    leave(desk, &["3"]).await.ended(3);
    completed_by(&scenario, &[0, 1, 2, 4]).await;
    assert!(
        scenario.posted(scenario.server(3), before).await.is_empty(),
        "it is no member any more"
    );

    let all: [(RequestKind, Vec<u32>); 4] = [
        (RequestKind::Release, vec![0, 1, 2]),
        (RequestKind::Reconfigure, vec![0, 1, 2, 3]),
        (RequestKind::Reconfigure, vec![0, 1, 2, 3, 4]),
        (RequestKind::Reconfigure, vec![0, 1, 2, 4]),
    ];
    assert_eq!(made(&scenario, from).await, all);
    scenario.has_left(3);
    scenario.verdict(&version).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_never_comes_back_is_named_and_waited_for_until_it_leaves_the_running_update()
{
    let mut scenario = Scenario::begin().await;
    let from = scenario.recorded().await;
    let (desk, victim) = (scenario.server(0), scenario.server(2));
    victim.hold(IMAGE).expect("room");
    let version = scenario.publish_update().await;
    let at_the_barrier = |view: &View| {
        let request = request_of(view, &version);
        let posted = |lrn: u32| {
            let status = request.and_then(|request| view.status_of(request, Lrn::new(lrn)));
            status.map(|status| (status.value.step, status.value.cond))
        };
        [0, 1, 2].map(posted) == [2, 2, 1].map(|step| Some((step, Condition::Running)))
    };
    let view = scenario.until("all but one at the barrier", at_the_barrier).await;
    let request = view.current().expect("a request").clone();
    victim.power_off().await.expect("off");
    // For a moment nobody can know.
    let refused = leave(desk, &["2"]).await.ended(5).err;
    says(&refused, &["boot server 2 is alive"]);
    let view = given_up(&scenario, scenario.server(2)).await;
    assert!(at_the_barrier(&view), "nobody passes it");
    let why = necoctl(desk, &["why"]).await.ended(0).out;
    says(&why, &["boot server 2 has no living worker", "since ", "command necoctl leave 2\n"]);
    assert!(!why.contains("boot server 0") && !why.contains("boot server 1"), "{why}");
    let status = necoctl(desk, &["status"]).await.ended(0).out;
    let line = status.lines().find(|line| line.starts_with("2 ")).expect("a line about it");
    says(line, &["no", "1/18 fetch-images", "running"]);
    for server in [scenario.server(0), scenario.server(1)] {
        assert!(attempts(server, &request, 2).is_empty(), "boot-{} begins it alone", server.lrn());
    }

    let told = leave(desk, &["2", "--by=alice", "--reason=burnt down"]).await.ended(0).out;
    says(&told, &["boot server 2 has left; the leader replaces the request by one without it"]);
    let view = completed_by(&scenario, &[0, 1]).await;
    assert_eq!(outcome_of(&view, &request), Some(Outcome::Superseded));
    let stopped = scenario.requests(from).await.into_iter().filter_map(|(_, request)| request);
    let stopped = stopped.into_iter().find(|request| request.stop).expect("it was stopped");
    assert_eq!((stopped.id(), stopped.ending), (request.id(), Some(Ending::Superseded)));
    let both = [(RequestKind::Release, vec![0, 1, 2]), (RequestKind::Reconfigure, vec![0, 1])];
    assert_eq!(made(&scenario, from).await, both);
    scenario.has_left(2);
    scenario.verdict(&version).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn the_first_server_of_an_install_that_vanishes_is_named_and_returns_or_leaves() {
    let mut scenario = Scenario::begin().await;
    let from = scenario.recorded().await;
    let (first, desk) = (scenario.server(0), scenario.server(1));
    let before = scenario.packages().first().clone();
    let untouched = || {
        scenario
            .servers()
            .iter()
            .all(|server| server.version_on_disk().as_deref() == Some(before.as_str()))
    };

    // Before its installation, while it downloads.
    let version = scenario.packages().update().clone();
    let download = format!("fetch neco_{version}_amd64.deb");
    first.hold(&download).expect("room");
    scenario.publish_update().await;
    let view = scenario
        .until("the request", |view| {
            view.current().is_some_and(|request| request.version == version)
        })
        .await;
    let request = view.current().expect("a request").clone();
    first.power_off().await.expect("off");
    let view = given_up(&scenario, scenario.server(0)).await;
    assert_eq!(view.member_statuses(&request).count(), 0, "nobody goes before it");
    let why = necoctl(desk, &["why"]).await.ended(0).out;
    says(&why, &["boot server 0 has no living worker", "command necoctl leave 0\n"]);
    assert!(untouched(), "nobody else installs");

    // At its deadline the request is stopped.
    necoctl(desk, &["config", "set", "worker-timeout", "1s"]).await.ended(0);
    let view = scenario
        .until("the end at the deadline", |view| {
            let settled = |lrn| {
                let status = view.status_of(&request, Lrn::new(lrn));
                status.is_some_and(|status| status.value.cond == Condition::NotRunning)
            };
            view.current().is_some_and(|request| request.stop) && settled(1) && settled(2)
        })
        .await;
    let stopped = view.current().expect("a request");
    assert_eq!((stopped.id(), outcome(&view, stopped)), (request.id(), Outcome::Aborted));
    let cause = &stopped.stopped.as_ref().expect("a note").reason;
    assert_eq!(
        *cause,
        "not finished within 1s: boot server 0, which goes first, has no living worker"
    );
    says(&necoctl(desk, &["why"]).await.ended(0).out, &[cause, "necoctl recover --retry"]);
    assert!(untouched(), "nobody else installs");
    necoctl(desk, &["config", "unset", "worker-timeout"]).await.ended(0);

    // It returns, and the same version is tried again.
    first.release(&download).expect("room");
    first.hold("unpack neco").expect("room");
    first.power_on().await.expect("on");
    scenario.until("all settled", |view| has_settled(view, &request)).await;
    let order = ["recover", "--retry", "--by=alice", "--reason=power is back"];
    necoctl(desk, &order).await.ended(0);

    // Now in its installation, and for good.
    scenario.until_true("the unit that installs", async || first.detached(UNIT).is_some()).await;
    let view = scenario.view().await.expect("an answer");
    let second = view.current().expect("a request").clone();
    first.power_off().await.expect("off");
    let told = leave(desk, &["0", "--force", "--reason=it smokes"]).await.ended(0).out;
    says(&told, &["boot server 0 has left; the leader replaces the request by one without it"]);
    let view = completed_by(&scenario, &[1, 2]).await;
    assert_eq!(outcome_of(&view, &request), Some(Outcome::Aborted));
    assert_eq!(outcome_of(&view, &second), Some(Outcome::Superseded));
    let all = [
        (RequestKind::Release, vec![0, 1, 2]),
        (RequestKind::Release, vec![0, 1, 2]),
        (RequestKind::Reconfigure, vec![1, 2]),
    ];
    assert_eq!(made(&scenario, from).await, all);
    scenario.has_left(0);
    scenario.verdict(&version).await;
}
