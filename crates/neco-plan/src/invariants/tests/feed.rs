//! What a live cluster leaves behind: journals that are older than the history, restored etcds, histories with holes.

use neco_schema::journal::{Entry, Mark};
use neco_schema::{Condition, Key, KeyValue, Lrn, Op, Outcome, Revision};

use super::log::*;
use crate::JournalState;
use crate::invariants::InvariantId::Safety;
use crate::invariants::{Auditor, Feed, JournalLine, KvChange, OtherEtcd, Tally, part_of};

fn lines(entries: impl IntoIterator<Item = Entry>) -> Vec<JournalLine> {
    let line = |(seq, entry)| JournalLine { seq, entry };
    (1..).zip(entries).map(line).collect()
}

fn found(cluster_id: u64, revision: i64) -> Mark {
    Mark { cluster_id, revision: Revision(revision), epoch: 0 }
}

#[test]
fn a_line_is_judged_by_its_view_though_the_history_comes_first() {
    let one = request("1.0.0", 1);
    let mut log = Log::with_request(rules(), &one);
    let early = log.revision;
    log.both_go_on(&one, 1..=2);
    log.line(A, Entry::Decision { revision: log.revision, decided: "d".into(), keys: vec![] });
    assert!(log.fed_from(None).0.violations.is_empty());
    // B says that it began step 2 from a view in which nobody had come to it.
    log.line(B, begun(&one, 2, 1, early));
    let (report, tallies) = log.fed_from(None);
    let broken: Vec<_> = report.violations.iter().map(|found| found.invariant).collect();
    assert_eq!(broken, [Safety(7)], "{report}");
    assert_eq!(report.violations[0].revision, early);
    assert_eq!(tallies[&B], Tally { judged: 3, unjudged: 0 });
}

#[test]
fn lines_from_before_the_history_are_known_and_not_judged() {
    let one = request("1.0.0", 1);
    let mut log = Log::with_request(rules(), &one);
    log.both_go_on(&one, 1..=1);
    log.line(A, mark(CLUSTER, log.revision.0));
    log.line(A, begun(&one, 1, 1, log.revision));
    log.write([Op::put_bytes(&Key::Finish(C), "1")]);
    let compacted = log.revision;
    log.line(A, started("1.0.0"));
    log.line(A, mark(CLUSTER, log.revision.0));
    // The attempts are counted on from a line that is not judged.
    log.line(A, begun(&one, 1, 2, log.revision));
    let (report, tallies) = log.fed_from(Some(compacted));
    assert!(report.violations.is_empty(), "{report}");
    assert_eq!(report.exercised[&Safety(13)], 1);
    assert_eq!(tallies[&A], Tally { judged: 2, unjudged: 3 });

    let (report, tallies) = log.fed_from(None);
    assert_eq!(report.exercised[&Safety(13)], 2);
    assert_eq!(tallies[&A], Tally { judged: 5, unjudged: 0 });
}

#[test]
fn a_journal_belongs_to_the_etcd_that_it_has_seen_last() {
    let one = request("1.0.0", 1);
    let all = lines([mark(7, 10), begun(&one, 1, 1, Revision(12)), mark(7, 20)]);
    assert_eq!(part_of(&all, found(7, 20)), Ok(0));
    let seen = found(7, 20);
    for other in [found(7, 19), found(8, 30)] {
        assert_eq!(part_of(&all, other), Err(OtherEtcd { seen, found: other }));
    }
    // A line may have seen more than the last mark.
    let ahead = lines([mark(7, 10), begun(&one, 1, 1, Revision(12))]);
    assert!(part_of(&ahead, found(7, 11)).is_err());
    assert_eq!(part_of(&ahead, found(7, 12)), Ok(0));
    assert_eq!(part_of(&[], found(7, 1)), Ok(0));
    assert_eq!(part_of(&lines([started("1.0.0")]), found(7, 1)), Ok(0));

    // Its server was made to believe an etcd that had gone back.
    let back = lines([mark(7, 10), mark(7, 20), mark(7, 15), begun(&one, 1, 1, Revision(16))]);
    assert_eq!(part_of(&back, found(7, 16)), Ok(2));
    let other = lines([mark(7, 10), mark(8, 11), begun(&one, 1, 1, Revision(16))]);
    assert_eq!(part_of(&other, found(8, 16)), Ok(1));
    // What was there before is known from a checkpoint, too.
    let state = JournalState::fold(&[mark(7, 20)]);
    let rotated = lines([state.checkpoint(), mark(7, 15)]);
    assert_eq!(part_of(&rotated, found(7, 16)), Ok(1));
    assert!(part_of(&rotated[..1], found(7, 16)).is_err());
}

#[test]
fn what_was_written_in_an_etcd_that_is_gone_is_not_judged() {
    let (gone, one) = (request("0.9.0", 1), request("1.0.0", 2));
    let mut log = Log::with_request(rules(), &one);
    log.both_go_on(&one, 1..=1);
    let before = [
        mark(CLUSTER, 90),
        posting(&gone, 3, Condition::Complete),
        begun(&gone, 2, 1, Revision(91)),
        mark(CLUSTER, log.revision.0),
        // Its server goes on with what had been asked for before.
        begun(&gone, 3, 1, log.revision),
        begun(&one, 1, 1, log.revision),
    ];
    log.journals.insert(A, lines(before));
    let (report, tallies) = log.fed_from(None);
    assert!(report.violations.is_empty(), "{report}");
    assert_eq!(tallies[&A], Tally { judged: 2, unjudged: 4 });
}

#[test]
fn what_was_done_in_an_etcd_that_is_gone_says_nothing_of_the_time_before_it() {
    // etcd went back to when both had completed 1.0.0, after B had gone on to 1.1.0.
    let (one, gone) = (request("1.0.0", 1), request("1.1.0", 2));
    let mut log = Log::at_step(rules(), &one, 3);
    log.both_complete(&one);
    let closed = Entry::IntentClosed {
        intent: neco_schema::journal::IntentId("i".to_owned()),
        end: neco_schema::journal::IntentEnd::Completed,
    };
    let installed = [mark(CLUSTER, 90), install(&gone, "1.1.0", package('a')), closed];
    let back = log.revision;
    log.journals.insert(B, lines(installed.into_iter().chain([mark(CLUSTER, back.0)])));
    let (report, tallies) = log.fed_from(None);
    assert!(report.violations.is_empty(), "{report}");
    assert_eq!(tallies[&B], Tally { judged: 1, unjudged: 3 });
    // From there on it is known.
    log.status(B, &one, 3, Condition::Complete);
    let (report, _) = log.fed_from(None);
    assert!(report.violations.iter().any(|found| found.invariant == Safety(14)), "{report}");
}

#[test]
fn installations_are_facts_wherever_their_lines_stand() {
    let one = request("1.0.0", 1);
    let mut log = Log::with_request(rules(), &one);
    let end = neco_schema::journal::IntentEnd::Completed;
    let closed = Entry::IntentClosed {
        intent: neco_schema::journal::IntentId("i".to_owned()),
        end: end.clone(),
    };
    // B has another version installed than the one that it completes.
    log.line(B, mark(CLUSTER, log.revision.0));
    log.line(B, install(&one, "0.9.5", package('a')));
    log.line(B, closed);
    log.write([Op::put_bytes(&Key::Finish(C), "1")]);
    let compacted = log.revision;
    log.both_go_on(&one, 1..=3);
    log.both_complete(&one);
    let (report, _) = log.fed_from(Some(compacted));
    let broken: Vec<_> = report.violations.iter().map(|found| found.invariant).collect();
    assert_eq!(broken, [Safety(14)], "{report}");
}

#[test]
fn a_member_that_left_before_the_history_is_not_missed() {
    let one = request("1.0.0", 1);
    let mut log = Log::at_step(rules(), &one, 2);
    log.line(A, begun(&one, 2, 1, log.revision));
    log.write([Op::delete(&Key::BootServer(B)), Op::delete(&Key::Status(B))]);
    let compacted = log.revision;
    log.line(A, Entry::StepDone { request: one.id(), step: 2 });
    log.status(A, &one, 3, Condition::Running);
    for compacted in [None, Some(compacted)] {
        let (report, _) = log.fed_from(compacted);
        assert!(report.violations.is_empty(), "{compacted:?}: {report}");
    }
}

#[test]
fn a_request_that_was_completed_before_the_history_may_be_replaced() {
    let (one, two) = (request("1.0.0", 1), request("1.1.0", 2));
    let mut log = Log::at_step(rules(), &one, 3);
    log.both_complete(&one);
    log.put(&history_key(&one), &record(&one, Outcome::Completed));
    log.write([Op::delete(&Key::BootServer(B)), Op::delete(&Key::Status(B))]);
    let compacted = log.revision;
    log.put(&Key::Request, &two);
    for compacted in [None, Some(compacted)] {
        let (report, _) = log.fed_from(compacted);
        assert!(report.violations.is_empty(), "{compacted:?}: {report}");
        assert!(report.holding.contains(&Safety(23)), "{compacted:?}");
    }
}

#[test]
fn who_had_settled_or_aborted_before_the_history_had_come_that_far() {
    for cond in [Condition::NotRunning, Condition::Abort] {
        let one = request("1.0.0", 1);
        let mut log = Log::at_step(rules(), &one, 2);
        log.line(B, begun(&one, 2, 1, log.revision));
        log.status(A, &one, 2, cond);
        let compacted = log.revision;
        // It was under way when A wrote.
        log.line(B, Entry::StepDone { request: one.id(), step: 2 });
        log.status(B, &one, 3, Condition::Running);
        let (report, _) = log.fed_from(Some(compacted));
        assert!(report.violations.is_empty(), "{cond}: {report}");
    }
}

#[test]
fn a_worker_of_the_original_may_take_the_place_of_ours() {
    let one = request("1.0.0", 1);
    for (alive_until, broken) in [(0, false), (1, true)] {
        let mut log = Log::with_request(rules(), &one);
        log.put(&Key::Alive(A), &alive("1.0.0"));
        log.status(A, &one, 1, Condition::Running);
        if alive_until == 0 {
            log.delete(&Key::Alive(A));
        }
        let foreign =
            neco_schema::UpdateStatus { request: None, ..status(&one, 1, Condition::Running) };
        log.put(&Key::Status(A), &foreign);
        let (report, _) = log.fed_from(None);
        let named = report.violations.iter().any(|found| found.invariant == Safety(3));
        assert_eq!(named, broken, "{report}");
    }
}

#[test]
fn a_history_with_a_hole_is_not_trusted() {
    let one = request("1.0.0", 1);
    let mut log = Log::at_step(rules(), &one, 3);
    log.delete(&Key::Status(B));
    assert!(log.fed_from(None).0.log_faults.is_empty());
    let whole = log.changes.clone();
    let mut tried = 0;
    for (left_out, (revision, changes)) in whole.iter().enumerate() {
        // Nobody can miss the last word about a key, or about one that was deleted next.
        let key = &changes[0].key;
        let next = whole[left_out + 1..].iter().find(|(_, later)| later[0].key == *key);
        if next.is_none_or(|(_, next)| next[0].after.is_none()) {
            continue;
        }
        log.changes = whole.clone();
        log.changes.remove(left_out);
        let (report, _) = log.fed_from(None);
        assert!(!report.log_faults.is_empty(), "revision {revision} is missing: {report}");
        tried += 1;
    }
    assert!(tried > 2, "{tried}");
}

#[test]
fn a_deletion_of_what_never_stood_there_is_a_hole() {
    let mut auditor = Auditor::new(rules());
    let change = KvChange { key: "status/current".into(), before: None, after: None };
    auditor.change(Revision(3), &[change]);
    assert_eq!(auditor.finish().log_faults.len(), 1);
}

#[test]
fn lines_that_had_seen_more_than_the_history_are_left_out() {
    let one = request("1.0.0", 1);
    let log = Log::at_step(rules(), &one, 1);
    let all = lines([begun(&one, 1, 1, log.revision), begun(&one, 2, 1, Revision(99))]);
    let mut feed = Feed::new(Auditor::new(rules()));
    feed.add_journal(A, &all, 0);
    for (revision, changes) in &log.changes {
        let changes = changes.iter().cloned().map(|change| (change.key, change.after));
        feed.change(*revision, changes.collect::<Vec<(String, Option<KeyValue>)>>());
    }
    assert_eq!(feed.standing().len(), log.snapshot().kvs.len());
    let (report, tallies) = feed.finish(log.revision);
    assert!(report.violations.is_empty(), "{report}");
    assert_eq!(tallies[&Lrn::new(0)], Tally { judged: 1, unjudged: 1 });
}
