//! Failing steps, crashes, outages and full disks.

use std::time::Duration;

use neco_host::fs::Fault;
use neco_schema::journal::Entry;
use neco_schema::{Condition, Control, HistoryServer, Key, Lrn, Op, Range, Record, UpdateRequest};

use crate::cluster::{Cluster, TIMER, VAULT, edit};

const PULL: &str = "pull ghcr.io/cybozu/serf:0.10.1.7";

#[tokio::test(start_paused = true)]
async fn a_step_that_fails_aborts_with_its_cause_and_copies_spread() {
    let mut cluster = Cluster::of(3).await;
    cluster.server(1).units().faults().fail("start vault.service", "no seal").unwrap();
    let request = cluster.request().await;
    cluster.ended(&request, Condition::Abort).await;
    for server in &cluster.servers {
        let status = cluster.status(server.lrn).unwrap();
        let origin = status.origin.unwrap();
        assert_eq!((origin.lrn.get(), origin.step), (1, cluster.step("vault")));
        assert!(origin.cause.contains("starting vault.service"), "{origin:?}");
        assert!(status.message.contains("no seal"), "{}", status.message);
    }
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_step_that_is_held_does_nothing_and_is_left_when_it_is_to_stop() {
    let mut cluster = Cluster::of(2).await;
    let step = cluster.step("setup-serf-tags");
    cluster.server(1).units().faults().hold("step setup-serf-tags").unwrap();
    let request = cluster.request().await;
    let victim = cluster.server(1);
    cluster.until("the step", async || victim.attempts(&request, step) == [1]).await;
    cluster.stop_request(&request).await;
    cluster.ended(&request, Condition::NotRunning).await;
    assert_eq!(cluster.server(1).count(&format!("start {TIMER}")), 0);
    assert_eq!(cluster.stands(1, &request), Some((step, Condition::NotRunning)));

    cluster.server(1).units().faults().fail("step setup-serf-tags", "as you wish").unwrap();
    let request = cluster.request().await;
    cluster.ended(&request, Condition::Abort).await;
    let origin = cluster.status(0).unwrap().origin.unwrap();
    assert_eq!((origin.lrn.get(), origin.step), (1, step));
    assert_eq!(origin.cause, "as you wish");
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_may_succeed_later_is_tried_again() {
    let mut cluster = Cluster::of(2).await;
    cluster.server(1).containers().faults().fail(PULL, "the registry is away").unwrap();
    let request = cluster.request().await;
    cluster
        .until("it says what it waits for", async || {
            let view = cluster.view();
            let progress = view.progress.get(&Lrn::new(1));
            progress.is_some_and(|progress| progress.value.doing.contains("the registry is away"))
        })
        .await;
    assert_eq!(cluster.stands(1, &request), Some((1, Condition::Running)));
    cluster.server(1).containers().faults().clear(PULL).unwrap();
    cluster.completed(&request).await;
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn records_that_cannot_be_read_are_named_with_a_remedy_as_long_as_they_are_there() {
    let mut cluster = Cluster::of(2).await;
    let key = Key::BootServer(Lrn::new(7)).to_string().replace('7', "seven");
    let put = Op::Put { key: key.clone(), value: Vec::new(), lease: None };
    cluster.write(put).await;
    let names_it = |cluster: &Cluster| {
        let named = |problem: &String| {
            problem.starts_with(&format!("key {key}: ")) && problem.contains("delete the key")
        };
        cluster.servers.iter().all(|server| server.problems().iter().any(named))
    };
    cluster.until("both name it", async || names_it(&cluster)).await;
    let request = cluster.request().await;
    cluster.completed(&request).await;
    cluster.write(Op::Delete(Range::Key(key.clone()))).await;
    let none = |cluster: &Cluster| cluster.servers.iter().all(|s| s.problems().is_empty());
    cluster.until("it is gone", async || none(&cluster)).await;
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_heard_in_the_middle_of_an_image() {
    let mut cluster = Cluster::of(2).await;
    cluster.server(1).containers().faults().hold(PULL).unwrap();
    let request = cluster.request().await;
    cluster.until("it pulls", async || cluster.server(1).begun(PULL) == 1).await;
    cluster.stop_request(&request).await;
    cluster.ended(&request, Condition::NotRunning).await;
    let pulled = cluster.server(1).containers().calls().unwrap();
    assert!(pulled.iter().all(|call| !format!("{call:?}").contains("serf")), "{pulled:?}");
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_step_that_kills_the_worker_a_third_time_aborts() {
    let mut cluster = Cluster::of(2).await;
    cluster.server(0).containers().faults().hold(PULL).unwrap();
    let request = cluster.request().await;
    for crash in 1..=3 {
        cluster
            .until("the step runs", async || cluster.server(0).attempts(&request, 1).len() == crash)
            .await;
        cluster.servers[0].crash().await;
        cluster.start(0);
    }
    cluster.ended(&request, Condition::Abort).await;
    let cause = cluster.status(0).unwrap().origin.unwrap().cause;
    assert_eq!(cause, "step 1 ended the worker 3 times");
    assert_eq!(cluster.server(0).attempts(&request, 1), [1, 2, 3]);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn orderly_ends_are_no_crashes() {
    let mut cluster = Cluster::of(1).await;
    cluster.server(0).containers().faults().hold(PULL).unwrap();
    let request = cluster.request().await;
    for begun in 1..=4 {
        cluster
            .until("the step runs", async || cluster.server(0).attempts(&request, 1).len() == begun)
            .await;
        cluster.servers[0].end().await;
        cluster.start(0);
    }
    cluster.server(0).containers().faults().clear(PULL).unwrap();
    cluster.completed(&request).await;
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_ridden_out_and_told() {
    let mut cluster = Cluster::of(2).await;
    cluster.server(0).containers().faults().hold(PULL).unwrap();
    let request = cluster.request().await;
    cluster.until("it pulls", async || cluster.server(0).begun(PULL) == 1).await;
    cluster.server(0).journal.fail_with(Some(28));
    cluster.server(0).containers().faults().clear(PULL).unwrap();
    cluster
        .until("it says so", async || {
            cluster.server(0).waits_for().contains("the journal cannot be written")
        })
        .await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(cluster.stands(0, &request), Some((1, Condition::Running)));
    cluster.server(0).journal.fail_with(None);
    cluster.completed(&request).await;
    let crashes = cluster.server(0).local().journal.of(&request.id()).crashes;
    assert_eq!(crashes, 0);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_step_that_the_disk_refuses_is_begun_again_and_aborts_nothing() {
    for (errno, words) in [(28, "No space left"), (30, "Read-only file system")] {
        let mut cluster = Cluster::of(2).await;
        cluster.server(0).disk.set_fault(Some(Fault::From { nth: 0, errno }));
        let request = cluster.request().await;
        cluster
            .until("it says so to everybody", async || {
                let unfit = cluster.server(0).unfit(&cluster.view());
                unfit.iter().any(|why| why.contains(words))
            })
            .await;
        let refused = cluster.stands(0, &request);
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(cluster.stands(0, &request), refused, "it neither goes on nor gives up");
        let Some((step, Condition::Running)) = refused else { panic!("{refused:?}") };
        assert!(cluster.server(0).attempts(&request, step).len() > 3, "it is begun again");
        cluster.server(0).disk.set_fault(None);
        cluster.completed(&request).await;
        cluster
            .until("nothing is refused", async || {
                cluster.server(0).unfit(&cluster.view()).is_empty()
            })
            .await;
        assert_eq!(cluster.server(0).local().journal.of(&request.id()).crashes, 0);
        cluster.verdict().await;
    }
}

/// Two servers, of which the first is in the step of this number, and its disk is full.
async fn refused_by_the_disk() -> (Cluster, UpdateRequest, u32) {
    let mut cluster = Cluster::of(2).await;
    let step = cluster.step("vault");
    cluster.server(0).units().faults().hold("step vault").unwrap();
    let request = cluster.request().await;
    cluster.until("the step", async || cluster.server(0).attempts(&request, step) == [1]).await;
    cluster.server(0).disk.set_fault(Some(Fault::From { nth: 0, errno: 28 }));
    cluster.server(0).units().faults().clear("step vault").unwrap();
    let refused = async || !cluster.server(0).unfit(&cluster.view()).is_empty();
    cluster.until("the disk refuses", refused).await;
    (cluster, request, step)
}

/// What a fence has seen is not forgotten, though nobody has told the engine yet.
#[tokio::test(start_paused = true)]
async fn a_step_that_its_fence_has_left_is_not_begun_again_from_an_older_view() {
    let (cluster, request, step) = refused_by_the_disk().await;
    cluster.store.hold_watches(true);
    cluster.stop_request(&request).await;
    let begun = cluster.server(0).attempts(&request, step).len();
    cluster.server(0).disk.set_fault(None);
    cluster.ended(&request, Condition::NotRunning).await;
    let again = cluster.server(0).attempts(&request, step).len() - begun;
    assert!(again <= 1, "begun {again} times after the request had ended");
    cluster.store.hold_watches(false);
    cluster.verdict().await;
}

/// What was refused is not told of a step that has written and waits for something else.
#[tokio::test(start_paused = true)]
async fn a_disk_that_takes_something_again_is_told_as_soon_as_it_does() {
    let (cluster, request, _) = refused_by_the_disk().await;
    let refused_at = cluster.stands(0, &request);
    // Its service takes long to become ready.
    cluster.faults.start_slowly(VAULT);
    cluster.server(0).disk.set_fault(None);
    let taken_back = async || cluster.server(0).unfit(&cluster.view()).is_empty();
    cluster.until("it is taken back", taken_back).await;
    assert_eq!(cluster.stands(0, &request), refused_at, "within the step");
    cluster.faults.become_ready();
    cluster.completed(&request).await;
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_etcd_within_a_step_is_waited_out() {
    let mut cluster = Cluster::of(3).await;
    cluster.server(0).containers().faults().hold(PULL).unwrap();
    let request = cluster.request().await;
    cluster.until("it pulls", async || cluster.server(0).begun(PULL) == 1).await;
    cluster.store.go_down();
    cluster.server(0).containers().faults().clear(PULL).unwrap();
    let before: Vec<u64> = cluster.servers.iter().map(|server| server.calls()).collect();
    tokio::time::sleep(Duration::from_secs(60)).await;
    for (server, before) in cluster.servers.iter().zip(before) {
        let asked = server.calls() - before;
        assert!(asked <= 120, "server {} asked etcd {asked} times in a minute", server.lrn);
    }
    assert_eq!(cluster.server(0).begun("pull ghcr.io/cybozu/vault:1.18.1.2"), 0, "no new effect");
    cluster.store.come_back();
    cluster.completed(&request).await;
    for server in &cluster.servers {
        assert_eq!(server.attempts(&request, 1), [1]);
    }
    cluster.verdict().await;
}

/// The part of a server in the history.
fn part(cluster: &Cluster, request: &UpdateRequest, lrn: u32) -> HistoryServer {
    let key = Key::HistoryServer(request.started_at, request.id(), Lrn::new(lrn));
    let kv = cluster.store.with(|mvcc| mvcc.get(&key.to_string())).expect("a part");
    HistoryServer::decode(&kv.value).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_history_knows_every_step_though_an_answer_was_lost() {
    let mut cluster = Cluster::of(1).await;
    let lost = cluster.faults.clone();
    lost.answer_lost.lock().unwrap().push("status/bootservers/0".to_owned());
    let request = cluster.update().await;
    let steps: Vec<u32> = part(&cluster, &request, 0).steps.iter().map(|part| part.step).collect();
    assert_eq!(steps, (1..=18).collect::<Vec<_>>());
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_cannot_be_made_yet_is_made_once_it_can() {
    let mut cluster = Cluster::of(2).await;
    cluster.update().await;
    // A file that is a folder on one server.
    let path = cluster.server(1).path("/etc/serf/serf.json");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let request = cluster.request().await;
    cluster
        .until("it says what is wrong", async || {
            cluster.server(1).waits_for().contains("/etc/serf/serf.json")
        })
        .await;
    std::fs::remove_dir(&path).unwrap();
    cluster.completed(&request).await;
    assert!(path.is_file());
    cluster.verdict().await;
}

/// No patience mends a template.
#[tokio::test(start_paused = true)]
async fn a_plan_that_can_never_be_made_aborts_with_its_cause() {
    let mut cluster = Cluster::of(2).await;
    cluster.update().await;
    let broken = |folder: &std::path::Path| {
        let path = folder.join("templates/serf.json.j2");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, format!("{text}{{{{ servers[2].node0 }}}}")).unwrap();
    };
    cluster.upgrade("2026.11.21-1", broken).await;
    let request = cluster.request().await;
    cluster.ended(&request, Condition::Abort).await;
    let origin = cluster.status(0).unwrap().origin.unwrap();
    assert_eq!(origin.step, 1);
    assert!(origin.cause.contains("serf.json"), "{origin:?}");
    assert!(cluster.view().plans.values().all(|plan| plan.value.request != request.id()));
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_restored_etcd_is_distrusted_until_an_operator_says_otherwise() {
    let mut cluster = Cluster::of(2).await;
    cluster.update().await;
    let backup = cluster.store.with(|mvcc| mvcc.clone());
    cluster.update().await;
    cluster.store.with(|mvcc| mvcc.restore(&backup, 77));
    cluster
        .until("both rest", async || {
            cluster.servers.iter().all(|server| server.waits_for().contains("recover --force"))
        })
        .await;
    let request = cluster.request().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(cluster.stands(0, &request), None, "nothing is done for it");
    let epoch = Control { epoch: Some(1), ..Control::default() };
    cluster.write(Op::put(&Key::Epoch, &epoch)).await;
    cluster.completed(&request).await;
    let mark = cluster.server(0).local().journal.mark;
    assert_eq!((mark.cluster_id, mark.epoch), (77, 1));
}

#[tokio::test(start_paused = true)]
async fn an_update_that_ended_leaves_no_word_of_what_is_being_done() {
    let mut cluster = Cluster::of(1).await;
    cluster.server(0).containers().faults().hold(PULL).unwrap();
    let first = cluster.request().await;
    cluster.until("it pulls", async || cluster.server(0).begun(PULL) == 1).await;
    // The request is replaced while the step runs; who replaces it takes the progress away.
    cluster.write(Op::delete(&Key::Progress(Lrn::new(0)))).await;
    cluster.server(0).units().faults().hold("start vault.service").unwrap();
    let second = cluster.request().await;
    cluster.server(0).containers().faults().clear(PULL).unwrap();
    cluster
        .until("the second one runs", async || cluster.server(0).begun("start vault.service") == 1)
        .await;
    for change in
        cluster.store.changes_since(neco_schema::Revision(1), &neco_plan::operator_ranges())
    {
        let Some(kv) = change.kv.filter(|kv| kv.key == "progress/0") else { continue };
        let progress = neco_schema::Progress::decode(&kv.value).unwrap();
        let current =
            if kv.mod_revision > cluster.view().request.mod_revision() { &second } else { &first };
        assert_eq!(progress.request, current.id(), "{progress:?}");
    }
    cluster.server(0).units().faults().clear("start vault.service").unwrap();
    cluster.completed(&second).await;
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn quick_steps_write_no_more_progress_than_slow_ones() {
    let mut cluster = Cluster::of(1).await;
    let began = tokio::time::Instant::now();
    cluster.update().await;
    cluster.update().await;
    let changes =
        cluster.store.changes_since(neco_schema::Revision(1), &neco_plan::operator_ranges());
    let written = |key: &str| changes.iter().filter(|change| change.key == key).count();
    let allowed = began.elapsed().as_secs() / 2 + 1;
    assert!(written("progress/0") as u64 <= allowed, "{} of {allowed}", written("progress/0"));
    assert!((1..).contains(&written("progress/0")));
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_sign_of_life_that_a_bug_ended_comes_back() {
    let mut cluster = Cluster::of(1).await;
    cluster.until("it lives", async || cluster.view().is_alive(Lrn::new(0))).await;
    cluster.servers[0].end().await;
    cluster.write(Op::delete(&Key::Alive(Lrn::new(0)))).await;
    cluster.faults.panics.store(true, std::sync::atomic::Ordering::SeqCst);
    cluster.start(0);
    cluster.until("it lives again", async || cluster.view().is_alive(Lrn::new(0))).await;
    assert!(!cluster.faults.panics.load(std::sync::atomic::Ordering::SeqCst));
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_open_is_told_while_it_is_open() {
    let mut cluster = Cluster::of(1).await;
    cluster.server(0).units().faults().hold("start vault.service").unwrap();
    let request = cluster.request().await;
    let busy = || {
        let view = cluster.view();
        view.alive.get(&Lrn::new(0)).map(|alive| alive.value.busy.join(", ")).unwrap_or_default()
    };
    cluster.until("it says so", async || busy().contains("group vault")).await;
    cluster.server(0).units().faults().clear("start vault.service").unwrap();
    cluster.completed(&request).await;
    cluster.until("nothing is open", async || busy().is_empty()).await;
    assert!(cluster.server(0).is_active(VAULT).await);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_result_that_came_while_the_worker_was_told_to_end_is_not_lost() {
    let mut cluster = Cluster::of(1).await;
    edit(&cluster.server(0).path("/usr/share/neco"), "components/vault.toml", "60s", "61s");
    cluster.servers[0].end().await;
    cluster.start(0);
    cluster.server(0).units().faults().hold("start vault.service").unwrap();
    let request = cluster.request().await;
    cluster.until("it starts", async || cluster.server(0).begun("start vault.service") == 1).await;
    // It comes to its end in the moment that is given to it.
    let faults = cluster.server(0).units().faults().clone();
    let clear = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        faults.clear("start vault.service").unwrap();
    });
    cluster.servers[0].end().await;
    clear.await.unwrap();
    let done = |entry: &Entry| matches!(entry, Entry::StepDone { step, .. } if *step == cluster.step("vault"));
    assert!(cluster.server(0).entries().iter().any(done));
    cluster.start(0);
    cluster.completed(&request).await;
    assert_eq!(cluster.server(0).attempts(&request, cluster.step("vault")), [1]);
    cluster.verdict().await;
}
