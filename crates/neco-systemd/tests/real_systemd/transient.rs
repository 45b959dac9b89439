//! Commands as units of their own.

use std::process::Command;

use neco_systemd::contract::Bench;
use neco_systemd::{ActiveState, LoadState, UnitError, Units};

use crate::bench::{Machine, SOON, scratch, systemctl, unit, until, words};

/// Set where the caller runs that is to be ended.
const CALLER: &str = "NECO_CONTRACT_CALLER";

#[tokio::test]
#[ignore = "needs a booted systemd; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn a_transient_unit_outlives_the_unit_of_its_caller() {
    let machine = Machine::new();
    let (caller, outliving) = (unit("caller.service"), unit("outliving.service"));
    let itself = std::env::current_exe().expect("known");
    let text = format!(
        "[Service]\nEnvironment={CALLER}={outliving}\nExecStart={} --ignored --exact {}\n",
        itself.display(),
        "transient::caller_of_a_transient_unit"
    );
    machine.install(&caller, &text).await;
    machine.systemd.start(&caller).await.expect("started");
    until("the caller has called", async || machine.state(&outliving).await.is_active()).await;
    let run = machine.run_of(&outliving);
    assert!(machine.state(&caller).await.is_active(), "the caller waits for its end");
    machine.systemd.stop(&caller).await.expect("stopped");
    assert!(!machine.state(&caller).await.is_alive());
    assert!(machine.state(&outliving).await.is_active());
    assert_eq!(machine.run_of(&outliving), run);
}

/// Does nothing but where the test above runs it.
#[tokio::test]
#[ignore = "needs a booted systemd; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn caller_of_a_transient_unit() {
    let Ok(name) = std::env::var(CALLER) else { return };
    let systemd = neco_systemd::Systemd::new();
    let argv = words(["/bin/sleep", "infinity"]);
    systemd.start_transient(&name.parse().expect("a name"), &argv).await.expect("started");
    tokio::time::sleep(2 * SOON).await;
}

#[tokio::test]
#[ignore = "needs a booted systemd; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn however_a_command_ends_its_name_is_free_at_once() {
    let machine = Machine::new();
    let (service, ran) = (unit("ends.service"), scratch("ran"));
    for (number, end) in
        ["exit 0", "exit 3", "kill -KILL $$"].into_iter().cycle().take(30).enumerate()
    {
        let script = format!("echo >> {}; {end}", ran.display());
        let argv = words(["/bin/sh", "-c", &script]);
        machine.systemd.start_transient(&service, &argv).await.expect("started");
        until("it has ended", async || !machine.state(&service).await.is_alive()).await;
        let lines = std::fs::read_to_string(&ran).expect("it ran").lines().count();
        assert_eq!(lines, number + 1, "{end}");
    }
    until("it is forgotten", async || machine.state(&service).await.load == LoadState::NotFound)
        .await;
}

#[tokio::test]
#[ignore = "needs a booted systemd; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn of_many_callers_only_one_starts_the_command() {
    let machine = Machine::new();
    let (service, ran) = (unit("once.service"), scratch("ran"));
    let script = format!("echo >> {}; exec sleep infinity", ran.display());
    let calls = (0..20).map(|_| {
        let (systemd, service) = (machine.systemd.clone(), service.clone());
        let argv = words(["/bin/sh", "-c", &script]);
        tokio::spawn(async move { systemd.start_transient(&service, &argv).await })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.expect("no panic").expect("it runs");
    }
    assert_eq!(machine.state(&service).await.active, ActiveState::Active);
    machine.systemd.stop(&service).await.expect("stopped");
    assert_eq!(std::fs::read_to_string(&ran).expect("it ran"), "\n");
}

#[tokio::test]
#[ignore = "needs a booted systemd; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn a_command_gets_its_arguments_as_they_are() {
    const ODD: [&str; 8] =
        ["$HOME", "${HOME}", "$$", "%n %%", "two words", "a\"b'c\\d\\n", "", "ä;#"];
    let machine = Machine::new();
    let (service, said) = (unit("says.service"), scratch("said"));
    let script = format!("printf '%s\\n' \"$@\" > {0}.part; mv {0}.part {0}", said.display());
    let mut argv = words(["/bin/sh", "-c", &script, "sh"]);
    argv.extend(words(ODD));
    machine.systemd.start_transient(&service, &argv).await.expect("started");
    until("it has spoken", async || said.exists()).await;
    let said = std::fs::read_to_string(&said).expect("readable");
    assert_eq!(said.lines().collect::<Vec<_>>(), ODD);
}

#[tokio::test]
#[ignore = "needs a booted systemd; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn a_program_that_is_not_there_is_named_as_the_cause() {
    let machine = Machine::new();
    let service = unit("absent.service");
    let argv = words(["/usr/bin/no-such-program", "-v"]);
    for _ in 0..2 {
        let error = machine.systemd.start_transient(&service, &argv).await.expect_err("no program");
        assert!(matches!(error, UnitError::JobFailed { .. }), "{error}");
        assert!(error.to_string().contains("its program could not be executed"), "{error}");
    }
    let relative = words(["./no-such-program"]);
    let error = machine.systemd.start_transient(&service, &relative).await.expect_err("no path");
    assert!(matches!(error, UnitError::Refused { .. }), "{error}");
}

#[tokio::test]
#[ignore = "needs a booted systemd; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn a_leftover_of_the_same_name_does_not_hinder_the_start() {
    let machine = Machine::new();
    let service = unit("leftover.service");
    let name = format!("--unit={service}");
    let made = Command::new("systemd-run").args(["--quiet", &name, "/bin/false"]).status();
    assert!(made.expect("it runs").success());
    until("it has failed", async || machine.state(&service).await.active == ActiveState::Failed)
        .await;
    let argv = words(["/bin/sleep", "infinity"]);
    machine.systemd.start_transient(&service, &argv).await.expect("started");
    assert_eq!(machine.state(&service).await.active, ActiveState::Active);
    systemctl(&["stop", service.as_str()]);
}
