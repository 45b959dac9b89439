//! What simulated schedules found in the decisions, each as a short story.

use std::time::Duration;

use neco_plan::{
    Action, Elapsed, LeaderContext, Limits, Stopwatch, Waiting, Window, next_action, operator,
};
use neco_schema::{
    Compare, Group, Key, Lrn, Op, Record, Timestamp, Txn, UpdateRequest, UpdateStatus, Way,
};
use neco_testkit::cluster::{
    Cluster, Command, Fault, Recipe, Reply, Source, StepKind, World, package, version,
};

const VAULT: &str = "vault";

/// A quiet cluster without updaters whose servers live and run version `installed`.
fn quiet(servers: usize, steps: Vec<StepKind>) -> Cluster {
    let mut cluster = Cluster::new(1, Recipe { steps }, &[0, 1, 2][..servers], servers);
    for at in 0..servers {
        cluster.rest_of(&[at]);
    }
    cluster
}

fn put(world: &mut World, key: &Key, record: &impl Record) {
    let txn = Txn::default().then(Op::put(key, record));
    assert_eq!(world.commit(Source::Setup, None, &txn), Reply::Done);
}

fn put_release(world: &mut World, number: u32) {
    let txn = Txn::default().then(Op::put_bytes(&Key::Release, version(number).as_str()));
    assert_eq!(world.commit(Source::Setup, None, &txn), Reply::Done);
    put(world, &Key::Seen(version(number)), &neco_schema::Seen::default());
}

fn context(now: Timestamp) -> LeaderContext {
    LeaderContext {
        leadership: Compare::absent(&Key::Candidate { election: "updater".to_owned(), lease: 1 }),
        now,
        host: "boot-0".to_owned(),
        package: Some(package(&version(1))),
    }
}

fn limits() -> Limits {
    let hour = Duration::from_secs(3600);
    Limits { request: hour, step: hour, window: Window::Open, probes: Vec::new() }
}

fn act(cluster: &mut Cluster, now: Timestamp) -> Action {
    let view = cluster.world.leader_view();
    let action = next_action(&view, &limits(), &Elapsed::default());
    if let Some(txn) = action.txn(&view, &context(now)) {
        assert_eq!(cluster.world.commit(Source::Leader, None, &txn), Reply::Done);
    }
    action
}

fn request(cluster: &mut Cluster) -> UpdateRequest {
    cluster.world.leader_view().current().cloned().expect("a request")
}

// A leader whose clock is behind makes a request; it is deleted without a record (by hand, or by the original's
// `recover`); the next one must not be the same.
#[test]
fn a_request_after_one_that_left_no_record_has_another_identity() {
    let mut cluster = quiet(2, vec![StepKind::Plain]);
    put_release(&mut cluster.world, 1);
    let future = Timestamp::from_unix(4_000_000_000);
    let old = UpdateRequest::new(version(0), vec![Lrn::new(0)], future);
    let record = neco_schema::HistoryRecord {
        id: old.id(),
        version: old.version.clone(),
        servers: old.servers.clone(),
        kind: String::new(),
        started_at: old.started_at,
        ended_at: old.started_at,
        outcome: neco_schema::Outcome::Completed,
        by: String::new(),
        cause: String::new(),
        origin: None,
        notices: Vec::new(),
        unknown: serde_json::Map::new(),
    };
    put(&mut cluster.world, &Key::History(old.started_at, old.id()), &record);
    let mut seen = Vec::new();
    for _ in 0..3 {
        assert!(matches!(act(&mut cluster, Timestamp::from_unix(1)), Action::Request(_)));
        let made = request(&mut cluster);
        assert!(made.started_at > future);
        seen.push(made.id());
        let gone = Txn::default().then(Op::delete(&Key::Request));
        assert_eq!(cluster.world.commit(Source::Go, None, &gone), Reply::Done);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 3, "an identity came again");
}

// `update --to` named an older version while nobody ran anything newer; then a newer one was installed, aborted and was
// stopped. The older one must not be requested without `--allow-downgrade`.
#[test]
fn a_stopped_request_is_not_left_for_an_older_version_that_may_not_be_gone_back_to() {
    let mut cluster = quiet(2, vec![StepKind::Plain]);
    put_release(&mut cluster.world, 2);
    let stopped = UpdateRequest {
        stop: true,
        ..UpdateRequest::new(version(2), vec![Lrn::new(0), Lrn::new(1)], Timestamp::from_unix(1))
    };
    put(&mut cluster.world, &Key::Request, &stopped);
    for lrn in [0, 1].map(Lrn::new) {
        let status = UpdateStatus {
            version: version(2),
            step: 1,
            cond: neco_schema::Condition::NotRunning,
            message: String::new(),
            request: Some(stopped.id()),
            origin: None,
            unknown: serde_json::Map::new(),
        };
        put(&mut cluster.world, &Key::Status(lrn), &status);
        let kv = cluster.world.etcd.get(&Key::Alive(lrn).to_string()).expect("it lives");
        let alive = neco_schema::Alive::decode(&kv.value).expect("an alive record");
        let newer = neco_schema::Alive { version: version(2), ..alive };
        put(&mut cluster.world, &Key::Alive(lrn), &newer);
    }
    let mut target = neco_schema::Target {
        version: version(1),
        pinned: true,
        allow_downgrade: false,
        allow_no_way_back: false,
        by: String::new(),
        reason: String::new(),
        at: Timestamp::default(),
        unknown: serde_json::Map::new(),
    };
    put(&mut cluster.world, &Key::Target, &target);
    let action = act(&mut cluster, Timestamp::from_unix(2));
    let Action::Wait(Waiting::Preflight { problems }) = action else { panic!("{action:?}") };
    assert!(problems[0].contains("--allow-downgrade"), "{problems:?}");

    target.allow_downgrade = true;
    put(&mut cluster.world, &Key::Target, &target);
    assert!(matches!(act(&mut cluster, Timestamp::from_unix(2)), Action::Request(_)));
}

// `recover --force` is decided while one member still runs; its `complete` lands first. Without a comparison of the
// statuses, a completed request would be recorded as stopped and done again.
#[test]
fn recover_does_not_overlook_a_status_that_came_in_between() {
    let mut cluster = quiet(2, vec![StepKind::Plain]);
    cluster.add_updater(1, false, 0);
    cluster.publish(|_| {});
    let completed = |cluster: &Cluster| {
        [0, 1].map(|number| Key::Status(Lrn::new(number)).to_string()).iter().all(|key| {
            let kv = cluster.world.etcd.get(key);
            let status = kv.and_then(|kv| UpdateStatus::decode(&kv.value).ok());
            status.is_some_and(|status| status.cond == neco_schema::Condition::Complete)
        })
    };
    cluster.lead();
    cluster.drive(0, |cluster| {
        cluster.world.etcd.get(&Key::Status(Lrn::new(0)).to_string()).is_some()
    });
    let view = cluster.world.leader_view();
    let order = operator::Order {
        by: "somebody".to_owned(),
        reason: "hurry".to_owned(),
        now: Timestamp::from_unix(1),
    };
    let how = operator::Recovery { force: true, retry: false };
    let txn = operator::recover(&view, how, &order).expect("force does not wait");
    cluster.drive_all(&[0, 1], completed);
    let source = Source::Operator { forced: true };
    assert_eq!(cluster.world.commit(source, None, &txn), Reply::Refused);
    assert!(completed(&cluster));
}

// The leader went on writing `clock/<id>` after the record of the completed request had removed it.
#[test]
fn the_clock_of_a_request_that_is_over_is_not_written_again() {
    let mut cluster = quiet(2, vec![StepKind::Plain]);
    cluster.add_updater(1, false, 0);
    cluster.publish(|_| {});
    let mut stopwatch = Stopwatch::default();
    cluster.lead();
    let view = cluster.world.leader_view();
    stopwatch.look(&view, &[], Duration::from_secs(1));
    assert!(stopwatch.txn(&view).is_some(), "it runs");
    cluster.wait_until(|cluster| matches!(cluster.leader_waits(), Some(Waiting::Idle)));
    for _ in 0..10 {
        cluster.pass(Duration::from_secs(30));
        cluster.settle();
    }
    let view = cluster.world.leader_view();
    stopwatch.look(&view, &[], Duration::from_secs(1));
    assert_eq!(stopwatch.txn(&view), None);
    assert!(view.clocks.is_empty(), "{:?}", view.clocks);
}

// A server left while its group was open and comes back while the next request is in the same group: the way of that
// request is not its to decide.
#[test]
fn a_server_that_left_does_not_write_over_the_way_of_the_present_request() {
    let group = VAULT.to_owned();
    let steps =
        vec![StepKind::Plain, StepKind::GroupStop(group.clone()), StepKind::GroupApply(group)];
    let mut cluster = quiet(3, steps);
    cluster.add_updater(1, false, 0);
    cluster.publish(|_| {});
    cluster.lead();
    let down = |cluster: &Cluster, at: usize| cluster.world.hosts[at].running(VAULT).is_none();
    cluster.drive_all(&[0, 1, 2], |cluster| down(cluster, 0));
    cluster.power_cut(0);
    cluster.rest_of(&[1, 2]);
    cluster.pass(Duration::from_secs(70));
    assert!(cluster.order(Command::Leave { lrn: Lrn::new(0), force: false }));
    let record = |cluster: &Cluster| {
        let kv = cluster.world.etcd.get(&Key::Group(VAULT.to_owned()).to_string())?;
        Group::decode(&kv.value).ok()
    };
    // The next request, without the server that left, decides to go forward.
    for _ in 0..20_000 {
        if record(&cluster).is_some_and(|group| group.way == Way::Forward) {
            break;
        }
        cluster.lead();
        let before = cluster.world.event_hash();
        for at in [1, 2] {
            cluster.step_of(at);
            if record(&cluster).is_some_and(|group| group.way == Way::Forward) {
                break;
            }
        }
        if cluster.world.event_hash() == before {
            cluster.pass(Duration::from_secs(10));
        }
    }
    let decided = record(&cluster).expect("a way");
    assert_eq!(decided.way, Way::Forward);
    cluster.boot(0);
    cluster.drive(0, |cluster| !down(cluster, 0));
    cluster.rest_of(&[0]);
    assert_eq!(record(&cluster), Some(decided));
}

// A server is taken out and registered again between two looks of the leader: the set of members is the same, and yet
// it has to be brought where the others are.
#[test]
fn a_server_that_was_registered_again_is_brought_up() {
    let mut cluster = quiet(2, vec![StepKind::Plain, StepKind::Plain]);
    cluster.add_updater(1, false, 0);
    cluster.publish(|_| {});
    cluster.lead();
    cluster.wait_until(|cluster| matches!(cluster.leader_waits(), Some(Waiting::Idle)));
    let before = request(&mut cluster).id();
    cluster.strike(&Fault::Rejoin(0));
    cluster.strike(&Fault::NewDisk(0));
    cluster.wait_until(|cluster| cluster.world.hosts[0].files.len() == 2);
    cluster.wait_until(|cluster| matches!(cluster.leader_waits(), Some(Waiting::Idle)));
    assert_ne!(request(&mut cluster).id(), before);
    assert_eq!(cluster.world.oracle.objections, Vec::<String>::new());
}
