use neco_schema::journal::Entry;
use neco_schema::{Condition, Key, Op, Outcome, UpdateRequest};

use super::log::*;
use crate::invariants::InvariantId::{self, Liveness};
use crate::invariants::{Daemon, Fact, HowEnded, Rules, Writer};

fn quiet() -> Fact {
    Fact::FaultsEnded
}

/// The invariants that a log breaks.
fn broken(mut log: Log) -> Vec<InvariantId> {
    let mut broken: Vec<_> =
        log.finish().violations.iter().map(|violation| violation.invariant).collect();
    broken.dedup();
    broken
}

fn complete(one: &UpdateRequest) -> Log {
    let mut log = Log::at_step(rules(), one, 3);
    log.both_complete(one);
    log.put(&history_key(one), &record(one, Outcome::Completed));
    log
}

#[test]
fn a_request_that_runs_for_ever_breaks_l1() {
    let one = request("1.0.0", 1);
    let mut log = complete(&one);
    log.auditor.fact(quiet());
    log.keeps(Liveness(1));
    let mut log = Log::at_step(rules(), &one, 2);
    log.auditor.fact(quiet());
    log.breaks(Liveness(1));
}

#[test]
fn nothing_is_promised_while_faults_go_on_or_before_the_bound() {
    let one = request("1.0.0", 1);
    Log::at_step(rules(), &one, 2).says_nothing_about(Liveness(1));
    let mut log = Log::at_step(rules(), &one, 2);
    log.time(0);
    log.auditor.fact(quiet());
    log.time(60);
    log.says_nothing_about(Liveness(1));
}

#[test]
fn a_member_that_never_settles_or_leaves_a_group_open_breaks_l1() {
    let one = request("1.0.0", 1);
    let stopped_log = || {
        let mut log = Log::at_step(rules(), &one, 2);
        log.put(&Key::Alive(A), &alive("1.0.0"));
        log.put(&Key::Request, &stopped(&one));
        log
    };
    let mut log = stopped_log();
    log.auditor.fact(quiet());
    log.breaks(Liveness(1));
    for closed in [true, false] {
        let mut log = stopped_log();
        let revision = neco_schema::Revision(log.revision.0 - 1);
        log.line(A, Entry::GroupOpened { group: "vault".into(), request: one.id(), revision });
        if closed {
            let way = neco_schema::Way::Back;
            log.line(A, Entry::GroupClosed { group: "vault".into(), request: one.id(), way });
        }
        log.status(A, &one, 2, Condition::NotRunning);
        log.auditor.fact(quiet());
        if closed {
            log.keeps(Liveness(1));
        } else {
            log.breaks(Liveness(1));
        }
    }
}

/// A crashed in step 2 and has come back.
fn crashed(one: &UpdateRequest) -> Log {
    let mut log = Log::at_step(rules(), one, 2);
    log.line(A, started("1.0.0"));
    log.line(A, begun(one, 2, 1, log.revision));
    log.line(A, started("1.0.0"));
    log
}

#[test]
fn a_worker_that_comes_back_and_joins_is_right() {
    let one = request("1.0.0", 1);
    let mut log = crashed(&one);
    log.line(A, begun(&one, 2, 2, log.revision));
    log.line(A, Entry::StepDone { request: one.id(), step: 2 });
    log.line(B, begun(&one, 2, 1, log.revision));
    log.line(B, Entry::StepDone { request: one.id(), step: 2 });
    for lrn in [A, B] {
        log.status(lrn, &one, 3, Condition::Running);
    }
    log.both_complete(&one);
    log.auditor.fact(quiet());
    log.keeps(Liveness(2));
}

#[test]
fn a_restart_that_aborts_or_blocks_breaks_l2() {
    let one = request("1.0.0", 1);
    let mut log = crashed(&one);
    log.status(A, &one, 2, Condition::Abort);
    log.put(&Key::Request, &stopped(&one));
    log.auditor.fact(quiet());
    log.breaks(Liveness(2));
    let mut log = crashed(&one);
    log.auditor.fact(quiet());
    assert_eq!(broken(log), [Liveness(1), Liveness(2)]);
    // Three crashes are a reason.
    let mut log = crashed(&one);
    for attempt in [2, 3] {
        log.line(A, begun(&one, 2, attempt, log.revision));
        log.line(A, started("1.0.0"));
    }
    log.status(A, &one, 2, Condition::Abort);
    log.put(&Key::Request, &stopped(&one));
    log.auditor.fact(quiet());
    log.keeps(Liveness(2));
}

#[test]
fn a_dead_member_that_nobody_notices_breaks_l3() {
    let one = request("1.0.0", 1);
    for stops in [true, false] {
        let mut log = Log::new(Rules { bound: std::time::Duration::ZERO, ..rules() });
        log.time(0);
        log.put(&Key::Alive(B), &alive("0.9.0"));
        log.put(&Key::Request, &one);
        log.time(60);
        log.delete(&Key::Alive(B));
        log.auditor.fact(quiet());
        log.time(21 * 60);
        if stops {
            log.put(&Key::Request, &stopped(&one));
        }
        log.time(22 * 60);
        if stops {
            log.keeps(Liveness(3));
        } else {
            assert_eq!(broken(log), [Liveness(3), Liveness(1)]);
        }
    }
}

#[test]
fn a_go_leader_is_not_asked_to_notice_a_dead_member() {
    let one = request("1.0.0", 1);
    for go in [true, false] {
        let mut log = Log::new(Rules { bound: std::time::Duration::ZERO, ..rules() });
        let key = Key::Candidate { election: "updater".into(), lease: 7 };
        let writer = if go { Writer::Go } else { Writer::Stranger };
        log.write_by(writer, vec![], [Op::put_bytes(&key, "boot-0")]);
        log.put(&Key::Alive(B), &alive("0.9.0"));
        log.put(&Key::Request, &one);
        log.time(60);
        log.delete(&Key::Alive(B));
        log.auditor.fact(quiet());
        log.time(22 * 60);
        let noticed = !broken(log).contains(&Liveness(3));
        assert_eq!(noticed, go);
    }
}

#[test]
fn work_that_stands_still_after_a_loss_of_quorum_breaks_l4() {
    let one = request("1.0.0", 1);
    for goes_on in [true, false] {
        let mut log = Log::at_step(rules(), &one, 3);
        for stands in [false, true] {
            log.auditor.fact(Fact::Quorum { stands });
        }
        log.auditor.fact(quiet());
        if goes_on {
            log.both_complete(&one);
            log.keeps(Liveness(4));
        } else {
            assert_eq!(broken(log), [Liveness(1), Liveness(4)]);
        }
    }
}

#[test]
fn a_process_that_gives_up_without_quorum_breaks_l4() {
    for (how, right) in [(HowEnded::Killed, true), (HowEnded::ByItself, false)] {
        let mut log = Log::new(rules());
        log.auditor.fact(Fact::Quorum { stands: false });
        log.auditor.fact(Fact::Ended { lrn: A, daemon: Daemon::Worker, instance: 1, how });
        if right {
            log.keeps(Liveness(4));
        } else {
            log.breaks(Liveness(4));
        }
    }
}

#[test]
fn a_turn_that_is_kept_for_nothing_breaks_l5() {
    let one = request("1.0.0", 1);
    for living in [true, false] {
        let mut log = Log::at_step(rules(), &one, 3);
        if living {
            log.put(&Key::Alive(A), &alive("1.0.0"));
        }
        log.put(&Key::Turn("etcd".into()), &turn(A, &one));
        log.both_complete(&one);
        log.auditor.fact(quiet());
        if living {
            log.breaks(Liveness(5));
        } else {
            log.keeps(Liveness(5));
        }
    }
}

#[test]
fn a_newer_release_that_is_not_started_breaks_l6() {
    let one = request("1.0.0", 1);
    let living = || {
        let mut log = complete(&one);
        for lrn in [A, B] {
            log.put(&Key::Alive(lrn), &alive("1.0.0"));
        }
        log
    };
    for (release, right) in [("1.0.0", true), ("1.0.1", false)] {
        let mut log = living();
        log.write([Op::put_bytes(&Key::Release, release)]);
        log.auditor.fact(quiet());
        if right {
            log.keeps(Liveness(6));
        } else {
            log.breaks(Liveness(6));
        }
    }
    let mut log = living();
    log.write([Op::put_bytes(&Key::Release, "1.0.1")]);
    log.auditor.fact(Fact::Window { open: false });
    log.auditor.fact(quiet());
    log.says_nothing_about(Liveness(6));
}

#[test]
fn a_busy_loop_breaks_l8() {
    for (per_minute, right) in [(60, true), (6_000, false)] {
        let mut log = Log::new(rules());
        log.auditor.fact(Fact::Requests { lrn: A, daemon: Daemon::Worker, per_minute });
        if right {
            log.keeps(Liveness(8));
        } else {
            log.breaks(Liveness(8));
        }
    }
}
