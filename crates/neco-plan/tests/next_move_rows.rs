//! What a boot server does: every row of the table of `docs/update.md`, the question at a fence, and what operators may
//! ask for.

mod support;

use neco_plan::operator::{self, Order, Recovery, Refusal};
use neco_plan::{
    Doing, Fence, Local, Move, Post, PostKind, Rest, Row, StatusWrite, View, fence,
    next_move_with_row,
};
use neco_schema::journal::{Effect, Entry, IntentEnd, IntentId, Mark};
use neco_schema::{
    Compare, Condition, Control, Group, Key, OrderNote, Origin, RecipeDigest, Record, RequestId,
    RequestKind, Revision, Turn, Txn, UpdateRequest, UpdateStatus, Way,
};
use serde_json::Map;
use support::*;

fn decide(cluster: &Cluster, me: &Local) -> (u8, Move) {
    let (Row(row), decided) = next_move_with_row(&cluster.view(), me);
    (row, decided)
}

#[track_caller]
fn rests(cluster: &Cluster, me: &Local, row: u8) -> Rest {
    match decide(cluster, me) {
        (found, Move::Rest(rest)) if found == row => rest,
        other => panic!("expected to rest by row {row}, found {other:?}"),
    }
}

#[track_caller]
fn posts(cluster: &Cluster, me: &Local, row: u8) -> Post {
    match decide(cluster, me) {
        (found, Move::Post(post)) if found == row => post,
        other => panic!("expected a post by row {row}, found {other:?}"),
    }
}

#[track_caller]
fn aborts(cluster: &Cluster, me: &Local, row: u8) -> Origin {
    match posts(cluster, me, row).kind {
        PostKind::Aborted(origin) => origin,
        other => panic!("expected an abort, found {other:?}"),
    }
}

fn intent() -> IntentId {
    IntentId("i".into())
}

fn open_intent(me: &mut Local, request: &UpdateRequest, begun: bool) {
    let effect = Effect::Restart { unit: "etcd.service".into(), digest: None };
    let id = request.id();
    me.journal.apply(&Entry::IntentOpened { intent: intent(), request: id, step: 1, effect });
    if begun {
        me.journal.apply(&Entry::IntentBegun { intent: intent(), revision: Revision(1) });
    }
}

fn open_group(me: &mut Local, request: &UpdateRequest) {
    let group = "vault".to_owned();
    me.journal.apply(&Entry::GroupOpened { group, request: request.id(), revision: Revision(1) });
}

fn running(request: &UpdateRequest, step: u32) -> Option<Doing> {
    Some(Doing::Step { request: request.id(), step })
}

/// 0 and 1 stand at `step`, planned; 0 has done everything before it.
fn at_step(step: u32) -> (Cluster, Local, UpdateRequest) {
    let request = request(&[0, 1]);
    let mut cluster = Cluster::of(&[0, 1]);
    cluster.release(V1).request(&request).all_planned(&request).all_at(&request, step);
    let mut me = local(0, V1);
    journal_at(&mut me, &request, step);
    (cluster, me, request)
}

mod row_1 {
    use super::*;

    #[test]
    fn a_begun_intent_is_completed_and_another_dropped_whatever_etcd_says() {
        let (cluster, mut me, request) = at_step(1);
        let unreadable = {
            let mut cluster = cluster.clone();
            cluster.bytes(&Key::Request, "{");
            cluster
        };
        open_intent(&mut me, &request, false);
        assert_eq!(decide(&cluster, &me), (1, Move::DropIntent { intent: intent() }));
        open_intent(&mut me, &request, true);
        for etcd in [&cluster, &unreadable, &Cluster::default()] {
            assert_eq!(decide(etcd, &me), (1, Move::CompleteIntent { intent: intent() }));
        }
    }

    #[test]
    fn completing_is_not_interrupted_and_a_running_step_keeps_its_own_intents() {
        let (mut cluster, mut me, request) = at_step(1);
        open_intent(&mut me, &request, true);
        me.doing = Some(Doing::Complete { intent: intent() });
        cluster.request(&stopped(&request, false));
        assert_eq!(decide(&cluster, &me), (1, Move::Keep));
        let (cluster, mut me, request) = at_step(1);
        open_intent(&mut me, &request, true);
        me.doing = running(&request, 1);
        assert_eq!(decide(&cluster, &me), (17, Move::Keep));
    }
}

mod row_2 {
    use super::*;

    fn grouped() -> (Cluster, Local, UpdateRequest) {
        let (cluster, mut me, request) = at_step(2);
        me.recipe = recipe(3, &[("vault", 2, 3)]);
        open_group(&mut me, &request);
        (cluster, me, request)
    }

    fn back(request: &UpdateRequest, decided: bool) -> Move {
        Move::Restore { group: "vault".into(), request: request.id(), way: Way::Back, decided }
    }

    #[test]
    fn a_group_stays_open_while_its_request_runs() {
        let (cluster, me, _) = grouped();
        assert_eq!(decide(&cluster, &me).0, 17);
    }

    #[test]
    fn a_group_is_restored_before_a_stop_is_settled() {
        let (mut cluster, me, request) = grouped();
        cluster.request(&stopped(&request, false));
        assert_eq!(decide(&cluster, &me), (2, back(&request, false)));
    }

    #[test]
    fn a_group_is_restored_when_anybody_aborts_this_server_included() {
        for number in [0, 1] {
            let (mut cluster, me, request) = grouped();
            cluster.put(Key::Status(lrn(number)), &aborted(&request, 2, number, "it broke"));
            assert_eq!(decide(&cluster, &me), (2, back(&request, false)));
        }
        // An own failure counts before it is posted.
        let (cluster, mut me, request) = grouped();
        fails(&mut me, &request, 2, "it broke");
        assert_eq!(decide(&cluster, &me), (2, back(&request, false)));
    }

    fn fails(me: &mut Local, request: &UpdateRequest, step: u32, cause: &str) {
        let (request, cause) = (request.id(), cause.to_owned());
        me.journal.apply(&Entry::StepFailed { request, step, cause });
    }

    /// What has failed in a group that is being brought back.
    fn failed_and_restoring() -> (Cluster, Local, UpdateRequest) {
        let (cluster, mut me, request) = grouped();
        fails(&mut me, &request, 2, "it broke");
        me.doing = Some(Doing::Restore { group: "vault".into() });
        (cluster, me, request)
    }

    #[test]
    fn a_failure_is_told_while_the_group_is_restored_and_once() {
        let (mut cluster, me, request) = failed_and_restoring();
        let post = posts(&cluster, &me, 9);
        let origin = Origin { lrn: lrn(0), step: 2, cause: "it broke".into(), unknown: Map::new() };
        assert_eq!((post.step, &post.kind), (2, &PostKind::Aborted(origin)));
        let write = StatusWrite { now: at(9_000), changes: vec![], steps: vec![] };
        let txn = Move::Post(post).txn(&cluster.view(), &me, &write).expect("it is written");
        assert!(cluster.commit(&txn));
        assert_eq!(decide(&cluster, &me), (2, Move::Keep), "it is told");
        // The leader stops; a crash in between leaves the group open: it is restored, whatever the status says.
        cluster.request(&stopped(&request, false));
        assert_eq!(decide(&cluster, &me), (2, Move::Keep));
        let me = Local { doing: None, ..me };
        assert_eq!(decide(&cluster, &me), (2, back(&request, false)));
        cluster.delete(Key::Request);
        assert_eq!(decide(&cluster, &me), (2, back(&request, false)));
    }

    #[test]
    fn nothing_is_told_while_a_group_is_restored_to_who_has_no_business_with_it() {
        // Somebody else's failure waits for the end of the restoration, and so does a stop.
        let (mut cluster, mut me, request) = grouped();
        me.doing = Some(Doing::Restore { group: "vault".into() });
        cluster.put(Key::Status(lrn(1)), &aborted(&request, 2, 1, "it broke"));
        assert_eq!(decide(&cluster, &me), (2, Move::Keep));
        let (cluster, me, request) = failed_and_restoring();
        let other = UpdateRequest { started_at: at(7_000), ..request.clone() };
        let without = UpdateRequest { servers: lrns(&[1]), ..request.clone() };
        let mut replaced = cluster.clone();
        let mut alive = replaced.alive(0, V1, &[]).view().alive[&lrn(0)].value.clone();
        alive.machine_id = "another".to_owned();
        for etcd in [
            cluster.clone().request(&stopped(&request, false)),
            cluster.clone().delete(Key::Request),
            cluster.clone().request(&other),
            cluster.clone().request(&without),
            cluster.clone().bytes(&Key::Request, "{"),
            replaced.put(Key::Alive(lrn(0)), &alive),
        ] {
            assert_eq!(decide(etcd, &me), (2, Move::Keep));
        }
        // Nor to an etcd that is not to be trusted.
        let mut me = me;
        let mark = Mark { cluster_id: 0, revision: Revision(1_000), epoch: 0 };
        me.journal.apply(&Entry::Mark(mark));
        assert_eq!(decide(&cluster, &me), (2, Move::Keep));
    }

    #[test]
    fn what_does_not_start_again_is_added_to_the_abort_also_after_the_stop() {
        let (mut cluster, mut me, request) = grouped();
        fails(&mut me, &request, 2, "it broke");
        fails(&mut me, &request, 0, "group vault stays stopped: no seal");
        let closed =
            Entry::GroupClosed { group: "vault".into(), request: request.id(), way: Way::Back };
        me.journal.apply(&closed);
        let whole = "it broke; group vault stays stopped: no seal";
        cluster.put(Key::Status(lrn(0)), &aborted(&request, 2, 0, "it broke"));
        for mut etcd in
            [cluster.clone(), cluster.clone().request(&stopped(&request, false)).clone()]
        {
            let post = posts(&etcd, &me, 9);
            let origin = Origin { lrn: lrn(0), step: 2, cause: whole.into(), unknown: Map::new() };
            assert_eq!((post.step, &post.kind), (2, &PostKind::Aborted(origin)));
            let write = StatusWrite { now: at(9_000), changes: vec![], steps: vec![] };
            let txn = Move::Post(post).txn(&etcd.view(), &me, &write).expect("it is written");
            assert!(etcd.commit(&txn));
            assert_eq!(decide(&etcd, &me).1, Move::Rest(Rest::Closed(Condition::Abort)));
        }
        // An abort of another cause keeps it; one of another server is not this one's to change.
        cluster.put(Key::Status(lrn(0)), &aborted(&request, 2, 0, "different recipes"));
        assert_eq!(aborts(&cluster, &me, 9).cause, format!("different recipes; {whole}"));
        cluster.put(Key::Status(lrn(0)), &aborted(&request, 2, 1, "different recipes"));
        assert_eq!(rests(&cluster, &me, 8), Rest::Closed(Condition::Abort));
    }

    #[test]
    fn a_group_is_restored_when_its_request_is_gone_replaced_or_for_others() {
        let (cluster, me, request) = grouped();
        let other = UpdateRequest { started_at: at(7_000), ..request.clone() };
        let without = UpdateRequest { servers: lrns(&[1]), ..request.clone() };
        for etcd in [
            cluster.clone().delete(Key::Request),
            cluster.clone().request(&other),
            cluster.clone().request(&without),
        ] {
            assert_eq!(decide(etcd, &me), (2, back(&request, false)));
        }
    }

    #[test]
    fn a_group_stays_open_while_its_request_cannot_be_read() {
        // It may still run: whoever restores would have the old beside the new once it can be read again.
        let (mut cluster, me, _) = grouped();
        let whole = cluster.kvs["status/current"].value.clone();
        cluster.bytes(&Key::Request, "{");
        let rest = rests(&cluster, &me, 5);
        assert!(matches!(&rest, Rest::Unreadable { key, .. } if key == "status/current"));
        assert!(rest.to_string().contains("put a right value there"), "{rest}");
        cluster.bytes(&Key::Request, whole);
        assert_eq!(decide(&cluster, &me).0, 17);
        cluster.delete(Key::Request);
        assert_eq!(decide(&cluster, &me).0, 2);
    }

    #[test]
    fn a_group_whose_way_cannot_be_read_stays_as_it_is() {
        let (mut cluster, mut me, request) = grouped();
        cluster.bytes(&Key::Group("vault".into()), "{");
        for etcd in [&cluster.clone(), cluster.request(&stopped(&request, false))] {
            let rest = rests(etcd, &me, 5);
            assert!(matches!(&rest, Rest::Unreadable { key, .. } if key == "group/vault"));
            assert!(rest.to_string().contains("delete the key only if none has"), "{rest}");
        }
        me.doing = running(&request, 2);
        assert_eq!(decide(&cluster, &me).1.name(), "cancel");
        me.doing = None;
        cluster.delete(Key::Group("vault".into()));
        assert_eq!(decide(&cluster, &me), (2, back(&request, false)));
    }

    #[test]
    fn the_way_that_was_decided_is_gone() {
        let (mut cluster, me, request) = grouped();
        let decided = Group { request: request.id(), way: Way::Forward, unknown: Map::new() };
        cluster.request(&stopped(&request, false)).put(Key::Group("vault".into()), &decided);
        let forward = Move::Restore {
            group: "vault".into(),
            request: request.id(),
            way: Way::Forward,
            decided: true,
        };
        assert_eq!(decide(&cluster, &me), (2, forward));
        // A decision about an earlier request says nothing about this one.
        let earlier = Group { request: RequestId::claimed("ffff"), ..decided };
        cluster.put(Key::Group("vault".into()), &earlier);
        assert_eq!(decide(&cluster, &me), (2, back(&request, false)));
    }

    #[test]
    fn a_step_that_runs_is_cancelled_first_and_a_restoration_is_not() {
        let (mut cluster, mut me, request) = grouped();
        cluster.request(&stopped(&request, false));
        me.doing = running(&request, 2);
        assert_eq!(decide(&cluster, &me).1.name(), "cancel");
        me.doing = Some(Doing::Restore { group: "vault".into() });
        assert_eq!(decide(&cluster, &me), (2, Move::Keep));
    }

    #[test]
    fn the_way_is_written_before_the_first_restoration_and_only_once() {
        let (mut cluster, me, request) = grouped();
        cluster.request(&stopped(&request, false));
        let view = cluster.view();
        let write = StatusWrite { now: at(9_000), changes: vec![], steps: vec![] };
        let txn = decide(&cluster, &me).1.txn(&view, &me, &write).expect("the way is written");
        assert!(cluster.commit(&txn));
        assert_eq!(decide(&cluster, &me), (2, back(&request, true)));
        assert!(!cluster.commit(&txn), "somebody has decided");
    }
}

mod row_3 {
    use super::*;

    #[test]
    fn work_for_a_request_that_is_stopped_gone_replaced_or_aborted_is_cancelled() {
        let (cluster, me, request) = at_step(1);
        let other = UpdateRequest { started_at: at(7_000), ..request.clone() };
        let installing = Some(Doing::Install { request: request.id() });
        for doing in [running(&request, 1), installing] {
            let me = Local { doing, ..me.clone() };
            for etcd in [
                cluster.clone().request(&stopped(&request, false)),
                cluster.clone().delete(Key::Request),
                cluster.clone().request(&other),
                cluster.clone().put(Key::Status(lrn(1)), &aborted(&request, 1, 1, "it broke")),
            ] {
                let (row, decided) = decide(etcd, &me);
                assert_eq!((row, decided.name()), (3, "cancel"));
            }
        }
    }

    #[test]
    fn work_for_a_request_that_cannot_be_read_waits() {
        let (mut cluster, mut me, request) = at_step(1);
        me.doing = running(&request, 1);
        cluster.bytes(&Key::Request, "{");
        assert!(matches!(rests(&cluster, &me, 5), Rest::Unreadable { .. }));
        assert!(matches!(fence(&cluster.view(), &me), Fence::Wait(_)));
    }
}

mod row_4 {
    use super::*;

    fn with_turn() -> (Cluster, Local, UpdateRequest) {
        let (mut cluster, me, request) = at_step(3);
        let turn = Turn { lrn: lrn(0), request: request.id(), since: at(1), unknown: Map::new() };
        cluster.put(Key::Turn("etcd".into()), &turn);
        (cluster, me, request)
    }

    #[test]
    fn a_turn_that_nothing_needs_is_given_back_by_its_create_revision() {
        let (mut cluster, me, _) = with_turn();
        let created = cluster.view().turns["etcd"].create_revision;
        let expected = Move::ReleaseTurn { name: "etcd".into(), create_revision: created };
        assert_eq!(decide(&cluster, &me), (4, expected.clone()));
        let write = StatusWrite { now: at(9_000), changes: vec![], steps: vec![] };
        let txn = expected.txn(&cluster.view(), &me, &write).expect("it is deleted");
        // Somebody released it, and another took it.
        let mut other = cluster.clone();
        let taken = Turn {
            lrn: lrn(1),
            request: RequestId::claimed("x"),
            since: at(1),
            unknown: Map::new(),
        };
        other.delete(Key::Turn("etcd".into())).put(Key::Turn("etcd".into()), &taken);
        assert!(!other.commit(&txn));
        assert!(cluster.commit(&txn));
        assert!(cluster.view().turns.is_empty());
    }

    #[test]
    fn a_turn_is_held_while_a_step_runs_and_a_turn_of_others_is_theirs() {
        let (cluster, mut me, request) = with_turn();
        me.doing = running(&request, 3);
        assert_eq!(decide(&cluster, &me), (17, Move::Keep));
        me.doing = None;
        open_intent(&mut me, &request, true);
        assert_eq!(decide(&cluster, &me).0, 1);
        let mut other = local(1, V1);
        journal_at(&mut other, &request, 3);
        assert_eq!(decide(&cluster, &other).0, 17);
    }

    #[test]
    fn a_turn_is_given_back_even_when_etcd_is_not_believed() {
        let (cluster, mut me, _) = with_turn();
        me.journal.mark = Mark { cluster_id: 9, revision: Revision(1), epoch: 0 };
        assert_eq!(decide(&cluster, &me).0, 4);
        // But not by a machine that has the number from another.
        let mut me = with_turn().1;
        me.machine_id = "twin".into();
        assert!(matches!(rests(&cluster, &me, 5), Rest::HeldByAnotherMachine { .. }));
    }
}

mod row_5 {
    use super::*;

    #[test]
    fn an_etcd_that_is_another_or_has_gone_back_is_not_believed() {
        let (mut cluster, mut me, _) = at_step(1);
        let revision = Revision(cluster.revision);
        me.journal.mark = Mark { cluster_id: 9, revision, epoch: 0 };
        assert_eq!(rests(&cluster, &me, 5), Rest::OtherCluster);
        let seen = Revision(revision.0 + 1);
        me.journal.mark = Mark { cluster_id: 1, revision: seen, epoch: 0 };
        assert_eq!(rests(&cluster, &me, 5), Rest::OlderRevision { revision, seen });
        me.journal.mark = Mark { cluster_id: 1, revision, epoch: 4 };
        assert_eq!(rests(&cluster, &me, 5), Rest::OlderEpoch { epoch: 0, seen: 4 });
        // An operator who raises the epoch says that all of it is right.
        me.journal.mark = Mark { cluster_id: 9, revision: Revision(9_999), epoch: 4 };
        cluster.put(Key::Epoch, &Control { epoch: Some(5), ..Control::default() });
        assert_eq!(decide(&cluster, &me).0, 17);
    }

    #[test]
    fn an_epoch_that_cannot_be_read_is_none_that_is_older() {
        let (mut cluster, mut me, _) = at_step(1);
        me.journal.mark =
            Mark { cluster_id: 1, revision: Revision(cluster.revision), epoch: 1_700_000_000 };
        for value in ["{", "{}"] {
            cluster.bytes(&Key::Epoch, value);
            let rest = rests(&cluster, &me, 5);
            assert!(matches!(&rest, Rest::Unreadable { key, .. } if key == "control/epoch"));
            let words = rest.to_string();
            assert!(!words.contains("restored from a backup"), "{words}");
            assert!(words.contains("'necoctl recover --force' begins a new epoch"), "{words}");
        }
        // That remedy is one.
        let how = Recovery { force: true, retry: false };
        let order = Order { by: "ops".into(), reason: "garbled".into(), now: at(1_800_000_000) };
        let txn = operator::recover(&cluster.view(), how, &order).expect("a transaction");
        assert!(cluster.commit(&txn));
        assert_eq!(decide(&cluster, &me).0, 6);
    }

    #[test]
    fn what_cannot_be_read_or_is_not_known_is_not_acted_on() {
        let (cluster, me, request) = at_step(1);
        let rest = rests(cluster.clone().bytes(&Key::Request, "{"), &me, 5);
        assert!(matches!(rest, Rest::Unreadable { key, .. } if key == "status/current"));
        let rest = rests(cluster.clone().bytes(&Key::Status(lrn(1)), "{"), &me, 5);
        assert!(matches!(rest, Rest::Unreadable { key, .. } if key == "status/bootservers/1"));
        // A stranger's status is nobody's business.
        let mut stray = cluster.clone();
        assert_eq!(decide(stray.bytes(&Key::Status(lrn(7)), "{"), &me).0, 17);
        let kind = Some(RequestKind::Unknown("fleet".into()));
        let later = UpdateRequest { kind, ..request };
        let rest = rests(cluster.clone().request(&later), &me, 5);
        assert_eq!(rest, Rest::UnknownKind("fleet".into()));
    }

    #[test]
    fn a_second_machine_with_the_number_rests() {
        let (cluster, mut me, _) = at_step(1);
        me.machine_id = "twin".into();
        let expected = Rest::HeldByAnotherMachine { machine_id: "machine-0".into() };
        assert_eq!(rests(&cluster, &me, 5), expected);
    }
}

mod row_6 {
    use super::*;

    #[test]
    fn without_a_request_or_for_others_there_is_nothing_to_do() {
        let (mut cluster, _, _) = at_step(1);
        assert_eq!(rests(&cluster, &local(7, V1), 6), Rest::NotAMember);
        cluster.delete(Key::Request);
        assert_eq!(rests(&cluster, &local(0, V1), 6), Rest::NoRequest);
    }

    #[test]
    fn who_has_left_starts_nothing_and_brings_to_an_end_what_runs() {
        let (mut cluster, mut me, request) = at_step(1);
        cluster.delete(Key::BootServer(lrn(0)));
        assert_eq!(rests(&cluster, &me, 6), Rest::NotRegistered);
        me.doing = running(&request, 1);
        assert_eq!(decide(&cluster, &me), (6, Move::Keep));
    }

    #[test]
    fn a_request_that_was_seen_to_end_never_runs_again() {
        let (cluster, mut me, request) = at_step(1);
        me.journal.apply(&Entry::RequestEnded { request: request.id() });
        assert_eq!(rests(&cluster, &me, 6), Rest::Ended);
    }
}

mod row_7 {
    use super::*;

    #[test]
    fn a_stop_is_settled_in_the_step_it_finds() {
        let (mut cluster, me, request) = at_step(2);
        cluster.request(&stopped(&request, false));
        let post = posts(&cluster, &me, 7);
        assert_eq!((post.step, post.kind.clone()), (2, PostKind::Settled));
        cluster.status(0, &request, 2, Condition::NotRunning);
        assert_eq!(rests(&cluster, &me, 7), Rest::Closed(Condition::NotRunning));
    }

    #[test]
    fn a_stop_is_settled_by_who_has_not_begun() {
        let request = request(&[0, 1]);
        let mut cluster = Cluster::of(&[0, 1]);
        cluster.request(&stopped(&request, false));
        let post = posts(&cluster, &local(0, "0.9.0"), 7);
        assert_eq!((post.step, post.kind), (0, PostKind::Settled));
    }

    #[test]
    fn a_status_of_an_earlier_request_does_not_settle_this_one() {
        let (mut cluster, me, request) = at_step(1);
        let earlier = UpdateRequest { started_at: at(1), ..request.clone() };
        cluster.request(&stopped(&request, false));
        cluster.status(0, &earlier, 3, Condition::Complete);
        assert_eq!(posts(&cluster, &me, 7).kind, PostKind::Settled);
    }

    #[test]
    fn a_stop_wins_over_an_abort_of_others_and_over_own_failure() {
        let (mut cluster, mut me, request) = at_step(2);
        cluster.put(Key::Status(lrn(1)), &aborted(&request, 2, 1, "it broke"));
        cluster.request(&stopped(&request, true));
        let cause = "it broke".into();
        me.journal.apply(&Entry::StepFailed { request: request.id(), step: 2, cause });
        assert_eq!(posts(&cluster, &me, 7).kind, PostKind::Settled);
    }
}

mod row_8 {
    use super::*;

    #[test]
    fn who_has_aborted_or_completed_rests() {
        for cond in [Condition::Abort, Condition::Complete] {
            let (mut cluster, me, request) = at_step(3);
            cluster.status(0, &request, 3, cond);
            assert_eq!(rests(&cluster, &me, 8), Rest::Closed(cond));
        }
    }
}

mod row_9 {
    use super::*;

    #[test]
    fn a_failed_step_or_install_aborts_with_its_own_cause() {
        let (cluster, mut me, request) = at_step(2);
        let cause = "it broke".to_owned();
        me.journal.apply(&Entry::StepFailed {
            request: request.id(),
            step: 2,
            cause: cause.clone(),
        });
        let post = posts(&cluster, &me, 9);
        let origin = Origin { lrn: lrn(0), step: 2, cause, unknown: Default::default() };
        assert_eq!((post.step, post.kind), (2, PostKind::Aborted(origin)));

        // An install fails before any status: the one that is posted ahead of the barrier.
        let request = super::request(&[0, 1]);
        let mut cluster = Cluster::of(&[0, 1]);
        cluster.request(&request);
        let mut me = local(0, "0.9.0");
        let effect = Effect::Install {
            from: version("0.9.0"),
            to: version(V1),
            package: neco_schema::PackageRef {
                file: "f".into(),
                size: 1,
                sha256: "0".repeat(64),
                unknown: Default::default(),
            },
            way_back: None,
        };
        let (id, end) = (request.id(), IntentEnd::Failed { cause: "postinst".into() });
        me.journal.apply(&Entry::IntentOpened { intent: intent(), request: id, step: 0, effect });
        me.journal.apply(&Entry::IntentClosed { intent: intent(), end });
        let post = posts(&cluster, &me, 9);
        let origin =
            Origin { lrn: lrn(0), step: 1, cause: "postinst".into(), unknown: Default::default() };
        assert_eq!((post.step, post.kind), (1, PostKind::Aborted(origin)));
    }

    #[test]
    fn the_third_crash_in_one_step_aborts() {
        let (cluster, mut me, request) = at_step(2);
        for attempt in 1..=3 {
            assert_eq!(decide(&cluster, &me).0, 17, "after {} crashes", attempt - 1);
            let (id, revision) = (request.id(), Revision(1));
            me.journal.apply(&Entry::StepBegun { request: id, step: 2, attempt, revision });
            let boot_id = "b".to_owned();
            me.journal.apply(&Entry::ProcessStarted { version: version(V1), boot_id, pid: 1 });
        }
        assert!(aborts(&cluster, &me, 9).cause.contains("ended the worker 3 times"));
    }

    #[test]
    fn a_status_that_the_journal_does_not_know_aborts() {
        let (cluster, _, request) = at_step(2);
        let mut me = local(0, V1);
        assert!(aborts(&cluster, &me, 9).cause.contains("disk replaced"));
        // Restored from a backup: it knows an earlier step.
        journal_at(&mut me, &request, 1);
        assert_eq!(aborts(&cluster, &me, 9).step, 2);
        // It may know one step more: a post that did not land.
        journal_at(&mut me, &request, 3);
        assert_ne!(decide(&cluster, &me).0, 9);
    }

    #[test]
    fn an_abort_that_did_not_land_proves_nothing_about_the_steps_before_it() {
        let (cluster, mut knowing, request) = at_step(2);
        let abort = Entry::Posting { request: request.id(), step: 2, cond: 2 };
        let mut fresh = local(0, V1);
        fresh.journal.apply(&abort);
        assert!(aborts(&cluster, &fresh, 9).cause.contains("disk replaced"));
        knowing.journal.apply(&abort);
        assert_ne!(decide(&cluster, &knowing).0, 9);
    }
}

mod row_10 {
    use super::*;

    #[test]
    fn the_oldest_abort_is_copied_on() {
        let (mut cluster, _, _) = at_step(1);
        let request = request(&[0, 1, 2]);
        cluster.request(&request).all_at(&request, 2);
        let mut me = local(0, V1);
        journal_at(&mut me, &request, 2);
        cluster.bytes(&Key::BootServer(lrn(2)), "");
        cluster.put(Key::Status(lrn(2)), &aborted(&request, 2, 2, "the disk is full"));
        cluster.put(Key::Status(lrn(1)), &aborted(&request, 2, 1, "it broke"));
        let origin = Origin {
            lrn: lrn(2),
            step: 2,
            cause: "the disk is full".into(),
            unknown: Default::default(),
        };
        assert_eq!(aborts(&cluster, &me, 10), origin);
    }

    #[test]
    fn a_cause_of_any_length_is_copied_in_brief() {
        let (mut cluster, me, request) = at_step(2);
        let long = "x".repeat(1 << 20);
        cluster.put(Key::Status(lrn(1)), &aborted(&request, 2, 1, &long));
        let cause = aborts(&cluster, &me, 10).cause;
        assert!(cause.starts_with("xxx") && cause.len() < 5_000, "{} bytes", cause.len());
    }

    #[test]
    fn a_go_workers_abort_counts_with_its_message() {
        let (mut cluster, me, request) = at_step(2);
        let go = UpdateStatus {
            request: None,
            message: "exit status 1".into(),
            ..status(&request, 2, Condition::Abort)
        };
        cluster.put(Key::Status(lrn(1)), &go);
        let origin = Origin {
            lrn: lrn(1),
            step: 2,
            cause: "exit status 1".into(),
            unknown: Default::default(),
        };
        assert_eq!(aborts(&cluster, &me, 10), origin);
    }

    #[test]
    fn an_abort_of_an_earlier_request_or_of_a_stranger_is_none() {
        let (mut cluster, me, request) = at_step(2);
        let earlier = UpdateRequest { started_at: at(1), ..request.clone() };
        cluster.put(Key::Status(lrn(7)), &aborted(&request, 2, 7, "it broke"));
        assert_eq!(decide(&cluster, &me).0, 17);
        cluster.put(Key::Status(lrn(1)), &aborted(&earlier, 2, 1, "it broke"));
        assert_ne!(decide(&cluster, &me).0, 10);
    }
}

mod row_11 {
    use super::*;

    #[test]
    fn members_two_steps_apart_abort_and_are_named() {
        let (mut cluster, me, request) = at_step(3);
        cluster.status(1, &request, 1, Condition::Running);
        let cause = aborts(&cluster, &me, 11).cause;
        assert!(
            cause.contains("boot server 0 is in step 3 while boot server 1 is in step 1"),
            "{cause}"
        );
    }

    #[test]
    fn a_member_that_left_with_its_status_is_not_two_steps_behind() {
        // The leader supersedes the request; an abort would ask for a person instead.
        let (mut cluster, me, _) = at_step(3);
        cluster.leaves(1);
        assert_eq!(decide(&cluster, &me).0, 17);
        // Who has joined again under the same number is another machine, and has not taken part.
        cluster.bytes(&Key::BootServer(lrn(1)), "");
        assert_eq!(decide(&cluster, &me).0, 11);
    }

    #[test]
    fn a_step_that_the_recipe_does_not_have_aborts() {
        for step in [0, 4] {
            let (mut cluster, mut me, request) = at_step(3);
            cluster.all_at(&request, step);
            me.journal.apply(&Entry::Posting { request: request.id(), step, cond: 1 });
            assert_eq!(decide(&cluster, &me).0, 11, "step {step}");
        }
    }
}

mod row_12 {
    use super::*;

    #[test]
    fn a_recipe_that_is_not_the_planned_one_aborts() {
        let (cluster, mut me, _) = at_step(2);
        me.recipe.digest = RecipeDigest("recipe-zero".into());
        let cause = aborts(&cluster, &me, 12).cause;
        assert!(cause.contains("planned was recipe-one, now it is recipe-zer"), "{cause}");
        // The recipe of another version says nothing about this request.
        me.running = V2.parse().expect("a version");
        assert_eq!(decide(&cluster, &me).0, 15);
    }

    #[test]
    fn different_recipes_abort_and_name_servers_and_digests() {
        let (mut cluster, me, request) = at_step(1);
        cluster.plan(1, &request, "recipe-two");
        let cause = aborts(&cluster, &me, 12).cause;
        assert!(cause.contains("0 has recipe-one, 1 has recipe-two"), "{cause}");
    }

    #[test]
    fn plans_of_an_earlier_request_and_of_strangers_are_no_difference() {
        let (mut cluster, me, request) = at_step(2);
        let earlier = UpdateRequest { started_at: at(1), ..request.clone() };
        cluster.plan(1, &earlier, "recipe-two").plan(7, &request, "recipe-two");
        assert_eq!(decide(&cluster, &me).0, 17);
    }
}

mod row_13 {
    use super::*;

    #[test]
    fn a_pause_holds_back_whoever_runs_nothing() {
        let (mut cluster, mut me, request) = at_step(2);
        cluster.pause();
        let expected = Rest::Paused { by: "ops".into(), reason: "tea".into() };
        assert_eq!(rests(&cluster, &me, 13), expected);
        me.doing = running(&request, 2);
        assert_eq!(decide(&cluster, &me), (17, Move::Keep));
        // One that cannot be read pauses as well.
        me.doing = None;
        cluster.bytes(&Key::Pause, "{");
        assert!(matches!(rests(&cluster, &me, 13), Rest::Paused { .. }));
    }

    #[test]
    fn a_pause_holds_back_an_install_and_a_first_status() {
        let (mut cluster, _, _) = at_step(1);
        cluster.delete(Key::Status(lrn(0))).pause();
        assert!(matches!(rests(&cluster, &local(0, "0.9.0"), 13), Rest::Paused { .. }));
        assert!(matches!(rests(&cluster, &local(0, V1), 13), Rest::Paused { .. }));
    }

    #[test]
    fn a_pause_waits_for_the_end_of_a_group() {
        let look = |mine: u32, other: u32| {
            let (mut cluster, mut me, request) = at_step(mine);
            me.recipe = recipe(4, &[("vault", 2, 3)]);
            cluster.status(1, &request, other, Condition::Running).pause();
            decide(&cluster, &me).0
        };
        assert_eq!(look(1, 1), 13, "before");
        assert_eq!(look(2, 1), 13, "not everybody stands at the stop step");
        assert_eq!(look(2, 2), 17, "open");
        assert_eq!(look(3, 3), 17, "open until all are past the apply step");
        assert_eq!(look(3, 4), 17, "one is past it");
        assert_eq!(look(4, 4), 13, "over");
    }

    #[test]
    fn a_stop_and_an_abort_are_not_held_back() {
        let (mut cluster, me, request) = at_step(2);
        cluster.pause().put(Key::Status(lrn(1)), &aborted(&request, 2, 1, "it broke"));
        assert_eq!(decide(&cluster, &me).0, 10);
        cluster.request(&stopped(&request, false));
        assert_eq!(decide(&cluster, &me).0, 7);
    }
}

mod row_14 {
    use super::*;

    fn fresh(request: &UpdateRequest) -> Cluster {
        let mut cluster = Cluster::of(&[0, 1, 2]);
        cluster.request(request);
        cluster
    }

    #[test]
    fn the_lowest_installs_first_and_the_others_follow_its_first_status() {
        let request = request(&[2, 1]);
        let mut cluster = fresh(&request);
        assert_eq!(decide(&cluster, &local(1, "0.9.0")).1.name(), "install");
        assert_eq!(rests(&cluster, &local(2, "0.9.0"), 14), Rest::FirstServer(lrn(1)));
        // Dead or alive, it stays the first.
        cluster.dies(1);
        assert_eq!(rests(&cluster, &local(2, "0.9.0"), 14), Rest::FirstServer(lrn(1)));
        cluster.status(1, &request, 1, Condition::Running);
        assert_eq!(decide(&cluster, &local(2, "0.9.0")).1.name(), "install");
    }

    #[test]
    fn an_install_carries_what_the_request_says() {
        let package = neco_schema::PackageRef {
            file: "f".into(),
            size: 1,
            sha256: "0".repeat(64),
            unknown: Default::default(),
        };
        let request = UpdateRequest {
            package: Some(package.clone()),
            allow_no_way_back: true,
            ..request(&[0])
        };
        let expected = Move::Install {
            request: request.id(),
            version: version(V1),
            package: Some(package),
            allow_no_way_back: true,
        };
        assert_eq!(decide(&fresh(&request), &local(0, "0.9.0")), (14, expected));
    }

    #[test]
    fn an_install_under_way_goes_on() {
        let request = request(&[0]);
        let mut me = local(0, "0.9.0");
        me.doing = Some(Doing::Install { request: request.id() });
        assert_eq!(decide(&fresh(&request), &me), (14, Move::Keep));
    }

    #[test]
    fn nobody_goes_back_unasked() {
        let request = request(&[0]);
        let origin = aborts(&fresh(&request), &local(0, V2), 14);
        assert!(origin.cause.contains("refused to go back from 1.1.0 to 1.0.0"), "{origin:?}");
        let asked = UpdateRequest { allow_downgrade: true, ..request };
        assert_eq!(decide(&fresh(&asked), &local(0, V2)).1.name(), "install");
    }
}

mod row_15 {
    use super::*;

    #[test]
    fn the_old_binary_ends_for_the_new_one() {
        let (cluster, mut me, _) = at_step(1);
        me.running = version("0.9.0");
        assert_eq!(decide(&cluster, &me), (15, Move::ExitForNewBinary));
    }
}

mod row_16 {
    use super::*;

    #[test]
    fn the_plan_comes_before_the_first_status() {
        let request = request(&[0, 1]);
        let mut cluster = Cluster::of(&[0, 1]);
        cluster.request(&request);
        let me = local(0, V1);
        assert_eq!(decide(&cluster, &me), (16, Move::PublishPlan { request: request.id() }));
        // One of an earlier request, or with another digest, is none.
        let earlier = UpdateRequest { started_at: at(1), ..request.clone() };
        cluster.plan(0, &earlier, "recipe-one");
        assert_eq!(decide(&cluster, &me).1.name(), "publish-plan");
        cluster.plan(0, &request, "recipe-zero");
        assert_eq!(decide(&cluster, &me).1.name(), "publish-plan");
        cluster.plan(0, &request, "recipe-one");
        let post = posts(&cluster, &me, 16);
        assert_eq!((post.step, post.kind), (1, PostKind::Running));
    }

    #[test]
    fn a_status_of_another_request_is_replaced() {
        let (mut cluster, me, request) = at_step(1);
        let earlier = UpdateRequest { started_at: at(1), ..request };
        cluster.status(0, &earlier, 3, Condition::Complete);
        assert_eq!(posts(&cluster, &me, 16).step, 1);
    }
}

mod row_17 {
    use super::*;

    #[test]
    fn a_step_waits_for_every_member() {
        let (mut cluster, me, request) = at_step(2);
        let run = Move::Run { request: request.id(), step: 2, attempt: 1 };
        assert_eq!(decide(&cluster, &me), (17, run.clone()));
        cluster.status(1, &request, 1, Condition::Running);
        let expected = Rest::Barrier { step: 2, missing: lrns(&[1]) };
        assert_eq!(rests(&cluster, &me, 17), expected);
        // One that is ahead has been here; a settled one has not.
        cluster.status(1, &request, 3, Condition::Running);
        assert_eq!(decide(&cluster, &me), (17, run));
        cluster.status(1, &request, 2, Condition::NotRunning);
        assert_eq!(rests(&cluster, &me, 17), expected_at(2));
    }

    fn expected_at(step: u32) -> Rest {
        Rest::Barrier { step, missing: lrns(&[1]) }
    }

    #[test]
    fn an_earlier_status_does_not_pass_the_barrier_and_a_go_workers_does() {
        let (mut cluster, me, request) = at_step(1);
        let earlier = UpdateRequest { started_at: at(1), ..request.clone() };
        cluster.status(1, &earlier, 1, Condition::Running);
        assert_eq!(rests(&cluster, &me, 17), expected_at(1));
        let go = UpdateStatus { request: None, ..status(&request, 1, Condition::Running) };
        cluster.put(Key::Status(lrn(1)), &go).delete(Key::Plan(lrn(1)));
        assert_eq!(decide(&cluster, &me).1.name(), "run");
    }

    #[test]
    fn step_1_waits_for_the_plans_of_ours() {
        let (mut cluster, me, _) = at_step(1);
        cluster.delete(Key::Plan(lrn(1)));
        assert_eq!(rests(&cluster, &me, 17), Rest::Plans { missing: lrns(&[1]) });
    }

    #[test]
    fn an_own_plan_that_was_lost_is_published_again() {
        for step in [1, 2] {
            let (mut cluster, mut me, request) = at_step(step);
            let lost = [
                cluster.clone().delete(Key::Plan(lrn(0))).clone(),
                cluster.clone().bytes(&Key::Plan(lrn(0)), "{").clone(),
                cluster
                    .plan(0, &UpdateRequest { started_at: at(1), ..request.clone() }, "recipe-one")
                    .clone(),
            ];
            for mut cluster in lost {
                let publish = Move::PublishPlan { request: request.id() };
                assert_eq!(decide(&cluster, &me), (17, publish.clone()));
                let write = StatusWrite { now: at(9_000), changes: vec![], steps: vec![] };
                let txn = publish.txn(&cluster.view(), &me, &write).expect("it is written");
                assert!(cluster.commit(&txn));
                assert_eq!(decide(&cluster, &me).1.name(), "run");
            }
            // What runs has no need of it.
            me.doing = running(&request, step);
            cluster.delete(Key::Plan(lrn(0)));
            assert_eq!(decide(&cluster, &me), (17, Move::Keep));
        }
    }

    #[test]
    fn a_worker_that_returns_runs_the_same_step_again_without_a_word() {
        let (cluster, mut me, request) = at_step(2);
        let (id, revision) = (request.id(), Revision(1));
        me.journal.apply(&Entry::StepBegun { request: id.clone(), step: 2, attempt: 1, revision });
        let boot_id = "b".to_owned();
        me.journal.apply(&Entry::ProcessStarted { version: version(V1), boot_id, pid: 1 });
        let again = Move::Run { request: id, step: 2, attempt: 2 };
        assert_eq!(decide(&cluster, &me), (17, again));
    }
}

mod row_18 {
    use super::*;

    #[test]
    fn what_is_done_is_followed_by_the_next_step_and_the_last_by_completion() {
        for (step, next, kind) in
            [(1, 2, PostKind::Running), (2, 3, PostKind::Running), (3, 3, PostKind::Complete)]
        {
            let (cluster, mut me, request) = at_step(step);
            me.journal.apply(&Entry::StepDone { request: request.id(), step });
            let post = posts(&cluster, &me, 18);
            assert_eq!((post.step, post.kind), (next, kind));
        }
    }

    #[test]
    fn a_post_compares_the_request_and_the_own_status_and_keeps_unknown_fields() {
        let (mut cluster, mut me, request) = at_step(1);
        let mut known = status(&request, 1, Condition::Running);
        known.unknown.insert("later".into(), true.into());
        cluster.put(Key::Status(lrn(0)), &known);
        me.journal.apply(&Entry::StepDone { request: request.id(), step: 1 });
        let (view, decided) = (cluster.view(), decide(&cluster, &me).1);
        let write = StatusWrite { now: at(9_000), changes: vec![], steps: vec![] };
        let txn = decided.txn(&view, &me, &write).expect("it is written");
        for compare in [
            Compare::unchanged(&Key::Request, view.request.mod_revision()),
            Compare::unchanged(&Key::Status(lrn(0)), view.statuses[&lrn(0)].mod_revision),
            Compare::exists(&Key::BootServer(lrn(0))),
        ] {
            assert!(txn.compares.contains(&compare), "{compare:?}");
        }
        for spoil in [
            cluster.clone().request(&stopped(&request, false)),
            cluster.clone().status(0, &request, 1, Condition::Running),
            cluster.clone().delete(Key::BootServer(lrn(0))),
        ] {
            assert!(!spoil.commit(&txn));
        }
        assert!(cluster.commit(&txn));
        let after = cluster.view().statuses[&lrn(0)].value.clone();
        assert_eq!((after.step, after.unknown), (2, known.unknown));
    }
}

mod fences {
    use super::*;

    #[test]
    fn the_same_move_goes_on() {
        let (cluster, mut me, request) = at_step(2);
        me.doing = running(&request, 2);
        assert_eq!(fence(&cluster.view(), &me), Fence::Go);
    }

    #[test]
    fn a_stop_an_abort_another_request_or_none_cancels() {
        let (cluster, mut me, request) = at_step(2);
        me.doing = running(&request, 2);
        let other = UpdateRequest { started_at: at(7_000), ..request.clone() };
        for etcd in [
            cluster.clone().request(&stopped(&request, false)),
            cluster.clone().put(Key::Status(lrn(1)), &aborted(&request, 2, 1, "it broke")),
            cluster.clone().request(&other),
            cluster.clone().delete(Key::Request),
        ] {
            assert!(matches!(fence(&etcd.view(), &me), Fence::Cancel(_)));
        }
    }

    #[test]
    fn an_install_is_cancelled_by_an_abort_that_came_after_its_decision() {
        let request = request(&[0, 1]);
        let mut cluster = Cluster::of(&[0, 1]);
        cluster.request(&request).status(0, &request, 1, Condition::Running);
        let mut me = local(1, "0.9.0");
        me.doing = Some(Doing::Install { request: request.id() });
        assert_eq!(fence(&cluster.view(), &me), Fence::Go);
        cluster.put(Key::Status(lrn(0)), &aborted(&request, 1, 0, "the bad package"));
        assert!(matches!(fence(&cluster.view(), &me), Fence::Cancel(_)));
    }

    #[test]
    fn what_is_not_to_be_believed_waits() {
        let (cluster, mut me, request) = at_step(2);
        me.doing = running(&request, 2);
        me.journal.mark = Mark { cluster_id: 1, revision: Revision(9_999), epoch: 0 };
        let Fence::Wait(why) = fence(&cluster.view(), &me) else { panic!("it did not wait") };
        assert!(why.contains("restored from a backup"), "{why}");
    }

    #[test]
    fn a_protocol_error_beside_a_running_step_ends_it() {
        let (mut cluster, mut me, request) = at_step(3);
        me.doing = running(&request, 3);
        cluster.status(1, &request, 1, Condition::Running);
        assert_eq!(fence(&cluster.view(), &me), Fence::Cancel("post comes first".into()));
    }
}

mod operators {
    use super::*;

    fn order() -> Order {
        Order { by: "ops".into(), reason: "because".into(), now: at(8_000) }
    }

    #[track_caller]
    fn refused<T: std::fmt::Debug>(result: Result<T, Refusal>) -> Refusal {
        result.expect_err("it should have been refused")
    }

    #[test]
    fn stop_says_who_and_why_and_is_refused_where_it_would_do_nothing() {
        let (mut cluster, _, request) = at_step(2);
        let txn = operator::stop(&cluster.view(), &order()).expect("it runs");
        let mut raced = cluster.clone();
        assert!(!raced.request(&request).commit(&txn), "the request changed in the meantime");
        assert!(cluster.commit(&txn));
        let note = cluster.view().current().and_then(|now| now.stopped.clone()).expect("a note");
        assert_eq!((note.by.as_str(), note.leader), ("ops", false));
        let again = operator::stop(&cluster.view(), &order());
        assert!(matches!(refused(again), Refusal::AlreadySo(_)));
        let nothing = operator::stop(&Cluster::of(&[0]).view(), &order());
        assert!(matches!(refused(nothing), Refusal::Absent(_)));
        let done = operator::stop(&cluster.finished(&request).view(), &order());
        assert!(matches!(refused(done), Refusal::AlreadySo(_)));
        cluster.bytes(&Key::Request, "{");
        let unreadable = refused(operator::stop(&cluster.view(), &order())).to_string();
        assert!(unreadable.contains("recover --force"), "{unreadable}");
    }

    #[test]
    fn an_operators_stop_takes_a_superseding_stop_over() {
        let (mut cluster, _, request) = at_step(2);
        let ending = Some(neco_schema::Ending::Superseded);
        cluster.request(&UpdateRequest { ending, ..stopped(&request, true) });
        let txn = operator::stop(&cluster.view(), &order()).expect("it can be taken over");
        assert!(cluster.commit(&txn));
        let view = cluster.view();
        assert_eq!(view.current().and_then(|now| now.ending.clone()), None);
    }

    /// Stopped, and both have settled.
    fn settled() -> (Cluster, UpdateRequest) {
        let (mut cluster, _, request) = at_step(2);
        cluster.request(&stopped(&request, false));
        for number in [0, 1] {
            cluster.status(number, &request, 2, Condition::NotRunning);
        }
        (cluster, request)
    }

    fn recover(cluster: &Cluster, force: bool) -> Result<Txn, Refusal> {
        operator::recover(&cluster.view(), Recovery { force, retry: false }, &order())
    }

    #[test]
    fn recover_wipes_exactly_what_the_original_wipes_and_records_the_end() {
        let (mut cluster, request) = settled();
        let contents = r#"{"version":"1.0.0","success":false}"#;
        cluster.bytes(&Key::Contents("sabakan".into()), contents);
        let txn = recover(&cluster, false).expect("all have settled");
        let mut raced = cluster.clone();
        assert!(!raced.request(&stopped(&request, false)).commit(&txn));
        assert!(cluster.commit(&txn));
        let left: Vec<&str> = cluster
            .keys()
            .into_iter()
            .filter(|key| key.starts_with("status/") || key.starts_with("contents/"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
        let view = cluster.view();
        assert!(view.history.contains_key(&(request.started_at, request.id())));
        assert_eq!((view.registered.len(), view.alive.len(), view.plans.len()), (2, 2, 0));
        assert!(view.epoch > 0);
    }

    #[test]
    fn recover_waits_for_living_members_that_have_not_settled_or_are_busy() {
        let (cluster, request) = settled();
        let running = cluster.clone().status(1, &request, 2, Condition::Running).clone();
        let absent = cluster.clone().delete(Key::Status(lrn(1))).clone();
        let busy = cluster.clone().alive(1, V1, &["group vault"]).clone();
        for cluster in [running, absent, busy] {
            let Refusal::NotYet { servers, .. } = refused(recover(&cluster, false)) else {
                panic!("it should wait");
            };
            assert_eq!(servers, lrns(&[1]));
            assert!(recover(&cluster, true).is_ok(), "--force does not wait");
            // The dead are not waited for.
            let mut dead = cluster;
            assert!(recover(dead.dies(1), false).is_ok());
        }
    }

    #[test]
    fn recover_is_refused_while_the_update_runs_and_where_there_is_none() {
        let (cluster, _, _) = at_step(2);
        assert!(matches!(refused(recover(&cluster, false)), Refusal::Unsafe(_)));
        assert!(recover(&cluster, true).is_ok());
        assert!(matches!(refused(recover(&Cluster::of(&[0]), false)), Refusal::Absent(_)));
        // After a restore without a request there is nothing to remove, but an epoch to begin.
        assert!(recover(&Cluster::of(&[0]), true).is_ok());
    }

    #[test]
    fn recover_of_an_unreadable_request_waits_for_the_busy_alone() {
        let (mut cluster, _, request) = at_step(2);
        cluster.bytes(&Key::Request, "{").alive(1, V1, &["install of 1.0.0"]);
        cluster.status(0, &request, 2, Condition::Running);
        let Refusal::NotYet { servers, .. } = refused(recover(&cluster, false)) else {
            panic!("it should wait");
        };
        assert_eq!(servers, lrns(&[1]));
        cluster.alive(1, V1, &[]);
        let txn = recover(&cluster, false).expect("nobody is busy");
        assert!(cluster.commit(&txn));
        assert!(cluster.view().current().is_none());
    }

    #[test]
    fn recover_raises_the_epoch_past_any_that_a_restored_etcd_forgot() {
        let (mut cluster, _) = settled();
        cluster.put(Key::Epoch, &Control { epoch: Some(9_000), ..Control::default() });
        let txn = recover(&cluster, false).expect("all have settled");
        assert!(cluster.commit(&txn));
        assert_eq!(cluster.view().epoch, 9_001, "one more");
        // A restored backup knows no epoch: the wall clock is later than what was counted before.
        let (mut cluster, _) = settled();
        let txn = recover(&cluster, false).expect("all have settled");
        assert!(cluster.commit(&txn));
        assert_eq!(cluster.view().epoch, 8_000);
    }

    #[test]
    fn an_aborted_version_is_forgiven_by_retry_alone() {
        let (mut cluster, request) = settled();
        cluster.put(Key::Status(lrn(0)), &aborted(&request, 2, 0, "it broke"));
        for retry in [false, true] {
            let mut cluster = cluster.clone();
            let how = Recovery { force: false, retry };
            let txn = operator::recover(&cluster.view(), how, &order()).expect("all have closed");
            assert!(cluster.commit(&txn));
            let aborted = cluster.view().seen[&version(V1)].value.aborted.clone();
            assert_eq!(aborted.is_some(), !retry);
        }
    }

    #[test]
    fn leave_takes_exactly_its_own_records() {
        let request = request(&[1, 10]);
        let mut cluster = Cluster::of(&[1, 10, 2]);
        cluster.request(&request).all_planned(&request).all_at(&request, 1);
        for number in [1, 10] {
            cluster.bytes(&Key::InstalledContainer(lrn(number), "etcd".into()), "3.5.15.1");
            cluster.bytes(&Key::InstalledDeb(lrn(number), "etcdpasswd".into()), "v1");
        }
        cluster.dies(1);
        let before: Vec<String> = cluster.keys().into_iter().map(str::to_owned).collect();
        let txn = operator::leave(&cluster.view(), lrn(1), false, &order()).expect("it is down");
        assert!(cluster.commit(&txn));
        let after = cluster.keys();
        let gone: Vec<&String> =
            before.iter().filter(|key| !after.contains(&key.as_str())).collect();
        assert_eq!(
            gone,
            [
                "info/bootservers/1",
                "install/1/containers/etcd",
                "install/1/debs/etcdpasswd",
                "plan/1",
                "status/bootservers/1",
            ]
        );
        assert!(!cluster.commit(&txn), "it has left");
    }

    #[test]
    fn leave_is_refused_for_the_living_the_last_and_the_unknown() {
        let mut cluster = Cluster::of(&[0, 1]);
        let leave = |cluster: &Cluster, number, force| {
            operator::leave(&cluster.view(), lrn(number), force, &order())
        };
        assert!(matches!(refused(leave(&cluster, 7, true)), Refusal::Absent(_)));
        let alive = refused(leave(&cluster, 0, false)).to_string();
        assert!(alive.contains("--force"), "{alive}");
        assert!(leave(&cluster, 0, true).is_ok());
        cluster.leaves(1);
        assert!(matches!(refused(leave(&cluster, 0, true)), Refusal::Unsafe(_)));
    }

    #[test]
    fn a_turn_is_not_taken_from_the_living() {
        let (mut cluster, _, request) = at_step(3);
        let turn = Turn { lrn: lrn(1), request: request.id(), since: at(1), unknown: Map::new() };
        let release = |cluster: &Cluster, force| {
            operator::release_turn(&cluster.view(), "etcd", force, &order())
        };
        assert!(matches!(refused(release(&cluster, true)), Refusal::Absent(_)));
        cluster.put(Key::Turn("etcd".into()), &turn);
        let alive = refused(release(&cluster, false)).to_string();
        assert!(alive.contains("boot server 1") && alive.contains("--force"), "{alive}");
        assert!(release(&cluster, true).is_ok());
        cluster.dies(1);
        let txn = release(&cluster, false).expect("its holder is dead");
        assert!(cluster.commit(&txn));
        assert!(cluster.view().turns.is_empty());
    }

    #[test]
    fn a_turn_that_cannot_be_read_is_released_by_force_alone() {
        let (mut cluster, _, _) = at_step(3);
        cluster.bytes(&Key::Turn("etcd".into()), "{");
        let release = |cluster: &Cluster, force| {
            operator::release_turn(&cluster.view(), "etcd", force, &order())
        };
        let why = refused(release(&cluster, false)).to_string();
        assert!(why.contains("key turn/etcd cannot be read") && why.contains("--force"), "{why}");
        let txn = release(&cluster, true).expect("a transaction");
        let mut taken_again = cluster.clone();
        taken_again.delete(Key::Turn("etcd".into())).bytes(&Key::Turn("etcd".into()), "{");
        assert!(!taken_again.commit(&txn), "another turn");
        assert!(cluster.commit(&txn));
        assert!(cluster.view().problems.is_empty());
    }

    #[test]
    fn pause_and_resume_change_one_key_beside_their_notes_and_say_when_it_is_so_already() {
        let (mut cluster, _, _) = at_step(2);
        assert!(matches!(
            refused(operator::resume(&cluster.view(), &order())),
            Refusal::AlreadySo(_)
        ));
        let txn = operator::pause(&cluster.view(), &order()).expect("nothing is paused");
        let before = cluster.clone();
        assert!(cluster.commit(&txn));
        let again = refused(operator::pause(&cluster.view(), &order())).to_string();
        assert_eq!(again, "already paused by ops: because");
        let txn = operator::resume(&cluster.view(), &order()).expect("it is paused");
        assert!(cluster.commit(&txn));
        cluster.kvs.retain(|key, _| !key.starts_with(neco_schema::prefixes::ORDER));
        assert_eq!(before.kvs, cluster.kvs);
    }

    #[test]
    fn every_order_says_who_gave_it_and_why_in_the_transaction_that_carries_it_out() {
        let (mut cluster, _, request) = at_step(3);
        let turn = Turn { lrn: lrn(1), request: request.id(), since: at(1), unknown: Map::new() };
        cluster.put(Key::Turn("etcd".into()), &turn);
        let wish = operator::Wish {
            version: version(V2),
            allow_downgrade: false,
            allow_no_way_back: true,
        };
        type Give<'a> = &'a dyn Fn(&View, &Order) -> Result<Txn, Refusal>;
        let recovery = Recovery { force: true, retry: false };
        let orders: [(&str, Give<'_>); 9] = [
            ("pause", &operator::pause),
            ("resume", &operator::resume),
            ("update --to 1.1.0 --allow-no-way-back", &|view, by| {
                operator::update_to(view, &wish, by)
            }),
            ("update --unpin", &operator::unpin),
            ("withdraw 1.1.0", &|view, by| operator::withdraw(view, &version(V2), by)),
            ("turn release etcd --force (held by boot server 1)", &|view, by| {
                operator::release_turn(view, "etcd", true, by)
            }),
            ("leave 1 --force", &|view, by| operator::leave(view, lrn(1), true, by)),
            ("stop", &operator::stop),
            ("recover --force", &|view, by| operator::recover(view, recovery, by)),
        ];
        for (number, (words, give)) in orders.into_iter().enumerate() {
            let by = Order { reason: format!("reason {number}"), ..order() };
            let txn = give(&cluster.view(), &by).expect(words);
            assert!(cluster.commit(&txn), "{words}");
            let last = cluster.view().orders.last().copied().expect(words);
            let note = OrderNote::decode(&cluster.kvs[&Key::Order(last).to_string()].value);
            let note = note.expect("a note");
            let told = (note.order.as_str(), note.by.as_str(), note.reason.as_str());
            assert_eq!(told, (words, "ops", by.reason.as_str()));
        }
        // The operator's clock stood still.
        assert_eq!(cluster.view().orders.len(), orders.len());
    }

    #[test]
    fn withdrawn_and_older_versions_are_refused_as_a_target() {
        let mut cluster = Cluster::of(&[0]);
        cluster.release(V1);
        let wish = |text: &str, allow_downgrade| operator::Wish {
            version: version(text),
            allow_downgrade,
            allow_no_way_back: false,
        };
        let older = operator::update_to(&cluster.view(), &wish("0.9.0", false), &order());
        assert!(refused(older).to_string().contains("--allow-downgrade"));
        assert!(operator::update_to(&cluster.view(), &wish("0.9.0", true), &order()).is_ok());
        let txn = operator::withdraw(&cluster.view(), &version(V2), &order()).expect("it stands");
        assert!(cluster.commit(&txn));
        let again = operator::withdraw(&cluster.view(), &version(V2), &order());
        assert!(matches!(refused(again), Refusal::AlreadySo(_)));
        let target = operator::update_to(&cluster.view(), &wish(V2, false), &order());
        assert!(refused(target).to_string().contains("withdrawn"));
        assert!(matches!(
            refused(operator::unpin(&cluster.view(), &order())),
            Refusal::AlreadySo(_)
        ));
    }
}

#[test]
fn digests_are_shortened_in_messages() {
    let (mut cluster, mut me, request) = at_step(1);
    me.recipe.digest = RecipeDigest("recipe-one".into());
    cluster.plan(1, &request, "0123456789abcdef");
    assert!(aborts(&cluster, &me, 12).cause.ends_with("1 has 0123456789ab"));
}
