use neco_schema::journal::{Effect, Entry};
use neco_schema::{
    ClockRecord, Condition, ConfigKey, Control, Ending, Key, Op, Outcome, Revision, StopNote,
    Timestamp, UpdateRequest,
};

use super::log::*;
use crate::invariants::InvariantId::Safety;
use crate::invariants::{Fact, Rules, Writer};

fn guarded() -> Vec<neco_schema::Compare> {
    vec![neco_schema::Compare::unchanged(&Key::Request, Revision(3))]
}

fn stop(log: &mut Log, one: &UpdateRequest) -> UpdateRequest {
    let stopped = stopped(one);
    log.put(&Key::Request, &stopped);
    stopped
}

#[test]
fn work_begun_after_a_stop_breaks_20() {
    let one = request("1.0.0", 1);
    let mut log = Log::at_step(rules(), &one, 1);
    stop(&mut log, &one);
    log.line(A, begun(&one, 1, 1, log.revision));
    log.breaks(Safety(20));
    let mut log = Log::at_step(rules(), &one, 1);
    stop(&mut log, &one);
    log.status(A, &one, 2, Condition::Running);
    log.breaks(Safety(20));
    let mut log = Log::at_step(rules(), &one, 1);
    let opened = Entry::GroupOpened {
        group: "vault".into(),
        request: one.id(),
        revision: Revision(log.revision.0 + 1),
    };
    stop(&mut log, &one);
    log.line(A, opened);
    log.breaks(Safety(20));
}

#[test]
fn what_was_allowed_before_a_stop_and_what_gives_back_is_right() {
    let one = request("1.0.0", 1);
    let mut log = Log::at_step(rules(), &one, 1);
    let before = log.revision;
    stop(&mut log, &one);
    log.line(A, begun(&one, 1, 1, before));
    let opened = Entry::GroupOpened { group: "vault".into(), request: one.id(), revision: before };
    log.line(A, opened);
    log.line(
        A,
        Entry::Effect {
            request: one.id(),
            step: 1,
            attempt: 1,
            what: "start vault".into(),
            phase: neco_schema::journal::Phase::Begin,
            revision: log.revision,
        },
    );
    log.status(B, &one, 1, Condition::NotRunning);
    log.keeps(Safety(20));
}

#[test]
fn who_settles_with_a_group_open_breaks_20() {
    let one = request("1.0.0", 1);
    let mut log = Log::at_step(rules(), &one, 1);
    let revision = log.revision;
    log.line(A, Entry::GroupOpened { group: "vault".into(), request: one.id(), revision });
    stop(&mut log, &one);
    log.line(A, posting(&one, 1, Condition::NotRunning));
    log.breaks(Safety(20));
}

#[test]
fn a_stop_taken_back_breaks_21() {
    let one = request("1.0.0", 1);
    let mut log = Log::with_request(rules(), &one);
    let stopped = stop(&mut log, &one);
    log.put(&Key::Request, &UpdateRequest { stopped: None, ..stopped.clone() });
    log.keeps(Safety(21));
    let mut log = Log::with_request(rules(), &one);
    stop(&mut log, &one);
    log.put(&Key::Request, &one);
    log.breaks(Safety(21));
}

#[test]
fn a_step_begun_after_an_abort_breaks_22() {
    let one = request("1.0.0", 1);
    let mut log = Log::at_step(rules(), &one, 1);
    log.status(B, &one, 1, Condition::Abort);
    log.line(A, begun(&one, 1, 1, log.revision));
    log.breaks(Safety(22));
}

#[test]
fn one_status_under_way_at_an_abort_is_accepted_and_a_second_breaks_22() {
    let one = request("1.0.0", 1);
    let mut log = Log::at_step(rules(), &one, 2);
    log.status(B, &one, 2, Condition::Abort);
    log.status(A, &one, 3, Condition::Running);
    log.keeps(Safety(22));
    let mut log = Log::at_step(rules(), &one, 3);
    log.status(B, &one, 3, Condition::Abort);
    log.status(A, &one, 3, Condition::Running);
    log.status(A, &one, 3, Condition::Complete);
    log.breaks(Safety(22));
}

fn recover(log: &mut Log, writer: Option<Writer>, one: &UpdateRequest) {
    let epoch = Control { epoch: Some(1), ..Control::default() };
    let mut before = record(one, Outcome::Stopped);
    before.by = "somebody".to_owned();
    let ops = [
        Op::put(&history_key(one), &before),
        Op::delete_prefix("status/"),
        Op::put(&Key::Epoch, &epoch),
    ];
    match writer {
        Some(writer) => {
            let at = log.snapshot().kvs["status/current"].mod_revision;
            let compares = vec![neco_schema::Compare::unchanged(&Key::Request, at)];
            log.write_by(writer, compares, ops);
        }
        None => log.write(ops),
    }
}

#[test]
fn recover_of_a_stopped_and_settled_request_is_right() {
    let one = request("1.0.0", 1);
    let mut log = Log::with_request(rules(), &one);
    log.put(&Key::Alive(A), &alive("1.0.0"));
    let stopped = stop(&mut log, &one);
    log.status(A, &one, 0, Condition::NotRunning);
    recover(&mut log, Some(Writer::Operator { forced: false }), &stopped);
    log.keeps(Safety(23));
}

#[test]
fn recover_of_what_runs_or_has_not_settled_breaks_23() {
    let one = request("1.0.0", 1);
    let mut log = Log::with_request(rules(), &one);
    recover(&mut log, Some(Writer::Operator { forced: false }), &one);
    log.breaks(Safety(23));
    let mut log = Log::with_request(rules(), &one);
    log.put(&Key::Alive(A), &alive("1.0.0"));
    let stopped = stop(&mut log, &one);
    recover(&mut log, Some(Writer::Operator { forced: false }), &stopped);
    log.breaks(Safety(23));
    let mut log = Log::with_request(rules(), &one);
    recover(&mut log, Some(Writer::Operator { forced: true }), &one);
    log.says_nothing_about(Safety(23));
    let mut log = Log::with_request(rules(), &one);
    recover(&mut log, None, &one);
    log.says_nothing_about(Safety(23));
}

fn replace(log: &mut Log, old: &UpdateRequest, new: &UpdateRequest) {
    log.write([
        Op::put(&history_key(old), &record(old, Outcome::Stopped)),
        Op::put(&Key::Request, new),
    ]);
}

#[test]
fn a_stopped_request_is_replaced_by_another_version_or_when_superseded() {
    let one = request("1.0.0", 1);
    let mut log = Log::with_request(rules(), &one);
    let stopped = stop(&mut log, &one);
    replace(&mut log, &stopped, &request("1.0.1", 2));
    log.keeps(Safety(23));
    let mut log = Log::with_request(rules(), &one);
    let superseded = UpdateRequest { ending: Some(Ending::Superseded), ..stopped.clone() };
    log.put(&Key::Request, &superseded);
    replace(&mut log, &superseded, &request("1.0.0", 2));
    log.keeps(Safety(23));
    let mut log = Log::with_request(rules(), &one);
    log.put(&Key::Request, &stopped);
    replace(&mut log, &stopped, &request("1.0.0", 2));
    log.breaks(Safety(23));
    let mut log = Log::with_request(rules(), &one);
    replace(&mut log, &one, &request("1.0.1", 2));
    log.breaks(Safety(23));
}

fn clock(log: &mut Log, one: &UpdateRequest, seconds: u64) {
    let record = ClockRecord { elapsed: seconds * 1_000_000_000, ..ClockRecord::default() };
    log.put(&Key::Clock(one.id()), &record);
}

#[test]
fn time_that_goes_back_or_runs_ahead_breaks_24() {
    let one = request("1.0.0", 1);
    for (first, second, right) in [(100, 250, true), (100, 90, false), (100, 3_700, false)] {
        let mut log = Log::new(rules());
        log.time(0);
        log.put(&Key::Request, &one);
        log.time(100);
        clock(&mut log, &one, first);
        log.time(250);
        clock(&mut log, &one, second);
        if right {
            log.keeps(Safety(24));
        } else {
            log.breaks(Safety(24));
        }
    }
}

#[test]
fn a_leader_that_gives_up_before_a_deadline_breaks_24() {
    let one = request("1.0.0", 1);
    let note = StopNote {
        by: "updater on boot-0".into(),
        leader: true,
        reason: "no progress".into(),
        at: Timestamp::from_unix(1),
        unknown: Default::default(),
    };
    let given_up = UpdateRequest { stop: true, stopped: Some(note), ..one.clone() };
    // As it is unless it is set; and as an operator has set it.
    let minute = "60000000000";
    let cases = [
        (None, 60, false),
        (None, 21 * 60, true),
        (Some(ConfigKey::WorkerTimeout), 59, false),
        (Some(ConfigKey::WorkerTimeout), 61, true),
        (Some(ConfigKey::StepTimeout), 61, true),
        (Some(ConfigKey::ReleaseWindow), 61, false),
    ];
    for (set, seconds, right) in cases {
        let mut log = Log::new(rules());
        log.time(0);
        if let Some(key) = set {
            log.write([Op::put_bytes(&Key::Config(key), minute)]);
        }
        log.put(&Key::Request, &one);
        log.time(seconds);
        log.put(&Key::Request, &given_up);
        if right {
            log.keeps(Safety(24));
        } else {
            log.breaks(Safety(24));
        }
    }
}

#[test]
fn a_step_begun_in_a_pause_breaks_25_and_one_of_an_open_group_does_not() {
    let one = request("1.0.0", 1);
    let mut log = Log::at_step(rules(), &one, 1);
    log.put(&Key::Pause, &Control::default());
    log.line(A, begun(&one, 1, 1, log.revision));
    log.breaks(Safety(25));
    let grouped = Rules { recipe: Some(recipe(3, &[(1, 2)])), ..rules() };
    let mut log = Log::at_step(grouped, &one, 1);
    log.put(&Key::Pause, &Control::default());
    log.line(A, begun(&one, 1, 1, log.revision));
    log.delete(&Key::Pause);
    log.keeps(Safety(25));
}

#[test]
fn statuses_that_go_on_in_a_pause_and_pauses_that_change_more_break_25() {
    let one = request("1.0.0", 1);
    let mut log = Log::at_step(rules(), &one, 2);
    log.put(&Key::Pause, &Control::default());
    log.status(A, &one, 3, Condition::Running);
    log.status(A, &one, 3, Condition::Running);
    log.breaks(Safety(25));
    let mut log = Log::with_request(rules(), &one);
    log.write([Op::put(&Key::Pause, &Control::default()), Op::put(&Key::Request, &stopped(&one))]);
    log.breaks(Safety(25));
}

#[test]
fn a_release_outside_of_its_window_breaks_26() {
    let one = request("1.0.0", 1);
    for open in [true, false] {
        let mut log = Log::at_step(rules(), &one, 3);
        log.both_complete(&one);
        log.auditor.fact(Fact::Window { open });
        log.write([
            Op::put(&history_key(&one), &record(&one, Outcome::Completed)),
            Op::put(&Key::Request, &request("1.0.1", 2)),
        ]);
        if open {
            log.keeps(Safety(26));
        } else {
            log.breaks(Safety(26));
        }
    }
    let mut log = Log::with_request(rules(), &one);
    let stopped = stop(&mut log, &one);
    replace(&mut log, &stopped, &request("1.0.1", 2));
    log.says_nothing_about(Safety(26));
}

#[test]
fn two_servers_that_restart_a_unit_at_once_break_15() {
    let unit = || "etcd-container.service".to_owned();
    let one = request("1.0.0", 1);
    let down = |lrn, up, planned| Fact::Service { lrn, unit: unit(), up, planned };
    let mut log = Log::new(rules());
    for fact in [down(A, false, true), down(A, true, true), down(B, false, true)] {
        log.auditor.fact(fact);
    }
    log.keeps(Safety(15));
    let mut log = Log::new(rules());
    for fact in [down(A, false, true), down(B, false, false)] {
        log.auditor.fact(fact);
    }
    log.keeps(Safety(15));
    let mut log = Log::new(rules());
    for fact in [down(A, false, true), down(B, false, true)] {
        log.auditor.fact(fact);
    }
    log.breaks(Safety(15));
    for held in [true, false] {
        let mut log = Log::at_step(rules(), &one, 3);
        if held {
            log.put(&Key::Turn("etcd".into()), &turn(A, &one));
        }
        log.line(A, intent(&one.id(), restart(&unit())));
        log.line(A, intent_begun(log.revision));
        if held {
            log.keeps(Safety(15));
        } else {
            log.breaks(Safety(15));
        }
    }
}

#[test]
fn who_takes_a_turn_by_force_answers_for_two_restarts_at_once() {
    let unit = || "etcd-container.service".to_owned();
    let one = request("1.0.0", 1);
    let key = Key::Turn("etcd".into());
    let down = |lrn| Fact::Service { lrn, unit: unit(), up: false, planned: true };
    for (forced, order) in [(true, [A, B]), (true, [B, A]), (false, [A, B])] {
        let mut log = Log::with_request(rules(), &one);
        log.put(&key, &turn(A, &one));
        log.write_by(Writer::Operator { forced }, guarded(), [Op::delete(&key)]);
        log.put(&key, &turn(B, &one));
        order.into_iter().for_each(|lrn| log.auditor.fact(down(lrn)));
        if forced {
            log.keeps(Safety(15));
        } else {
            log.breaks(Safety(15));
        }
    }
    // Who has taken the turn again since is bound by it again.
    let mut log = Log::with_request(rules(), &one);
    log.put(&key, &turn(A, &one));
    log.write_by(Writer::Operator { forced: true }, guarded(), [Op::delete(&key)]);
    log.put(&key, &turn(A, &one));
    log.auditor.fact(down(A));
    log.auditor.fact(down(B));
    log.breaks(Safety(15));
}

#[test]
fn who_releases_the_turn_of_a_server_that_died_in_its_restart_answers_for_two_at_once() {
    let unit = || "etcd-container.service".to_owned();
    let one = request("1.0.0", 1);
    let key = Key::Turn("etcd".into());
    let down = |lrn| Fact::Service { lrn, unit: unit(), up: false, planned: true };
    // The book of orders tells who deleted it.
    let order = Op::put_bytes(&Key::Order(Timestamp::from_unix(7)), "{}");
    for (ordered, dead_first) in [(true, true), (true, false), (false, true)] {
        let mut log = Log::with_request(rules(), &one);
        log.put(&key, &turn(A, &one));
        if dead_first {
            log.auditor.fact(down(A));
        }
        log.write([Op::delete(&key)].into_iter().chain(ordered.then(|| order.clone())));
        log.put(&key, &turn(B, &one));
        if !dead_first {
            log.auditor.fact(down(A));
        }
        log.auditor.fact(down(B));
        if ordered && dead_first {
            log.keeps(Safety(15));
        } else {
            log.breaks(Safety(15));
        }
    }
}

/// A restart as the journal has it.
fn restart(unit: &str) -> Effect {
    serde_json::from_value(serde_json::json!({ "effect": "restart", "unit": unit, "digest": "d" }))
        .expect("an effect")
}

#[test]
fn a_stolen_turn_breaks_18() {
    let one = request("1.0.0", 1);
    let key = Key::Turn("etcd".into());
    let mut log = Log::with_request(rules(), &one);
    log.put(&key, &turn(A, &one));
    log.write_by(Writer::Worker(A), guarded(), [Op::delete(&key)]);
    log.put(&key, &turn(B, &one));
    log.write_by(Writer::Operator { forced: true }, guarded(), [Op::delete(&key)]);
    log.keeps(Safety(18));
    let mut log = Log::with_request(rules(), &one);
    log.put(&key, &turn(A, &one));
    log.put(&key, &turn(B, &one));
    log.breaks(Safety(18));
    let mut log = Log::with_request(rules(), &one);
    log.put(&key, &turn(A, &one));
    log.write_by(Writer::Worker(B), guarded(), [Op::delete(&key)]);
    log.breaks(Safety(18));
    let mut log = Log::with_request(rules(), &one);
    log.write([Op::put(&key, &turn(A, &one)).with_lease(neco_schema::LeaseId(1))]);
    log.breaks(Safety(18));
}
