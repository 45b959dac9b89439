//! A check that cannot fail is a defect: each rule that is left out is noticed within a bounded number of schedules.

use neco_plan::testing::Planted;
use neco_testkit::cluster::{Bug, Fault, Kind, Plan, Quality};

/// Within how many schedules a planted bug must show.
const SCHEDULES: u64 = 1_500;

/// Plays schedules with `bug` until one fails in a way that says `sign`.
fn is_noticed(bug: Bug, sign: &str) {
    let mut others = Vec::new();
    for seed in 0..SCHEDULES {
        let plan = Plan { bug: Some(bug), ..Plan::random(seed) };
        let failures = plan.run(false).failures;
        if let Some(found) = failures.iter().find(|failure| failure.contains(sign)) {
            println!("{bug:?} shows with seed {seed}: {found}");
            return;
        }
        others.extend(failures);
    }
    others.truncate(20);
    panic!("{bug:?} does not show in {SCHEDULES} schedules as {sign:?}; instead: {others:#?}");
}

#[test]
fn a_barrier_by_majority_is_noticed() {
    is_noticed(Bug::Decision(Planted::BarrierByMajority), "began step");
}

#[test]
fn a_resume_at_the_next_step_is_noticed() {
    is_noticed(Bug::Decision(Planted::ResumeAtNext), "as done, and it is not");
}

#[test]
fn a_status_without_guard_is_noticed() {
    is_noticed(Bug::Decision(Planted::GuardLeftOut), "which is not the current one");
}

#[test]
fn a_status_of_an_earlier_request_that_counts_is_noticed() {
    is_noticed(Bug::Decision(Planted::EarlierStatusCounts), "began step");
}

#[test]
fn a_stop_before_the_restoration_is_noticed() {
    is_noticed(Bug::Decision(Planted::StopBeforeRestore), "settles with group vault open");
}

#[test]
fn a_fence_left_out_is_noticed() {
    is_noticed(Bug::FenceLeftOut, "invariant");
}

#[test]
fn a_write_decided_once_is_noticed() {
    is_noticed(Bug::DecidedOnce, "invariant");
}

#[test]
fn a_way_that_is_not_decided_is_noticed() {
    is_noticed(Bug::WayLeftOut, "beside");
}

#[test]
fn a_unit_that_stays_enabled_is_noticed() {
    is_noticed(Bug::UnitStaysEnabled, "beside");
}

#[test]
fn a_change_looked_for_on_the_disk_is_noticed() {
    is_noticed(Bug::ComparedWithDisk, "still runs");
}

#[test]
fn a_turn_that_is_kept_is_noticed() {
    is_noticed(Bug::TurnKept, "no progress within");
}

#[test]
fn a_restart_without_turn_is_noticed() {
    is_noticed(Bug::TurnLeftOut, "15 (one restart at a time)");
}

#[test]
fn a_turn_that_ends_with_a_lease_is_noticed() {
    is_noticed(Bug::TurnByLease, "18 (turn not stolen)");
}

#[test]
fn a_restart_without_health_is_noticed() {
    is_noticed(Bug::HealthLeftOut, "stopped its etcd with");
}

#[test]
fn an_installation_that_forgets_is_noticed() {
    is_noticed(Bug::InstallForgotten, "AwaitVerdict");
}

#[test]
fn an_unbegun_effect_that_is_completed_is_noticed() {
    is_noticed(Bug::UnbegunCompleted, "invariant");
}

// `Bug::IntentsWaitForEtcd` needs the loss of quorum by this server's own stop, which schedules rarely come by: the trace of
// it in `protocol_traces.rs` shows it each time.

#[test]
fn a_leader_without_guard_is_noticed() {
    is_noticed(Bug::LeaderUnguarded, "invariant 1 ");
}

#[test]
fn a_deadline_by_the_wall_clock_is_noticed() {
    is_noticed(Bug::WallClockDeadline, "invariant 24");
}

#[test]
fn a_release_outside_of_its_window_is_noticed() {
    // A release completes, the window closes, and the next release is published long after that.
    let faults = vec![
        (0, Fault::Release(Quality::Good, 1)),
        (400, Fault::Silence(1200)),
        (401, Fault::Window(7200)),
        (402, Fault::Silence(600)),
        (403, Fault::Release(Quality::Good, 1)),
        (404, Fault::Silence(600)),
    ];
    let plan = |bug| Plan { faults: faults.clone(), go_updater: false, bug, ..Plan::random(0) };
    let planted = plan(Some(Bug::WindowIgnored)).run(false).failures;
    let noticed = planted.iter().any(|failure| failure.contains("outside of its window"));
    assert!(noticed, "{planted:?}");
    let right = plan(None).run(false);
    assert_eq!(right.failures, Vec::<String>::new());
    assert!(right.counts.of(Kind::LeaderWait, "window") > 0);
}

#[test]
fn a_deadline_left_out_is_noticed() {
    is_noticed(Bug::DeadlineLeftOut, "L3 (a dead member is noticed)");
}

#[test]
fn members_removed_by_the_old_size_are_noticed() {
    is_noticed(Bug::OldSizeMajority, "still a member of etcd");
}
