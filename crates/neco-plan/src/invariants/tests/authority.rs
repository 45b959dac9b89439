use neco_schema::journal::{Entry, Phase};
use neco_schema::{Compare, Condition, Key, LeaseId, Op, Revision, Timestamp, UpdateRequest};

use super::log::*;
use crate::invariants::InvariantId::Safety;
use crate::invariants::{Auditor, Fact, Stamp, Writer};

const OPERATOR: Writer = Writer::Operator { forced: false };

fn candidate(lease: u64) -> Key {
    Key::Candidate { election: "updater".to_owned(), lease }
}

fn campaign(log: &mut Log, lease: u64) {
    let put = Op::put_bytes(&candidate(lease), "boot-0").with_lease(LeaseId(1));
    log.write([put]);
}

fn guards(lease: u64, revision: i64) -> Vec<Compare> {
    vec![Compare::exists(&candidate(lease)), Compare::unchanged(&Key::Request, Revision(revision))]
}

fn put_request(request: &UpdateRequest) -> [Op; 1] {
    [Op::put(&Key::Request, request)]
}

#[test]
fn a_request_by_the_leader_under_its_guards_is_right() {
    for invariant in [1, 2, 3] {
        let mut log = Log::new(rules());
        campaign(&mut log, 7);
        log.write_by(Writer::Leader, guards(7, 0), put_request(&request("1.0.0", 1)));
        log.write_by(OPERATOR, guards(7, 2), put_request(&stopped(&request("1.0.0", 1))));
        log.keeps(Safety(invariant));
    }
}

#[test]
fn a_leader_that_proves_nothing_breaks_1() {
    let mut log = Log::new(rules());
    campaign(&mut log, 7);
    let compares = vec![Compare::unchanged(&Key::Request, Revision(0))];
    log.write_by(Writer::Leader, compares, put_request(&request("1.0.0", 1)));
    log.breaks(Safety(1));
}

#[test]
fn a_candidate_that_is_not_first_breaks_1() {
    let mut log = Log::new(rules());
    campaign(&mut log, 7);
    campaign(&mut log, 6);
    log.write_by(Writer::Leader, guards(6, 0), put_request(&request("1.0.0", 1)));
    log.breaks(Safety(1));
}

#[test]
fn a_request_by_a_worker_or_an_operator_breaks_1() {
    for writer in [Writer::Worker(A), OPERATOR] {
        let mut log = Log::new(rules());
        let compares = vec![Compare::unchanged(&Key::Request, Revision(0))];
        log.write_by(writer, compares, put_request(&request("1.0.0", 1)));
        log.breaks(Safety(1));
    }
}

#[test]
fn a_request_while_nobody_is_a_candidate_breaks_1_without_facts() {
    let mut log = Log::new(rules());
    campaign(&mut log, 7);
    log.delete(&candidate(7));
    log.put(&Key::Request, &request("1.0.0", 1));
    log.breaks(Safety(1));
}

#[test]
fn a_log_without_elections_and_facts_says_nothing_about_1_and_2() {
    for invariant in [1, 2] {
        Log::with_request(rules(), &request("1.0.0", 1)).says_nothing_about(Safety(invariant));
    }
}

#[test]
fn a_leader_that_compares_nothing_breaks_2() {
    let mut log = Log::new(rules());
    campaign(&mut log, 7);
    let compares = vec![Compare::exists(&candidate(7))];
    log.write_by(Writer::Leader, compares, put_request(&request("1.0.0", 1)));
    log.breaks(Safety(2));
}

#[test]
fn what_a_go_leader_writes_is_not_held_against_it() {
    let mut log = Log::new(rules());
    campaign(&mut log, 7);
    let go = UpdateRequest { kind: None, package: None, ..request("1.0.0", 1) };
    log.write_by(Writer::Go, vec![], put_request(&go));
    let stop = UpdateRequest { stop: true, ..go };
    log.write_by(Writer::Go, vec![], put_request(&stop));
    log.says_nothing_about(Safety(2));
    // It stops ours and drops what it does not know.
    let mut log = Log::with_request(rules(), &request("1.0.0", 1));
    let go = UpdateRequest { kind: None, package: None, stop: true, ..request("1.0.0", 1) };
    log.put(&Key::Request, &go);
    log.says_nothing_about(Safety(6));
}

#[test]
fn an_identity_used_twice_breaks_3() {
    let (one, other) = (request("1.0.0", 1), request("1.0.1", 2));
    let mut log = Log::with_request(rules(), &one);
    for (ended, made) in [(&one, &other), (&other, &one)] {
        log.write_by(
            Writer::Stranger,
            vec![],
            [
                Op::put(&history_key(ended), &record(ended, neco_schema::Outcome::Stopped)),
                Op::put(&Key::Request, made),
            ],
        );
    }
    log.breaks(Safety(3));
}

#[test]
fn a_false_claim_and_a_nameless_status_break_3() {
    let mut log = Log::new(rules());
    let text = r#"{"version":"1.0.0","servers":[0,1],"kind":"release","id":"ffff"}"#;
    log.write([Op::put_bytes(&Key::Request, text)]);
    log.breaks(Safety(3));
    let one = request("1.0.0", 1);
    let mut log = Log::at_step(rules(), &one, 1);
    log.put(&Key::Alive(A), &alive("1.0.0"));
    let mut nameless = status(&one, 1, Condition::Running);
    nameless.request = None;
    log.put(&Key::Status(A), &nameless);
    log.breaks(Safety(3));
}

#[test]
fn a_nameless_status_of_a_go_peer_is_right() {
    let one = request("1.0.0", 1);
    let mut log = Log::with_request(rules(), &one);
    let mut nameless = status(&one, 1, Condition::Running);
    nameless.request = None;
    log.put(&Key::Status(A), &nameless);
    log.keeps(Safety(9));
}

#[test]
fn own_records_are_written_under_guard() {
    let one = request("1.0.0", 1);
    let guards = |log: &Log| {
        vec![
            Compare::unchanged(&Key::Request, log.revision),
            Compare::unchanged(&Key::Status(A), Revision(0)),
        ]
    };
    let post = [Op::put(&Key::Status(A), &status(&one, 1, Condition::Running))];
    let mut log = Log::with_request(rules(), &one);
    log.write_by(Writer::Worker(A), guards(&log), post.clone());
    log.keeps(Safety(4));
    for (writer, guarded) in [(Writer::Worker(B), true), (Writer::Worker(A), false)] {
        let mut log = Log::with_request(rules(), &one);
        let compares = if guarded { guards(&log) } else { vec![] };
        log.write_by(writer, compares, post.clone());
        log.breaks(Safety(4));
    }
}

#[test]
fn a_record_for_a_request_that_is_over_breaks_5() {
    let (one, other) = (request("1.0.0", 1), request("1.0.1", 2));
    for (key, value) in [
        (Key::Plan(A), Op::put(&Key::Plan(A), &plan(&one, "d"))),
        (Key::Turn("etcd".into()), Op::put(&Key::Turn("etcd".into()), &turn(A, &one))),
    ] {
        let mut log = Log::with_request(rules(), &other);
        log.write([value.clone()]);
        log.breaks(Safety(5));
        let mut log = Log::with_request(rules(), &one);
        log.write([value]);
        assert!(log.snapshot().kvs.contains_key(&key.to_string()));
        log.keeps(Safety(5));
    }
}

/// Both stand at step 2 of a request that is recovered by force; gives the request and the last revision before.
fn recovered_under_work() -> (Log, UpdateRequest, Revision) {
    let one = request("1.0.0", 1);
    let mut log = Log::at_step(rules(), &one, 2);
    let fenced = log.revision;
    log.write_by(
        Writer::Operator { forced: true },
        vec![
            Compare::unchanged(&Key::Request, Revision(3)),
            Compare::unchanged(&Key::Epoch, Revision(0)),
        ],
        [
            Op::put(&history_key(&one), &record(&one, neco_schema::Outcome::Stopped)),
            Op::delete_prefix("status/"),
        ],
    );
    (log, one, fenced)
}

fn effect(request: &UpdateRequest, what: &str, revision: Revision) -> Entry {
    Entry::Effect {
        request: request.id(),
        step: 2,
        attempt: 1,
        what: what.to_owned(),
        phase: Phase::Begin,
        revision,
    }
}

#[test]
fn one_effect_that_was_fenced_before_the_end_is_accepted_and_a_second_breaks_5() {
    let (mut log, one, fenced) = recovered_under_work();
    let late = Stamp { seq: 1, revision: Some(log.revision) };
    log.auditor.journal(A, &effect(&one, "stop vault", fenced), late);
    log.auditor.journal(A, &effect(&one, "write vault.hcl", fenced), late);
    log.keeps(Safety(5));
    let (mut log, one, fenced) = recovered_under_work();
    let late = Stamp { seq: 1, revision: Some(log.revision) };
    log.auditor.journal(A, &effect(&one, "stop vault", fenced), late);
    log.auditor.journal(A, &effect(&one, "stop serf", Revision(fenced.0 - 1)), late);
    log.breaks(Safety(5));
}

#[test]
fn an_effect_allowed_by_a_view_without_the_request_breaks_5() {
    let (mut log, one, _) = recovered_under_work();
    log.line(A, effect(&one, "stop vault", log.revision));
    log.breaks(Safety(5));
}

#[test]
fn a_changed_plan_breaks_6_and_a_stop_does_not() {
    let one = request("1.0.0", 1);
    let mut log = Log::with_request(rules(), &one);
    log.put(&Key::Request, &UpdateRequest { allow_downgrade: true, ..one.clone() });
    log.breaks(Safety(6));
    let mut log = Log::with_request(rules(), &one);
    log.put(&Key::Request, &stopped(&one));
    log.keeps(Safety(6));
    let mut log = Log::with_request(rules(), &one);
    log.put(&Key::Plan(A), &plan(&one, "d"));
    log.status(A, &one, 1, Condition::Running);
    log.put(&Key::Plan(A), &plan(&one, "e"));
    log.breaks(Safety(6));
}

#[test]
fn a_log_that_begins_in_the_middle_is_judged_from_there() {
    let one = request("1.0.0", 1);
    let mut log = Log::at_step(rules(), &one, 2);
    log.auditor = Auditor::start_from(&log.snapshot(), rules());
    log.status(A, &one, 3, Condition::Running);
    log.keeps(Safety(7));
    let mut log = Log::at_step(rules(), &one, 1);
    log.auditor = Auditor::start_from(&log.snapshot(), rules());
    log.status(A, &one, 3, Condition::Running);
    let report = log.finish();
    assert!(report.violations.iter().any(|violation| violation.invariant == Safety(7)), "{report}");
}

#[test]
fn a_log_with_holes_and_late_facts_says_so() {
    let one = request("1.0.0", 1);
    let mut log = Log::with_request(rules(), &one);
    let revision = log.revision;
    log.auditor.fact(Fact::Transaction { revision, writer: Writer::Go, compares: vec![] });
    log.auditor.change(Revision(1), &[]);
    assert_eq!(log.auditor.finish().log_faults.len(), 2);
    assert_eq!(one.started_at, Timestamp::from_unix(1));
}
