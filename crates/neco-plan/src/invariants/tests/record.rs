use neco_schema::journal::Entry;
use neco_schema::{Compare, Condition, Control, Key, Op, Outcome, RequestKind, UpdateRequest};

use super::log::*;
use crate::invariants::InvariantId::Safety;
use crate::invariants::{Daemon, Fact, HowEnded, Rules, Secret, Writer};

#[test]
fn a_worker_that_acts_after_it_said_that_it_ends_breaks_39() {
    let one = request("1.0.0", 1);
    let mut log = Log::at_step(rules(), &one, 1);
    log.line(A, started("1.0.0"));
    log.line(A, Entry::PlannedExit { why: "new binary".into() });
    log.line(A, started("1.0.0"));
    log.line(A, begun(&one, 1, 1, log.revision));
    log.keeps(Safety(39));
    let mut log = Log::at_step(rules(), &one, 1);
    // An orderly end is a planned exit too, and no hand-over.
    log.line(A, Entry::PlannedExit { why: "stopped".into() });
    log.line(A, begun(&one, 1, 1, log.revision));
    let found = log.breaks(Safety(39));
    let ended = "its worker had said that it ends (for a new binary, or because it was told to)";
    assert_eq!(found[0].what, format!("boot server 0 began step 1 after {ended}"));
}

#[test]
fn a_step_by_the_old_binary_or_for_an_unknown_kind_breaks_39() {
    let one = request("1.0.0", 1);
    let mut log = Log::at_step(rules(), &one, 1);
    log.line(A, started("0.9.0"));
    log.line(A, begun(&one, 1, 1, log.revision));
    log.breaks(Safety(39));
    let later = UpdateRequest { kind: Some(RequestKind::Unknown("later".into())), ..one };
    let mut log = Log::with_request(rules(), &later);
    log.line(A, posting(&later, 1, Condition::Running));
    log.breaks(Safety(39));
}

#[test]
fn two_workers_on_one_server_break_39() {
    let start = |instance| Fact::Started {
        lrn: A,
        daemon: Daemon::Worker,
        instance,
        version: version("1.0.0"),
    };
    let end = Fact::Ended { lrn: A, daemon: Daemon::Worker, instance: 1, how: HowEnded::Killed };
    let mut log = Log::new(rules());
    for fact in [start(1), end, start(2)] {
        log.auditor.fact(fact);
    }
    log.keeps(Safety(39));
    let mut log = Log::new(rules());
    for fact in [start(1), start(2)] {
        log.auditor.fact(fact);
    }
    log.breaks(Safety(39));
}

#[test]
fn a_value_that_cannot_be_read_breaks_40() {
    let one = request("1.0.0", 1);
    for (value, right) in [(r#"{"by":"me"}"#, true), ("paused", false)] {
        let mut log = Log::with_request(rules(), &one);
        let writer = Writer::Operator { forced: false };
        log.write_by(writer, vec![], [Op::put_bytes(&Key::Pause, value)]);
        if right {
            log.keeps(Safety(40));
        } else {
            log.breaks(Safety(40));
        }
    }
}

#[test]
fn fields_of_a_later_version_that_are_lost_break_40() {
    let mut one = request("1.0.0", 1);
    one.unknown.insert("later".into(), true.into());
    let mut log = Log::with_request(rules(), &one);
    log.put(&Key::Request, &stopped(&one));
    log.keeps(Safety(40));
    let mut log = Log::with_request(rules(), &one);
    let mut lost = stopped(&one);
    lost.unknown.clear();
    log.put(&Key::Request, &lost);
    log.breaks(Safety(40));
    let mut log = Log::with_request(rules(), &one);
    let mut known = status(&one, 0, Condition::Running);
    known.unknown.insert("later".into(), true.into());
    log.put(&Key::Status(A), &known);
    log.status(A, &one, 1, Condition::Running);
    log.breaks(Safety(40));
}

#[test]
fn a_request_that_ends_without_a_record_breaks_41() {
    let one = request("1.0.0", 1);
    let end = [Op::put(&history_key(&one), &record(&one, Outcome::Completed))];
    let next = [Op::put(&Key::Request, &request("1.0.1", 2))];
    for recorded in [true, false] {
        let mut log = Log::at_step(rules(), &one, 3);
        log.both_complete(&one);
        let history = if recorded { &end[..] } else { &[] };
        log.write(history.iter().chain(&next).cloned());
        if recorded {
            log.keeps(Safety(41));
        } else {
            log.breaks(Safety(41));
        }
    }
    let mut log = Log::at_step(rules(), &one, 3);
    log.both_complete(&one);
    let go = UpdateRequest { kind: None, package: None, ..request("1.0.1", 2) };
    log.write([Op::put(&Key::Request, &go)]);
    log.says_nothing_about(Safety(41));
}

#[test]
fn a_recover_that_records_nothing_breaks_41() {
    let one = stopped(&request("1.0.0", 1));
    let mut log = Log::with_request(rules(), &one);
    let epoch = Control { epoch: Some(1), ..Control::default() };
    log.write([Op::delete_prefix("status/"), Op::put(&Key::Epoch, &epoch)]);
    log.breaks(Safety(41));
    // The original's raises no epoch and records nothing.
    let mut log = Log::with_request(rules(), &one);
    log.write([Op::delete_prefix("status/")]);
    log.says_nothing_about(Safety(41));
}

#[test]
fn a_stop_or_an_abort_without_a_reason_breaks_41() {
    let one = request("1.0.0", 1);
    let mut log = Log::with_request(rules(), &one);
    log.put(&Key::Request, &UpdateRequest { stop: true, ..one.clone() });
    log.breaks(Safety(41));
    let mut log = Log::with_request(rules(), &one);
    let mut silent = status(&one, 1, Condition::Abort);
    silent.origin = None;
    log.put(&Key::Status(A), &silent);
    log.breaks(Safety(41));
}

#[test]
fn a_record_of_another_request_breaks_41() {
    let one = request("1.0.0", 1);
    let mut log = Log::with_request(rules(), &one);
    log.put(&history_key(&one), &record(&request("1.0.1", 2), Outcome::Stopped));
    log.breaks(Safety(41));
}

#[test]
fn a_request_nobody_was_told_of_breaks_42() {
    let one = request("1.0.0", 1);
    for told in [true, false] {
        let mut log = Log::at_step(Rules { notices: true, ..rules() }, &one, 3);
        log.both_complete(&one);
        log.put(&history_key(&one), &record(&one, Outcome::Completed));
        if told {
            log.auditor.fact(Fact::NoticeSent { request: one.id() });
        }
        log.auditor.fact(Fact::FaultsEnded);
        if told {
            log.keeps(Safety(42));
        } else {
            log.breaks(Safety(42));
        }
    }
}

#[test]
fn a_secret_that_shows_breaks_43_and_is_not_repeated() {
    let one = request("1.0.0", 1);
    let secrets = || Rules { secrets: vec![Secret::new("hunter\"2")], ..rules() };
    let mut log = Log::with_request(secrets(), &one);
    log.write([Op::put_bytes(&Key::VaultRootToken, "hunter\"2")]);
    log.line(A, started("1.0.0"));
    log.auditor.fact(Fact::Text { place: "a log".into(), text: "nothing".into() });
    log.keeps(Safety(43));

    let mut shown: Vec<Log> = (0..3).map(|_| Log::with_request(secrets(), &one)).collect();
    let mut leak = status(&one, 1, Condition::Running);
    leak.message = "tried hunter\"2".into();
    shown[0].put(&Key::Status(A), &leak);
    shown[1].line(A, Entry::PlannedExit { why: "hunter\"2".into() });
    shown[2].auditor.fact(Fact::Text { place: "a log".into(), text: "x hunter\"2".into() });
    for log in shown {
        for violation in log.breaks(Safety(43)) {
            assert!(!violation.to_string().contains("hunter"), "{violation}");
        }
    }
    assert!(!format!("{:?}", Secret::new("hunter")).contains("hunter"));
}

#[test]
fn a_violation_is_one_clear_line() {
    let one = request("1.0.0", 1);
    let mut log = Log::at_step(rules(), &one, 2);
    log.write_by(
        Writer::Worker(A),
        vec![
            Compare::unchanged(&Key::Request, neco_schema::Revision(3)),
            Compare::unchanged(&Key::Status(A), neco_schema::Revision(6)),
        ],
        [Op::put(&Key::Status(A), &status(&one, 1, Condition::Running))],
    );
    let found = log.breaks(Safety(10));
    assert_eq!(
        found[0].to_string(),
        "invariant 10 (monotone steps) at revision 8: boot server 0 went back from step 2 to step 1 [status/bootservers/0]"
    );
}
