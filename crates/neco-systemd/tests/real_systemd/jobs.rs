//! What comes of jobs.

use std::time::Duration;

use neco_systemd::contract::Bench;
use neco_systemd::{ActiveState, FileState, Job, LoadState, Systemd, UnitError, UnitName, Units};

use crate::bench::{Machine, scratch, systemctl, unit, until};

async fn failure(machine: &Machine, name: &UnitName) -> String {
    let error = machine.systemd.start(name).await.expect_err("it cannot start");
    assert!(matches!(error, UnitError::JobFailed { job: Job::Start, .. }), "{error}");
    error.to_string()
}

#[tokio::test]
#[ignore = "needs a booted systemd; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn a_failed_start_says_which_process_ended_how() {
    let machine = Machine::new();
    let service = unit("fails.service");
    for (text, words) in [
        (
            "Type=oneshot\nExecStart=/bin/sh -c 'exit 42'",
            "failed, exit-code: the main process exited with status 42",
        ),
        (
            "Type=oneshot\nExecStart=/bin/sh -c 'kill -KILL $$$$'",
            "failed, signal: the main process was ended by signal 9",
        ),
        (
            "Type=exec\nExecStart=/usr/bin/no-such-program",
            "failed, exit-code: the main process exited with status 203 (its program could not be",
        ),
        (
            "ExecStartPre=-/bin/false\nExecStartPre=/bin/grep x /dev/null\nExecStart=/bin/true",
            "failed, exit-code: ExecStartPre=/bin/grep x /dev/null exited with status 1",
        ),
        (
            "Type=notify\nTimeoutStartSec=100ms\nExecStart=/bin/sleep infinity",
            "failed, timeout: it was not ready in time",
        ),
        ("Type=notify\nExecStart=/bin/true", "failed, protocol: its process does not do"),
        (
            "Type=notify\nNotifyAccess=all\nExecStart=/bin/sh -c 'systemd-notify --status=\"no key\"; exit 3'",
            "failed, exit-code: the main process exited with status 3; it said: no key",
        ),
        // What the last one said is not held against this one.
        (
            "Type=notify\nExecStart=/bin/sh -c 'exit 4'",
            "failed, exit-code: the main process exited with status 4 (",
        ),
    ] {
        machine.install(&service, &format!("[Service]\n{text}\n")).await;
        let error = failure(&machine, &service).await;
        assert!(error.contains(words), "{text}: {error}");
    }
}

/// Until it settles or is seen failed, whichever comes first; says whether it settled.
async fn settles(machine: &Machine, name: &UnitName) -> bool {
    let mut settled = false;
    until("it settles or fails", async || {
        let state = machine.state(name).await;
        settled = state.is_active() && state.settles_in.is_none();
        settled || state.active == ActiveState::Failed
    })
    .await;
    settled
}

#[tokio::test]
#[ignore = "needs a booted systemd; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn a_service_that_dies_right_after_its_start_never_counts_as_one_that_keeps_running() {
    let machine = Machine::new();
    let service = unit("dies.service");
    for (text, keeps_running) in [
        ("ExecStart=/bin/sh -c 'sleep 1; exit 125'", false),
        // It is started again and again, and systemd gives up in the end.
        ("ExecStart=/bin/sh -c 'sleep 0.3; exit 125'\nRestart=always\nRestartSec=100ms", false),
        ("ExecStart=/bin/sleep infinity", true),
        ("Type=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true", true),
    ] {
        machine.install(&service, &format!("[Service]\n{text}\n")).await;
        machine.systemd.start(&service).await.expect("its process is made");
        assert_eq!(settles(&machine, &service).await, keeps_running, "{text}");
        machine.systemd.stop(&service).await.expect("stopped");
    }
    // What has done its work or said that it is ready counts at once.
    let text = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n";
    machine.install(&service, text).await;
    machine.systemd.restart(&service).await.expect("started");
    let state = machine.state(&service).await;
    assert_eq!((state.active, state.settles_in), (ActiveState::Active, None));
}

#[tokio::test]
#[ignore = "needs a booted systemd; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn a_requirement_that_fails_or_is_missing_is_told_from_the_unit_itself() {
    let machine = Machine::new();
    let (service, other) = (unit("needs.service"), unit("needed.service"));
    let text = format!("[Unit]\nRequires={other}\nAfter={other}\n[Service]\nExecStart=/bin/true\n");
    machine.install(&service, &text).await;
    let error = machine.systemd.start(&service).await.expect_err("something is missing");
    assert_eq!(error.to_string(), format!("cannot start {service}: Unit {other} not found."));
    machine.install(&other, "").await;
    let error = machine.systemd.start(&service).await.expect_err("something is masked");
    assert_eq!(error.to_string(), format!("cannot start {service}: Unit {other} is masked."));
    machine.install(&other, "[Service]\nType=oneshot\nExecStart=/bin/false\n").await;
    let error = failure(&machine, &service).await;
    assert!(error.contains("a unit that it requires could not be started"), "{error}");
}

#[tokio::test]
#[ignore = "needs a booted systemd; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn a_start_slower_than_the_deadline_is_awaited_no_more_and_goes_on() {
    let machine = Machine::new();
    let (service, go) = (unit("slow.service"), scratch("go"));
    let wait = format!("/bin/sh -c 'until test -e {}; do sleep 0.05; done'", go.display());
    let text = format!("[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart={wait}\n");
    machine.install(&service, &text).await;
    let hasty = Systemd::with_deadline(Duration::from_millis(300));
    let error = hasty.start(&service).await.expect_err("it is slow");
    assert!(matches!(error, UnitError::TimedOut { job: Job::Start, .. }), "{error}");
    assert_eq!(machine.state(&service).await.active, ActiveState::Activating);
    std::fs::write(&go, "").expect("writable");
    machine.systemd.start(&service).await.expect("the same job ends");
    assert_eq!(machine.state(&service).await.active, ActiveState::Active);
}

#[tokio::test]
#[ignore = "needs a booted systemd; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn a_job_that_another_one_replaces_is_canceled() {
    let machine = Machine::new();
    let service = unit("slow.service");
    machine.install(&service, "[Service]\nType=oneshot\nExecStart=/bin/sleep infinity\n").await;
    let starting = {
        let (systemd, service) = (machine.systemd.clone(), service.clone());
        tokio::spawn(async move { systemd.start(&service).await })
    };
    until("it starts", async || machine.state(&service).await.is_alive()).await;
    machine.systemd.stop(&service).await.expect("stopped");
    let error = starting.await.expect("no panic").expect_err("it was stopped");
    assert!(error.to_string().contains("another job took its place"), "{error}");
}

#[tokio::test]
#[ignore = "needs a booted systemd; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn a_stop_in_whose_place_a_start_came_is_asked_for_again() {
    let machine = Machine::new();
    let (service, other) = (unit("required.service"), unit("requires.service"));
    let slow = "[Service]\nExecStart=/bin/sleep infinity\nExecStop=/bin/sleep 1\n";
    machine.install(&service, slow).await;
    let text = format!(
        "[Unit]\nRequires={service}\nAfter={service}\n[Service]\nExecStart=/bin/sleep infinity\n"
    );
    machine.install(&other, &text).await;
    machine.systemd.start(&service).await.expect("started");
    let stopping = machine.systemd.stop(&service);
    let starting = async {
        until("the stop to begin", async || {
            machine.state(&service).await.active == ActiveState::Deactivating
        })
        .await;
        systemctl(&["start", "--no-block", other.as_str()]);
    };
    let (stopped, ()) = tokio::join!(stopping, starting);
    stopped.expect("stopped in the end");
    assert_eq!(machine.state(&service).await.active, ActiveState::Inactive);
}

#[tokio::test]
#[ignore = "needs a booted systemd; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn what_systemctl_takes_for_success_is_success() {
    let machine = Machine::new();
    for (number, (text, left)) in [
        ("[Service]\nType=simple\nExecStart=/bin/false\n", ActiveState::Failed),
        (
            "[Unit]\nConditionPathExists=/no\n[Service]\nExecStart=/bin/true\n",
            ActiveState::Inactive,
        ),
        ("[Service]\nExecCondition=/bin/false\nExecStart=/bin/true\n", ActiveState::Inactive),
    ]
    .into_iter()
    .enumerate()
    {
        let service = unit(&format!("odd{number}.service"));
        machine.install(&service, text).await;
        systemctl(&["start", service.as_str()]);
        machine.systemd.start(&service).await.expect(text);
        until(text, async || machine.state(&service).await.active == left).await;
    }
}

#[tokio::test]
#[ignore = "needs a booted systemd; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn a_unit_that_was_started_too_often_is_started_all_the_same() {
    let machine = Machine::new();
    let service = unit("often.service");
    let limit = "StartLimitBurst=1\nStartLimitIntervalSec=1h";
    let text = format!("[Unit]\n{limit}\n[Service]\nExecStart=/bin/sleep infinity\n");
    machine.install(&service, &text).await;
    machine.systemd.start(&service).await.expect("started");
    for _ in 0..3 {
        machine.systemd.restart(&service).await.expect("restarted");
        assert_eq!(machine.state(&service).await.active, ActiveState::Active);
    }
    machine.systemd.stop(&service).await.expect("stopped");
    let text = format!("[Unit]\n{limit}\n[Service]\nType=oneshot\nExecStart=/bin/false\n");
    machine.install(&service, &text).await;
    for _ in 0..3 {
        let error = failure(&machine, &service).await;
        assert!(error.contains("exited with status 1"), "its own failure is told: {error}");
    }
}

#[tokio::test]
#[ignore = "needs a booted systemd; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn a_unit_that_cannot_be_read_or_may_not_be_stopped_is_refused_in_words_of_systemd() {
    let machine = Machine::new();
    let service = unit("bad.service");
    machine
        .install(&service, "[Service]\nType=bogus\n[Install]\nWantedBy=multi-user.target\n")
        .await;
    assert_eq!(machine.state(&service).await.load, LoadState::BadSetting);
    let error = machine.systemd.start(&service).await.expect_err("it has no command");
    let words = format!("cannot start {service}: Unit {service} has a bad unit file setting.");
    assert_eq!(error.to_string(), words);
    machine.install(&service, "[Service]\nExecStart=/bin/sleep infinity\n").await;
    machine.systemd.start(&service).await.expect("started");
    machine.fail(Job::Stop, &service, Some("refused"));
    let error = machine.systemd.stop(&service).await.expect_err("it may not be stopped");
    assert!(error.to_string().contains("configured to refuse manual start/stop"), "{error}");
}

#[tokio::test]
#[ignore = "needs a booted systemd; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn a_unit_whose_file_is_gone_can_still_be_disabled() {
    let machine = Machine::new();
    let service = unit("gone.service");
    let text = "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n";
    machine.install(&service, text).await;
    machine.systemd.enable(&service).await.expect("enabled");
    machine.remove_unit(&service);
    for _ in 0..2 {
        machine.systemd.disable(&service).await.expect("disabled");
    }
    machine.install(&service, text).await;
    assert_eq!(machine.state(&service).await.file_state, FileState::Disabled);
}

#[tokio::test]
#[ignore = "needs a booted systemd; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn a_timer_runs_what_it_triggers() {
    let machine = Machine::new();
    let (timer, service, ran) = (unit("tick.timer"), unit("tick.service"), scratch("ticked"));
    let touch = format!("[Service]\nType=oneshot\nExecStart=/usr/bin/touch {}\n", ran.display());
    machine.write_unit(&service, &touch);
    machine.install(&timer, "[Timer]\nOnActiveSec=10ms\nAccuracySec=1ms\n").await;
    machine.systemd.start(&timer).await.expect("started");
    until("its service has run", async || ran.exists()).await;
}

#[tokio::test]
#[ignore = "needs a booted systemd; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn many_jobs_at_once_all_end_and_leave_no_connection() {
    let machine = Machine::new();
    let service = unit("many@.service");
    machine.install(&service, "[Service]\nExecStart=/bin/sleep infinity\n").await;
    let open = || std::fs::read_dir("/proc/self/fd").expect("readable").count();
    let before = open();
    let jobs = (0..100).map(|number| {
        let (systemd, name) = (machine.systemd.clone(), unit(&format!("many@{number}.service")));
        tokio::spawn(async move {
            systemd.start(&name).await?;
            systemd.stop(&name).await
        })
    });
    for job in jobs.collect::<Vec<_>>() {
        job.await.expect("no panic").expect("done");
    }
    until("no connection is open", async || open() <= before).await;
}
