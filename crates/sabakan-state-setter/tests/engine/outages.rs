//! Who is asked may be away: then nothing is concluded from silence, and it is asked again.

use neco_sabakan::MachineState::{Healthy, Unhealthy, Unreachable};
use neco_sabakan::fake::{Fault, Rule};
use neco_serf::Status;

use crate::bench::{Bench, LIST};

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_cannot_be_used_is_waited_for_without_leading() {
    let bench = Bench::new().await;
    bench.machine("a", "qemu", Unhealthy).await;
    bench.write_list("machine-types:\n  - grace-period: 5s\n");
    let daemon = bench.start("boot-0");
    daemon
        .sees("what it waits for", |now| now.waiting_for.starts_with("a list of machine types"))
        .await;
    daemon.is_troubled_by("list.yml:2: machine-types[0].name: is missing").await;
    assert!(!daemon.observed().leads);
    bench.write_list(LIST);
    bench.becomes("a", Healthy).await;
    std::fs::remove_file(bench.list()).expect("removed");
    daemon.is_troubled_by("reading the list").await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_serf_nobody_is_lost_and_it_is_asked_again_when_it_is_back() {
    let bench = Bench::new().await;
    let address = bench.machine("a", "qemu", Healthy).await;
    let daemon = bench.start("boot-0");
    daemon.looks(2).await;
    bench.serf.set_fault(Some(neco_serf::Fault::Refuse("not now".to_owned())));
    daemon.is_troubled_by("asking serf for members: the serf agent").await;
    daemon.looks(2).await;
    assert_eq!(bench.state("a").await, Healthy);
    bench.serf.set_fault(None);
    bench.serf("a", address, Status::Left, &[]);
    bench.becomes("a", Unreachable).await;
    daemon.sees("no trouble", |now| now.troubles.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_without_most_of_the_boot_servers_is_not_believed() {
    let bench = Bench::new().await;
    bench.register_boot_servers(3).await;
    bench.boot_server("boot-1", Status::Failed);
    // As an agent that has just been started: it knows itself.
    let address = bench.machine("a", "qemu", Healthy).await;
    bench.serf.forget("a");
    let daemon = bench.start("boot-0");
    daemon.is_troubled_by("believing serf: it shows 1 of 3 boot servers alive").await;
    daemon.looks(3).await;
    assert_eq!(bench.state("a").await, Healthy);
    bench.boot_server("boot-1", Status::Alive);
    bench.becomes("a", Unreachable).await;
    bench.serf("a", address, Status::Alive, &[("systemd-units-failed", "")]);
    bench.becomes("a", Healthy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_alertmanager_machines_are_looked_at_all_the_same() {
    let bench = Bench::new().await;
    bench.write_alerts("[{name: Disk, serial-label: serial, state: unhealthy}]");
    bench.machine("a", "qemu", Unhealthy).await;
    let daemon = bench.start("boot-0");
    bench.becomes("a", Healthy).await;
    daemon.is_troubled_by("asking Alertmanager: GET http://127.0.0.1:").await;
    bench.alert(serde_json::json!({"no": "list"})).await;
    daemon.is_troubled_by("no list of alerts").await;
    bench.alert(serde_json::json!(null)).await;
    daemon.sees("no trouble", |now| now.troubles.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sabakan_that_is_away_is_waited_for() {
    let bench = Bench::new().await;
    bench.sabakan.faults().add(Rule::always("POST", "/graphql", Fault::internal()));
    bench.machine("a", "free", neco_sabakan::MachineState::Uninitialized).await;
    let daemon = bench.start("boot-0");
    daemon.is_troubled_by("asking sabakan for machines").await;
    daemon.looks(2).await;
    bench.sabakan.faults().clear();
    bench.becomes("a", Healthy).await;
    daemon.sees("no trouble", |now| now.troubles.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_machines_are_asked_at_once_than_is_allowed() {
    let bench = Bench::new().await;
    for at in 0..9 {
        bench.machine(&format!("m{at}"), "qemu", Unhealthy).await;
    }
    let daemon = bench.start_with("boot-0", |options| options.parallel = 2);
    for at in 0..9 {
        bench.becomes(&format!("m{at}"), Healthy).await;
    }
    drop(daemon);
    assert!(bench.exporters.most_at_once() <= 2, "{} at once", bench.exporters.most_at_once());
    assert!(bench.exporters.asked().len() >= 9);
}
