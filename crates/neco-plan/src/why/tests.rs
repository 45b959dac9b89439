use std::collections::BTreeMap;
use std::time::Duration;

use neco_schema::{
    Alive, ClockRecord, Condition, Control, Group, HistoryRecord, Key, KeyValue, Lrn, NecoVersion,
    Origin, Outcome, Progress, Record, RequestId, RequestKind, Revision, Seen, Snapshot, StopNote,
    Target, Timestamp, Turn, UpdateRequest, UpdateStatus, Way,
};
use serde_json::Map;

use super::*;
use crate::Window;

/// What etcd holds in a test.
#[derive(Default)]
struct Fixture {
    kvs: BTreeMap<String, KeyValue>,
    words: BTreeMap<Lrn, WorkerWord>,
    leader: Option<LeaderWord>,
    window: Option<Window>,
    probes: Vec<String>,
    leaderless: bool,
}

const OLD: &str = "2026.11.20-40001";
const NEW: &str = "2026.11.21-40152";

fn version(text: &str) -> NecoVersion {
    text.parse().expect("a version")
}

fn at(clock: &str) -> Timestamp {
    format!("2026-11-21T{clock}Z").parse().expect("a time")
}

fn lrn(number: u32) -> Lrn {
    Lrn::new(number)
}

fn control(by: &str, reason: &str) -> Control {
    Control { by: by.into(), reason: reason.into(), at: at("08:30:00"), ..Control::default() }
}

fn request() -> UpdateRequest {
    let servers = [0, 1, 2].map(Lrn::new).to_vec();
    UpdateRequest {
        kind: Some(RequestKind::Release),
        ..UpdateRequest::new(version(NEW), servers, at("08:00:00"))
    }
}

impl Fixture {
    fn put(mut self, key: Key, value: Vec<u8>) -> Self {
        let key = key.to_string();
        let revision = Revision(self.kvs.len() as i64 + 1);
        let kv = KeyValue {
            key: key.clone(),
            value,
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            lease: None,
        };
        self.kvs.insert(key, kv);
        self
    }

    fn set(self, key: Key, record: &impl Record) -> Self {
        self.put(key, record.encode())
    }

    /// Three registered, living servers on `runs`, and the release NEW.
    fn three(runs: &str) -> Self {
        let mut fixture = Self::default()
            .put(Key::Release, NEW.into())
            .set(Key::Seen(version(NEW)), &Seen { at: at("07:55:00"), ..Seen::default() });
        for number in 0..3 {
            fixture =
                fixture.put(Key::BootServer(lrn(number)), Vec::new()).alive(number, runs, &[]);
        }
        fixture
    }

    fn alive(self, number: u32, runs: &str, busy: &[&str]) -> Self {
        let alive = Alive {
            machine_id: format!("machine-{number}"),
            boot_id: String::new(),
            version: version(runs),
            address: String::new(),
            busy: busy.iter().map(|text| (*text).to_owned()).collect(),
            unfit: Vec::new(),
            unknown: Map::new(),
        };
        self.set(Key::Alive(lrn(number)), &alive)
    }

    fn dead(mut self, number: u32) -> Self {
        self.kvs.remove(&Key::Alive(lrn(number)).to_string());
        self
    }

    fn status(self, number: u32, step: u32, cond: Condition) -> Self {
        let status = UpdateStatus {
            version: version(NEW),
            step,
            cond,
            message: String::new(),
            request: Some(request().id()),
            origin: None,
            unknown: Map::new(),
        };
        self.set(Key::Status(lrn(number)), &status)
    }

    /// All members in `step`, with their plans.
    fn all_in(mut self, step: u32) -> Self {
        self = self.set(Key::Request, &request());
        for number in 0..3 {
            self = self.status(number, step, Condition::Running).plan(number);
        }
        self
    }

    fn plan(self, number: u32) -> Self {
        let plan = neco_schema::MemberPlan {
            request: request().id(),
            recipe: neco_schema::RecipeDigest("d".into()),
            changes: Vec::new(),
            unknown: Map::new(),
        };
        self.set(Key::Plan(lrn(number)), &plan)
    }

    fn turn(self, number: u32) -> Self {
        let turn = Turn {
            lrn: lrn(number),
            request: request().id(),
            since: at("08:10:00"),
            unknown: Map::new(),
        };
        self.set(Key::Turn("etcd".into()), &turn)
    }

    fn explain(&self) -> Vec<Blocker> {
        let snapshot = Snapshot { revision: Revision(100), cluster_id: 1, kvs: self.kvs.clone() };
        let around = Circumstances {
            limits: Limits {
                request: Duration::from_secs(3600),
                step: Duration::from_secs(1200),
                window: self.window.unwrap_or(Window::Open),
                probes: self.probes.clone(),
            },
            led: !self.leaderless,
            now: at("09:00:00"),
            words: self.words.clone(),
            leader: self.leader.clone(),
        };
        explain(&View::assemble(&snapshot), &around)
    }

    /// The only blocker, which must be of this kind.
    fn only(&self, kind: BlockerKind) -> Blocker {
        let found = self.explain();
        assert_eq!(found.iter().map(|b| b.kind).collect::<Vec<_>>(), [kind], "{found:#?}");
        found[0].clone()
    }
}

#[test]
fn nothing_stands_in_the_way_when_all_is_done() {
    let mut fixture = Fixture::three(NEW).set(Key::Request, &request());
    for number in 0..3 {
        fixture = fixture.status(number, 18, Condition::Complete);
    }
    assert_eq!(fixture.explain(), []);
}

#[test]
fn what_the_leader_says_about_releases_is_told_also_when_all_is_done() {
    let mut fixture = Fixture::three(NEW).set(Key::Request, &request());
    for number in 0..3 {
        fixture = fixture.status(number, 18, Condition::Complete);
    }
    let word = |release_trouble: &str, waiting_for: &str| {
        let (release_trouble, waiting_for) = (release_trouble.to_owned(), waiting_for.to_owned());
        Some(LeaderWord { release_trouble, waiting_for })
    };
    fixture.leader = word("", "nothing is due");
    assert_eq!(fixture.explain(), []);
    fixture.leader = word("https://host/ answered 502", "nothing is due");
    // It may have found one all the same: a tag that is no version stands beside it.
    assert_eq!(
        fixture.only(BlockerKind::Releases).what,
        "about releases: https://host/ answered 502"
    );
}

#[test]
fn a_request_that_the_leader_cannot_make_is_told_in_its_words() {
    let mut fixture = Fixture::three(OLD);
    assert!(fixture.only(BlockerKind::LeaderDue).what.contains("is due to request"));
    let why = format!("{NEW} cannot be requested: https://host/ answered 502");
    fixture.leader = Some(LeaderWord { release_trouble: String::new(), waiting_for: why.clone() });
    assert!(fixture.only(BlockerKind::LeaderDue).what.ends_with(&why));
    // What it says of another version is not about this one.
    for other in [format!("{NEW}1"), format!("1{NEW}"), format!("{NEW}-rc.1")] {
        let waiting_for = format!("{other} cannot be requested: https://host/ answered 502");
        fixture.leader = Some(LeaderWord { release_trouble: String::new(), waiting_for });
        assert!(fixture.only(BlockerKind::LeaderDue).what.contains("is due to request"), "{other}");
    }
    let waiting_for = format!("somebody withdrew {NEW}.");
    fixture.leader = Some(LeaderWord { release_trouble: String::new(), waiting_for });
    assert!(fixture.only(BlockerKind::LeaderDue).what.contains("withdrew"));
}

#[test]
fn an_unreadable_record_is_named_by_its_key() {
    let fixture = Fixture::three(NEW).put(Key::Request, b"{\"version\":".to_vec());
    let blocker = fixture.only(BlockerKind::Unreadable);
    assert_eq!(blocker.key.as_deref(), Some("status/current"));
    assert_eq!(blocker.command.as_deref(), Some("necoctl recover --force"));

    let fixture = Fixture::three(NEW).all_in(3).put(Key::Status(lrn(1)), b"nonsense".to_vec());
    let found = fixture.explain();
    assert_eq!(found[0].kind, BlockerKind::Unreadable);
    assert_eq!(
        (found[0].key.as_deref(), &*found[0].servers),
        (Some("status/bootservers/1"), &[lrn(1)][..])
    );
}

#[test]
fn an_unreadable_turn_way_or_epoch_is_named_with_what_helps_against_it() {
    for (key, helps, command) in [
        (
            Key::Turn("etcd".into()),
            "once no server holds it",
            Some("necoctl turn release etcd --force --reason TEXT"),
        ),
        (Key::Group("vault".into()), "delete the key only if none has", None),
        (Key::Epoch, "put a right value there", Some("necoctl recover --force")),
    ] {
        let found = Fixture::three(NEW).all_in(3).put(key.clone(), b"{".to_vec()).explain();
        assert_eq!(found[0].kind, BlockerKind::Unreadable);
        assert_eq!(found[0].key, Some(key.to_string()));
        assert!(found[0].remedy.contains(helps), "{}", found[0].remedy);
        assert_eq!(found[0].command.as_deref(), command);
    }
}

#[test]
fn a_stray_key_is_no_blocker() {
    let mut fixture = Fixture::three(NEW).all_in(3);
    let stray = fixture.kvs[&Key::Release.to_string()].clone();
    fixture.kvs.insert("nope".into(), KeyValue { key: "nope".into(), ..stray });
    assert!(fixture.explain().iter().all(|b| b.kind == BlockerKind::Step));
}

#[test]
fn a_worker_that_does_not_believe_etcd_is_quoted() {
    let mut fixture = Fixture::three(NEW).all_in(3);
    let why = "etcd was restored from a backup (revision 5, this server has seen 90): run 'necoctl recover --force'";
    let word = WorkerWord { distrusts: true, why: why.into(), since: at("08:20:00") };
    fixture.words.insert(lrn(2), word);
    let blocker = fixture.explain().remove(0);
    assert_eq!((blocker.kind, blocker.since), (BlockerKind::Distrust, Some(at("08:20:00"))));
    assert!(blocker.what.contains("boot server 2") && blocker.what.contains("seen 90"));
    assert_eq!(blocker.command.as_deref(), Some("necoctl recover --force"));
}

#[test]
fn a_missing_leader_is_named() {
    let fixture = Fixture { leaderless: true, ..Fixture::three(OLD) };
    fixture.only(BlockerKind::NoLeader);
}

#[test]
fn a_due_leader_is_named_with_what_it_is_to_do() {
    let blocker = Fixture::three(OLD).only(BlockerKind::LeaderDue);
    assert!(blocker.what.contains(NEW), "{}", blocker.what);
}

#[test]
fn a_release_that_was_not_noted_yet_hides_nothing() {
    let mut fixture = Fixture::three(OLD).dead(1).status(1, 18, Condition::Complete);
    fixture.kvs.remove(&Key::Seen(version(NEW)).to_string());
    fixture.only(BlockerKind::DeadServer);
}

#[test]
fn what_a_server_that_is_behind_says_of_itself_is_told_before_what_it_does() {
    let full = "the journal cannot be written: writing /x (free space on its file system)";
    let unfit = |lrn: u32, why: &str| {
        let mut fixture = Fixture::three(NEW).all_in(3).status(lrn, 2, Condition::Running);
        let key = Key::Alive(self::lrn(lrn)).to_string();
        let mut alive = Alive::decode(&fixture.kvs[&key].value).expect("a record");
        alive.unfit = vec![why.to_owned()];
        fixture.kvs.get_mut(&key).expect("alive").value = alive.encode();
        fixture.explain()
    };
    let found = unfit(1, full);
    assert_eq!(found[0].kind, BlockerKind::Unfit);
    assert_eq!(found[0].what, format!("boot server 1: {full}"));
    assert_eq!(found[1].kind, BlockerKind::Step);
    // What only matters before an update is no news within one.
    let found = unfit(1, &format!("{}: it is being looked for", Alive::NO_WAY_BACK));
    assert_eq!(found[0].kind, BlockerKind::Step);
}

#[test]
fn a_pause_names_who_and_why() {
    let fixture = Fixture::three(NEW)
        .all_in(3)
        .set(Key::Pause, &control("alice", "waiting for the network team"));
    let blocker = fixture.explain().remove(0);
    assert_eq!((blocker.kind, blocker.since), (BlockerKind::Pause, Some(at("08:30:00"))));
    assert_eq!(blocker.what, "paused by alice: waiting for the network team");
    assert_eq!(blocker.command.as_deref(), Some("necoctl resume"));
}

#[test]
fn without_a_release_the_setting_is_pointed_at() {
    let mut fixture = Fixture::three(OLD);
    fixture.kvs.remove(&Key::Release.to_string());
    fixture.kvs.remove(&Key::Seen(version(NEW)).to_string());
    let blocker = fixture.only(BlockerKind::NoRelease);
    assert_eq!(blocker.command.as_deref(), Some("necoctl config set env prod"));
    let set = fixture.put(Key::Config(neco_schema::ConfigKey::Env), b"prod".to_vec());
    assert_eq!(set.only(BlockerKind::NoRelease).command, None);
}

#[test]
fn a_stopped_request_names_cause_time_and_the_way_on() {
    let note = StopNote {
        by: "alice".into(),
        leader: false,
        reason: "wrong week".into(),
        at: at("08:40:00"),
        unknown: Default::default(),
    };
    let stopped = UpdateRequest { stop: true, stopped: Some(note), ..request() };
    let mut fixture = Fixture::three(NEW).set(Key::Request, &stopped);
    for number in 0..3 {
        fixture = fixture.status(number, 3, Condition::NotRunning);
    }
    let blocker = fixture.only(BlockerKind::Stopped);
    assert!(blocker.what.ends_with("by alice: wrong week"), "{}", blocker.what);
    assert_eq!(blocker.since, Some(at("08:40:00")));
    assert_eq!(blocker.command.as_deref(), Some("necoctl recover"));

    let busy = fixture.alive(1, NEW, &["restart of etcd.service"]);
    let found = busy.explain();
    assert_eq!(found[1].kind, BlockerKind::NotSettled);
    assert!(found[1].what.contains("restart of etcd.service"), "{}", found[1].what);
}

#[test]
fn an_aborted_request_names_the_origin_and_the_retry() {
    let origin =
        Origin { lrn: lrn(2), step: 7, cause: "disk is full".into(), unknown: Default::default() };
    let note = StopNote {
        by: "updater on boot-0".into(),
        leader: true,
        reason: "boot server 2 aborted in step 7: disk is full".into(),
        at: at("08:40:00"),
        unknown: Default::default(),
    };
    let stopped = UpdateRequest { stop: true, stopped: Some(note), ..request() };
    let mut fixture = Fixture::three(NEW).set(Key::Request, &stopped);
    for number in 0..3 {
        let status = UpdateStatus {
            version: version(NEW),
            step: 7,
            cond: Condition::Abort,
            message: String::new(),
            request: Some(stopped.id()),
            origin: Some(origin.clone()),
            unknown: Map::new(),
        };
        fixture = fixture.set(Key::Status(lrn(number)), &status);
    }
    let blocker = fixture.only(BlockerKind::Stopped);
    assert!(blocker.what.contains("disk is full"), "{}", blocker.what);
    assert_eq!((&*blocker.servers, blocker.step), (&[lrn(2)][..], Some(7)));
    assert_eq!(blocker.command.as_deref(), Some("necoctl recover --retry"));
}

#[test]
fn a_server_that_works_is_named_with_step_and_progress() {
    let mut fixture = Fixture::three(NEW).all_in(5);
    for number in [0, 2] {
        fixture = fixture.status(number, 6, Condition::Running);
    }
    let progress = Progress {
        request: request().id(),
        step: 5,
        attempt: 2,
        doing: "waiting for serf".into(),
        bytes: None,
        total_bytes: None,
        since: at("08:50:00"),
        unknown: Map::new(),
    };
    let blocker = fixture.set(Key::Progress(lrn(1)), &progress).only(BlockerKind::Step);
    assert_eq!(blocker.what, "boot server 1 is in step 5: waiting for serf, attempt 2");
    assert_eq!((&*blocker.servers, blocker.step), (&[lrn(1)][..], Some(5)));
    assert_eq!(blocker.since, Some(at("08:50:00")));
}

#[test]
fn a_dead_member_is_named_since_the_step_stands_still() {
    let clock =
        ClockRecord { elapsed: 0, step: 5, step_elapsed: 600_000_000_000, unknown: Map::new() };
    let mut fixture = Fixture::three(NEW).all_in(5).dead(1).set(Key::Clock(request().id()), &clock);
    for number in [0, 2] {
        fixture = fixture.status(number, 6, Condition::Running);
    }
    let blocker = fixture.only(BlockerKind::DeadServer);
    assert_eq!((&*blocker.servers, blocker.since), (&[lrn(1)][..], Some(at("08:50:00"))));
    assert_eq!(blocker.command.as_deref(), Some("necoctl leave 1"));
}

#[test]
fn the_first_server_is_named_while_the_others_wait_for_it() {
    let fixture = Fixture::three(OLD).set(Key::Request, &request());
    let blocker = fixture.only(BlockerKind::FirstServer);
    assert_eq!(blocker.servers, [lrn(0)]);
    assert!(blocker.what.ends_with("boot servers 1, 2 wait for it"), "{}", blocker.what);

    let installed = fixture.status(0, 1, Condition::Running).plan(0);
    let found = installed.explain();
    let kinds: Vec<_> = found.iter().map(|b| (b.kind, b.servers.clone())).collect();
    assert_eq!(kinds, [(BlockerKind::Install, vec![lrn(1)]), (BlockerKind::Install, vec![lrn(2)])]);
}

#[test]
fn a_dead_first_server_is_named_as_dead() {
    let fixture = Fixture::three(OLD).set(Key::Request, &request()).dead(0).plan(0);
    fixture.only(BlockerKind::DeadServer);
}

#[test]
fn a_dead_server_is_named_also_while_all_wait_for_the_first() {
    let fixture = Fixture::three(OLD).set(Key::Request, &request()).dead(2).plan(2);
    let found = fixture.explain();
    let kinds: Vec<_> = found.iter().map(|b| (b.kind, b.servers.clone())).collect();
    let expected =
        [(BlockerKind::FirstServer, vec![lrn(0)]), (BlockerKind::DeadServer, vec![lrn(2)])];
    assert_eq!(kinds, expected);
    assert!(found[0].what.ends_with("; boot server 1 waits for it"), "{}", found[0].what);
}

/// Who has the version already goes on without the first server, which is no longer the only one to wait for.
#[test]
fn all_who_are_dead_before_the_first_step_are_named() {
    let mut fixture = Fixture::three(NEW).set(Key::Request, &request());
    fixture = fixture.status(1, 1, Condition::Running).plan(1);
    let fixture = fixture.dead(0).plan(0).dead(2).plan(2);
    let found = fixture.explain();
    let kinds: Vec<_> = found.iter().map(|b| (b.kind, b.servers.clone())).collect();
    let expected =
        [(BlockerKind::DeadServer, vec![lrn(0)]), (BlockerKind::DeadServer, vec![lrn(2)])];
    assert_eq!(kinds, expected);
}

#[test]
fn missing_plans_are_named() {
    let mut fixture = Fixture::three(NEW).all_in(1);
    fixture.kvs.remove(&Key::Plan(lrn(2)).to_string());
    let found = fixture.explain();
    assert_eq!((found[0].kind, &*found[0].servers), (BlockerKind::Plan, &[lrn(2)][..]));
}

#[test]
fn the_turn_of_a_dead_holder_is_named_with_the_release() {
    let fixture = Fixture::three(NEW).all_in(18).turn(1).dead(1);
    let found = fixture.explain();
    let blocker = found.iter().find(|b| b.kind == BlockerKind::DeadHolder).expect("a dead holder");
    assert_eq!((&*blocker.servers, blocker.since), (&[lrn(1)][..], Some(at("08:10:00"))));
    assert_eq!(blocker.command.as_deref(), Some("necoctl turn release etcd --reason TEXT"));
}

#[test]
fn the_turn_of_a_living_holder_is_named_while_others_work() {
    let found = Fixture::three(NEW).all_in(18).turn(1).explain();
    let blocker = found.iter().find(|b| b.kind == BlockerKind::Turn).expect("a holder");
    assert_eq!((&*blocker.servers, blocker.command.as_ref()), (&[lrn(1)][..], None));
}

#[test]
fn a_group_that_goes_back_is_named() {
    let group = Group { request: request().id(), way: Way::Back, unknown: Map::new() };
    let stopped = UpdateRequest { stop: true, ..request() };
    let mut fixture = Fixture::three(NEW)
        .set(Key::Request, &stopped)
        .set(Key::Group("vault".into()), &group)
        .alive(1, NEW, &["group vault"]);
    for number in 0..3 {
        fixture = fixture.status(number, 9, Condition::NotRunning);
    }
    let found = fixture.explain();
    let blocker = found.iter().find(|b| b.kind == BlockerKind::Group).expect("a group");
    assert_eq!((&*blocker.servers, blocker.key.as_deref()), (&[lrn(1)][..], Some("group/vault")));
}

#[test]
fn what_fails_before_a_request_is_named() {
    let fixture = Fixture {
        probes: vec!["Vault is sealed".into()],
        ..Fixture::three(OLD).alive(2, OLD, &["install of 1.0.0"])
    };
    let found = fixture.explain();
    assert!(found.iter().all(|b| b.kind == BlockerKind::Preflight), "{found:#?}");
    assert_eq!((&*found[0].servers, found.len()), (&[lrn(2)][..], 2));
    assert!(found[1].what.ends_with("Vault is sealed"));
}

fn completed_old() -> Fixture {
    let old = UpdateRequest { version: version(OLD), ..request() };
    let mut fixture = Fixture::three(OLD).set(Key::Request, &old);
    for number in 0..3 {
        let status = UpdateStatus {
            version: version(OLD),
            step: 18,
            cond: Condition::Complete,
            message: String::new(),
            request: Some(old.id()),
            origin: None,
            unknown: Map::new(),
        };
        fixture = fixture.set(Key::Status(lrn(number)), &status);
    }
    fixture
}

#[test]
fn a_closed_window_names_its_opening_and_the_way_around() {
    let fixture = Fixture { window: Some(Window::Closed(Some(at("22:00:00")))), ..completed_old() };
    let blocker = fixture.only(BlockerKind::Window);
    assert!(blocker.what.contains("2026-11-21T22:00:00Z"), "{}", blocker.what);
    assert_eq!(blocker.since, Some(at("07:55:00")));
    assert_eq!(blocker.command, Some(format!("necoctl update --to {NEW}")));
}

#[test]
fn a_version_that_was_aborted_before_names_when_and_why() {
    let id = RequestId::claimed("0123456789abcdef");
    let record = HistoryRecord {
        id: id.clone(),
        version: version(NEW),
        servers: vec![lrn(0)],
        kind: "release".into(),
        started_at: at("06:00:00"),
        ended_at: at("06:10:00"),
        outcome: Outcome::Aborted,
        by: "updater on boot-0".into(),
        cause: "the new worker did not come up".into(),
        origin: Some(Origin {
            lrn: lrn(0),
            step: 1,
            cause: "x".into(),
            unknown: Default::default(),
        }),
        notices: Vec::new(),
        unknown: Map::new(),
    };
    let seen = Seen { at: at("05:00:00"), aborted: Some(id.clone()), ..Seen::default() };
    let fixture = Fixture::three(OLD)
        .set(Key::Seen(version(NEW)), &seen)
        .set(Key::History(at("06:00:00"), id), &record);
    let blocker = fixture.only(BlockerKind::AbortedBefore);
    assert!(blocker.what.contains("did not come up"), "{}", blocker.what);
    assert_eq!((blocker.since, blocker.step), (Some(at("06:10:00")), Some(1)));
    assert_eq!(blocker.command, Some(format!("necoctl update --to {NEW}")));
}

#[test]
fn a_newer_release_that_was_aborted_is_named_though_all_is_done() {
    let seen = |aborted: bool| Seen {
        at: at("05:00:00"),
        aborted: aborted.then(|| RequestId::claimed("0123456789abcdef")),
        ..Seen::default()
    };
    let newer = completed_old()
        .set(Key::Seen(version(OLD)), &seen(false))
        .set(Key::Seen(version(NEW)), &seen(true));
    let blocker = newer.only(BlockerKind::AbortedBefore);
    assert!(blocker.what.contains(NEW), "{}", blocker.what);
    assert_eq!(blocker.command, Some(format!("necoctl update --to {NEW}")));
    // One that is older than what runs is no news.
    let mut older = completed_old()
        .put(Key::Release, OLD.into())
        .set(Key::Seen(version(OLD)), &seen(false))
        .set(Key::Seen(version("0.9.0")), &seen(true));
    older.kvs.remove(&Key::Seen(version(NEW)).to_string());
    assert_eq!(older.explain(), []);
}

#[test]
fn a_withdrawn_pin_is_named_with_the_unpin() {
    let target = Target {
        version: version(NEW),
        pinned: true,
        allow_downgrade: false,
        allow_no_way_back: false,
        by: "alice".into(),
        reason: String::new(),
        at: at("08:00:00"),
        unknown: Map::new(),
    };
    let fixture = completed_old()
        .set(Key::Target, &target)
        .set(Key::Withdrawn(version(NEW)), &control("bob", "breaks the network"));
    let blocker = fixture.only(BlockerKind::Withdrawn);
    assert!(blocker.what.ends_with("by bob: breaks the network"), "{}", blocker.what);
    assert_eq!(blocker.command.as_deref(), Some("necoctl update --unpin"));
}

#[test]
fn a_request_of_an_unknown_kind_is_named() {
    let unknown = UpdateRequest { kind: Some(RequestKind::Unknown("rollout".into())), ..request() };
    Fixture::three(NEW).set(Key::Request, &unknown).only(BlockerKind::UnknownKind);
}
