//! What happens on one server at a time.

use std::time::Duration;

use neco_plan::operator_ranges;
use neco_schema::{
    Condition, Key, Lrn, Op, Record, RequestId, Revision, Timestamp, Turn, UpdateRequest,
};
use serde_json::Map;

use crate::cluster::{Cluster, SERF, change_serf};

const START: &str = "start serf.service";
const ETCD: &str = "etcd-container.service";

async fn about_to_change(count: u32) -> Cluster {
    let mut cluster = Cluster::of(count).await;
    cluster.update().await;
    cluster.upgrade("2026.11.21-1", change_serf).await;
    cluster.take_order(SERF);
    cluster
}

/// Who held the turn, in order, by the history of etcd; every holding must end before the next begins.
pub(crate) fn holders(cluster: &Cluster, name: &str) -> Vec<u32> {
    let (key, mut holder, mut holders) = (format!("turn/{name}"), None, Vec::new());
    for change in cluster.store.changes_since(Revision(1), &operator_ranges()) {
        if change.key != key {
            continue;
        }
        holder = match (holder, change.kv) {
            (None, Some(kv)) => {
                let lrn = Turn::decode(&kv.value).unwrap().lrn.get();
                holders.push(lrn);
                Some(lrn)
            }
            (Some(_), None) => None,
            (before, now) => panic!("{before:?} became {now:?}"),
        };
    }
    assert_eq!(holder, None, "given back at the end");
    holders
}

#[tokio::test(start_paused = true)]
async fn every_server_gets_its_turn_and_one_only_at_a_time() {
    let mut cluster = about_to_change(3).await;
    cluster.update().await;
    let order = cluster.take_order(SERF);
    assert_eq!(order.len(), 6, "{order:?}");
    for pair in order.chunks(2) {
        let lrn = &pair[0][..1];
        assert_eq!(pair, [format!("{lrn}: stop {SERF}"), format!("{lrn}: start {SERF}")]);
    }
    // Once in the first update, once in the second.
    let holders = holders(&cluster, "serf");
    for half in holders.chunks(3) {
        let mut half = half.to_vec();
        half.sort_unstable();
        assert_eq!(half, [0, 1, 2], "{holders:?}");
    }
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_holder_blocks_and_is_named_and_nobody_asks_without_end() {
    let mut cluster = about_to_change(3).await;
    for server in &cluster.servers {
        server.units().faults().hold(START).unwrap();
    }
    let request = cluster.request().await;
    let holder = || cluster.view().turns.get("serf").map(|turn| turn.value.lrn.get());
    cluster
        .until("somebody holds the turn", async || {
            holder().is_some_and(|lrn| cluster.server(lrn).begun(&format!("restart {SERF}")) > 0)
        })
        .await;
    let dead = holder().unwrap();
    cluster.servers[dead as usize].crash().await;
    for server in &cluster.servers {
        server.units().faults().clear(START).unwrap();
    }
    let others: Vec<u32> = (0..3).filter(|lrn| *lrn != dead).collect();
    let word = format!("boot server {dead} holds the turn serf");
    cluster
        .until("the others say for whom they wait", async || {
            let view = cluster.view();
            others.iter().all(|lrn| {
                let progress = view.progress.get(&Lrn::new(*lrn));
                progress.is_some_and(|progress| progress.value.doing.contains(&word))
            })
        })
        .await;
    let before: Vec<u64> = cluster.servers.iter().map(|server| server.calls()).collect();
    tokio::time::sleep(Duration::from_secs(60)).await;
    for lrn in &others {
        let asked = cluster.server(*lrn).calls() - before[*lrn as usize];
        assert!(asked <= 120, "server {lrn} asked etcd {asked} times in a minute");
        assert_eq!(cluster.server(*lrn).begun(&format!("restart {SERF}")), 0);
    }
    cluster.start(dead);
    cluster.completed(&request).await;
    let order = cluster.take_order(SERF);
    assert_eq!(order.len(), 6, "{order:?}");
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_turn_of_ones_own_from_an_earlier_request_is_no_conflict() {
    let mut cluster = about_to_change(2).await;
    cluster.servers[0].end().await;
    let key = Key::Turn("serf".to_owned());
    let left = Turn {
        lrn: Lrn::new(0),
        request: RequestId::claimed("0000000000000000"),
        since: Timestamp::from_unix(1),
        unknown: Map::new(),
    };
    cluster.write(Op::put(&key, &left)).await;
    let request = cluster.request().await;
    cluster.start(0);
    cluster.completed(&request).await;
    assert!(cluster.view().turns.is_empty());
    assert_eq!(cluster.take_order(SERF).len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_cannot_be_read_is_named_and_waited_for_in_peace() {
    let mut cluster = about_to_change(2).await;
    let key = Key::Turn("serf".to_owned());
    cluster.write(Op::put_bytes(&key, "{")).await;
    let request = cluster.request().await;
    let named = || {
        let view = cluster.view();
        let says = |lrn: u32| {
            let progress = view.progress.get(&Lrn::new(lrn))?;
            let words = &progress.value.doing;
            let helps = words.contains("necoctl turn release serf --force");
            (words.contains("key turn/serf cannot be read") && helps).then_some(())
        };
        says(0).and(says(1)).is_some()
    };
    cluster.until("both say what they wait for", async || named()).await;
    let calls = || [0, 1].map(|lrn| cluster.server(lrn).calls());
    let before = calls();
    tokio::time::sleep(Duration::from_secs(60)).await;
    for (before, after) in before.into_iter().zip(calls()) {
        assert!(after - before <= 120, "etcd was asked {} times in a minute", after - before);
    }
    cluster.write(Op::delete(&key)).await;
    cluster.completed(&request).await;
    assert!(cluster.view().turns.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_turn_taken_away_by_force_lets_the_next_one_begin() {
    let mut cluster = about_to_change(2).await;
    cluster.server(1).units().faults().hold("stop serf.service").unwrap();
    cluster.server(0).units().faults().hold("stop serf.service").unwrap();
    let request = cluster.request().await;
    let holder = || cluster.view().turns.get("serf").map(|turn| turn.value.lrn.get());
    cluster
        .until("somebody holds the turn", async || {
            holder().is_some_and(|lrn| cluster.server(lrn).begun(&format!("restart {SERF}")) > 0)
        })
        .await;
    let first = holder().unwrap();
    let other = 1 - first;
    // By force: what has begun there goes on, and the other begins.
    cluster.write(Op::delete(&Key::Turn("serf".to_owned()))).await;
    cluster.until("the other holds it", async || holder() == Some(other)).await;
    cluster.server(first).units().faults().clear("stop serf.service").unwrap();
    cluster
        .until("the first is done", async || {
            cluster.server(first).count("stop serf.service") == 1
                && cluster.server(first).is_active(SERF).await
        })
        .await;
    cluster.server(other).units().faults().clear("stop serf.service").unwrap();
    cluster.completed(&request).await;
    assert!(cluster.view().turns.is_empty());
}

/// Gives all servers an etcd that Neco manages and that has never been started by it.
fn manage_etcd(cluster: &Cluster) {
    for server in &cluster.servers {
        let path = server.path(&format!("/etc/systemd/system/{ETCD}"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "[Service]\nExecStart=/bin/etcd\n").unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn etcd_is_restarted_one_at_a_time_and_only_where_something_changed() {
    let mut cluster = Cluster::of(3).await;
    manage_etcd(&cluster);
    for server in &cluster.servers {
        neco_systemd::Units::start(&server.units(), &ETCD.parse().unwrap()).await.unwrap();
    }
    cluster.update().await;
    let order = cluster.take_order(ETCD);
    assert_eq!(order.len(), 6, "{order:?}");
    for pair in order.chunks(2) {
        assert_eq!(pair[0][..1], pair[1][..1], "{order:?}");
    }
    cluster.update().await;
    assert!(cluster.take_order(ETCD).is_empty());
    cluster.verdict().await;
}

/// One server whose etcd is about to be restarted and waits because another member is ill, which it is from the time on that
/// it was asked for this often.
async fn waits_for_a_member(still_well: u64) -> (Cluster, UpdateRequest) {
    let mut cluster = Cluster::of(1).await;
    manage_etcd(&cluster);
    let units = cluster.server(0).units();
    neco_systemd::Units::start(&units, &ETCD.parse().unwrap()).await.unwrap();
    *cluster.faults.ill.lock().unwrap() = Some("boot-7".to_owned());
    cluster.faults.still_well.store(still_well, std::sync::atomic::Ordering::SeqCst);
    let request = cluster.request().await;
    cluster
        .until("it waits for the member", async || {
            let view = cluster.view();
            let progress = view.progress.get(&Lrn::new(0));
            progress.is_some_and(|progress| {
                let doing = &progress.value.doing;
                doing.contains("boot-7") && doing.contains("etcdctl member remove")
            })
        })
        .await;
    (cluster, request)
}

#[tokio::test(start_paused = true)]
async fn etcd_goes_on_running_while_another_member_is_ill() {
    let (cluster, request) = waits_for_a_member(0).await;
    assert!(cluster.view().turns.is_empty(), "another one may need it to become well");
    let before = cluster.server(0).calls();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let asked = cluster.server(0).calls() - before;
    assert!(asked <= 120, "{asked} calls in a minute");
    assert_eq!(cluster.server(0).count(&format!("stop {ETCD}")), 0);
    *cluster.faults.ill.lock().unwrap() = None;
    cluster.completed(&request).await;
    assert_eq!(cluster.server(0).count(&format!("stop {ETCD}")), 1);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn the_turn_goes_and_the_intent_is_dropped_when_a_member_falls_ill_right_before_the_stop() {
    // Once before the turn and once under it: the proof right before the stop fails.
    let (cluster, request) = waits_for_a_member(2).await;
    cluster.until("the turn is free", async || cluster.view().turns.is_empty()).await;
    assert!(cluster.server(0).local().journal.intents.is_empty());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(holders(&cluster, "etcd"), [0], "it is not taken while another is ill");
    *cluster.faults.ill.lock().unwrap() = None;
    cluster.completed(&request).await;
    assert_eq!(holders(&cluster, "etcd"), [0, 0]);
    assert_eq!(cluster.server(0).count(&format!("stop {ETCD}")), 1);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_restart_gives_the_turn_back() {
    let mut cluster = about_to_change(1).await;
    cluster.server(0).units().faults().fail(START, "no memory").unwrap();
    let request = cluster.request().await;
    cluster.ended(&request, Condition::Abort).await;
    cluster.until("it is given back", async || cluster.view().turns.is_empty()).await;
    cluster.verdict().await;
}

/// Two servers about to restart serf, which starts and does not become ready; the worker of the first in turn has died.
async fn dies_before_it_is_ready() -> (Cluster, UpdateRequest, u32) {
    let mut cluster = about_to_change(2).await;
    let starts = |cluster: &Cluster, lrn: u32| cluster.server(lrn).count(START);
    let before = [starts(&cluster, 0), starts(&cluster, 1)];
    cluster.faults.start_slowly(SERF);
    let request = cluster.request().await;
    let holder = || cluster.view().turns.get("serf").map(|turn| turn.value.lrn.get());
    cluster
        .until("it was started again on one", async || {
            holder().is_some_and(|lrn| starts(&cluster, lrn) > before[lrn as usize])
        })
        .await;
    let first = holder().unwrap();
    // It waits for the program to become ready.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!cluster.server(first).local().journal.intents.is_empty());
    cluster.servers[first as usize].crash().await;
    (cluster, request, first)
}

#[tokio::test(start_paused = true)]
async fn a_turn_is_not_given_away_before_the_program_is_proven_ready() {
    let (mut cluster, request, first) = dies_before_it_is_ready().await;
    cluster.start(first);
    tokio::time::sleep(Duration::from_secs(20)).await;
    let holder = cluster.view().turns.get("serf").map(|turn| turn.value.lrn.get());
    assert_eq!(holder, Some(first));
    assert!(!cluster.server(first).local().journal.intents.is_empty());
    assert_eq!(cluster.server(1 - first).begun(&format!("restart {SERF}")), 0);
    cluster.faults.become_ready();
    cluster.completed(&request).await;
    // One restart on each, though the worker died in one.
    assert_eq!(cluster.take_order(SERF).len(), 4);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_program_that_never_becomes_ready_ends_the_request_and_the_turn() {
    let (mut cluster, request, first) = dies_before_it_is_ready().await;
    // Not even etcd is needed to find out.
    cluster.store.go_down();
    cluster.start(first);
    cluster
        .until("the bound", async || cluster.server(first).local().journal.intents.is_empty())
        .await;
    cluster.store.come_back();
    cluster.ended(&request, Condition::Abort).await;
    let origin = cluster.status(first).unwrap().origin.unwrap();
    assert!(
        origin.lrn.get() == first && origin.cause.contains("was not ready within"),
        "{origin:?}"
    );
    cluster.until("it is given back", async || cluster.view().turns.is_empty()).await;
    assert_eq!(cluster.server(1 - first).begun(&format!("restart {SERF}")), 0);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_a_program_becomes_ready_waits_for_it_before_the_turn_goes() {
    let mut cluster = about_to_change(1).await;
    cluster.faults.start_slowly(SERF);
    let before = cluster.server(0).count(START);
    let request = cluster.request().await;
    cluster.until("it was started", async || cluster.server(0).count(START) > before).await;
    cluster.stop_request(&request).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(cluster.view().turns.contains_key("serf"), "given away unproven");
    cluster.faults.become_ready();
    cluster.ended(&request, Condition::NotRunning).await;
    cluster.until("it is given back", async || cluster.view().turns.is_empty()).await;
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn an_etcd_whose_worker_died_is_healthy_before_the_step_is_done() {
    let mut cluster = Cluster::of(1).await;
    manage_etcd(&cluster);
    let units = cluster.server(0).units();
    neco_systemd::Units::start(&units, &ETCD.parse().unwrap()).await.unwrap();
    let start = format!("start {ETCD}");
    cluster.server(0).units().faults().hold(&start).unwrap();
    let request = cluster.request().await;
    cluster
        .until("it was stopped", async || cluster.server(0).count(&format!("stop {ETCD}")) == 1)
        .await;
    *cluster.faults.ill.lock().unwrap() = Some("boot-0".to_owned());
    cluster.servers[0].crash().await;
    cluster.server(0).units().faults().clear(&start).unwrap();
    cluster.start(0);
    cluster
        .until("it waits for its own member", async || {
            let view = cluster.view();
            let progress = view.progress.get(&Lrn::new(0));
            progress.is_some_and(|progress| {
                progress.value.attempt == 2 && progress.value.doing.contains("boot-0")
            })
        })
        .await;
    *cluster.faults.ill.lock().unwrap() = None;
    cluster.completed(&request).await;
    assert_eq!(cluster.server(0).count(&format!("stop {ETCD}")), 1);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn an_etcd_that_needs_no_restart_takes_no_turn_and_waits_for_nobody() {
    let mut cluster = Cluster::of(2).await;
    *cluster.faults.ill.lock().unwrap() = Some("boot-7".to_owned());
    cluster.update().await;
    let turn = Key::Turn("etcd".to_owned()).to_string();
    let changes = cluster.store.changes_since(Revision(1), &operator_ranges());
    assert!(changes.iter().all(|change| change.key != turn));
    cluster.verdict().await;
}
