//! What every engine of [`Units`] keeps: a suite to run against each.

use crate::{ActiveState, FileState, Job, LoadState, UnitError, UnitName, Units};

/// A machine with an engine under test.
pub trait Bench: Sync {
    /// The engine.
    fn units(&self) -> &dyn Units;

    /// Writes a unit file where the engine reads it.
    fn write_unit(&self, unit: &UnitName, text: &str);

    /// Removes that file.
    fn remove_unit(&self, unit: &UnitName);

    /// Makes `job` fail on `unit` with a message, or succeed again.
    fn fail(&self, job: Job, unit: &UnitName, message: Option<&str>);
}

const WANTED: &str =
    "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n";
const TRIGGERED: &str = "[Service]\nType=oneshot\nExecStart=/bin/true\n";

/// Runs every clause on a machine of its own; panics at the first that is broken.
pub async fn holds<B: Bench>(new: impl Fn() -> B) {
    an_unknown_unit_has_a_state_but_takes_no_job(&new()).await;
    start_and_stop_change_the_state_and_may_be_repeated(&new()).await;
    enabling_and_starting_are_independent(&new()).await;
    a_unit_without_install_section_stays_static(&new()).await;
    a_changed_file_counts_after_a_daemon_reload(&new()).await;
    a_failing_start_says_why_and_leaves_the_unit_failed(&new()).await;
    a_failing_stop_leaves_the_unit_active(&new()).await;
    a_failing_restart_leaves_the_unit_failed_and_can_be_repeated(&new()).await;
    an_active_unit_whose_file_is_gone_can_be_stopped(&new()).await;
}

fn vault() -> UnitName {
    "neco-contract-vault.service".parse().expect("a name")
}

async fn active(bench: &impl Bench) -> ActiveState {
    bench.units().state(&vault()).await.expect("a state").active
}

async fn an_unknown_unit_has_a_state_but_takes_no_job(bench: &impl Bench) {
    let units = bench.units();
    let state = units.state(&vault()).await.expect("a state");
    assert_eq!(state.load, LoadState::NotFound);
    assert_eq!(state.active, ActiveState::Inactive);
    assert_eq!(state.file_state, FileState::Missing);
    for (job, result) in [
        (Job::Enable, units.enable(&vault()).await),
        (Job::Start, units.start(&vault()).await),
        (Job::Stop, units.stop(&vault()).await),
        (Job::Restart, units.restart(&vault()).await),
    ] {
        let error = result.expect_err("no such unit");
        assert!(
            matches!(&error, UnitError::NotFound { job: named, .. } if *named == job),
            "{job}: {error}"
        );
    }
    units.disable(&vault()).await.expect("nothing to do");
}

async fn start_and_stop_change_the_state_and_may_be_repeated(bench: &impl Bench) {
    let units = bench.units();
    bench.write_unit(&vault(), WANTED);
    units.daemon_reload().await.expect("reloaded");
    for _ in 0..2 {
        units.start(&vault()).await.expect("started");
        let state = units.state(&vault()).await.expect("a state");
        assert_eq!((state.active, state.sub.as_str()), (ActiveState::Active, "running"));
    }
    units.restart(&vault()).await.expect("restarted");
    assert_eq!(active(bench).await, ActiveState::Active);
    for _ in 0..2 {
        units.stop(&vault()).await.expect("stopped");
        assert_eq!(active(bench).await, ActiveState::Inactive);
    }
    units.restart(&vault()).await.expect("a restart starts");
    assert_eq!(active(bench).await, ActiveState::Active);
    units.stop(&vault()).await.expect("stopped");
}

async fn enabling_and_starting_are_independent(bench: &impl Bench) {
    let units = bench.units();
    bench.write_unit(&vault(), WANTED);
    units.daemon_reload().await.expect("reloaded");
    let file_state = async || units.state(&vault()).await.expect("a state").file_state;
    assert_eq!(file_state().await, FileState::Disabled);
    for _ in 0..2 {
        units.enable(&vault()).await.expect("enabled");
        assert_eq!(file_state().await, FileState::Enabled);
    }
    assert_eq!(active(bench).await, ActiveState::Inactive);
    units.start(&vault()).await.expect("started");
    for _ in 0..2 {
        units.disable(&vault()).await.expect("disabled");
        assert_eq!(file_state().await, FileState::Disabled);
    }
    assert_eq!(active(bench).await, ActiveState::Active);
    units.stop(&vault()).await.expect("stopped");
}

async fn a_unit_without_install_section_stays_static(bench: &impl Bench) {
    let units = bench.units();
    bench.write_unit(&vault(), TRIGGERED);
    units.daemon_reload().await.expect("reloaded");
    units.enable(&vault()).await.expect("nothing to enable");
    let state = units.state(&vault()).await.expect("a state");
    assert_eq!(state.file_state, FileState::Static);
    assert!(!state.is_enabled());
}

async fn a_changed_file_counts_after_a_daemon_reload(bench: &impl Bench) {
    let units = bench.units();
    bench.write_unit(&vault(), WANTED);
    units.daemon_reload().await.expect("reloaded");
    units.start(&vault()).await.expect("started");
    assert!(!units.state(&vault()).await.expect("a state").needs_reload);
    bench.write_unit(&vault(), &format!("{WANTED}# changed\n"));
    assert!(units.state(&vault()).await.expect("a state").needs_reload);
    units.restart(&vault()).await.expect("restarted");
    assert!(
        units.state(&vault()).await.expect("a state").needs_reload,
        "a restart goes by what was loaded"
    );
    units.daemon_reload().await.expect("reloaded");
    assert!(!units.state(&vault()).await.expect("a state").needs_reload);
    assert_eq!(active(bench).await, ActiveState::Active, "a reload restarts nothing");
    units.stop(&vault()).await.expect("stopped");
}

async fn a_failing_start_says_why_and_leaves_the_unit_failed(bench: &impl Bench) {
    let units = bench.units();
    bench.write_unit(&vault(), WANTED);
    units.daemon_reload().await.expect("reloaded");
    bench.fail(Job::Start, &vault(), Some("sealed"));
    let error = units.start(&vault()).await.expect_err("it fails");
    assert!(
        matches!(&error, UnitError::JobFailed { job: Job::Start, unit, .. } if *unit == vault()),
        "{error}"
    );
    assert_eq!(active(bench).await, ActiveState::Failed);
    units.stop(&vault()).await.expect("a failed unit does not run");
    bench.fail(Job::Start, &vault(), None);
    units.start(&vault()).await.expect("started");
    assert_eq!(active(bench).await, ActiveState::Active);
    units.stop(&vault()).await.expect("stopped");
}

async fn a_failing_stop_leaves_the_unit_active(bench: &impl Bench) {
    let units = bench.units();
    bench.write_unit(&vault(), WANTED);
    units.daemon_reload().await.expect("reloaded");
    units.start(&vault()).await.expect("started");
    bench.fail(Job::Stop, &vault(), Some("busy"));
    assert!(units.stop(&vault()).await.is_err());
    assert_eq!(active(bench).await, ActiveState::Active);
    bench.fail(Job::Stop, &vault(), None);
    units.stop(&vault()).await.expect("stopped");
}

async fn a_failing_restart_leaves_the_unit_failed_and_can_be_repeated(bench: &impl Bench) {
    let units = bench.units();
    bench.write_unit(&vault(), WANTED);
    units.daemon_reload().await.expect("reloaded");
    units.start(&vault()).await.expect("started");
    bench.fail(Job::Start, &vault(), Some("sealed"));
    let error = units.restart(&vault()).await.expect_err("what cannot start cannot restart");
    assert!(matches!(error, UnitError::JobFailed { job: Job::Restart, .. }), "{error}");
    assert_eq!(active(bench).await, ActiveState::Failed);
    bench.fail(Job::Start, &vault(), None);
    units.restart(&vault()).await.expect("restarted");
    assert_eq!(active(bench).await, ActiveState::Active);
    units.stop(&vault()).await.expect("stopped");
}

async fn an_active_unit_whose_file_is_gone_can_be_stopped(bench: &impl Bench) {
    let units = bench.units();
    bench.write_unit(&vault(), WANTED);
    units.daemon_reload().await.expect("reloaded");
    units.start(&vault()).await.expect("started");
    bench.remove_unit(&vault());
    units.daemon_reload().await.expect("reloaded");
    assert_eq!(active(bench).await, ActiveState::Active);
    units.stop(&vault()).await.expect("stopped");
    units.daemon_reload().await.expect("reloaded");
    assert_eq!(units.state(&vault()).await.expect("a state").load, LoadState::NotFound);
}
