use neco_schema::journal::Entry;
use neco_schema::{Condition, ContentsStatus, Group, Key, Op, Outcome, RequestId, Revision, Way};

use super::log::*;
use crate::invariants::InvariantId::Safety;
use crate::invariants::{Daemon, Fact, Rules, Stamp, Writer};

#[test]
fn lock_step_is_right() {
    let one = request("1.0.0", 1);
    for invariant in [7, 8, 9, 10, 13, 14, 20, 22, 39] {
        let mut log = Log::at_step(rules(), &one, 3);
        log.line(A, posting(&one, 3, Condition::Running));
        if invariant == 14 {
            log.both_complete(&one);
        }
        if invariant == 20 || invariant == 22 {
            log.line(A, begun(&one, 3, 1, log.revision));
        }
        log.keeps(Safety(invariant));
    }
}

#[test]
fn a_status_past_a_member_that_has_not_arrived_breaks_7() {
    let one = request("1.0.0", 1);
    let mut log = Log::with_request(rules(), &one);
    log.status(A, &one, 1, Condition::Running);
    log.status(A, &one, 2, Condition::Running);
    let report = log.finish();
    let broken: Vec<_> = report.violations.iter().map(|violation| violation.invariant).collect();
    assert_eq!(broken, [Safety(7), Safety(9)], "{report}");
    let what: Vec<_> = report.violations.iter().map(|violation| &*violation.what).collect();
    let expected = [
        "boot server 0 has done step 1 before boot server 1 arrived there",
        "boot server 0 is in step 2 and boot server 1 in step 0",
    ];
    assert_eq!(what, expected);
}

#[test]
fn a_step_begun_from_a_view_in_which_a_member_was_missing_breaks_7() {
    let one = request("1.0.0", 1);
    let mut log = Log::with_request(rules(), &one);
    log.status(A, &one, 1, Condition::Running);
    let view = log.revision;
    log.status(B, &one, 1, Condition::Running);
    log.line(A, begun(&one, 1, 1, view));
    log.breaks(Safety(7));
}

#[test]
fn a_line_waits_for_the_log_to_come_to_its_view() {
    let one = request("1.0.0", 1);
    let mut log = Log::with_request(rules(), &one);
    log.line(A, begun(&one, 1, 1, Revision(log.revision.0 + 2)));
    assert!(log.auditor.violations().is_empty());
    log.status(A, &one, 1, Condition::Running);
    log.status(B, &one, 1, Condition::Running);
    log.keeps(Safety(13));
}

#[test]
fn a_stranger_breaks_8() {
    let one = request("1.0.0", 1);
    let mut log = Log::at_step(rules(), &one, 1);
    log.status(C, &one, 1, Condition::Running);
    log.breaks(Safety(8));
    let mut log = Log::at_step(rules(), &one, 1);
    log.line(C, begun(&one, 1, 1, log.revision));
    log.breaks(Safety(8));
}

#[test]
fn who_has_left_and_goes_on_breaks_8() {
    let one = request("1.0.0", 1);
    let mut log = Log::at_step(rules(), &one, 1);
    log.delete(&Key::BootServer(B));
    log.line(B, begun(&one, 1, 1, log.revision));
    log.breaks(Safety(8));
    let mut log = Log::at_step(rules(), &one, 1);
    log.delete(&Key::BootServer(B));
    log.status(B, &one, 2, Condition::Running);
    log.breaks(Safety(8));
}

#[test]
fn members_two_steps_apart_break_9() {
    let one = request("1.0.0", 1);
    let mut log = Log::at_step(rules(), &one, 1);
    // Of what was before the barrier nothing is wrong here: an abort may come at any step.
    log.status(A, &one, 3, Condition::Abort);
    log.breaks(Safety(9));
}

#[test]
fn a_step_back_and_a_word_after_the_last_break_10() {
    let one = request("1.0.0", 1);
    let mut log = Log::at_step(rules(), &one, 2);
    log.status(A, &one, 1, Condition::Running);
    log.breaks(Safety(10));
    let mut log = Log::at_step(rules(), &one, 1);
    log.status(A, &one, 1, Condition::NotRunning);
    log.status(A, &one, 1, Condition::Running);
    log.breaks(Safety(10));
    // By hand it is nobody's fault, and the server may put it right.
    let mut log = Log::at_step(rules(), &one, 1);
    log.status(A, &one, 1, Condition::Abort);
    let put = |cond| [Op::put(&Key::Status(A), &status(&one, 1, cond))];
    log.write_by(Writer::Stranger, vec![], put(Condition::Other(9)));
    log.status(A, &one, 1, Condition::Abort);
    log.keeps(Safety(10));
}

#[test]
fn an_abort_may_be_told_more_of_and_nothing_else() {
    let one = request("1.0.0", 1);
    let told = |origin_lrn, cause: &str, cond| {
        let mut status = status(&one, 1, cond);
        if let Some(origin) = &mut status.origin {
            (origin.lrn, origin.cause) = (origin_lrn, cause.to_owned());
        }
        status
    };
    let after = |status: &neco_schema::UpdateStatus| {
        let mut log = Log::at_step(rules(), &one, 1);
        log.put(&Key::Status(A), &told(A, "it broke", Condition::Abort));
        log.put(&Key::Status(A), status);
        log
    };
    after(&told(A, "it broke; group vault stays stopped", Condition::Abort)).keeps(Safety(10));
    for wrong in [
        told(A, "it broke", Condition::Abort),
        told(A, "it went well", Condition::Abort),
        told(B, "it broke; group vault stays stopped", Condition::Abort),
        told(A, "", Condition::NotRunning),
        told(A, "", Condition::Running),
    ] {
        after(&wrong).breaks(Safety(10));
    }
}

fn way(one: &neco_schema::UpdateRequest, way: Way) -> [Op; 1] {
    let record = Group { request: one.id(), way, unknown: serde_json::Map::new() };
    [Op::put(&Key::Group("vault".into()), &record)]
}

#[test]
fn a_group_goes_one_way_and_forward_only_together() {
    let one = request("1.0.0", 1);
    let rules = || Rules { recipe: Some(recipe(3, &[(2, 3)])), ..rules() };
    let closed = |way| Entry::GroupClosed { group: "vault".into(), request: one.id(), way };
    let mut log = Log::at_step(rules(), &one, 3);
    log.write(way(&one, Way::Forward));
    log.line(A, closed(Way::Forward));
    log.keeps(Safety(11));
    let mut log = Log::at_step(rules(), &one, 3);
    log.write(way(&one, Way::Forward));
    log.line(A, closed(Way::Back));
    log.breaks(Safety(11));
    let mut log = Log::at_step(rules(), &one, 3);
    log.write(way(&one, Way::Back));
    log.write(way(&one, Way::Forward));
    log.breaks(Safety(11));
    let mut log = Log::at_step(rules(), &one, 2);
    log.write(way(&one, Way::Forward));
    log.breaks(Safety(11));
}

#[test]
fn contents_made_twice_break_12() {
    let one = request("1.0.0", 1);
    let contents = |request: &RequestId, inputs: &str| ContentsStatus {
        version: version("1.0.0"),
        success: true,
        request: Some(request.clone()),
        inputs: Some(inputs.to_owned()),
        unknown: serde_json::Map::new(),
    };
    let key = Key::Contents("sabakan".into());
    let (now, later) = (one.id(), RequestId::claimed("a-later-one"));
    for (request, inputs, again) in [(&later, "y", false), (&now, "y", true), (&later, "x", true)] {
        let mut log = Log::at_step(rules(), &one, 1);
        log.put(&key, &contents(&now, "x"));
        log.put(&key, &contents(request, inputs));
        match again {
            true => drop(log.breaks(Safety(12))),
            false => log.keeps(Safety(12)),
        }
    }
}

#[test]
fn a_resumed_step_counts_its_attempts() {
    let one = request("1.0.0", 1);
    let mut log = Log::at_step(rules(), &one, 2);
    for attempt in [1, 2, 3] {
        log.line(A, started("1.0.0"));
        log.line(A, begun(&one, 2, attempt, log.revision));
    }
    log.keeps(Safety(13));
    let mut log = Log::at_step(rules(), &one, 2);
    for _ in 0..2 {
        log.line(A, begun(&one, 2, 1, log.revision));
    }
    log.breaks(Safety(13));
}

#[test]
fn a_step_that_was_not_finished_and_is_left_behind_breaks_13() {
    let one = request("1.0.0", 1);
    let mut log = Log::at_step(rules(), &one, 2);
    log.line(A, begun(&one, 2, 1, log.revision));
    log.line(A, started("1.0.0"));
    log.line(A, posting(&one, 3, Condition::Running));
    log.breaks(Safety(13));
    let mut log = Log::at_step(rules(), &one, 2);
    log.line(A, begun(&one, 1, 2, log.revision));
    log.breaks(Safety(13));
}

#[test]
fn a_server_that_lost_its_journal_begins_anew() {
    let one = request("1.0.0", 1);
    let mut log = Log::at_step(rules(), &one, 1);
    log.line(A, begun(&one, 1, 1, log.revision));
    log.line(A, Entry::StepDone { request: one.id(), step: 1 });
    log.auditor.fact(Fact::JournalLost { lrn: A });
    log.line(A, begun(&one, 1, 1, log.revision));
    log.keeps(Safety(13));
}

#[test]
fn completion_before_the_last_step_or_with_another_version_breaks_14() {
    let one = request("1.0.0", 1);
    let mut log = Log::at_step(rules(), &one, 2);
    log.status(A, &one, 2, Condition::Complete);
    log.breaks(Safety(14));
    let mut log = Log::at_step(rules(), &one, 3);
    log.line(A, posting(&one, 3, Condition::Complete));
    log.breaks(Safety(14));
    let mut log = Log::at_step(rules(), &one, 3);
    log.auditor.fact(Fact::Started {
        lrn: A,
        daemon: Daemon::Worker,
        instance: 1,
        version: version("0.9.0"),
    });
    log.status(A, &one, 3, Condition::Complete);
    log.breaks(Safety(14));
    let mut log = Log::at_step(rules(), &one, 3);
    log.auditor.fact(Fact::Installed {
        lrn: A,
        version: version("0.9.0"),
        sha256: None,
        way_back: true,
    });
    log.status(A, &one, 3, Condition::Complete);
    log.breaks(Safety(14));
}

#[test]
fn a_false_record_breaks_14() {
    let one = request("1.0.0", 1);
    let mut log = Log::at_step(rules(), &one, 3);
    log.put(&history_key(&one), &record(&one, Outcome::Completed));
    log.breaks(Safety(14));
    let mut log = Log::at_step(rules(), &one, 3);
    log.both_complete(&one);
    log.put(&history_key(&one), &record(&one, Outcome::Stopped));
    log.breaks(Safety(14));
}

#[test]
fn stamps_may_hold_a_line_back_too() {
    let one = request("1.0.0", 1);
    let mut log = Log::at_step(rules(), &one, 1);
    let view = log.revision;
    let stamp = Stamp { seq: 1, revision: Some(Revision(view.0 + 1)) };
    log.auditor.journal(A, &begun(&one, 1, 7, view), stamp);
    assert!(log.auditor.violations().is_empty());
    log.put(&Key::Alive(A), &alive("1.0.0"));
    assert_eq!(log.auditor.violations().len(), 1);
}
