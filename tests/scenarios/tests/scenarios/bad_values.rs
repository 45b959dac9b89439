//! Records of any form and size, under every kind of key.

use neco_playground::BootServer;
use neco_scenarios::{
    Said, Scenario, Told, leads_alone, lines, memory, necoctl, now, others_come_back, processes,
    says, settled,
};
use neco_schema::{
    Condition, Ending, Key, Lrn, NecoVersion, Record as _, RequestId, RequestKind, SCHEMA,
    UpdateRequest,
};
use nix::sys::signal::Signal;

/// What a person does about most of them.
const REMEDY: &str = "put a right value there or delete the key";
/// Stands before the value under every key of a secret and under every stray key, and is shown nowhere.
const HIDDEN: &str = "hunter2-whatNobodyMaySee";
/// etcd takes 1.5 MiB in one request, key and frame included.
const ALMOST_TOO_LARGE: usize = (3 << 19) - 1024;
/// The longest line about one record.
const LONGEST_LINE: usize = 800;
/// What one process may take while it reads a folder of such records.
const MEMORY_KIB: u64 = 256 << 10;
/// No such server, and no such request.
const NOBODY: Lrn = Lrn::new(7);

/// Who makes sense of a value, and so says that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    /// Workers and the leader.
    Everybody,
    /// The leader.
    Leader,
    /// The command line alone.
    Operator,
    /// Nobody in this version: the key says it all, or others read it.
    Nobody,
}

/// A key of the same family that this site can do without, and who reads it. Nothing for those that the whole site hangs
/// on: they have their own tests.
fn spare(family: Key) -> Option<(Key, Reader)> {
    use Reader::{Everybody, Leader, Nobody, Operator};
    let id = || RequestId::claimed("0123456789abcdef");
    Some(match family {
        Key::Request | Key::Target | Key::Pause | Key::Epoch | Key::Release | Key::Config(_) => {
            return None;
        }
        Key::Status(_) => (Key::Status(NOBODY), Everybody),
        Key::Progress(_) => (Key::Progress(NOBODY), Leader),
        Key::Plan(_) => (Key::Plan(NOBODY), Everybody),
        Key::Alive(_) => (Key::Alive(NOBODY), Everybody),
        Key::Turn(_) => (Key::Turn("spare".to_owned()), Everybody),
        Key::Group(_) => (Key::Group("spare".to_owned()), Everybody),
        Key::Clock(_) => (Key::Clock(id()), Leader),
        Key::Withdrawn(_) => (Key::Withdrawn("1.0.0".parse().expect("a version")), Everybody),
        Key::Seen(_) => (Key::Seen("1.0.0".parse().expect("a version")), Leader),
        Key::History(at, _) => (Key::History(at, id()), Operator),
        Key::HistoryServer(at, _, lrn) => (Key::HistoryServer(at, id(), lrn), Nobody),
        Key::Contents(_) => (Key::Contents("spare".to_owned()), Everybody),
        // The value means nothing.
        Key::BootServer(_) => (Key::BootServer(Lrn::new(0)), Nobody),
        Key::Candidate { lease, .. } => {
            (Key::Candidate { election: "sabakan-state-setter".to_owned(), lease }, Nobody)
        }
        other @ (Key::Order(_)
        | Key::SshPublicKey
        | Key::InstalledContainer(..)
        | Key::InstalledDeb(..)
        | Key::Preview(_)
        | Key::PreviewAnswer(..)
        | Key::Finish(_)
        | Key::Bmc(_)
        | Key::TeleportAuthToken
        | Key::CkeWeight
        | Key::VaultUnsealKey
        | Key::VaultRootToken
        | Key::GracePeriods
        | Key::RebootListEntry(_)
        | Key::RebooterWriteIndex
        | Key::RebooterProcessingGroup
        | Key::RebooterIsEnabled) => (other, Nobody),
    })
}

/// One of every family of the schema.
fn spares() -> Vec<(Key, Reader)> {
    let mut keys: Vec<(Key, Reader)> = SCHEMA
        .iter()
        .filter_map(|doc| spare(doc.example.parse().expect("an example of the schema")))
        .collect();
    keys.sort_by_key(|(key, _)| key.to_string());
    keys.dedup_by_key(|(key, _)| key.to_string());
    keys
}

/// Values that no record of ours has.
fn values() -> Vec<Vec<u8>> {
    let mut values: Vec<Vec<u8>> = Vec::new();
    values.push(b"{\"version\":\"1.0.\xff\xfe0\",\"by\":\"\xff\"}".to_vec());
    values.push(b"{\"version\":\"1.0.0\0\"}\0\0".to_vec());
    values.push(b"\x1b[2J\x1b]0;title\x07{\n\n\n".to_vec());
    values.push("[".repeat(10_000).into_bytes());
    values.push(format!("{}1{}", "{\"version\":".repeat(5_000), "}".repeat(5_000)).into_bytes());
    let long = |length: usize| "x".repeat(length);
    for length in [1 << 20, ALMOST_TOO_LARGE] {
        let text = long(length - 500);
        values.push(
            format!("{{\"version\":\"{text}\",\"request\":[\"any\"],\"by\":[]}}").into_bytes(),
        );
    }
    // The last of them stay for a while: short ones.
    let small = [
        "",
        "{",
        "null",
        "[]",
        "5",
        "words",
        // Every field that some record asks for, of a wrong type.
        r#"{"version":5,"step":"one","cond":[],"request":5,"recipe":5,"machine_id":5,"lrn":"x","way":"up","elapsed":-1,"at":"noon","by":5,"id":5,"success":"yes","attempt":-1}"#,
        // Numbers that are none of ours.
        r#"{"version":"1.0.0","step":-1,"cond":1,"request":"a","lrn":-1,"way":"sideways","elapsed":1e30,"at":"10000-01-01T00:00:00Z","by":{},"machine_id":null,"success":2,"attempt":99999999999999999999,"id":[]}"#,
        // A version that is none.
        r#"{"version":"../../etc/passwd","step":1,"request":"a","lrn":99999999999,"way":"","elapsed":1.5,"at":"","by":[],"machine_id":[],"id":"a"}"#,
        // Members given twice.
        r#"{"version":"1.0.0","version":7,"Step":1,"step":"2","request":"a","request":7,"lrn":0,"lrn":"0","way":"back","way":7,"elapsed":0,"elapsed":"0","at":"2026-11-21T08:00:00Z","at":7,"by":"a","by":7,"machine_id":"a","machine_id":7,"id":"a","id":7}"#,
    ]
    .map(|text: &str| text.as_bytes().to_vec());
    values.extend(small);
    values
}

/// The lines of a daemon about a key.
fn said(server: &BootServer, daemon: &str, key: &Key) -> Vec<String> {
    lines(server, daemon, &[" WARN ", &format!("key {key}: ")])
}

/// What is put under `key` for a value.
fn under(key: &Key, value: &[u8]) -> Vec<u8> {
    let hidden = if key.is_secret() { HIDDEN } else { "" };
    [hidden.as_bytes(), value].concat()
}

/// Runs a verb on a server, and checks that it shows nothing that is hidden.
async fn shown(server: &BootServer, verb: &[&str]) -> Told {
    let told = necoctl(server, verb).await;
    assert!(!told.out.contains(HIDDEN) && !told.err.contains(HIDDEN), "{verb:?}: {told:?}");
    told
}

/// The daemons that read `key`.
fn readers<'a>(
    scenario: &'a Scenario,
    leader: &'a BootServer,
    reader: Reader,
) -> Vec<(&'a BootServer, &'static str)> {
    let workers = scenario.servers().iter().map(|server| (server, "neco-worker"));
    match reader {
        Reader::Everybody => workers.chain([(leader, "neco-updater")]).collect(),
        Reader::Leader => vec![(leader, "neco-updater")],
        Reader::Operator | Reader::Nobody => Vec::new(),
    }
}

/// Puts one value under all of `keys`: everybody who reads a key names it, and nobody writes over it.
async fn is_named(scenario: &Scenario, leader: &BootServer, keys: &[(Key, Reader)], value: &[u8]) {
    for (key, _) in keys {
        scenario.write_bytes(&key.to_string(), &under(key, value)).await;
    }
    let what: String = String::from_utf8_lossy(value).chars().take(60).collect();
    // What the pure reader makes of it, everybody who reads it says.
    let view = scenario.view().await.expect("an answer");
    for problem in &view.problems {
        let found = keys.iter().find(|(key, _)| key.to_string() == problem.key);
        // What stands elsewhere was looked at when it was put there.
        let Some((key, reader)) = found else { continue };
        assert_ne!(*reader, Reader::Nobody, "{what:?}: {problem}");
        let line = problem.to_string();
        assert!(line.len() < LONGEST_LINE && !line.contains(char::is_control), "{line}");
        assert!(line.starts_with(&format!("key {key}: ")), "{line}");
        for (server, daemon) in readers(scenario, leader, *reader) {
            scenario.logged(server, daemon, &[" WARN ", &line]).await;
        }
    }
    let named = |key: &Key| view.problems.iter().any(|problem| problem.key == key.to_string());
    // Where nothing stands, nothing is wrong with an order or a record that was read without its value.
    let may_be = |key: &Key| match key {
        Key::History(..) => value.is_empty(),
        Key::Withdrawn(_) => true,
        _ => false,
    };
    let silent: Vec<&Key> = keys
        .iter()
        .filter(|(key, reader)| *reader != Reader::Nobody && !named(key) && !may_be(key))
        .map(|(key, _)| key)
        .collect();
    assert!(silent.is_empty(), "{what:?}: nobody says a word about {silent:?}");
    for (key, _) in keys {
        let stands = scenario.value(&key.to_string()).await.expect("left alone");
        let left = under(key, value);
        assert!(stands == String::from_utf8_lossy(&left), "{key} was written over");
    }
    let told = shown(leader, &["status"]).await.ended(1);
    for problem in &view.problems {
        let named = format!("key {}: ", problem.key);
        let line = told.out.lines().find(|line| line.contains(&named));
        let line = line.unwrap_or_else(|| panic!("{named} is missing in {}", told.out));
        assert!(line.len() < LONGEST_LINE && line.ends_with(&problem.remedy()), "{line}");
    }
    shown(leader, &["why"]).await.ended(0);
    let told = shown(leader, &["history"]).await;
    assert!(matches!(told.code, Some(0 | 1)), "{what:?}: {}", told.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn values_of_any_form_and_size_are_named_once_left_alone_and_stop_nothing_else() {
    let scenario = Scenario::begin().await;
    let leader = scenario.server(0);
    leads_alone(&scenario, leader).await;
    let ran = scenario.processes();
    let keys = spares();
    let mut right = Vec::new();
    for (key, _) in &keys {
        right.push(scenario.value(&key.to_string()).await);
    }

    let waves = values();
    for value in &waves {
        // What nobody reads is not read because it is large; and not everything is so at once.
        if value.len() > 1 << 19 {
            let read: Vec<_> =
                keys.iter().filter(|(_, reader)| *reader != Reader::Nobody).cloned().collect();
            for some in read.chunks(3) {
                is_named(&scenario, leader, some, value).await;
                for (key, _) in some {
                    scenario.erase(&key.to_string()).await;
                }
            }
        } else {
            is_named(&scenario, leader, &keys, value).await;
        }
    }

    // Keys of any form and length.
    let strays = [format!("turn/{}\n\u{1b}[2J", "x".repeat(20_000)), "contents/a/b".to_owned()];
    for stray in &strays {
        scenario.write(stray, HIDDEN).await;
    }
    for (server, daemon) in readers(&scenario, leader, Reader::Everybody) {
        for words in [["key turn/xxx", "is no key of Neco"], ["key contents/a/b", REMEDY]] {
            let line = scenario.logged(server, daemon, &words).await;
            assert!(line.len() < LONGEST_LINE && !line.contains('\u{1b}'), "{line}");
        }
    }
    let told = shown(leader, &["status"]).await.ended(1).out;
    assert!(told.contains("key turn/xxx") && !told.contains('\u{1b}'), "{told}");
    for stray in &strays {
        scenario.erase(stray).await;
    }

    for (key, reader) in &keys {
        for (server, daemon) in readers(&scenario, leader, *reader) {
            let lines = said(server, daemon, key);
            assert!(lines.len() <= waves.len(), "{key}: said again and again: {lines:#?}");
        }
    }
    for server in scenario.servers() {
        for daemon in ["neco-worker", "neco-updater"] {
            let log = server.log(daemon);
            assert!(log.lines().all(|line| line.len() < 2 * LONGEST_LINE), "a line is too long");
            assert!(!log.contains(HIDDEN), "{daemon} on boot-{} shows a secret", server.lrn());
        }
        for process in processes(server) {
            let memory = memory(process);
            assert!(memory < MEMORY_KIB, "process {process} took {memory} KiB");
        }
    }
    assert_eq!(scenario.processes(), ran, "nobody ended for it");
    assert!(keys.iter().any(|(key, _)| key.is_secret()), "some of them are secrets");
    others_come_back(&scenario, leader).await;

    // All of them stand there while an update goes through; a withdrawn version that nobody wants harms nobody.
    for ((key, _), right) in keys.iter().zip(&right) {
        // What a new version would trip over: a turn, a group and a member of its own kind are put right first.
        match right {
            Some(right) => scenario.write(&key.to_string(), right).await,
            None if matches!(key, Key::Candidate { .. }) => scenario.erase(&key.to_string()).await,
            None => {}
        }
    }
    let version = scenario.publish_update().await;
    scenario.completed(&version).await;
    for ((key, _), right) in keys.iter().zip(&right) {
        if right.is_none() {
            scenario.erase(&key.to_string()).await;
        }
    }
    scenario.verdict(&version).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long; `cargo xtask test --all` runs it"]
async fn what_decisions_hang_on_is_named_by_why_and_put_right() {
    let scenario = Scenario::begin().await;
    let leader = scenario.server(0);
    leads_alone(&scenario, leader).await;
    let ran = scenario.processes();
    let request = scenario.value("status/current").await.expect("a request");
    let replaced = |from: &str, to: &str| {
        let other = request.replacen(from, to, 1);
        assert_ne!(other, request, "{from} is not in {request}");
        other
    };
    let servers = "\"servers\":[0,1,2]";

    // The request: with it unreadable nobody begins anything.
    for wrong in [
        replaced(servers, "\"servers\":[-1]"),
        replaced(servers, "\"servers\":[4294967296]"),
        replaced(servers, "\"servers\":\"all\""),
        replaced("\"stop\":false", "\"stop\":\"no\""),
        replaced("\"version\":\"", "\"version\":\"v"),
        replaced("\"started_at\":\"", "\"started_at\":\"about "),
    ] {
        scenario.write("status/current", &wrong).await;
        let view = scenario.view().await.expect("an answer");
        let problem = view.problems.iter().find(|problem| problem.key == "status/current");
        let line = problem.unwrap_or_else(|| panic!("{wrong} can be read")).to_string();
        assert!(line.ends_with(REMEDY), "{line}");
        for (server, daemon) in readers(&scenario, leader, Reader::Everybody) {
            scenario.logged(server, daemon, &[&line]).await;
        }
        let told = necoctl(leader, &["why"]).await.ended(0).out;
        assert!(
            told.contains("key status/current cannot be read") && told.contains(REMEDY),
            "{told}"
        );
    }
    scenario.write("status/current", &request).await;

    // Operators' orders and what is read beside the request.
    let cut = "{\"version\": ";
    for (key, words) in [
        ("control/target", "necoctl update --unpin"),
        ("control/pause", "necoctl resume"),
        ("control/epoch", "necoctl recover --force"),
        ("turn/etcd", "necoctl turn release etcd --force"),
        ("status/bootservers/2", REMEDY),
        ("plan/2", REMEDY),
        ("contents/sabakan", REMEDY),
    ] {
        let right = scenario.value(key).await;
        scenario.write(key, cut).await;
        for (server, daemon) in readers(&scenario, leader, Reader::Everybody) {
            scenario.logged(server, daemon, &[" WARN ", &format!("key {key}: ")]).await;
        }
        let told = necoctl(leader, &["why"]).await.ended(0).out;
        let named = told.contains(&format!("key {key} cannot be read")) && told.contains(words);
        assert!(named || key.starts_with("contents/"), "{key}: {told}");
        let told = necoctl(leader, &["status"]).await.ended(1).out;
        assert!(told.contains(&format!("key {key}: ")), "{key}: {told}");
        assert_eq!(scenario.value(key).await.as_deref(), Some(cut), "{key} is left alone");
        match right {
            Some(right) => scenario.write(key, &right).await,
            None => scenario.erase(key).await,
        }
    }
    // A condition that this version does not know. Its owner knows better and writes over it, so it is
    // held until everybody else has said so.
    let owner = scenario.server(2);
    owner.worker().signal(Signal::SIGSTOP).await.expect("it runs");
    let status = scenario.value("status/bootservers/2").await.expect("a status");
    let mut odd: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    odd["cond"] = 9.into();
    let requested = scenario.value("status/current").await;
    scenario.write("status/bootservers/2", &odd.to_string()).await;
    let words = ["key status/bootservers/2: field cond: expected 0 to 3, found 9", REMEDY];
    let readers = readers(&scenario, leader, Reader::Everybody).into_iter();
    let (owners, others): (Vec<_>, Vec<_>) =
        readers.partition(|(server, _)| server.lrn() == owner.lrn());
    for (server, daemon) in others {
        scenario.logged(server, daemon, &words).await;
    }
    owner.worker().signal(Signal::SIGCONT).await.expect("it is still there");
    for (server, daemon) in owners {
        scenario.logged(server, daemon, &words).await;
    }
    scenario
        .until("the owner says again that it has completed", |view| {
            let status = view.statuses.get(&owner.lrn());
            status.is_some_and(|status| status.value.cond == Condition::Complete)
        })
        .await;
    assert_eq!(scenario.value("status/current").await, requested, "nobody began anything for it");

    let version = of_a_later_version(&scenario, leader).await;
    assert_eq!(scenario.processes(), ran, "nobody ended for any of it");
    others_come_back(&scenario, leader).await;
    let recover = ["recover", "--wait=180s", "--reason=an old version is here"];
    necoctl(leader, &recover).await.ended(0);
    scenario.completed(&version).await;
    scenario.verdict(&version).await;
}

/// A request of a kind, and then one with an ending, that this version does not know: nobody begins anything, and everybody
/// says what to do. Gives what it asked for.
async fn of_a_later_version(scenario: &Scenario, leader: &BootServer) -> NecoVersion {
    let version = scenario.packages().update().clone();
    let done = scenario.view().await.expect("an answer").current().expect("a request").clone();
    // A notice tells requests apart by whole seconds.
    let ago = |seconds: i64| now().plus_nanos(-seconds * 1_000_000_000);
    let odd = UpdateRequest {
        kind: Some(RequestKind::Unknown("pilgrimage".to_owned())),
        ..UpdateRequest::new(version.clone(), done.servers.clone(), ago(4))
    };
    let text = |request: &UpdateRequest| String::from_utf8(request.encode()).expect("text");
    scenario.write("status/current", &text(&odd)).await;
    scenario.publish_update().await;
    let words = ["decided: rest", "kind \"pilgrimage\", which this version does not know"];
    for server in scenario.servers() {
        scenario.logged(server, "neco-worker", &words).await;
    }
    let view = scenario.until("the release", |view| view.release.as_ref() == Some(&version)).await;
    assert_eq!(view.member_statuses(&odd).count(), 0, "nobody begins it");
    let told = necoctl(leader, &["why"]).await.ended(0).out;
    says(&told, &[words[1], "install the version that made it", "necoctl stop"]);
    says(&necoctl(leader, &["status"]).await.out, &["pilgrimage"]);

    // The leader replaces a request only where it knows that it is to.
    let decided = Said::until_now(leader, "neco-updater", &["decided: wait-for-user-recovery "]);
    let stopped = UpdateRequest {
        stop: true,
        ending: Some(Ending::Unknown("burial".to_owned())),
        kind: Some(RequestKind::Release),
        ..UpdateRequest::new(version.clone(), done.servers, ago(2))
    };
    scenario.write("status/current", &text(&stopped)).await;
    settled(scenario, &stopped, &scenario.servers().iter().collect::<Vec<_>>()).await;
    decided.more(scenario).await;
    let told = necoctl(leader, &["why"]).await.ended(0).out;
    says(&told, &["is stopped", "command necoctl recover"]);
    let stands = scenario.value("status/current").await;
    assert_eq!(stands, Some(text(&stopped)), "it is left alone");
    let installed = scenario.packages().first();
    for server in scenario.servers() {
        assert_eq!(server.version_on_disk().as_deref(), Some(installed.as_str()));
    }
    version
}
