//! The bus and systemd go away for a while.

use std::time::{Duration, Instant};

use neco_schema::Severity;
use neco_systemd::{ActiveState, UnitError, UnitName, Units};

use crate::bench::{Machine, scratch, systemctl, unit, until};

/// A service whose start ends when a file is there.
async fn slow(machine: &Machine) -> (UnitName, std::path::PathBuf) {
    let (service, go) = (unit("slow.service"), scratch("go"));
    let wait = format!("/bin/sh -c 'until test -e {}; do sleep 0.05; done'", go.display());
    let text = format!("[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart={wait}\n");
    machine.install(&service, &text).await;
    (service, go)
}

/// Begins to start a service and waits until its job runs.
async fn starting(
    machine: &Machine,
    service: &UnitName,
) -> tokio::task::JoinHandle<Result<(), UnitError>> {
    let (systemd, name) = (machine.systemd.clone(), service.clone());
    let starting = tokio::spawn(async move { systemd.start(&name).await });
    until("it starts", async || machine.state(service).await.is_alive()).await;
    starting
}

/// Calls again whenever the error says so.
async fn start_at_last(machine: &Machine, service: &UnitName) {
    until("it can be started", async || match machine.systemd.start(service).await {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error.severity(), Severity::TryAgain, "{error}");
            false
        }
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a booted systemd; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn systemd_may_execute_itself_anew_while_a_job_runs() {
    let machine = Machine::new();
    let (service, go) = slow(&machine).await;
    let starting = starting(&machine, &service).await;
    tokio::task::spawn_blocking(|| systemctl(&["daemon-reexec"])).await.expect("executed anew");
    std::fs::write(&go, "").expect("writable");
    let started = starting.await.expect("no panic");
    started.expect("the job is the same in the new systemd");
    start_at_last(&machine, &service).await;
    assert_eq!(machine.state(&service).await.active, ActiveState::Active);
}

#[tokio::test]
#[ignore = "needs a booted systemd; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn every_call_while_systemd_executes_itself_anew_is_done_or_asks_for_another_try() {
    let machine = Machine::new();
    let service = unit("calm.service");
    machine.install(&service, "[Service]\nExecStart=/bin/sleep infinity\n").await;
    let anew = tokio::task::spawn_blocking(|| {
        for _ in 0..3 {
            systemctl(&["daemon-reexec"]);
        }
    });
    let mut failed = 0;
    while !anew.is_finished() {
        for result in [
            machine.systemd.restart(&service).await,
            machine.systemd.state(&service).await.map(|_| ()),
            machine.systemd.daemon_reload().await,
        ] {
            if let Err(error) = result {
                assert_eq!(error.severity(), Severity::TryAgain, "{error}");
                failed += 1;
            }
        }
    }
    anew.await.expect("executed anew");
    println!("{failed} calls asked for another try");
    start_at_last(&machine, &service).await;
    assert_eq!(machine.state(&service).await.active, ActiveState::Active);
}

/// While this lives, there is no system bus.
struct NoBus;

impl NoBus {
    const UNITS: [&str; 2] = ["dbus.socket", "dbus.service"];

    async fn begin() -> Self {
        let guard = Self;
        let stop = || systemctl(&[&["stop"], &Self::UNITS[..]].concat());
        tokio::task::spawn_blocking(stop).await.expect("stopped");
        guard
    }
}

impl Drop for NoBus {
    fn drop(&mut self) {
        systemctl(&[&["start"], &Self::UNITS[..]].concat());
    }
}

#[tokio::test]
#[ignore = "needs a booted systemd; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn the_engine_rides_out_an_absence_of_the_bus() {
    let machine = Machine::new();
    let (service, go) = slow(&machine).await;
    let starting = starting(&machine, &service).await;
    let absence = NoBus::begin().await;
    let error = starting.await.expect("no panic").expect_err("the bus is gone");
    assert!(matches!(error, UnitError::Lost { .. }), "{error}");
    assert_eq!(error.severity(), Severity::TryAgain);
    for _ in 0..3 {
        let began = Instant::now();
        let error = machine.systemd.state(&service).await.expect_err("there is no bus");
        assert!(matches!(error, UnitError::NoBus { .. }), "{error}");
        assert!(error.to_string().contains("there is no system bus at unix:path="), "{error}");
        assert_eq!(error.severity(), Severity::TryAgain);
        assert!(began.elapsed() < Duration::from_secs(5), "it does not hang");
    }
    drop(absence);
    std::fs::write(&go, "").expect("writable");
    start_at_last(&machine, &service).await;
    assert_eq!(machine.state(&service).await.active, ActiveState::Active);
}
