//! Why the protocol's rules are there: each trace that a search found without a rule, played step by step.
//!
//! Where the rule can be left out, the trace is played a second time without it, and goes wrong.

use std::time::Duration;

use neco_plan::testing::Planted;
use neco_plan::{Move, Rest, Waiting, operator, release_turn};
use neco_schema::journal::Entry;
use neco_schema::{Condition, Ending, Key, Lrn, Record as _, UpdateRequest, UpdateStatus, Way};
use neco_testkit::cluster::{
    Act, Actor, Bug, Cluster, Command, ETCD, OFFICE, Part, Phase, Piece, Recipe, Reply, STEP_LIMIT,
    Source, StepKind, turn_holder, version,
};

const VAULT: &str = "vault";

/// Writes a file, stops the service of a group, starts its new version, writes another file.
fn with_group() -> Vec<StepKind> {
    vec![
        StepKind::Plain,
        StepKind::GroupStop(VAULT.to_owned()),
        StepKind::GroupApply(VAULT.to_owned()),
        StepKind::Plain,
    ]
}

fn with_etcd() -> Vec<StepKind> {
    vec![StepKind::Plain, StepKind::EtcdRestart]
}

/// A cluster with a request for version 1, which nobody has acted on.
fn requested(servers: usize, steps: Vec<StepKind>, bug: Option<Bug>) -> Cluster {
    requested_release(servers, steps, bug, |_| {})
}

fn requested_release(
    servers: usize,
    steps: Vec<StepKind>,
    bug: Option<Bug>,
    change: impl FnOnce(&mut neco_testkit::cluster::Release),
) -> Cluster {
    let mut cluster = Cluster::new(1, Recipe { steps }, &[0, 1, 2][..servers], servers);
    cluster.world.bug = bug;
    for worker in cluster.workers.iter_mut().flatten() {
        worker.local.planted = Bug::planted(bug);
    }
    // Everybody lives before anything is asked.
    for at in 0..servers {
        cluster.rest_of(&[at]);
    }
    cluster.add_updater(servers - 1, false, 0);
    cluster.publish(change);
    cluster.lead();
    assert!(request(&cluster).is_some(), "nothing was requested");
    cluster
}

fn everybody(cluster: &Cluster) -> Vec<usize> {
    (0..cluster.workers.len()).collect()
}

fn request(cluster: &Cluster) -> Option<UpdateRequest> {
    let kv = cluster.world.etcd.get(&Key::Request.to_string())?;
    Some(UpdateRequest::decode(&kv.value).expect("a request"))
}

fn status(cluster: &Cluster, at: usize) -> Option<UpdateStatus> {
    let key = Key::Status(cluster.world.hosts[at].lrn);
    let kv = cluster.world.etcd.get(&key.to_string())?;
    Some(UpdateStatus::decode(&kv.value).expect("a status"))
}

fn condition(cluster: &Cluster, at: usize) -> Option<Condition> {
    status(cluster, at).map(|status| status.cond)
}

fn has_posted(cluster: &Cluster, at: usize, step: u32) -> bool {
    status(cluster, at).is_some_and(|status| status.step >= step)
}

/// Lets everybody work until all have posted `step`; nobody has begun it.
fn all_at(cluster: &mut Cluster, step: u32) {
    for _ in 0..5_000 {
        let behind = everybody(cluster)
            .into_iter()
            .filter(|at| !has_posted(cluster, *at, step))
            .collect::<Vec<_>>();
        if behind.is_empty() {
            return;
        }
        let before = cluster.world.event_hash();
        for at in behind {
            for part in [Part::Alive, Part::Task, Part::Main] {
                if !has_posted(cluster, at, step) {
                    cluster.act_if_ready(Actor::Worker(at, part));
                }
            }
            cluster.act_if_ready(Actor::Installer(at));
            cluster.act_if_ready(Actor::Manager(at));
        }
        assert_ne!(cluster.world.event_hash(), before, "stuck: {}", cluster.who_waits());
    }
    panic!("nobody comes to step {step}: {}", cluster.who_waits());
}

fn runs(cluster: &Cluster, at: usize, unit: &str) -> Option<String> {
    cluster.world.hosts[at].running(unit).cloned()
}

fn next_is(cluster: &Cluster, at: usize, piece: &Piece) -> bool {
    let task = cluster.workers[at].as_ref().and_then(|worker| worker.task.as_ref());
    task.is_some_and(|task| task.next() == Some(piece))
}

fn stop_vault_on(cluster: &mut Cluster, at: usize) {
    cluster.drive(at, |cluster| runs(cluster, at, VAULT).is_none());
}

fn recover(force: bool) -> Command {
    Command::Recover { force, retry: true }
}

fn went_wrong(cluster: &Cluster, sign: &str) -> bool {
    cluster.world.oracle.objections.iter().any(|objection| objection.contains(sign))
}

/// Lets an updater take over whose predecessor was restarted with the package.
fn take_office(cluster: &mut Cluster) {
    cluster.pass(OFFICE + Duration::from_secs(10));
    cluster.lead();
}

fn nothing_went_wrong(cluster: &Cluster) {
    assert_eq!(cluster.world.oracle.objections, Vec::<String>::new());
}

// 1
#[test]
fn an_open_group_is_restored_before_anything_else_is_posted_or_rested_on() {
    let play = |bug| {
        let mut cluster = requested(2, with_group(), bug);
        all_at(&mut cluster, 2);
        stop_vault_on(&mut cluster, 0);
        assert!(cluster.order(Command::Stop));
        cluster.drive(0, |cluster| condition(cluster, 0) == Some(Condition::NotRunning));
        cluster
    };
    let mut cluster = play(None);
    assert_eq!(runs(&cluster, 0, VAULT).as_deref(), Some("vault 0"));
    cluster.rest_of(&[0, 1]);
    assert!(cluster.leftovers().is_empty(), "{:?}", cluster.leftovers());
    nothing_went_wrong(&cluster);

    let without = play(Some(Bug::Decision(Planted::StopBeforeRestore)));
    assert_eq!(runs(&without, 0, VAULT), None, "settled with its service down");
}

// 1, with a server that leaves instead of a stop
#[test]
fn a_server_that_leaves_restores_its_group() {
    let mut cluster = requested(3, with_group(), None);
    all_at(&mut cluster, 2);
    stop_vault_on(&mut cluster, 0);
    assert!(cluster.order(Command::Leave { lrn: Lrn::new(0), force: true }));
    cluster.wait_until(|cluster| matches!(cluster.leader_waits(), Some(Waiting::Idle)));
    assert_eq!(runs(&cluster, 0, VAULT).as_deref(), Some("vault 0"));
    let members = request(&cluster).expect("a request").servers;
    assert_eq!(members, [Lrn::new(1), Lrn::new(2)]);
}

// 1, with a request that cannot be read for a while
#[test]
fn a_group_outlives_a_request_that_cannot_be_read() {
    let play = |bug| {
        let mut cluster = requested(2, with_group(), bug);
        all_at(&mut cluster, 3);
        assert_eq!([0, 1].map(|at| runs(&cluster, at, VAULT)), [None, None]);
        cluster.world.garble(&Key::Request.to_string(), Duration::MAX);
        cluster.rest_of(&[0, 1]);
        let in_between = [0, 1].map(|at| runs(&cluster, at, VAULT));
        cluster.world.mend();
        (in_between, cluster)
    };
    let (in_between, mut cluster) = play(None);
    assert_eq!(in_between, [None, None], "it may still go forward");
    cluster.wait_until(|cluster| matches!(cluster.leader_waits(), Some(Waiting::Idle)));
    for at in [0, 1] {
        assert_eq!(condition(&cluster, at), Some(Condition::Complete));
        assert_eq!(runs(&cluster, at, VAULT).as_deref(), Some("vault 1"));
    }
    assert!(cluster.leftovers().is_empty(), "{:?}", cluster.leftovers());
    nothing_went_wrong(&cluster);

    let (in_between, _) = play(Some(Bug::Decision(Planted::UnreadableIsAbsent)));
    assert_eq!(in_between, [(); 2].map(|()| Some("vault 0".to_owned())), "back, while it runs");
}

// 2
#[test]
fn a_stop_inside_a_group_is_treated_like_an_abort() {
    let mut cluster = requested(2, with_group(), None);
    all_at(&mut cluster, 2);
    stop_vault_on(&mut cluster, 0);
    assert!(cluster.order(Command::Stop));
    cluster.rest_of(&[0, 1]);
    for at in [0, 1] {
        assert_eq!(condition(&cluster, at), Some(Condition::NotRunning));
        assert_eq!(runs(&cluster, at, VAULT).as_deref(), Some("vault 0"));
    }
    assert!(cluster.order(recover(false)), "everybody left the group and settled");
    nothing_went_wrong(&cluster);
}

// 3
#[test]
fn the_way_of_a_group_is_decided_once() {
    let mut cluster = requested_release(2, with_group(), None, |release| {
        release.broken_services.insert(1);
    });
    all_at(&mut cluster, 3);
    cluster.drive(0, |cluster| runs(cluster, 0, VAULT).is_some());
    assert_eq!(runs(&cluster, 0, VAULT).as_deref(), Some("vault 1"));
    cluster.drive(1, |cluster| condition(cluster, 1) == Some(Condition::Abort));
    assert_eq!(runs(&cluster, 1, VAULT), None, "it stays stopped rather than old beside new");
    nothing_went_wrong(&cluster);
}

// 3, with a server that comes back late
#[test]
fn a_server_that_comes_back_obeys_the_way_that_was_decided() {
    let play = |bug| {
        let mut cluster = requested(3, with_group(), bug);
        all_at(&mut cluster, 3);
        cluster.power_cut(0);
        cluster.drive(1, |cluster| runs(cluster, 1, VAULT).is_some());
        assert!(cluster.order(Command::Stop));
        cluster.rest_of(&[1, 2]);
        cluster.pass(Duration::from_secs(60));
        cluster.rest_of(&[1, 2]);
        assert!(cluster.order(recover(false)), "a dead member is not waited for");
        cluster.boot(0);
        cluster.drive(0, |cluster| runs(cluster, 0, VAULT).is_some());
        cluster
    };
    let cluster = play(None);
    assert_eq!(runs(&cluster, 0, VAULT).as_deref(), Some("vault 1"));
    nothing_went_wrong(&cluster);
    let without = play(Some(Bug::WayLeftOut));
    assert_eq!(runs(&without, 0, VAULT).as_deref(), Some("vault 0"));
    assert!(went_wrong(&without, "beside"));
}

// 4
#[test]
fn the_stop_of_a_group_disables_the_unit() {
    let play = |bug| {
        let mut cluster = requested(3, with_group(), bug);
        all_at(&mut cluster, 3);
        cluster.power_cut(0);
        cluster.drive(1, |cluster| runs(cluster, 1, VAULT).is_some());
        cluster.boot(0);
        cluster
    };
    let mut cluster = play(None);
    assert_eq!(runs(&cluster, 0, VAULT), None);
    cluster.wait_until(|cluster| matches!(cluster.leader_waits(), Some(Waiting::Idle)));
    assert_eq!(runs(&cluster, 0, VAULT).as_deref(), Some("vault 1"));
    nothing_went_wrong(&cluster);
    assert!(went_wrong(&play(Some(Bug::UnitStaysEnabled)), "beside"));
}

// 4, with a crash instead of a power cut
#[test]
fn the_stop_of_a_group_is_no_intent() {
    let mut cluster = requested(2, with_group(), None);
    all_at(&mut cluster, 3);
    cluster.crash(0);
    cluster.drive(1, |cluster| runs(cluster, 1, VAULT).is_some());
    cluster.drive(0, |cluster| runs(cluster, 0, VAULT).is_some());
    assert_eq!(runs(&cluster, 0, VAULT).as_deref(), Some("vault 1"));
    nothing_went_wrong(&cluster);
}

// 5
#[test]
fn every_fence_looks_at_a_fresh_view_and_decides_again() {
    let play = |bug| {
        let mut cluster = requested(3, with_group(), bug);
        cluster.drive(0, |cluster| has_posted(cluster, 0, 1));
        cluster.drive(2, |cluster| {
            let worker = cluster.workers[2].as_ref();
            let announced = worker.is_some_and(|worker| !worker.local.journal.intents.is_empty());
            announced && next_is(cluster, 2, &Piece::Fence)
        });
        // The disk of the first server is replaced: it aborts.
        cluster.strike(&neco_testkit::cluster::Fault::NewDisk(0));
        cluster.drive(0, |cluster| condition(cluster, 0) == Some(Condition::Abort));
        cluster.rest_of(&[2]);
        cluster
    };
    let cluster = play(None);
    assert_eq!(cluster.world.hosts[2].installed, version(0), "no dpkg after an abort");
    assert_eq!(condition(&cluster, 2), Some(Condition::Abort));
    assert_eq!(play(Some(Bug::FenceLeftOut)).world.hosts[2].installed, version(1));
}

// 6
#[test]
fn every_status_write_decides_again_on_the_view_it_compares() {
    let play = |bug| {
        let mut cluster = requested(2, with_group(), bug);
        let decided = |cluster: &Cluster| {
            let worker = cluster.workers[0].as_ref();
            worker.is_some_and(|worker| matches!(&worker.phase, Phase::Decided(Move::Post(_))))
        };
        cluster.drive(0, decided);
        assert!(cluster.order(Command::Stop));
        assert!(cluster.order(recover(true)) || force_after_patience(&mut cluster));
        assert!(request(&cluster).is_none());
        for _ in 0..3 {
            cluster.act_if_ready(Actor::Worker(0, Part::Main));
        }
        cluster
    };
    let cluster = play(None);
    assert_eq!(status(&cluster, 0), None);
    nothing_went_wrong(&cluster);
    assert!(went_wrong(&play(Some(Bug::DecidedOnce)), "not the current one"));
}

/// `recover --force` after the operator's patience has ended.
fn force_after_patience(cluster: &mut Cluster) -> bool {
    let view = cluster.world.leader_view();
    let order = operator::Order {
        by: "somebody".to_owned(),
        reason: "no patience".to_owned(),
        now: cluster.world.wall(0),
    };
    let how = operator::Recovery { force: true, retry: true };
    let txn = operator::recover(&view, how, &order).expect("force does not wait");
    cluster.world.commit(Source::Operator { forced: true }, None, &txn) == Reply::Done
}

// 7
#[test]
fn changed_means_other_than_what_the_process_was_started_with() {
    let play = |bug| {
        let mut cluster = requested(2, with_etcd(), bug);
        all_at(&mut cluster, 2);
        cluster.drive(0, |cluster| cluster.world.hosts[0].units[ETCD].definition == "etcd 1");
        cluster.crash(0);
        cluster.wait_until(|cluster| condition(cluster, 0) == Some(Condition::Complete));
        cluster
    };
    assert_eq!(runs(&play(None), 0, ETCD).as_deref(), Some("etcd 1"));
    let without = play(Some(Bug::ComparedWithDisk));
    assert_eq!(runs(&without, 0, ETCD).as_deref(), Some("etcd 0"), "complete with the old etcd");
}

// 8
#[test]
fn a_turn_held_without_intent_and_without_step_is_deleted() {
    let play = |bug| {
        let mut cluster = requested(2, with_etcd(), bug);
        all_at(&mut cluster, 2);
        cluster.drive(0, |cluster| next_is(cluster, 0, &Piece::GiveTurn));
        cluster.crash(0);
        for _ in 0..30 {
            cluster.settle();
            cluster.pass(Duration::from_secs(10));
        }
        cluster
    };
    let cluster = play(None);
    assert_eq!(turn_holder(&cluster.world), None);
    assert_eq!(condition(&cluster, 1), Some(Condition::Complete));
    nothing_went_wrong(&cluster);
    let without = play(Some(Bug::TurnKept));
    assert_eq!(turn_holder(&without.world), Some(Lrn::new(0)), "held for ever");
    assert_eq!(condition(&without, 1), Some(Condition::Running), "waits for ever");
}

// 9
#[test]
fn the_lowest_of_the_requests_servers_installs_first_living_or_not() {
    let mut cluster =
        requested_release(3, with_group(), None, |release| release.dies_at_start = true);
    cluster.drive(0, |cluster| cluster.world.hosts[0].installed == version(1));
    cluster.drive(0, |cluster| cluster.workers[0].is_none());
    cluster.pass(Duration::from_secs(60));
    assert!(!cluster.world.worker_view().alive.contains_key(&Lrn::new(0)), "its record lapsed");
    cluster.rest_of(&[1, 2]);
    for at in [1, 2] {
        assert_eq!(cluster.world.hosts[at].installed, version(0));
        let resting = cluster.workers[at].as_ref().and_then(|worker| worker.resting.clone());
        assert_eq!(resting, Some(Move::Rest(Rest::FirstServer(Lrn::new(0)))));
    }
}

/// How often a journal says that `entry` matches.
fn journalled(cluster: &Cluster, at: usize, entry: impl Fn(&Entry) -> bool) -> usize {
    cluster.world.hosts[at].journal.iter().filter(|found| entry(found)).count()
}

// 10
#[test]
fn a_failed_install_aborts_and_is_not_tried_again() {
    let mut cluster =
        requested_release(2, with_group(), None, |release| release.dies_at_start = true);
    cluster.wait_until(|cluster| condition(cluster, 0) == Some(Condition::Abort));
    for _ in 0..20 {
        cluster.settle();
        cluster.pass(Duration::from_secs(30));
    }
    assert_eq!(cluster.world.hosts[0].installed, version(0));
    let installs = journalled(&cluster, 0, |entry| {
        matches!(
            entry,
            Entry::IntentOpened { effect: neco_schema::journal::Effect::Install { .. }, .. }
        )
    });
    assert_eq!(installs, 1);
}

// 10
#[test]
fn the_third_crash_in_a_step_aborts() {
    let mut cluster = requested_release(2, with_group(), None, |release| {
        release.kills.insert((1, 1));
    });
    cluster.wait_until(|cluster| condition(cluster, 1) == Some(Condition::Abort));
    assert_eq!(
        journalled(&cluster, 1, |entry| matches!(entry, Entry::StepBegun { step: 1, .. })),
        3
    );
    let origin = status(&cluster, 1).and_then(|status| status.origin).expect("an origin");
    assert_eq!(origin.cause, "step 1 ended the worker 3 times");
}

// 10
#[test]
fn a_status_that_the_journal_does_not_know_aborts() {
    let mut cluster = requested(2, with_group(), None);
    all_at(&mut cluster, 2);
    cluster.strike(&neco_testkit::cluster::Fault::NewDisk(1));
    cluster.drive(1, |cluster| condition(cluster, 1) == Some(Condition::Abort));
    let begun = journalled(&cluster, 1, |entry| matches!(entry, Entry::StepBegun { .. }));
    assert_eq!(begun, 0, "nothing is begun on the new disk");
}

// 11
#[test]
fn the_installation_goes_on_after_a_power_cut() {
    let play = |bug| {
        let mut cluster =
            requested_release(3, with_group(), bug, |release| release.dies_at_start = true);
        cluster.drive(0, |cluster| cluster.world.hosts[0].installed == version(1));
        cluster.power_cut(0);
        cluster.boot(0);
        for _ in 0..30 {
            cluster.settle();
            cluster.pass(Duration::from_secs(10));
        }
        cluster
    };
    let cluster = play(None);
    assert_eq!(cluster.world.hosts[0].installed, version(0), "the way back was taken");
    assert_eq!(condition(&cluster, 0), Some(Condition::Abort));
    let without = play(Some(Bug::InstallForgotten));
    assert_eq!(without.world.hosts[0].installed, version(1));
    assert!(without.workers[0].is_none(), "a bad worker and no way back");
}

// 12
#[test]
fn an_intent_whose_effect_has_not_begun_is_dropped() {
    let play = |bug| {
        let mut cluster = requested(2, with_group(), bug);
        cluster.drive(0, |cluster| next_is(cluster, 0, &Piece::BeginInstall));
        cluster.crash(0);
        assert!(cluster.order(Command::Stop));
        cluster.rest_of(&[0]);
        cluster
    };
    let cluster = play(None);
    assert_eq!(cluster.world.hosts[0].installed, version(0));
    assert_eq!(condition(&cluster, 0), Some(Condition::NotRunning));
    assert!(cluster.leftovers().is_empty());
    assert_eq!(play(Some(Bug::UnbegunCompleted)).world.hosts[0].installed, version(1));
}

// 13
#[test]
fn a_stop_is_settled_without_a_status_and_an_absent_status_is_not_settled() {
    let mut cluster = requested(2, with_group(), None);
    assert!(cluster.order(Command::Stop));
    assert!(!cluster.order(recover(false)), "nobody has closed a status yet");
    cluster.rest_of(&[0]);
    assert!(!cluster.order(recover(false)), "one has not closed its status yet");
    cluster.rest_of(&[1]);
    for at in [0, 1] {
        let status = status(&cluster, at).expect("a status");
        assert_eq!((status.step, status.cond), (0, Condition::NotRunning));
    }
    assert!(cluster.order(recover(false)));
}

// 14
#[test]
fn a_member_that_leaves_settles_before_the_request_is_replaced() {
    let mut cluster = requested(3, with_group(), None);
    all_at(&mut cluster, 2);
    take_office(&mut cluster);
    cluster.drive(0, |cluster| next_is(cluster, 0, &Piece::OpenGroup(VAULT.to_owned())));
    let old = request(&cluster).expect("a request");
    assert!(cluster.order(Command::Leave { lrn: Lrn::new(0), force: true }));
    cluster.lead();
    let stopped = request(&cluster).expect("a request");
    assert_eq!((stopped.stop, stopped.ending.clone()), (true, Some(Ending::Superseded)));
    cluster.rest_of(&[1, 2]);
    cluster.lead();
    assert_eq!(request(&cluster).map(|request| request.id()), Some(old.id()), "0 has not settled");
    // What was fenced takes place, and is given back.
    cluster.rest_of(&[0]);
    assert_eq!(runs(&cluster, 0, VAULT).as_deref(), Some("vault 0"));
    cluster.lead();
    assert_ne!(request(&cluster).map(|request| request.id()), Some(old.id()));
    nothing_went_wrong(&cluster);
}

// 14
#[test]
fn leave_does_not_start_a_stopped_update_again() {
    let mut cluster = requested(3, with_group(), None);
    all_at(&mut cluster, 2);
    take_office(&mut cluster);
    let old = request(&cluster).expect("a request");
    assert!(cluster.order(Command::Stop));
    cluster.settle();
    assert!(cluster.order(Command::Leave { lrn: Lrn::new(0), force: true }));
    cluster.settle();
    assert_eq!(request(&cluster).map(|request| request.id()), Some(old.id()));
    assert!(matches!(cluster.leader_waits(), Some(Waiting::Recovery { .. })));
}

/// Server 0 holds the turn and is about to prove that it may stop its etcd.
fn before_the_proof(bug: Option<Bug>) -> Cluster {
    let mut cluster = requested(3, with_etcd(), bug);
    all_at(&mut cluster, 2);
    cluster.drive(0, |cluster| next_is(cluster, 0, &Piece::Prove));
    cluster.settle_alive();
    cluster
}

// 15
#[test]
fn the_turn_of_a_living_holder_is_not_released_without_force() {
    let mut cluster = before_the_proof(None);
    assert!(!cluster.order(Command::ReleaseTurn { force: false }));
    assert_eq!(turn_holder(&cluster.world), Some(Lrn::new(0)));
}

// 15
#[test]
fn the_fence_before_the_stop_of_etcd_reads_the_turn_again() {
    let play = |bug| {
        let mut cluster = before_the_proof(bug);
        assert!(cluster.order(Command::ReleaseTurn { force: true }));
        cluster.drive(1, |cluster| turn_holder(&cluster.world) == Some(Lrn::new(1)));
        cluster.drive(1, |cluster| next_is(cluster, 1, &Piece::BeginIntent));
        // The rule is about turns alone; whether the other is healthy it can still see.
        cluster.world.oracle.overruled = false;
        for _ in 0..12 {
            cluster.act_if_ready(Actor::Worker(0, Part::Task));
        }
        cluster.drive(1, |cluster| runs(cluster, 1, ETCD).is_none());
        cluster
    };
    let cluster = play(None);
    assert!(runs(&cluster, 0, ETCD).is_some());
    nothing_went_wrong(&cluster);
    let without = play(Some(Bug::TurnNotReread));
    assert!(journalled(&without, 0, |entry| matches!(entry, Entry::IntentBegun { .. })) > 1);
}

// 15
#[test]
fn a_turn_is_deleted_only_as_the_one_that_was_taken() {
    let mut cluster = before_the_proof(None);
    let stale = cluster.world.worker_view().turns[ETCD].create_revision;
    assert!(cluster.order(Command::ReleaseTurn { force: true }));
    cluster.drive(1, |cluster| turn_holder(&cluster.world) == Some(Lrn::new(1)));
    let txn = release_turn(ETCD, stale);
    assert_eq!(cluster.world.commit(Source::Worker(Lrn::new(0)), Some(0), &txn), Reply::Refused);
    assert_eq!(turn_holder(&cluster.world), Some(Lrn::new(1)));
}

// 16
#[test]
fn a_pause_waits_for_the_end_of_a_group() {
    let mut cluster = requested(2, with_group(), None);
    all_at(&mut cluster, 2);
    stop_vault_on(&mut cluster, 0);
    assert!(cluster.order(Command::Pause));
    cluster.rest_of(&[0, 1]);
    for at in [0, 1] {
        assert_eq!(runs(&cluster, at, VAULT).as_deref(), Some("vault 1"));
        assert_eq!(status(&cluster, at).map(|status| status.step), Some(4));
        let resting = cluster.workers[at].as_ref().and_then(|worker| worker.resting.clone());
        assert!(matches!(resting, Some(Move::Rest(Rest::Paused { .. }))), "{resting:?}");
    }
    assert!(cluster.order(Command::Resume));
    cluster.wait_until(|cluster| matches!(cluster.leader_waits(), Some(Waiting::Idle)));
}

// 16
#[test]
fn deadlines_count_in_a_pause_while_a_group_is_open_and_only_then() {
    let mut cluster = requested(2, with_group(), None);
    all_at(&mut cluster, 2);
    stop_vault_on(&mut cluster, 0);
    assert!(cluster.order(Command::Pause));
    cluster.lead();
    if let Some(worker) = &mut cluster.workers[1] {
        worker.frozen_until = cluster.world.now + STEP_LIMIT * 3;
    }
    for _ in 0..120 {
        cluster.rest_of(&[0]);
        cluster.lead();
        cluster.pass(Duration::from_secs(10));
    }
    assert!(request(&cluster).expect("a request").stop, "the group's deadline passed");

    let mut cluster = requested(2, with_group(), None);
    all_at(&mut cluster, 1);
    assert!(cluster.order(Command::Pause));
    for _ in 0..120 {
        cluster.settle();
        cluster.pass(Duration::from_secs(10));
    }
    assert!(!request(&cluster).expect("a request").stop, "no time passes in a pause");
}

// 17
#[test]
fn members_are_removed_by_the_majority_of_the_new_size() {
    let play = |bug| {
        let mut cluster = requested(2, with_etcd(), bug);
        assert!(cluster.order(Command::Leave { lrn: Lrn::new(0), force: true }));
        for _ in 0..20 {
            cluster.settle();
            cluster.pass(Duration::from_secs(10));
        }
        cluster
    };
    let cluster = play(None);
    assert_eq!(cluster.world.members.iter().copied().collect::<Vec<_>>(), [1]);
    assert_eq!(condition(&cluster, 1), Some(Condition::Complete));
    let without = play(Some(Bug::OldSizeMajority));
    assert_eq!(without.world.members.len(), 2, "never removed");
}

// 18
#[test]
fn complete_wins_over_a_stop_beside_it() {
    let mut cluster = requested(2, vec![StepKind::Plain], None);
    all_at(&mut cluster, 1);
    let view = cluster.world.leader_view();
    let order = operator::Order {
        by: "somebody".to_owned(),
        reason: "too late".to_owned(),
        now: cluster.world.wall(0),
    };
    let stop = operator::stop(&view, &order).expect("it runs");
    cluster.drive_all(&[0, 1], |cluster| {
        [0, 1].iter().all(|at| condition(cluster, *at) == Some(Condition::Complete))
    });
    assert_eq!(cluster.world.commit(Source::Operator { forced: false }, None, &stop), Reply::Done);
    take_office(&mut cluster);
    assert!(request(&cluster).expect("a request").stop);
    assert!(matches!(cluster.leader_waits(), Some(Waiting::Idle)), "{}", cluster.who_waits());
    let view = cluster.world.leader_view();
    let history = cluster.world.etcd.get(
        &view
            .history
            .keys()
            .map(|(at, id)| Key::History(*at, id.clone()))
            .next()
            .expect("a record")
            .to_string(),
    );
    let record = neco_schema::HistoryRecord::decode(&history.expect("a record").value);
    assert_eq!(record.expect("a record").outcome, neco_schema::Outcome::Completed);
}

// 19
#[test]
fn intents_are_completed_before_a_restored_etcd_is_refused() {
    let mut cluster = requested(3, with_etcd(), None);
    cluster.world.backup = Some(cluster.world.etcd.clone());
    all_at(&mut cluster, 2);
    cluster.drive(0, |cluster| runs(cluster, 0, ETCD).is_none());
    cluster.crash(0);
    assert!(cluster.world.restore_backup(true));
    cluster.rest_of(&[0]);
    assert_eq!(runs(&cluster, 0, ETCD).as_deref(), Some("etcd 1"));
    let resting = cluster.workers[0].as_ref().and_then(|worker| worker.resting.clone());
    assert_eq!(resting, Some(Move::Rest(Rest::OtherCluster)));
}

// 19, and §3.4: without etcd at all
#[test]
fn an_etcd_that_was_stopped_is_started_without_etcd() {
    let play = |bug| {
        let mut cluster = requested(2, with_etcd(), bug);
        all_at(&mut cluster, 2);
        cluster.drive(0, |cluster| runs(cluster, 0, ETCD).is_none());
        assert!(!cluster.world.quorum(), "one of two");
        cluster.crash(0);
        cluster.rest_of(&[0]);
        cluster
    };
    assert!(play(None).world.quorum());
    assert!(!play(Some(Bug::IntentsWaitForEtcd)).world.quorum(), "waits for itself");
}

// 20
#[test]
fn leave_deletes_the_status_so_that_a_fresh_machine_inherits_nothing() {
    let mut cluster = requested(2, with_group(), None);
    all_at(&mut cluster, 2);
    // Nobody leads.
    cluster.updaters.clear();
    assert!(cluster.order(Command::Leave { lrn: Lrn::new(0), force: true }));
    assert_eq!(status(&cluster, 0), None);
    assert!(cluster.order(Command::Join(Lrn::new(0))));
    cluster.strike(&neco_testkit::cluster::Fault::NewDisk(0));
    cluster.drive(0, |cluster| status(cluster, 0).is_some());
    // The others are two steps ahead of a machine that has done nothing: it gives up, and begins nothing.
    let status = status(&cluster, 0).expect("a status");
    assert_eq!((status.step, status.cond), (1, Condition::Abort));
    let begun = journalled(&cluster, 0, |entry| matches!(entry, Entry::StepBegun { .. }));
    assert_eq!(begun, 0);
}

#[test]
fn the_way_back_starts_nothing_that_was_never_set_up() {
    let mut cluster = requested(2, with_group(), None);
    cluster.world.hosts[1].make_fresh();
    all_at(&mut cluster, 2);
    stop_vault_on(&mut cluster, 0);
    assert!(cluster.order(Command::Stop));
    cluster.rest_of(&[0, 1]);
    let back = |entry: &Entry| matches!(entry, Entry::GroupClosed { way: Way::Back, .. });
    assert_eq!(journalled(&cluster, 0, back), 1);
    assert_eq!(runs(&cluster, 1, VAULT), None);
    assert!(!next_is(&cluster, 1, &Piece::Do(Act::StartOld(VAULT.to_owned()))));
}
