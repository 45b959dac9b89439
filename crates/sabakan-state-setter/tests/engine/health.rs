//! What becomes of machines.

use std::time::Duration;

use neco_sabakan::MachineState::{
    Healthy, Retired, Unhealthy, Uninitialized, Unreachable, Updating,
};
use neco_serf::Status;
use serde_json::json;

use crate::bench::{Bench, WELL};

#[tokio::test(flavor = "multi_thread")]
async fn machines_get_better_and_states_that_others_tell_stay() {
    let bench = Bench::new().await;
    for (serial, state) in [
        ("new", Uninitialized),
        ("ill", Unhealthy),
        ("away", Unreachable),
        ("busy", Updating),
        ("old", Retired),
        ("well", Healthy),
    ] {
        bench.machine(serial, "qemu", state).await;
    }
    let daemon = bench.start("boot-0");
    for serial in ["new", "ill", "away"] {
        bench.becomes(serial, Healthy).await;
    }
    daemon.looks(3).await;
    assert_eq!(bench.state("busy").await, Updating);
    assert_eq!(bench.state("old").await, Retired);
    assert_eq!(bench.state("well").await, Healthy);
    let now = daemon.observed();
    assert_eq!(
        now.machines,
        [("healthy", 4), ("retired", 1), ("updating", 1)].map(|(s, n)| (s.to_owned(), n)).into()
    );
    assert_eq!(now.changes.len(), 3, "{:?}", now.changes);
    assert_eq!(now.troubles, Vec::<String>::new());
    assert!(now.remarks.is_empty() && now.grace.is_empty(), "{now:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hardware_units_and_serf_make_machines_worse() {
    let bench = Bench::new().await;
    // Nine in all: no more than half are lost.
    for serial in ["a", "b", "c", "d"] {
        bench.machine(serial, "free", Healthy).await;
    }
    let cpu = bench.machine("cpu", "qemu", Healthy).await;
    bench.exporters.say(cpu, &WELL.replace("cpu{n=\"2\"} 0", "cpu{n=\"2\"} 1")).await;
    let disks = bench.machine("disks", "qemu", Healthy).await;
    bench
        .exporters
        .say(disks, &WELL.replace("HDD.1\"} 0", "HDD.1\"} 2").replace("HDD.2\"} 0", "HDD.2\"} 2"))
        .await;
    let one_disk = bench.machine("one-disk", "qemu", Healthy).await;
    bench.exporters.say(one_disk, &WELL.replace("HDD.1\"} 0", "HDD.1\"} 2")).await;
    let units = bench.machine("units", "qemu", Healthy).await;
    bench.serf("units", units, Status::Alive, &[("systemd-units-failed", "a.service,")]);
    let failed = bench.machine("failed", "qemu", Healthy).await;
    bench.serf("failed", failed, Status::Failed, &[("systemd-units-failed", "")]);
    let starting = bench.machine("starting", "qemu", Uninitialized).await;
    bench.serf("starting", starting, Status::Alive, &[]);
    let patient = bench.machine("patient", "patient", Healthy).await;
    bench.exporters.be_ill(patient);

    let daemon = bench.start("boot-0");
    for serial in ["cpu", "disks", "units"] {
        bench.becomes(serial, Unhealthy).await;
    }
    bench.becomes("failed", Unreachable).await;
    daemon.looks(3).await;
    assert_eq!(bench.state("one-disk").await, Healthy, "one of two is enough");
    assert_eq!(bench.state("starting").await, Uninitialized);
    assert_eq!(bench.state("patient").await, Healthy, "its grace is an hour");
    let now = daemon.observed();
    assert_eq!(now.remarks["cpu"], "unhealthy: cpu: 1 of 2 are well, 2 must be");
    assert_eq!(now.remarks["starting"], "it has no tag systemd-units-failed yet");
    assert!(now.remarks["patient"].contains("503"), "{}", now.remarks["patient"]);
    assert_eq!(Vec::from_iter(now.grace.keys()), ["patient"]);

    // What gets better is told, too.
    bench.exporters.say(cpu, WELL).await;
    bench.becomes("cpu", Healthy).await;
    bench.serf("failed", failed, Status::Alive, &[("systemd-units-failed", "")]);
    bench.becomes("failed", Healthy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_give_no_grace_and_of_two_the_worse_counts() {
    let bench = Bench::new().await;
    bench.write_alerts(
        "[{name: Disk, labels: {severity: error}, serial-label: serial, state: unhealthy}, \
         {name: Net, address-label: address, state: unreachable}]",
    );
    for serial in ["a", "b", "c", "warned"] {
        bench.machine(serial, "free", Healthy).await;
    }
    bench.machine("disk", "patient", Healthy).await;
    let both = bench.machine("both", "patient", Healthy).await;
    bench
        .alert(json!([
            {"labels": {"alertname": "Disk", "serial": "disk", "severity": "error"}, "status": {"state": "active"}},
            {"labels": {"alertname": "Disk", "serial": "warned", "severity": "warning"}},
            {"labels": {"alertname": "Disk", "serial": "both", "severity": "error"}},
            {"labels": {"alertname": "Net", "address": both.to_string()}},
        ]))
        .await;
    let daemon = bench.start("boot-0");
    bench.becomes("disk", Unhealthy).await;
    bench.becomes("both", Unreachable).await;
    daemon.looks(2).await;
    assert_eq!(bench.state("warned").await, Healthy);
    let asked = bench.alertmanager.asked();
    assert!(asked.iter().all(|query| query == "127.0.0.1 silenced=false"), "{asked:?}");

    bench.alert(json!([])).await;
    bench.becomes("disk", Healthy).await;
    bench.becomes("both", Healthy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_nobody_knows_is_told_and_unhealthy_at_second_sight() {
    let bench = Bench::new().await;
    bench.machine("odd", "unheard-of", Healthy).await;
    let daemon = bench.start("boot-0");
    bench.becomes("odd", Unhealthy).await;
    daemon.is_troubled_by("not in the list: \"unheard-of\" (machine odd)").await;
    // A list that learns of it is read without a restart.
    bench.write_list("machine-types: [{name: unheard-of}]\n");
    bench.becomes("odd", Healthy).await;
    daemon.sees("no trouble", |now| now.troubles.is_empty()).await;
    // And one that is broken leaves the other in force.
    bench.write_list("machine-types: [{nam: unheard-of}]\n");
    daemon.is_troubled_by("list.yml:1: machine-types[0].name: is missing").await;
    daemon.looks(2).await;
    assert_eq!(bench.state("odd").await, Healthy);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mass_of_losses_is_held_back_until_it_has_lasted() {
    let bench = Bench::new().await;
    let mut addresses = Vec::new();
    for serial in ["a", "b", "c", "d"] {
        addresses.push((serial, bench.machine(serial, "qemu", Healthy).await));
    }
    let daemon = bench.start("boot-0");
    daemon.looks(2).await;
    for (serial, address) in &addresses[..3] {
        bench.serf(serial, *address, Status::Failed, &[]);
    }
    bench.machine("new", "qemu", Uninitialized).await;
    daemon.sees("held losses", |now| now.held == 3).await;
    // What is no loss is told meanwhile.
    bench.becomes("new", Healthy).await;
    daemon.is_troubled_by("of 5 machines would be lost at once").await;
    assert_eq!(bench.state("a").await, Healthy);
    // Two are few, whatever they are of.
    bench.serf("c", addresses[2].1, Status::Alive, &[("systemd-units-failed", "")]);
    bench.becomes("a", Unreachable).await;
    bench.becomes("b", Unreachable).await;
    daemon.sees("no trouble", |now| now.held == 0 && now.troubles.is_empty()).await;
    daemon.stop().await;

    // With less patience it is told in the end.
    bench.serf("c", addresses[2].1, Status::Failed, &[]);
    bench.serf("d", addresses[3].1, Status::Failed, &[]);
    bench.serf.forget("new");
    let _daemon = bench.start_with("boot-0", |options| {
        options.mass_loss_after = Duration::from_millis(200);
    });
    for serial in ["c", "d", "new"] {
        bench.becomes(serial, Unreachable).await;
    }
}
