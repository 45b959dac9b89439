//! Retirement and shutdown.

use neco_sabakan::MachineState::{Healthy, Retired, Retiring};
use neco_sabakan::fake::{Fault, Rule};

use sabakan_state_setter::Metrics;

use crate::bench::{Bench, LIST, client};

#[tokio::test(flavor = "multi_thread")]
async fn a_retiring_machine_loses_its_keys_and_its_tpm_once() {
    let bench = Bench::new().await;
    bench.machine("well", "qemu", Healthy).await;
    bench.machine("old", "qemu", Healthy).await;
    bench.put_disk_key("old").await;
    bench.put_state("old", Retiring).await;
    let daemon = bench.start("boot-0");
    bench.becomes("old", Retired).await;
    daemon.looks(3).await;
    assert_eq!(bench.deletions(), 1);
    assert_eq!(bench.power.did(), ["clear old"]);
    assert_eq!(bench.state("well").await, Healthy);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_of_a_retirement_is_not_done_again() {
    let bench = Bench::new().await;
    *bench.power.refuses.lock().unwrap() = Some("the controller is away".to_owned());
    bench.machine("old", "qemu", Retiring).await;
    let ill = bench.machine("ill", "qemu", Healthy).await;
    let daemon = bench.start("boot-0");
    daemon.is_troubled_by("retiring old: clearing its TPM: the controller is away").await;
    // Health is told beside it.
    bench.serf("ill", ill, neco_serf::Status::Failed, &[]);
    bench.becomes("ill", neco_sabakan::MachineState::Unreachable).await;
    daemon.looks(5).await;
    assert_eq!(bench.deletions(), 1, "its keys are deleted already");
    assert_eq!(bench.state("old").await, Retiring);

    // Sabakan fails at the very end.
    bench.sabakan.faults().add(Rule::always("POST", "/graphql", Fault::internal()));
    *bench.power.refuses.lock().unwrap() = None;
    daemon.is_troubled_by("asking sabakan").await;
    bench.sabakan.faults().clear();
    bench.becomes("old", Retired).await;
    daemon.sees("no trouble", |now| now.troubles.is_empty()).await;
    let cleared = bench.power.did();
    let after = cleared.len();
    daemon.looks(3).await;
    assert_eq!((bench.deletions(), bench.power.did().len()), (1, after));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_has_moved_on_meanwhile_is_no_failure() {
    let bench = Bench::new().await;
    bench.machine("old", "qemu", Retiring).await;
    *bench.power.meanwhile.lock().unwrap() = Some(client(&bench.sabakan));
    let daemon = bench.start("boot-0");
    bench.becomes("old", Healthy).await;
    daemon.looks(2).await;
    let jobs = page(daemon.context.metrics());
    assert!(jobs.contains("jobs_total{job=\"retire\",result=\"ok\"} 1\n"), "{jobs}");
    assert!(!jobs.contains("job=\"retire\",result=\"failed\""), "{jobs}");
    let changes = daemon.observed().changes;
    assert!(changes.iter().all(|change| change.to == "healthy"), "{changes:?}");
}

/// What `/metrics` shows.
fn page(metrics: &Metrics) -> String {
    let mut registry = prometheus_client::registry::Registry::default();
    metrics.register(&mut registry);
    let mut page = String::new();
    prometheus_client::encoding::text::encode(&mut page, &registry).expect("a page");
    page
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_cannot_be_deleted_leave_the_tpm_alone() {
    let bench = Bench::new().await;
    bench.sabakan.faults().add(Rule::always("DELETE", "/api/v1/crypts/old", Fault::internal()));
    bench.machine("old", "qemu", Retiring).await;
    let daemon = bench.start("boot-0");
    daemon.is_troubled_by("retiring old: deleting its disk keys").await;
    assert_eq!(bench.power.did(), Vec::<String>::new());
    bench.sabakan.faults().clear();
    bench.becomes("old", Retired).await;
    assert_eq!(bench.power.did(), ["clear old"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn retired_machines_are_switched_off_when_it_is_time() {
    let bench = Bench::new().await;
    bench.machine("off", "qemu", Retired).await;
    bench.machine("on", "qemu", Retired).await;
    bench.machine("well", "qemu", Healthy).await;
    bench.power.off.lock().unwrap().push("off".to_owned());
    bench.write_list(&format!("shutdown-schedule: '@every 1s'\n{LIST}"));
    let daemon = bench.start("boot-0");
    let metrics = daemon.context.metrics().clone();
    let stopped = async {
        while !bench.power.did().contains(&"stop on".to_owned()) {
            daemon.looks(1).await;
        }
    };
    tokio::time::timeout(crate::bench::WITHIN, stopped).await.expect("it is switched off");
    // At the next time it is off.
    let statuses = || bench.power.did().iter().filter(|did| *did == "status on").count();
    let again = async {
        while statuses() < 2 {
            daemon.looks(1).await;
        }
    };
    tokio::time::timeout(crate::bench::WITHIN, again).await.expect("it is asked again");
    daemon.stop().await;
    let did = bench.power.did();
    assert_eq!(did.iter().filter(|did| did.starts_with("stop")).count(), 1, "{did:?}");
    assert!(!did.iter().any(|did| did.contains("well")), "{did:?}");
    let page = page(&metrics);
    assert!(page.contains("state_setter_jobs_total{job=\"shutdown\",result=\"ok\"} 1\n"), "{page}");
    assert!(page.contains("state_setter_leader 0\n"), "{page}");
}
