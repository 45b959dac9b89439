//! What every engine of [`Units`] keeps: a suite to run against each.

use std::time::Duration;

use crate::{ActiveState, FileState, Job, LoadState, UnitError, UnitName, UnitState, Units};

/// A machine with an engine under test. Where it is a real one, dropping the bench removes what a clause left.
///
/// The names of all units begin with `neco-contract-`.
pub trait Bench: Sync {
    /// The engine.
    fn units(&self) -> &dyn Units;

    /// Writes a unit file where the engine reads it; an empty one masks the unit.
    fn write_unit(&self, unit: &UnitName, text: &str);

    /// Removes that file.
    fn remove_unit(&self, unit: &UnitName);

    /// Makes `job` fail on `unit` with a message, or succeed again.
    fn fail(&self, job: Job, unit: &UnitName, message: Option<&str>);

    /// What tells this run of `unit` from every other; `None` if it does not run.
    fn run_of(&self, unit: &UnitName) -> Option<String>;
}

const WANTED: &str =
    "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n";
const RELOADING: &str = "[Service]\nExecStart=/bin/sleep infinity\nExecReload=/bin/true\n[Install]\nWantedBy=multi-user.target\n";
const TRIGGERED: &str = "[Service]\nType=oneshot\nExecStart=/bin/true\n";
const YEARLY: &str = "[Timer]\nOnCalendar=yearly\n[Install]\nWantedBy=timers.target\n";

/// How long a service that runs may take to have settled.
const SETTLES_WITHIN: Duration = Duration::from_secs(30);

/// How long a unit that has ended may take to be forgotten.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(10);

/// Runs every clause on a machine of its own; panics at the first that is broken.
pub async fn holds<B: Bench>(new: impl Fn() -> B) {
    an_unknown_unit_has_a_state_but_takes_no_job(&new()).await;
    start_and_stop_change_the_state_and_may_be_repeated(&new()).await;
    a_service_that_keeps_running_settles_and_one_that_does_not_run_has_nothing_to_settle(&new())
        .await;
    enabling_and_starting_are_independent(&new()).await;
    a_unit_without_install_section_stays_static(&new()).await;
    a_changed_file_counts_after_a_daemon_reload(&new()).await;
    a_failing_start_says_why_and_leaves_the_unit_failed(&new()).await;
    a_failing_stop_leaves_the_unit_active(&new()).await;
    a_failing_restart_leaves_the_unit_failed_and_can_be_repeated(&new()).await;
    a_reload_goes_on_where_the_unit_can_and_restarts_where_it_cannot(&new()).await;
    an_active_unit_whose_file_is_gone_can_be_stopped(&new()).await;
    a_masked_unit_takes_no_start_and_says_so(&new()).await;
    a_timer_waits_while_what_it_triggers_does_not_run(&new()).await;
    a_transient_unit_runs_once_under_its_name_until_it_is_stopped(&new()).await;
    a_transient_unit_that_cannot_start_leaves_nothing_behind(&new()).await;
    a_transient_unit_does_not_take_the_place_of_one_with_a_file(&new()).await;
    a_transient_unit_is_a_service_with_a_command(&new()).await;
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
    let mut runs = Vec::new();
    for _ in 0..2 {
        units.start(&vault()).await.expect("started");
        let state = units.state(&vault()).await.expect("a state");
        assert_eq!((state.active, state.sub.as_str()), (ActiveState::Active, "running"));
        runs.push((bench.run_of(&vault()).expect("it runs"), state.run.expect("a run")));
    }
    assert_eq!(runs[0], runs[1], "what is active is not started again");
    units.restart(&vault()).await.expect("restarted");
    let state = units.state(&vault()).await.expect("a state");
    assert_eq!(state.active, ActiveState::Active);
    let again = state.run.expect("a run");
    assert_ne!(bench.run_of(&vault()).expect("it runs"), runs[0].0, "a restart begins a new run");
    assert_ne!(again.id, runs[0].1.id, "which has a name of its own");
    assert!(again.since >= runs[0].1.since, "and began later: {again:?}");
    for _ in 0..2 {
        units.stop(&vault()).await.expect("stopped");
        let state = units.state(&vault()).await.expect("a state");
        assert_eq!((state.active, state.run), (ActiveState::Inactive, None));
    }
    units.restart(&vault()).await.expect("a restart starts");
    assert_eq!(active(bench).await, ActiveState::Active);
    units.stop(&vault()).await.expect("stopped");
}

async fn a_service_that_keeps_running_settles_and_one_that_does_not_run_has_nothing_to_settle(
    bench: &impl Bench,
) {
    let units = bench.units();
    bench.write_unit(&vault(), WANTED);
    units.daemon_reload().await.expect("reloaded");
    let settles_in = async || {
        let state = units.state(&vault()).await.expect("a state");
        let left = state.settles_in.unwrap_or_default();
        assert!(left <= UnitState::SETTLED_AFTER, "{left:?}");
        (state.is_active(), state.settles_in)
    };
    assert_eq!(settles_in().await, (false, None));
    units.start(&vault()).await.expect("started");
    let run = bench.run_of(&vault());
    let polled = tokio::time::timeout(SETTLES_WITHIN, async {
        while settles_in().await != (true, None) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(polled.await.is_ok(), "it still settles: {:?}", settles_in().await);
    assert_eq!(bench.run_of(&vault()), run, "to look changes nothing");
    assert_eq!(settles_in().await, (true, None), "what has settled keeps that");
    units.stop(&vault()).await.expect("stopped");
    assert_eq!(settles_in().await, (false, None));
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
    assert!(!state.is_enabled() && !state.wants_enabling());
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

async fn a_reload_goes_on_where_the_unit_can_and_restarts_where_it_cannot(bench: &impl Bench) {
    let units = bench.units();
    bench.write_unit(&vault(), RELOADING);
    units.daemon_reload().await.expect("reloaded");
    units.reload(&vault()).await.expect("one that does not run is started");
    let run = bench.run_of(&vault());
    assert!(run.is_some());
    units.reload(&vault()).await.expect("reloaded");
    assert_eq!(bench.run_of(&vault()), run, "it goes on running");
    bench.write_unit(&vault(), WANTED);
    units.daemon_reload().await.expect("reloaded");
    units.reload(&vault()).await.expect("restarted");
    assert_eq!(active(bench).await, ActiveState::Active);
    assert_ne!(bench.run_of(&vault()), run, "it cannot read its files again");
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

async fn a_masked_unit_takes_no_start_and_says_so(bench: &impl Bench) {
    let units = bench.units();
    bench.write_unit(&vault(), "");
    units.daemon_reload().await.expect("reloaded");
    let state = units.state(&vault()).await.expect("a state");
    assert_eq!((state.load, state.file_state), (LoadState::Masked, FileState::Masked));
    for (job, result) in [
        (Job::Enable, units.enable(&vault()).await),
        (Job::Start, units.start(&vault()).await),
        (Job::Restart, units.restart(&vault()).await),
    ] {
        let error = result.expect_err("it is masked");
        assert!(
            matches!(&error, UnitError::Masked { job: named, .. } if *named == job),
            "{job}: {error}"
        );
    }
    units.stop(&vault()).await.expect("it does not run");
    units.disable(&vault()).await.expect("it is not enabled");
    assert_eq!(active(bench).await, ActiveState::Inactive);
}

async fn a_timer_waits_while_what_it_triggers_does_not_run(bench: &impl Bench) {
    let units = bench.units();
    let timer: UnitName = "neco-contract-vault.timer".parse().expect("a name");
    bench.write_unit(&vault(), TRIGGERED);
    bench.write_unit(&timer, YEARLY);
    units.daemon_reload().await.expect("reloaded");
    units.enable(&timer).await.expect("enabled");
    for _ in 0..2 {
        units.start(&timer).await.expect("started");
        let state = units.state(&timer).await.expect("a state");
        assert_eq!((state.active, state.sub.as_str()), (ActiveState::Active, "waiting"));
        assert_eq!(state.file_state, FileState::Enabled);
    }
    units.restart(&timer).await.expect("restarted");
    assert_eq!(active(bench).await, ActiveState::Inactive, "its time has not come");
    for _ in 0..2 {
        units.stop(&timer).await.expect("stopped");
        let state = units.state(&timer).await.expect("a state");
        assert_eq!((state.active, state.sub.as_str()), (ActiveState::Inactive, "dead"));
    }
    units.disable(&timer).await.expect("disabled");
    assert_eq!(units.state(&timer).await.expect("a state").file_state, FileState::Disabled);
}

fn endless() -> Vec<String> {
    ["/bin/sleep", "infinity"].map(str::to_owned).to_vec()
}

/// Waits until nothing is known about a unit.
async fn forgotten(bench: &impl Bench, unit: &UnitName) {
    let known = async || {
        let state = bench.units().state(unit).await.expect("a state");
        let nothing =
            (state.load == LoadState::NotFound, state.active.clone(), state.file_state.clone())
                == (true, ActiveState::Inactive, FileState::Missing);
        (!nothing).then_some(state)
    };
    let polled = tokio::time::timeout(FORGOTTEN_WITHIN, async {
        while known().await.is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    if polled.await.is_err() {
        panic!("{unit} is still known: {:?}", known().await);
    }
}

async fn a_transient_unit_runs_once_under_its_name_until_it_is_stopped(bench: &impl Bench) {
    let units = bench.units();
    let mut runs = Vec::new();
    for _ in 0..2 {
        units.start_transient(&vault(), &endless()).await.expect("started");
        let state = units.state(&vault()).await.expect("a state");
        assert_eq!((&state.load, state.sub.as_str()), (&LoadState::Loaded, "running"));
        assert_eq!((&state.file_state, state.needs_reload), (&FileState::Transient, false));
        assert!(state.is_active() && state.is_alive() && !state.is_enabled());
        runs.push(bench.run_of(&vault()).expect("it runs"));
    }
    units.daemon_reload().await.expect("reloaded");
    let state = units.state(&vault()).await.expect("a state");
    assert_eq!((state.is_active(), state.needs_reload), (true, false), "a reload ends nothing");
    runs.push(bench.run_of(&vault()).expect("it runs"));
    assert_eq!(runs, vec![runs[0].clone(); 3], "a second start does not run it twice");
    units.stop(&vault()).await.expect("stopped");
    forgotten(bench, &vault()).await;
    let error = units.start(&vault()).await.expect_err("it is forgotten");
    assert!(matches!(error, UnitError::NotFound { job: Job::Start, .. }), "{error}");
    units.start_transient(&vault(), &endless()).await.expect("started anew");
    assert_ne!(bench.run_of(&vault()).expect("it runs"), runs[0]);
    units.stop(&vault()).await.expect("stopped");
}

async fn a_transient_unit_that_cannot_start_leaves_nothing_behind(bench: &impl Bench) {
    let units = bench.units();
    bench.fail(Job::Start, &vault(), Some("sealed"));
    for _ in 0..2 {
        let error = units.start_transient(&vault(), &endless()).await.expect_err("it fails");
        assert!(
            matches!(&error, UnitError::JobFailed { job: Job::Start, unit, .. } if *unit == vault()),
            "{error}"
        );
    }
    forgotten(bench, &vault()).await;
    bench.fail(Job::Start, &vault(), None);
    units.start_transient(&vault(), &endless()).await.expect("started");
    assert_eq!(active(bench).await, ActiveState::Active);
    units.stop(&vault()).await.expect("stopped");
}

async fn a_transient_unit_does_not_take_the_place_of_one_with_a_file(bench: &impl Bench) {
    let units = bench.units();
    bench.write_unit(&vault(), WANTED);
    units.daemon_reload().await.expect("reloaded");
    let error = units.start_transient(&vault(), &endless()).await.expect_err("the name is taken");
    assert!(matches!(error, UnitError::Refused { .. }), "{error}");
    assert_eq!(active(bench).await, ActiveState::Inactive);
    units.start(&vault()).await.expect("started");
    let run = bench.run_of(&vault());
    units.start_transient(&vault(), &endless()).await.expect("it runs already");
    assert_eq!(bench.run_of(&vault()), run);
    units.stop(&vault()).await.expect("stopped");
    assert_eq!(units.state(&vault()).await.expect("a state").file_state, FileState::Disabled);
}

async fn a_transient_unit_is_a_service_with_a_command(bench: &impl Bench) {
    let timer: UnitName = "neco-contract-vault.timer".parse().expect("a name");
    for (unit, argv) in [
        (&vault(), Vec::new()),
        (&vault(), vec![String::new()]),
        (&vault(), vec!["/bin/echo".to_owned(), "a\0b".to_owned()]),
        (&timer, endless()),
    ] {
        let error =
            bench.units().start_transient(unit, &argv).await.expect_err("it makes no sense");
        assert!(matches!(error, UnitError::Refused { .. }), "{error}");
        forgotten(bench, unit).await;
    }
}
