//! What the leader does: the acceptance cases of the original, then every row of the table of `docs/update.md`.

mod support;

use std::time::Duration;

use neco_plan::{
    Action, Elapsed, LeaderContext, Limits, NewRequest, Waiting, Window, choose_target, next_action,
};
use neco_schema::{
    Compare, Condition, Ending, HistoryRecord, Key, Op, Outcome, Progress, RequestKind, Revision,
    Seen, Target, Timestamp, UpdateRequest,
};
use support::*;

const HOUR: Duration = Duration::from_secs(3_600);

fn limits() -> Limits {
    Limits { request: HOUR, step: Duration::from_secs(1_200), window: Window::Open, probes: vec![] }
}

fn action(cluster: &Cluster) -> Action {
    next_action(&cluster.view(), &limits(), &Elapsed::default())
}

fn elapsed(request: Duration, step: Duration) -> Elapsed {
    Elapsed { request, step }
}

#[track_caller]
fn requested(action: Action) -> NewRequest {
    match action {
        Action::Request(request) => request,
        other => panic!("expected a request, found {other:?}"),
    }
}

#[track_caller]
fn stop_of(action: Action) -> (Option<Ending>, String) {
    match action {
        Action::Stop { ending, cause, .. } => (ending, cause),
        other => panic!("expected a stop, found {other:?}"),
    }
}

#[track_caller]
fn waiting(action: Action) -> Waiting {
    match action {
        Action::Wait(waiting) => waiting,
        other => panic!("expected to wait, found {other:?}"),
    }
}

#[track_caller]
fn preflight(action: Action) -> String {
    match waiting(action) {
        Waiting::Preflight { problems } => problems.join("; "),
        other => panic!("expected preflight problems, found {other:?}"),
    }
}

fn context() -> LeaderContext {
    LeaderContext {
        leadership: Compare::exists(&Key::Candidate { election: "updater".into(), lease: 7 }),
        now: at(5_000),
        host: "boot-0".into(),
        package: None,
    }
}

/// The nine cases that the original must pass: a cluster of servers that know nothing of us, timeout one hour.
mod original {
    use super::*;

    #[test]
    fn wait_latest() {
        // The original waits for a release even beside an aborted request. Here only what needs a release waits for
        // one: without a request there is nothing else to do ...
        let mut cluster = Cluster::of_go(&[0, 1]);
        assert_eq!(action(&cluster).name(), "wait-for-info");
        // ... and with one its members are waited for, or it is stopped when one aborts.
        let request = go_request(&[0, 1]);
        cluster.request(&request);
        assert_eq!(action(&cluster).name(), "wait-for-workers");
        cluster.status(0, &request, 1, Condition::Abort);
        assert_eq!(action(&cluster).name(), "request-stop");
    }

    #[test]
    fn recover() {
        let mut cluster = Cluster::of_go(&[0, 1]);
        cluster.release(V1);
        let request = requested(action(&cluster));
        assert_eq!((request.version, request.servers), (version(V1), lrns(&[0, 1])));
        // Ours looks first whether the servers can take it.
        cluster.alive(0, V1, &["restart of etcd"]);
        assert!(preflight(action(&cluster)).contains("boot server 0 is busy: restart of etcd"));
    }

    #[test]
    fn stopped() {
        let mut cluster = Cluster::of_go(&[0, 1]);
        let request = UpdateRequest { stop: true, ..go_request(&[0, 1]) };
        cluster.release(V1).request(&request);
        assert_eq!(action(&cluster).name(), "wait-for-user-recovery");
    }

    #[test]
    fn aborted() {
        let mut cluster = Cluster::of_go(&[0, 1]);
        let request = go_request(&[0, 1]);
        let mut status = status(&request, 2, Condition::Abort);
        (status.request, status.message) = (None, "it broke".into());
        cluster.release(V1).request(&request).put(Key::Status(lrn(0)), &status);
        // Ours says where it began.
        let (ending, cause) = stop_of(action(&cluster));
        assert_eq!((ending, cause.as_str()), (None, "boot server 0 aborted in step 2: it broke"));
        // An abort of somebody who is no member stops the original, and not ours.
        cluster.delete(Key::Status(lrn(0))).put(Key::Status(lrn(7)), &status);
        assert_eq!(action(&cluster).name(), "wait-for-workers");
    }

    #[test]
    fn timeout() {
        let mut cluster = Cluster::of_go(&[0, 1]);
        cluster.release(V1).request(&go_request(&[0, 1]));
        // By counted time, not by the wall clock: the request's own time plays no part.
        let late = elapsed(2 * HOUR, Duration::ZERO);
        let (_, cause) = stop_of(next_action(&cluster.view(), &limits(), &late));
        // Go peers do not wait for the first server.
        assert!(cause.ends_with("boot servers 0, 1 have not begun"), "{cause}");
    }

    #[test]
    fn not_completed() {
        let mut cluster = Cluster::of_go(&[0, 1]);
        cluster.release(V1).request(&go_request(&[0, 1]));
        let expected = Waiting::Workers { step: 0, behind: lrns(&[0, 1]) };
        assert_eq!(waiting(action(&cluster)), expected);
    }

    #[test]
    fn reconfigure() {
        let mut cluster = Cluster::of_go(&[0, 1, 2]);
        cluster.release(V1).request(&go_request(&[0, 1])).go_finished(&go_request(&[0, 1]));
        let action = action(&cluster);
        assert_eq!(action.name(), "reconfigure");
        assert_eq!(requested(action).servers, lrns(&[0, 1, 2]));
    }

    #[test]
    fn update() {
        let mut cluster = Cluster::of_go(&[0, 1]);
        cluster.release(V2).request(&go_request(&[0, 1])).go_finished(&go_request(&[0, 1]));
        let action = action(&cluster);
        assert_eq!(action.name(), "request-update");
        assert_eq!(requested(action).version, version(V2));
    }

    #[test]
    fn completed() {
        let mut cluster = Cluster::of_go(&[0, 1]);
        cluster.release(V1).request(&go_request(&[0, 1])).go_finished(&go_request(&[0, 1]));
        // The original calls this "wait for info" too.
        assert_eq!(waiting(action(&cluster)), Waiting::Idle);
        // An older "latest" makes the original go back; ours asks for an operator's word.
        cluster.delete(Key::Seen(version(V1))).release("0.9.0");
        assert_eq!(waiting(action(&cluster)), Waiting::Idle);
    }
}

/// The rows of our table.
mod rows {
    use super::*;

    #[test]
    fn a_release_is_noted_before_anything_else() {
        let mut cluster = Cluster::of(&[0, 1]);
        cluster.bytes(&Key::Release, V1);
        assert_eq!(action(&cluster), Action::NoteSeen { version: version(V1) });
    }

    #[test]
    fn a_note_that_cannot_be_read_is_written_anew() {
        let mut cluster = Cluster::of(&[0, 1]);
        cluster.bytes(&Key::Candidate { election: "updater".into(), lease: 7 }, "boot-0");
        cluster.release(V1).bytes(&Key::Seen(version(V1)), "{");
        let note = action(&cluster);
        assert_eq!(note, Action::NoteSeen { version: version(V1) });
        let txn = note.txn(&cluster.view(), &context()).expect("a note is written");
        assert!(cluster.commit(&txn), "it is refused for ever");
        assert_eq!(cluster.view().seen[&version(V1)].value.at, at(5_000));
        assert_eq!(requested(action(&cluster)).version, version(V1));
        // Whoever mends it first wins.
        assert!(!cluster.commit(&txn));
    }

    #[test]
    fn row_1_a_finished_request_is_recorded_once() {
        let request = request(&[0, 1]);
        let mut cluster = Cluster::of(&[0, 1]);
        cluster.release(V2).request(&request).finished(&request);
        let history = Key::History(request.started_at, request.id());
        cluster.delete(history.clone());
        assert_eq!(action(&cluster), Action::Record { request: request.id() });
        let txn = action(&cluster).txn(&cluster.view(), &context()).expect("a record is written");
        cluster.bytes(&Key::Candidate { election: "updater".into(), lease: 7 }, "boot-0");
        assert!(cluster.commit(&txn));
        let record = cluster.view().history[&(request.started_at, request.id())].clone();
        assert_eq!(record.expect("a record").outcome, Outcome::Completed);
        assert_eq!(action(&cluster).name(), "request-update");
    }

    #[test]
    fn row_1_a_stop_beside_the_last_completion_is_void() {
        let request = request(&[0, 1]);
        let mut cluster = Cluster::of(&[0, 1]);
        cluster.release(V2).request(&stopped(&request, false)).finished(&request);
        assert_eq!(requested(action(&cluster)).version, version(V2));
    }

    #[test]
    fn row_2_without_a_release_and_a_request_there_is_nothing_to_do() {
        assert_eq!(waiting(action(&Cluster::of(&[0, 1]))), Waiting::Release);
    }

    #[test]
    fn row_3_the_first_request_lists_servers_as_the_original_does() {
        let mut cluster = Cluster::of(&[0, 1, 2, 10]);
        cluster.release(V1);
        let request = requested(action(&cluster));
        assert_eq!(request.servers, lrns(&[0, 1, 10, 2]));
        assert_eq!((request.kind, request.replaces), (RequestKind::Release, None));
    }

    #[test]
    fn row_3_waits_for_servers_probes_and_fitness() {
        let mut cluster = Cluster::of(&[0, 1]);
        cluster.release(V2).request(&request(&[0, 1])).finished(&request(&[0, 1])).dies(1);
        cluster.delete(Key::Request);
        assert_eq!(preflight(action(&cluster)), "boot server 1 is not alive");
        cluster.alive(1, V1, &[]);
        let mut alive = cluster.view().alive[&lrn(1)].value.clone();
        alive.unfit = vec!["the disk is full".into()];
        cluster.put(Key::Alive(lrn(1)), &alive);
        assert_eq!(preflight(action(&cluster)), "boot server 1: the disk is full");
        cluster.alive(1, V1, &[]);
        let sealed = Limits { probes: vec!["Vault is sealed".into()], ..limits() };
        let found = next_action(&cluster.view(), &sealed, &Elapsed::default());
        assert_eq!(preflight(found), "Vault is sealed");
        assert_eq!(requested(action(&cluster)).version, version(V2));
    }

    #[test]
    fn row_3_does_not_go_back_unasked() {
        let mut cluster = Cluster::of(&[0]);
        cluster.release(V1).alive(0, V2, &[]);
        assert!(preflight(action(&cluster)).contains("--allow-downgrade"));
    }

    #[test]
    fn row_3_asks_nobody_who_never_lived_to_be_alive() {
        let mut cluster = Cluster::of_go(&[0, 1]);
        cluster.release(V1);
        assert_eq!(requested(action(&cluster)).servers, lrns(&[0, 1]));
        // Without servers there is nobody to ask.
        let mut nobody = Cluster::of(&[]);
        nobody.release(V1);
        assert_eq!(preflight(action(&nobody)), "no boot server is registered");
    }

    /// A request by 0 and 1, superseded because 1 left; 2 has joined.
    fn superseded() -> (Cluster, UpdateRequest) {
        let request = request(&[0, 1]);
        let mut cluster = Cluster::of(&[0, 2]);
        let ending = Some(Ending::Superseded);
        let stop = UpdateRequest { ending, ..stopped(&request, true) };
        cluster.release(V1).request(&stop).status(0, &request, 2, Condition::NotRunning);
        (cluster, request)
    }

    #[test]
    fn row_4_a_superseded_request_is_followed_by_one_for_the_others() {
        let (cluster, old) = superseded();
        let request = requested(action(&cluster));
        assert_eq!(
            (request.kind.clone(), request.replaces.clone()),
            (RequestKind::Reconfigure, Some(old.id()))
        );
        assert_eq!(
            (request.version.clone(), request.servers.clone()),
            (version(V1), lrns(&[0, 2]))
        );
        let txn = Action::Request(request).txn(&cluster.view(), &context()).expect("it is written");
        let mut after = cluster.clone();
        after.bytes(&Key::Candidate { election: "updater".into(), lease: 7 }, "boot-0");
        assert!(after.commit(&txn));
        let view = after.view();
        let record = view.history[&(old.started_at, old.id())].clone().expect("a record");
        assert_eq!(record.outcome, Outcome::Superseded);
        assert!(view.statuses.is_empty(), "old statuses go with the old request");
    }

    #[test]
    fn row_4_waits_for_old_members_that_live_and_new_ones_that_do_not() {
        let (mut cluster, request) = superseded();
        cluster.status(0, &request, 2, Condition::Running);
        assert_eq!(waiting(action(&cluster)), Waiting::Settling { missing: lrns(&[0]) });
        cluster.status(0, &request, 2, Condition::NotRunning).alive(0, V1, &["group vault"]);
        assert_eq!(waiting(action(&cluster)), Waiting::Settling { missing: lrns(&[0]) });
        // The one that left lives on and has not settled.
        cluster.alive(0, V1, &[]).alive(1, V1, &[]);
        assert_eq!(waiting(action(&cluster)), Waiting::Settling { missing: lrns(&[1]) });
        // A new one is busy; then it is gone.
        cluster.dies(1).alive(2, V1, &["step 1"]);
        assert_eq!(waiting(action(&cluster)), Waiting::Settling { missing: lrns(&[2]) });
        cluster.plan(2, &request, "recipe-one").dies(2);
        assert_eq!(waiting(action(&cluster)), Waiting::Settling { missing: lrns(&[2]) });
    }

    #[test]
    fn row_4_goes_back_only_if_it_was_allowed_or_is_asked_for() {
        let (mut cluster, _) = superseded();
        let made = requested(action(&cluster));
        assert!(!made.allow_downgrade);
        let pin = target(&mut cluster, V1);
        assert!(!requested(action(&cluster)).allow_downgrade);
        cluster.put(Key::Target, &Target { allow_downgrade: true, ..pin });
        assert!(requested(action(&cluster)).allow_downgrade);
    }

    #[test]
    fn row_4_makes_no_request_for_a_withdrawn_version() {
        let (mut cluster, _) = superseded();
        cluster.withdraw(V1);
        assert!(matches!(waiting(action(&cluster)), Waiting::Recovery { .. }));
        cluster.release(V2);
        let request = requested(action(&cluster));
        assert_eq!((request.version, request.servers), (version(V2), lrns(&[0, 2])));
    }

    #[test]
    fn row_5_a_newer_release_heals_a_superseded_request_that_waits_for_a_dead_server() {
        let (mut cluster, request) = superseded();
        cluster.plan(2, &request, "recipe-one").dies(2);
        assert_eq!(waiting(action(&cluster)), Waiting::Settling { missing: lrns(&[2]) });
        cluster.release(V2).alive(0, V1, &["group vault"]);
        assert_eq!(waiting(action(&cluster)), Waiting::Settling { missing: lrns(&[0, 2]) });
        cluster.alive(0, V1, &[]);
        let healing = requested(action(&cluster));
        assert_eq!(
            (healing.version, healing.servers, healing.kind),
            (version(V2), lrns(&[0, 2]), RequestKind::Release)
        );
        // A living server that is new is not cut off either.
        cluster.alive(2, V1, &["group vault"]);
        assert_eq!(waiting(action(&cluster)), Waiting::Settling { missing: lrns(&[2]) });
        // Once it is ready the reconfiguration comes first, as the table says.
        cluster.alive(2, V1, &[]);
        assert_eq!(requested(action(&cluster)).kind, RequestKind::Reconfigure);
    }

    #[test]
    fn row_5_a_newer_release_heals_an_aborted_request() {
        let request = request(&[0, 1]);
        let mut cluster = Cluster::of(&[0, 1]);
        cluster.release(V1).request(&stopped(&request, true));
        cluster.put(Key::Status(lrn(0)), &aborted(&request, 2, 0, "it broke"));
        cluster.status(1, &request, 2, Condition::Running);
        assert!(matches!(waiting(action(&cluster)), Waiting::Recovery { .. }), "row 6");
        cluster.release(V2);
        assert_eq!(waiting(action(&cluster)), Waiting::Settling { missing: lrns(&[1]) });
        cluster.put(Key::Status(lrn(1)), &aborted(&request, 2, 0, "it broke"));
        cluster.alive(1, V1, &["group vault"]);
        assert_eq!(waiting(action(&cluster)), Waiting::Settling { missing: lrns(&[1]) });
        cluster.alive(1, V1, &[]);
        let healing = requested(action(&cluster));
        assert_eq!(
            (healing.version.clone(), &healing.replaces),
            (version(V2), &Some(request.id()))
        );

        // The record, the mark on the bad version and the request are one transaction.
        let txn = Action::Request(healing).txn(&cluster.view(), &context()).expect("it is written");
        cluster.bytes(&Key::Candidate { election: "updater".into(), lease: 7 }, "boot-0");
        assert!(cluster.commit(&txn));
        let view = cluster.view();
        let record = view.history[&(request.started_at, request.id())].clone().expect("a record");
        assert_eq!(record.outcome, Outcome::Aborted);
        assert_eq!(record.origin.map(|origin| origin.cause).as_deref(), Some("it broke"));
        assert_eq!(view.seen[&version(V1)].value.aborted, Some(request.id()));
        assert_eq!(view.current().map(|current| current.version.clone()), Some(version(V2)));
    }

    #[test]
    fn row_5_a_dead_member_holds_nobody_up() {
        let request = request(&[0, 1]);
        let mut cluster = Cluster::of(&[0, 1]);
        cluster.release(V2).request(&stopped(&request, true)).dies(1);
        cluster.status(0, &request, 2, Condition::NotRunning);
        cluster.status(1, &request, 2, Condition::Running);
        assert_eq!(requested(action(&cluster)).version, version(V2));
    }

    #[test]
    fn row_5_neither_an_older_nor_a_withdrawn_release_heals() {
        let request = request(&[0, 1]);
        let mut cluster = Cluster::of(&[0, 1]);
        cluster.release("0.9.0").request(&stopped(&request, true));
        for number in [0, 1] {
            cluster.status(number, &request, 2, Condition::NotRunning);
        }
        assert!(matches!(waiting(action(&cluster)), Waiting::Recovery { .. }));
        cluster.release(V2).withdraw(V2);
        // The one before it is older than what was requested; a withdrawal says that going back is right.
        let back = requested(action(&cluster));
        assert_eq!((back.version, back.allow_downgrade), (version("0.9.0"), true));
    }

    #[test]
    fn row_6_names_who_stopped_it() {
        let request = request(&[0, 1]);
        let mut cluster = Cluster::of(&[0, 1]);
        cluster.release(V1).request(&stopped(&request, false));
        let expected = Waiting::Recovery { cause: "by somebody: because".into() };
        assert_eq!(waiting(action(&cluster)), expected);
    }

    #[test]
    fn row_7_a_member_that_aborts_stops_the_request_with_the_first_cause() {
        let request = request(&[0, 1]);
        let mut cluster = Cluster::of(&[0, 1]);
        cluster.release(V1).request(&request);
        cluster.put(Key::Status(lrn(1)), &aborted(&request, 2, 1, "the disk is full"));
        cluster.put(Key::Status(lrn(0)), &aborted(&request, 2, 1, "the disk is full"));
        let (ending, cause) = stop_of(action(&cluster));
        assert_eq!(ending, None);
        assert_eq!(cause, "boot server 1 aborted in step 2: the disk is full");
    }

    #[test]
    fn row_7_both_deadlines_stop_and_name_who_is_behind() {
        let request = request(&[0, 1]);
        let mut cluster = Cluster::of(&[0, 1]);
        cluster.release(V1).request(&request).status(0, &request, 2, Condition::Running);
        cluster.status(1, &request, 1, Condition::Running);
        let look = |elapsed| next_action(&cluster.view(), &limits(), &elapsed);
        assert_eq!(look(elapsed(HOUR, Duration::from_secs(1_200))).name(), "wait-for-workers");
        let (_, cause) = stop_of(look(elapsed(HOUR + Duration::from_nanos(1), Duration::ZERO)));
        assert!(
            cause.starts_with("not finished within")
                && cause.contains("boot server 1 is in step 1"),
            "{cause}"
        );
        let (_, cause) = stop_of(look(elapsed(HOUR, Duration::from_secs(1_201))));
        assert!(
            cause.starts_with("no progress within") && cause.contains("boot server 1 is in step 1"),
            "{cause}"
        );
    }

    #[test]
    fn row_7_a_deadline_names_the_first_server_alone_while_all_wait_for_it() {
        let request = request(&[0, 1]);
        let mut cluster = Cluster::of(&[0, 1]);
        cluster.release(V1).request(&request);
        let first = too_late(&cluster);
        assert!(first.ends_with(": boot server 0, which goes first, has not begun"), "{first}");
        cluster.put(Key::Progress(lrn(0)), &progress(&request, 0, "fetching 1.0.0"));
        let busy = too_late(&cluster);
        let word = ": boot server 0, which goes first, installs 1.0.0: fetching 1.0.0";
        assert!(busy.ends_with(word), "{busy}");
        cluster.status(0, &request, 1, Condition::Running);
        let other = too_late(&cluster);
        assert!(other.ends_with(": boot server 1 has not begun"), "{other}");
    }

    #[test]
    fn row_7_a_deadline_names_the_dead_in_any_case() {
        let request = request(&[0, 1, 2]);
        let mut cluster = Cluster::of(&[0, 1, 2]);
        cluster.release(V1).request(&request);
        for dead in [0, 2] {
            cluster.plan(dead, &request, "recipe-one").dies(dead);
        }
        let first = too_late(&cluster);
        let word = ": boot server 0, which goes first, has no living worker; \
                    boot server 2 has no living worker";
        assert!(first.ends_with(word), "{first}");
        // Who has the version already goes on without the first server.
        cluster.status(1, &request, 1, Condition::Running);
        let both = too_late(&cluster);
        assert!(both.ends_with(": boot servers 0, 2 have no living worker"), "{both}");
        let mut working = Cluster::of(&[0, 1, 2]);
        working.release(V1).request(&request).all_at(&request, 2).dies(2);
        working.put(Key::Progress(lrn(1)), &progress(&request, 2, "pulling serf"));
        let all = too_late(&working);
        let word = ": boot server 0 is in step 2; boot server 1 is in step 2: pulling serf; \
                    boot server 2 has no living worker";
        assert!(all.ends_with(word), "{all}");
    }

    fn progress(request: &UpdateRequest, step: u32, doing: &str) -> Progress {
        Progress {
            request: request.id(),
            step,
            attempt: 1,
            doing: doing.to_owned(),
            bytes: None,
            total_bytes: None,
            since: at(1),
            unknown: Default::default(),
        }
    }

    /// The cause of a stop at the request's deadline.
    fn too_late(cluster: &Cluster) -> String {
        let late = elapsed(HOUR + Duration::from_nanos(1), Duration::ZERO);
        stop_of(next_action(&cluster.view(), &limits(), &late)).1
    }

    #[test]
    fn row_7_a_withdrawn_version_is_stopped_where_it_runs() {
        let request = request(&[0, 1]);
        let mut cluster = Cluster::of(&[0, 1]);
        cluster.release(V1).request(&request).all_at(&request, 2).withdraw(V1);
        assert_eq!(stop_of(action(&cluster)), (None, "1.0.0 was withdrawn".into()));
    }

    #[test]
    fn row_8_a_member_that_left_supersedes_the_request() {
        let request = request(&[0, 1]);
        let mut cluster = Cluster::of(&[0, 1]);
        cluster.release(V1).request(&request).all_at(&request, 2).leaves(1);
        let (ending, cause) = stop_of(action(&cluster));
        assert_eq!((ending, cause.as_str()), (Some(Ending::Superseded), "boot servers 1 left"));
        // An abort is the stronger word: it needs a person.
        cluster.put(Key::Status(lrn(0)), &aborted(&request, 2, 0, "it broke"));
        assert_eq!(stop_of(action(&cluster)).0, None);
        // Whoever joined waits for the end.
        let mut joined = Cluster::of(&[0, 1, 2]);
        joined.release(V1).request(&request).all_at(&request, 2);
        assert_eq!(action(&joined).name(), "wait-for-workers");
    }

    #[test]
    fn row_9_names_the_lowest_step_and_who_stands_there() {
        let request = request(&[0, 1]);
        let mut cluster = Cluster::of(&[0, 1]);
        cluster.release(V1).request(&request).all_at(&request, 3);
        cluster.status(0, &request, 3, Condition::Complete);
        let expected = Waiting::Workers { step: 3, behind: lrns(&[1]) };
        assert_eq!(waiting(action(&cluster)), expected);
    }

    #[test]
    fn row_9_statuses_of_an_earlier_request_count_for_nothing() {
        let request = request(&[0, 1]);
        let earlier = UpdateRequest { started_at: at(1), ..request.clone() };
        let mut cluster = Cluster::of(&[0, 1]);
        cluster.release(V1).request(&request).finished(&earlier);
        let expected = Waiting::Workers { step: 0, behind: lrns(&[0, 1]) };
        assert_eq!(waiting(action(&cluster)), expected);
        cluster.put(Key::Status(lrn(0)), &aborted(&earlier, 2, 0, "it broke"));
        assert_eq!(waiting(action(&cluster)), expected);
    }

    #[test]
    fn row_10_other_servers_make_a_reconfigure_request_of_the_same_version() {
        let request = request(&[0, 1]);
        for servers in [&[0][..], &[0, 1, 2]] {
            let mut cluster = Cluster::of(servers);
            cluster.release(V2).request(&request).finished(&request);
            let made = requested(action(&cluster));
            assert_eq!((made.kind, made.version), (RequestKind::Reconfigure, version(V1)));
            assert_eq!(made.servers, lrns(servers));
        }
        // The order in which they were listed is no difference, a window no reason to wait; a dead one is.
        let mut cluster = Cluster::of(&[0, 1, 2]);
        cluster.release(V1).request(&request).finished(&request);
        let closed = Limits { window: Window::Closed(None), ..limits() };
        let made = next_action(&cluster.view(), &closed, &Elapsed::default());
        assert_eq!(made.name(), "reconfigure");
        cluster.dies(1);
        assert_eq!(preflight(action(&cluster)), "boot server 1 is not alive");
        let mut same = Cluster::of(&[1, 0]);
        same.release(V1).request(&request).finished(&request);
        assert_eq!(waiting(action(&same)), Waiting::Idle);
    }

    #[test]
    fn row_10_a_server_that_came_with_something_newer_is_taken_along_or_back() {
        // They went back to 1.0.0, and a server joins that still runs 1.1.0.
        let request = request(&[0, 1]);
        let mut cluster = Cluster::of(&[0, 1, 2]);
        cluster.release(V1).alive(2, V2, &[]).request(&request).finished(&request);
        let said = preflight(action(&cluster));
        assert!(said.contains("'necoctl update --to 1.0.0 --allow-downgrade'"), "{said}");
        // What it says helps ...
        let mut back = cluster.clone();
        let pin = target(&mut back, V1);
        assert!(preflight(action(&back)).contains("--allow-downgrade"));
        back.put(Key::Target, &Target { allow_downgrade: true, ..pin });
        let made = requested(action(&back));
        assert_eq!((made.kind, made.version), (RequestKind::Reconfigure, version(V1)));
        assert!(made.allow_downgrade);
        // ... and so does a release that is not older than anything.
        cluster.release("1.2.0");
        let made = requested(action(&cluster));
        assert_eq!((made.version, made.servers), (version("1.2.0"), lrns(&[0, 1, 2])));
        let closed = Limits { window: Window::Closed(None), ..limits() };
        let look = next_action(&cluster.view(), &closed, &Elapsed::default());
        assert!(matches!(waiting(look), Waiting::Window { .. }));
    }

    #[test]
    fn row_10_a_member_that_leaves_a_recorded_request_makes_a_reconfiguration_and_no_stop() {
        let request = request(&[0, 1, 2]);
        let mut cluster = Cluster::of(&[0, 1, 2]);
        cluster.release(V1).request(&request).finished(&request).leaves(1);
        let made = requested(action(&cluster));
        assert_eq!((made.kind, made.servers), (RequestKind::Reconfigure, lrns(&[0, 2])));
    }

    #[test]
    fn row_10_a_member_that_was_registered_anew_is_one_whose_condition_nobody_knows_is_none() {
        let request = request(&[0, 1]);
        let mut cluster = Cluster::of(&[0, 1]);
        cluster.release(V1).request(&request).finished(&request);
        cluster.status(1, &request, 3, Condition::Other(9));
        assert_eq!(waiting(action(&cluster)), Waiting::Idle);
        cluster.status(1, &request, 1, Condition::Running);
        let made = requested(action(&cluster));
        assert_eq!((made.kind, made.servers), (RequestKind::Reconfigure, lrns(&[0, 1])));
    }

    #[test]
    fn row_10_makes_no_request_for_a_withdrawn_version() {
        let request = request(&[0, 1]);
        let mut cluster = Cluster::of(&[0, 1, 2]);
        cluster.release("0.9.0").release(V1).request(&request).finished(&request).withdraw(V1);
        let made = requested(action(&cluster));
        assert_eq!((made.version, made.servers), (version("0.9.0"), lrns(&[0, 1, 2])));
        assert!(made.allow_downgrade);
    }

    /// 1.0.0 is done and 1.1.0 is known.
    fn due() -> Cluster {
        let request = request(&[0, 1]);
        let mut cluster = Cluster::of(&[0, 1]);
        cluster.release(V2).request(&request).finished(&request);
        cluster
    }

    fn target(cluster: &mut Cluster, text: &str) -> Target {
        let target = Target {
            version: version(text),
            pinned: true,
            allow_downgrade: false,
            allow_no_way_back: false,
            by: "ops".into(),
            reason: "wish".into(),
            at: at(1_500),
            unknown: serde_json::Map::new(),
        };
        cluster.put(Key::Target, &target);
        target
    }

    #[test]
    fn row_11_waits_for_the_window_the_pause_and_the_preflight() {
        let mut cluster = due();
        let opens = Some(at(9_000));
        let closed = Limits { window: Window::Closed(opens), ..limits() };
        let look = |cluster: &Cluster| next_action(&cluster.view(), &closed, &Elapsed::default());
        let expected = Waiting::Window { version: version(V2), next: opens };
        assert_eq!(waiting(look(&cluster)), expected);
        cluster.pause();
        assert_eq!(waiting(action(&cluster)), Waiting::Paused { version: version(V2) });
        cluster.delete(Key::Pause).alive(1, V1, &["step 3"]);
        assert_eq!(preflight(action(&cluster)), "boot server 1 is busy: step 3");
        cluster.alive(1, V1, &[]);
        assert_eq!(requested(action(&cluster)).version, version(V2));
    }

    #[test]
    fn row_11_an_operators_word_waits_for_no_window_but_for_the_end_of_a_pause() {
        let mut cluster = due();
        target(&mut cluster, "1.0.5");
        let closed = Limits { window: Window::Closed(None), ..limits() };
        let look = |cluster: &Cluster| next_action(&cluster.view(), &closed, &Elapsed::default());
        let made = requested(look(&cluster));
        assert_eq!((made.version, made.kind), (version("1.0.5"), RequestKind::Manual));
        cluster.pause();
        assert_eq!(waiting(look(&cluster)), Waiting::Paused { version: version("1.0.5") });
    }

    #[test]
    fn row_11_a_pin_holds_against_newer_releases() {
        let mut cluster = due();
        let pin = target(&mut cluster, V1);
        assert_eq!(waiting(action(&cluster)), Waiting::Idle);
        // Without the pin a newer release takes over.
        cluster.put(Key::Target, &Target { pinned: false, ..pin });
        assert_eq!(requested(action(&cluster)).version, version(V2));
    }

    #[test]
    fn row_11_a_pin_to_an_older_version_needs_leave_to_go_back() {
        let mut cluster = due();
        let pin = target(&mut cluster, "0.9.0");
        assert!(preflight(action(&cluster)).contains("--allow-downgrade"));
        cluster.put(Key::Target, &Target { allow_downgrade: true, ..pin });
        assert!(requested(action(&cluster)).allow_downgrade);
    }

    #[test]
    fn row_11_an_aborted_version_waits_for_a_word() {
        let mut cluster = due();
        let seen = Seen {
            at: at(900),
            aborted: Some(neco_schema::RequestId::claimed("ffff")),
            ..Seen::default()
        };
        cluster.put(Key::Seen(version(V2)), &seen);
        let expected = Waiting::AbortedBefore { version: version(V2) };
        assert_eq!(waiting(action(&cluster)), expected);
        cluster.put(Key::Seen(version(V2)), &Seen { aborted: None, ..seen });
        assert_eq!(requested(action(&cluster)).version, version(V2));
    }

    #[test]
    fn row_11_a_withdrawn_version_that_is_done_is_left_for_the_newest_before_it() {
        let mut cluster = due();
        cluster.release(V1).withdraw(V2);
        assert_eq!(choose_target(&cluster.view()).map(|goal| goal.version), Ok(version(V1)));
        assert_eq!(waiting(action(&cluster)), Waiting::Idle);
        cluster.release("0.9.0").withdraw(V1);
        let back = requested(action(&cluster));
        assert_eq!((back.version, back.allow_downgrade), (version("0.9.0"), true));
        cluster.withdraw("0.9.0");
        assert_eq!(waiting(action(&cluster)), Waiting::Withdrawn { version: version(V2) });
    }

    #[test]
    fn row_12_otherwise_nothing_is_done() {
        let mut cluster = due();
        cluster.delete(Key::Seen(version(V2))).release(V1);
        assert_eq!(waiting(action(&cluster)), Waiting::Idle);
    }

    #[test]
    fn what_cannot_be_read_is_named_and_nothing_is_written() {
        let mut cluster = due();
        cluster.bytes(&Key::Target, "{");
        assert!(
            matches!(waiting(action(&cluster)), Waiting::Unreadable { key, .. } if key == "control/target")
        );
        cluster.bytes(&Key::Request, "{");
        assert!(
            matches!(waiting(action(&cluster)), Waiting::Unreadable { key, .. } if key == "status/current")
        );
        // An unreadable target does not keep a failed request from being stopped.
        let request = request(&[0, 1]);
        cluster.request(&request).put(Key::Status(lrn(0)), &aborted(&request, 1, 0, "it broke"));
        // One that is recorded as complete is not stopped for what a member of the original writes later.
        assert_eq!(action(&cluster).name(), "wait");
        cluster.delete(Key::History(request.started_at, request.id()));
        assert_eq!(action(&cluster).name(), "request-stop");
    }
}

/// What the transactions of the leader compare and write.
mod transactions {
    use super::*;

    #[test]
    fn every_write_proves_leadership_and_compares_the_request() {
        let request = request(&[0, 1]);
        let mut running = Cluster::of(&[0, 1]);
        running.release(V1).request(&request);
        running.put(Key::Status(lrn(0)), &aborted(&request, 1, 0, "it broke"));
        let mut finished = Cluster::of(&[0, 1]);
        finished.release(V2).request(&request).finished(&request);
        let mut unrecorded = finished.clone();
        unrecorded.delete(Key::History(request.started_at, request.id()));
        for (cluster, name) in
            [(running, "request-stop"), (finished, "request-update"), (unrecorded, "record")]
        {
            let (view, action) = (cluster.view(), action(&cluster));
            assert_eq!(action.name(), name);
            let txn = action.txn(&view, &context()).expect("it writes");
            assert!(txn.compares.contains(&context().leadership), "{name}");
            let unchanged = Compare::unchanged(&Key::Request, view.request.mod_revision());
            assert!(txn.compares.contains(&unchanged), "{name}");
            assert_ne!(view.request.mod_revision(), Revision(0));
        }
    }

    #[test]
    fn a_stop_keeps_everything_else_and_says_who_and_why() {
        let mut request = request(&[0, 1]);
        request.unknown.insert("later".into(), true.into());
        let mut cluster = Cluster::of(&[0, 1]);
        cluster.release(V1).request(&request).withdraw(V1);
        cluster.bytes(&Key::Candidate { election: "updater".into(), lease: 7 }, "boot-0");
        let txn = action(&cluster).txn(&cluster.view(), &context()).expect("it writes");
        assert!(cluster.commit(&txn));
        let view = cluster.view();
        let after = view.current().expect("a request");
        assert!(after.stop && after.id() == request.id() && after.unknown == request.unknown);
        let note = after.stopped.clone().expect("a note");
        assert_eq!((note.by.as_str(), note.leader), ("updater on boot-0", true));
        assert_eq!(note.reason, "1.0.0 was withdrawn");
    }

    #[test]
    fn a_new_request_is_later_than_anything_in_the_history() {
        let request = UpdateRequest { started_at: at(1_000_000), ..request(&[0, 1]) };
        let mut cluster = Cluster::of(&[0, 1]);
        cluster.release(V2).request(&request).finished(&request);
        let txn = action(&cluster).txn(&cluster.view(), &context()).expect("it writes");
        let put = txn.ops.iter().find_map(|op| match op {
            Op::Put { key, value, .. } if *key == Key::Request.to_string() => Some(value),
            _ => None,
        });
        let made: UpdateRequest =
            neco_schema::Record::decode(put.expect("a request")).expect("a request");
        assert!(made.started_at > request.started_at, "the leader's clock is behind");
        assert_eq!(made.started_at, Timestamp::from_unix(1_000_000).next());
    }

    #[test]
    fn what_was_withdrawn_in_the_meantime_is_not_requested() {
        let request = request(&[0, 1]);
        for servers in [&[0, 1][..], &[0, 1, 2]] {
            let mut cluster = Cluster::of(servers);
            cluster.release(V2).request(&request).finished(&request);
            cluster.bytes(&Key::Candidate { election: "updater".into(), lease: 7 }, "boot-0");
            let txn = action(&cluster).txn(&cluster.view(), &context()).expect("it writes");
            let mut other = cluster.clone();
            assert!(cluster.commit(&txn));
            other.withdraw(V1).withdraw(V2);
            assert!(!other.commit(&txn));
        }
    }

    #[test]
    fn records_carry_what_the_original_never_kept() {
        let request = request(&[0, 1]);
        let mut cluster = Cluster::of(&[0, 1]);
        cluster.release(V1).request(&request).finished(&request).plan(0, &request, "recipe-one");
        cluster.delete(Key::History(request.started_at, request.id()));
        cluster.bytes(&Key::Candidate { election: "updater".into(), lease: 7 }, "boot-0");
        let txn = action(&cluster).txn(&cluster.view(), &context()).expect("it writes");
        assert!(cluster.commit(&txn));
        let view = cluster.view();
        let record: &HistoryRecord =
            view.history[&(request.started_at, request.id())].as_ref().expect("a record");
        assert_eq!((record.by.as_str(), record.ended_at), ("updater on boot-0", at(5_000)));
        assert!(view.plans.is_empty(), "what belonged to the request goes with it");
    }
}
