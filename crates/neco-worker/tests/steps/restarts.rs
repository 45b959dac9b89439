//! Restarts: under an intent, so that no crash leaves a unit stopped, loses a restart or makes it twice.

use std::time::Duration;

use neco_schema::journal::Entry;
use neco_schema::{Condition, UpdateRequest};

use crate::cluster::{Cluster, SERF, change_serf};

const STOP: &str = "stop serf.service";
const START: &str = "start serf.service";

/// One server that runs serf, and then a package with which it changes.
async fn about_to_change() -> Cluster {
    let mut cluster = Cluster::of(1).await;
    cluster.update().await;
    cluster.upgrade("2026.11.21-1", change_serf).await;
    cluster
}

/// Brings it to where the job of the restart hangs.
async fn hangs_at(job: &str) -> (Cluster, UpdateRequest) {
    let mut cluster = about_to_change().await;
    cluster.server(0).units().faults().hold(job).unwrap();
    let request = cluster.request().await;
    let begun = |entry: &Entry| matches!(entry, Entry::IntentBegun { .. });
    cluster
        .until("the restart begins", async || {
            cluster.server(0).entries().iter().any(begun)
                && (job == STOP || !cluster.server(0).is_active(SERF).await)
        })
        .await;
    (cluster, request)
}

fn restarted_once(cluster: &Cluster) {
    let server = cluster.server(0);
    // The first start is that of the first update.
    assert_eq!((server.count(STOP), server.count(START)), (1, 2), "{:?}", server.effects());
}

/// What runs was started with the unit file that is there now.
fn runs_the_new_one(cluster: &Cluster) {
    let units = cluster.server(0).units();
    let record = units.record(&SERF.parse().unwrap()).unwrap().unwrap();
    let file = std::fs::read(cluster.server(0).path("/etc/systemd/system/serf.service")).unwrap();
    let digest = neco_components::ContentDigest::of(&file);
    assert_eq!(record.started_with.as_deref(), Some(digest.as_str()));
}

#[tokio::test(start_paused = true)]
async fn a_crash_before_the_start_is_made_good_before_etcd_is_asked() {
    let (mut cluster, request) = hangs_at(START).await;
    cluster.servers[0].crash().await;
    cluster.store.go_down();
    let asked = cluster.server(0).calls();
    cluster.start(0);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(cluster.server(0).calls(), asked, "etcd was asked before");
    cluster.server(0).units().faults().clear(START).unwrap();
    cluster.until("it runs", async || cluster.server(0).is_active(SERF).await).await;
    cluster.store.come_back();
    cluster.completed(&request).await;
    restarted_once(&cluster);
    runs_the_new_one(&cluster);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_before_the_stop_does_not_lose_the_restart() {
    let (mut cluster, request) = hangs_at(STOP).await;
    cluster.servers[0].crash().await;
    cluster.server(0).units().faults().clear(STOP).unwrap();
    cluster.start(0);
    cluster.completed(&request).await;
    restarted_once(&cluster);
    runs_the_new_one(&cluster);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_in_a_first_start_does_not_start_twice() {
    let mut cluster = Cluster::of(1).await;
    cluster.server(0).units().faults().hold(START).unwrap();
    let request = cluster.request().await;
    cluster.until("the start hangs", async || cluster.server(0).begun(START) == 1).await;
    cluster.servers[0].crash().await;
    // As with systemd: the job goes on although the one who asked for it is gone.
    cluster.server(0).units().faults().clear(START).unwrap();
    neco_systemd::Units::start(&cluster.server(0).units(), &SERF.parse().unwrap()).await.unwrap();
    cluster.start(0);
    cluster.completed(&request).await;
    assert_eq!((cluster.server(0).count(START), cluster.server(0).count(STOP)), (1, 0));
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_start_job_that_outlives_the_worker_is_no_reason_to_restart_again() {
    let (mut cluster, request) = hangs_at(START).await;
    cluster.servers[0].crash().await;
    cluster.server(0).units().faults().clear(START).unwrap();
    neco_systemd::Units::start(&cluster.server(0).units(), &SERF.parse().unwrap()).await.unwrap();
    cluster.start(0);
    cluster.completed(&request).await;
    restarted_once(&cluster);
    runs_the_new_one(&cluster);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_is_made_good_even_while_the_disk_is_full() {
    let (mut cluster, request) = hangs_at(START).await;
    cluster.servers[0].crash().await;
    cluster.server(0).units().faults().clear(START).unwrap();
    cluster.server(0).journal.fail_with(Some(28));
    cluster.start(0);
    cluster.until("it runs", async || cluster.server(0).is_active(SERF).await).await;
    cluster
        .until("it says so", async || {
            cluster.server(0).waits_for().contains("the journal cannot be written")
        })
        .await;
    cluster.server(0).journal.fail_with(None);
    cluster.completed(&request).await;
    restarted_once(&cluster);
    runs_the_new_one(&cluster);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_within_a_restart_is_ridden_out() {
    let (cluster, request) = hangs_at(START).await;
    cluster.server(0).journal.fail_with(Some(28));
    cluster.server(0).units().faults().clear(START).unwrap();
    cluster
        .until("it says so", async || {
            cluster.server(0).waits_for().contains("the journal cannot be written")
        })
        .await;
    assert!(cluster.server(0).is_active(SERF).await);
    assert!(!cluster.server(0).has_ended());
    cluster.server(0).journal.fail_with(None);
    cluster.completed(&request).await;
    runs_the_new_one(&cluster);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_completed_aborts_the_request_with_its_cause() {
    let (mut cluster, request) = hangs_at(START).await;
    cluster.servers[0].crash().await;
    cluster.server(0).units().faults().fail(START, "no memory").unwrap();
    cluster.start(0);
    cluster.ended(&request, Condition::Abort).await;
    let cause = cluster.status(0).unwrap().origin.unwrap().cause;
    assert!(cause.contains("serf.service") && cause.contains("no memory"), "{cause}");
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_program_that_comes_up_late_at_boot_is_tried_again() {
    let (mut cluster, request) = hangs_at(START).await;
    cluster.servers[0].crash().await;
    cluster.server(0).units().faults().fail(START, "Docker is not there yet").unwrap();
    cluster.start(0);
    let failed = "failed to start serf.service";
    cluster.until("it failed once", async || cluster.server(0).count(failed) > 0).await;
    cluster.server(0).units().faults().clear(START).unwrap();
    cluster.completed(&request).await;
    runs_the_new_one(&cluster);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_of_the_request_does_not_come_between_stop_and_start() {
    let (cluster, request) = hangs_at(START).await;
    cluster.stop_request(&request).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(cluster.stands(0, &request).map(|(_, cond)| cond), Some(Condition::Running));
    cluster.server(0).units().faults().clear(START).unwrap();
    cluster.ended(&request, Condition::NotRunning).await;
    restarted_once(&cluster);
    runs_the_new_one(&cluster);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_told_to_end_within_a_restart_leaves_it_to_the_next() {
    let (mut cluster, request) = hangs_at(START).await;
    cluster.servers[0].end().await;
    assert!(!cluster.server(0).is_active(SERF).await);
    cluster.server(0).units().faults().clear(START).unwrap();
    cluster.start(0);
    cluster.completed(&request).await;
    restarted_once(&cluster);
    let crashes = cluster.server(0).local().journal.of(&request.id()).crashes;
    assert_eq!(crashes, 0, "an orderly end is no crash");
    cluster.verdict().await;
}
