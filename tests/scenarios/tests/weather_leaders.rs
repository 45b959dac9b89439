//! Leaders and their writes on a bad day: killed in the very moment, away altogether, too many of them, of two makes.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use neco_plan::View;
use neco_plan::testing::GoAction;
use neco_playground::{BootServer, HELD_UNIT, Held, has_settled, outcome_of};
use neco_scenarios::{
    LONG, Scenario, Verdict, Wire, attempts, copy, go_leads, leads, lines, necoctl, updater,
};
use neco_schema::{
    Condition, ConfigKey, Key, Lrn, NecoVersion, Outcome, Range, Revision, UpdateRequest,
};
use neco_store::Store;
use nix::sys::signal::Signal;
use tokio::process::Command;

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

/// Who recorded the update to `version`.
fn recorded_by(view: &View, version: &NecoVersion) -> String {
    let record = view.history.values().flatten().find(|record| record.version == *version);
    record.expect("a record").by.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_killed_between_decision_and_write_or_before_it_knew_leaves_one_request() {
    let mut scenario = Scenario::begin().await;
    let wire = Wire::lay(&scenario, scenario.server(0)).await;
    let versions = [scenario.packages().update(), scenario.packages().healing().expect("a third")]
        .map(Clone::clone);
    for (version, written) in versions.iter().zip([false, true]) {
        leads(&scenario, scenario.server(0)).await;
        let from = scenario.recorded();
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
        // What was under way ends with the connection.
        wire.mend();
        scenario.other_leader(Lrn::new(0)).await;
        scenario.completed(version).await;
        let requests = scenario.requests(from).await;
        assert_eq!(requests.len(), 1, "written once: {requests:?}");
        scenario.learn_recipe(version);
    }
    scenario.verdict(&versions[1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_of_a_leader_that_arrives_after_its_lease_is_refused_and_nothing_is_lost() {
    let scenario = Scenario::begin().await;
    let wire = Wire::lay(&scenario, scenario.server(0)).await;
    leads(&scenario, scenario.server(0)).await;
    let from = scenario.recorded();
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
async fn a_worker_killed_before_its_post_reached_etcd_or_before_it_knew_posts_once() {
    let scenario = Scenario::begin().await;
    let victim = scenario.server(2);
    let wire = Wire::lay(&scenario, victim).await;
    let from = scenario.recorded();
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

/// How long a step may take while nobody counts.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_updater_workers_finish_and_deadlines_stand_still() {
    let scenario = Scenario::begin().await;
    let from = scenario.recorded();
    let held = Held::next_start_of(scenario.server(2), HELD_UNIT).expect("room");
    let version = scenario.publish_update().await;
    held.reached(&scenario, &version, LONG, |_| {}).await.expect("a stopped service");
    let view = gone(&scenario).await;
    let request = view.current().expect("a request").clone();
    let since = Instant::now();
    let timeout = Key::Config(ConfigKey::StepTimeout).to_string();
    scenario.write(&timeout, &PATIENCE.as_nanos().to_string()).await;
    let clock = Key::Clock(request.id()).to_string();
    let counted = scenario.value(&clock).await;
    // Time itself is what this is about.
    scenario
        .until_true("more time than a step may take", async || since.elapsed() > PATIENCE * 3 / 2)
        .await;
    assert_eq!(scenario.value(&clock).await, counted, "nobody has counted");
    updater(scenario.server(1)).up().await;
    scenario
        .until_true("the next leader's decision", async || {
            let leads = scenario.leader().await.ok().flatten().is_some();
            let decided = lines(scenario.server(1), "neco-updater", &["decided: "]);
            leads && decided.last().is_some_and(|line| line.contains("wait-for-workers"))
        })
        .await;
    let minutes = Duration::from_secs(20 * 60);
    scenario.write(&timeout, &minutes.as_nanos().to_string()).await;
    let view = gone(&scenario).await;
    assert!(!view.current().expect("a request").stop, "nobody waited for too long");

    // Workers need no leader to finish; only the history does.
    held.release().expect("room");
    let view = scenario
        .until("all servers through all steps", |view| {
            let done = view.member_statuses(&request);
            done.filter(|(_, status)| status.value.cond == Condition::Complete).count() == 3
        })
        .await;
    assert_eq!(outcome_of(&view, &request), None, "nobody has recorded it");
    updater(scenario.server(0)).up().await;
    let view = scenario.completed(&version).await;
    assert!(recorded_by(&view, &version).contains("boot-0"));
    assert_eq!(scenario.requests(from).await.len(), 1, "one request, never stopped");
    updater(scenario.server(1)).up().await;
    scenario.verdict(&version).await;
}

/// All updaters are killed and stay away; gives what etcd holds when their leases are over, too.
async fn gone(scenario: &Scenario) -> View {
    for server in scenario.updaters() {
        updater(server).kill().await;
    }
    scenario
        .until_true("the end of the last leadership", async || {
            scenario.leader().await.is_ok_and(|leader| leader.is_none())
        })
        .await;
    scenario.view().await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updaters_started_by_hand_do_not_act_beside_the_one_that_leads() {
    let scenario = Scenario::begin().await;
    let from = scenario.recorded();
    // On a server that has one, a second ends at once.
    let server = scenario.server(0);
    let first = updater(server).pid().expect("it runs");
    let second = by_hand(server, server.root().to_owned()).output().await.expect("it starts");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    let said: Vec<&str> = said.lines().collect();
    let refusal = format!("neco-updater.lock is locked by process {first}; stop it first");
    assert!(matches!(said[..], [line] if line.ends_with(&refusal)), "{said:?}");
    assert_eq!(updater(server).pid(), Some(first), "the first does not mind");

    // On another host it is one more candidate.
    let elsewhere = elsewhere(&scenario);
    let log = std::fs::File::create(elsewhere.join("log")).expect("room");
    let mut guest = by_hand(server, elsewhere.clone()).stderr(log).spawn().expect("it starts");
    scenario.until_true("three candidates", async || candidates(&scenario).await.len() == 3).await;
    let held = Held::next_start_of(scenario.server(2), HELD_UNIT).expect("room");
    let version = scenario.publish_update().await;
    held.reached(&scenario, &version, LONG, |_| {}).await.expect("a stopped service");
    for server in scenario.updaters() {
        updater(server).stop().await;
    }
    scenario
        .until_true("its leadership", async || candidates(&scenario).await == ["elsewhere"])
        .await;
    for server in scenario.updaters() {
        updater(server).up().await;
    }
    scenario.until_true("three candidates", async || candidates(&scenario).await.len() == 3).await;
    held.release().expect("room");
    let view = scenario.completed(&version).await;
    assert!(recorded_by(&view, &version).contains("elsewhere"));
    let said = std::fs::read_to_string(elsewhere.join("log")).expect("its log");
    let first = |words: &str| said.lines().position(|line| line.contains(words));
    let (led, decided) = (first("leading host=elsewhere"), first("decided: "));
    assert!(led.is_some() && led < decided, "it decides nothing before it leads: {said}");
    assert_eq!(scenario.requests(from).await.len(), 1, "one request, written once");
    guest.kill().await.expect("ended");
    scenario.verdict(&version).await;
}

/// An updater that a person starts, with the binary of `server`, below `root`.
fn by_hand(server: &BootServer, root: PathBuf) -> Command {
    let mut command = Command::new(server.root().join("usr/sbin/neco-updater"));
    command.arg("--root").arg(root).args(["--session-ttl", "5s"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    command
}

/// A host that is no boot server, with the configuration of one and its own copy of what is installed.
fn elsewhere(scenario: &Scenario) -> PathBuf {
    let (root, model) = (scenario.path().join("elsewhere"), scenario.server(0).root());
    for folder in ["etc/neco", "usr"] {
        std::fs::create_dir_all(root.join(folder)).expect("room");
    }
    for file in ["etc/neco/config.yml", "etc/neco/cluster", "etc/machine-id"] {
        std::fs::copy(model.join(file), root.join(file)).expect("room");
    }
    std::fs::write(root.join("etc/hostname"), "elsewhere\n").expect("room");
    copy(&model.join("usr/share"), &root.join("usr/share"));
    root
}

/// The hosts that stand for election, the leader first.
async fn candidates(scenario: &Scenario) -> Vec<String> {
    let range = Range::Prefix("leader/updater/".to_owned());
    let read = scenario.store().read(&[range], None).await.expect("an answer");
    let mut found: Vec<(Revision, String)> = read
        .kvs
        .into_values()
        .map(|kv| (kv.create_revision, String::from_utf8_lossy(&kv.value).into_owned()))
        .collect();
    found.sort();
    found.into_iter().map(|(_, host)| host).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
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
    let view = scenario
        .until("all members settled", |view| {
            let request = view.current().filter(|request| request.stop);
            request.is_some_and(|request| has_settled(view, request))
        })
        .await;
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
