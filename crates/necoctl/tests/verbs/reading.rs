//! `status`, `why`, `history` and `turn list` show what is there.

use std::sync::Arc;
use std::time::Duration;

use neco_process::listener::{Listener, Pages, Readiness};
use neco_process::ready::{Ready, ReadyFile};
use neco_schema::{
    Condition, Control, HistoryRecord, HistoryServer, Key, Origin, Outcome, Progress, RequestId,
    StepTimes, StopNote, Target, Turn, UpdateRequest, UpdateStatus,
};
use necoctl::cli::Style;
use serde_json::Map;

use crate::harness::{Bench, FORMS, NEW, OLD, at, golden, lrn, request, version};

/// An update in its middle, with everything that can be said about one.
fn in_the_middle() -> Bench {
    let bench = Bench::three(NEW).all_in(3);
    bench.status(0, 4, Condition::Running);
    let progress = Progress {
        request: request().id(),
        step: 3,
        attempt: 2,
        doing: "pulling image sabakan".into(),
        bytes: Some(12 << 20),
        total_bytes: Some(40 << 20),
        since: at("08:58:00"),
        unknown: Map::new(),
    };
    let pause = Control {
        by: "bob".into(),
        reason: "the network team works".into(),
        at: at("08:59:00"),
        ..Control::default()
    };
    let target = Target {
        version: version(NEW),
        pinned: true,
        allow_downgrade: false,
        allow_no_way_back: false,
        by: "alice".into(),
        reason: "wanted today".into(),
        at: at("07:59:00"),
        unknown: Map::new(),
    };
    let turn =
        Turn { lrn: lrn(2), request: request().id(), since: at("08:57:00"), unknown: Map::new() };
    bench
        .set(Key::Progress(lrn(1)), &progress)
        .set(Key::Pause, &pause)
        .set(Key::Target, &target)
        .set(Key::Withdrawn(version(OLD)), &pause)
        .set(Key::Turn("etcd".into()), &turn)
        .delete(&Key::Alive(lrn(2)));
    bench
}

/// An update that one member has aborted.
fn aborted() -> Bench {
    let bench = Bench::three(NEW);
    let origin = Origin {
        lrn: lrn(2),
        step: 2,
        cause: "no space left on device".into(),
        unknown: Default::default(),
    };
    let note = StopNote {
        by: "updater on boot-1".into(),
        leader: true,
        reason: "boot server 2 aborted in step 2: no space left on device".into(),
        at: at("08:30:00"),
        unknown: Default::default(),
    };
    let stopped = UpdateRequest { stop: true, stopped: Some(note), ..request() };
    bench.set(Key::Request, &stopped);
    for number in 0..3 {
        let status = UpdateStatus {
            version: version(NEW),
            step: 2,
            cond: Condition::Abort,
            message: "boot server 2 in step 2: no space left on device".into(),
            request: Some(stopped.id()),
            origin: Some(origin.clone()),
            unknown: Map::new(),
        };
        bench.set(Key::Status(lrn(number)), &status);
    }
    bench
}

fn completed() -> Bench {
    let bench = Bench::three(NEW).all_in(4);
    for number in 0..3 {
        bench.status(number, 4, Condition::Complete);
    }
    bench
}

#[tokio::test]
async fn status_and_why_look_as_expected() {
    for (name, bench) in [
        ("empty", Bench::new()),
        ("in-the-middle", in_the_middle()),
        ("aborted", aborted()),
        ("completed", completed()),
    ] {
        for verb in ["status", "why"] {
            for (form, _) in FORMS {
                let run = bench.run(&[verb, "--output", form]).await;
                assert_eq!((run.code, run.err.as_str()), (0, ""), "{verb} {name}");
                golden(&format!("{verb}-{name}.{form}.txt"), &run.out);
            }
        }
    }
}

#[tokio::test]
async fn the_original_layout_is_kept_to_the_letter() {
    let mut bench = aborted();
    bench.style = Style::Original;
    bench.put("info/bootservers/10", "");
    let run = bench.run(&["status"]).await;
    let expected = "\
Boot servers: [0 1 10 2]
Update process
    status: aborted
   version: 2026.11.21-40152
   members: [0 1 2]
   started: 2026-11-21T08:00:00Z

Boot server 0
    step: 2
    condition: aborted
    message: boot server 2 in step 2: no space left on device

Boot server 1
    step: 2
    condition: aborted
    message: boot server 2 in step 2: no space left on device

Boot server 2
    step: 2
    condition: aborted
    message: boot server 2 in step 2: no space left on device
";
    assert_eq!((run.code, run.out.as_str()), (0, expected));

    let mut bench = Bench::new();
    bench.style = Style::Original;
    bench.put("info/bootservers/0", "");
    let run = bench.run(&["status"]).await;
    assert_eq!(run.out, "Boot servers: [0]\nUpdate process\n    status: clear\n");
}

#[tokio::test]
async fn the_original_layout_takes_what_a_go_peer_wrote() {
    let mut bench = Bench::new();
    bench.style = Style::Original;
    bench
        .put("info/bootservers/0", "")
        .put(
            "status/current",
            r#"{"version":"1.0.0","servers":[0],"stop":false,"started_at":"2021-04-19T10:02:03.5+09:00"}"#,
        )
        .put("status/bootservers/0", r#"{"version":"1.0.0","step":18,"cond":3,"message":""}"#);
    let run = bench.run(&["status"]).await;
    let expected = "\
Boot servers: [0]
Update process
    status: completed
   version: 1.0.0
   members: [0]
   started: 2021-04-19T01:02:03Z

Boot server 0
    step: 18
    condition: completed
";
    assert_eq!(run.out, expected);
}

#[tokio::test]
async fn a_stray_key_is_named_and_harms_nobody() {
    let bench = completed();
    bench.put("status/bootservers/x", "1").put("nonsense", "2");
    let run = bench.run(&["status"]).await;
    assert_eq!(run.code, 0);
    for key in ["status/bootservers/x", "nonsense"] {
        assert!(
            run.out
                .contains(&format!("key {key}: no key of Neco; delete it if nobody else uses it")),
            "{}",
            run.out
        );
    }
    assert_eq!(bench.run(&["status", "--output=json"]).await.json()["problems"][0]["stray"], true);
}

#[tokio::test]
async fn a_malformed_value_is_named_by_its_key_wherever_it_is() {
    for key in [
        "status/current",
        "status/bootservers/1",
        "alive/1",
        "progress/1",
        "plan/1",
        "turn/etcd",
        "group/vault",
        "clock/0123456789abcdef",
        "contents/sabakan",
        "control/target",
        "control/pause",
        "control/epoch",
        "seen/1.0.0",
        "history/2026-11-21T08:00:00.000000000Z-0123456789abcdef",
        "info/neco-release",
        "control/withdrawn/1.0.0",
        "config/env",
        "config/github-token",
        "config/node-proxy",
        "config/release-timezone",
    ] {
        let bench = completed();
        bench.put(key, "{\"version\": nonsense");
        let run = bench.run(&["status"]).await;
        assert_eq!(run.code, 1, "{key}: {}", run.out);
        let remedy = neco_plan::Problem { key: key.to_owned(), error: String::new() }.remedy();
        let line = run.out.lines().find(|line| line.contains(&format!("key {key}: ")));
        assert!(line.is_some_and(|line| line.ends_with(&remedy)), "{key}: {}", run.out);
        // Nothing else gives up for it.
        for verb in ["why", "history"] {
            let run = bench.run(&[verb]).await;
            assert!(run.code <= 1 && !run.out.is_empty(), "{verb} {key}: {run:?}");
        }
    }
}

#[tokio::test]
async fn texts_from_etcd_cannot_move_the_cursor() {
    let bench = completed();
    bench.put("info/bootservers/\u{1b}[2J", "").put(
        "control/pause",
        r#"{"by":"a\u001b[31mb","reason":"x\ny","at":"2026-11-21T08:00:00Z"}"#,
    );
    for verb in ["status", "why"] {
        let run = bench.run(&[verb]).await;
        assert!(!run.out.contains('\u{1b}'), "{:?}", run.out);
    }
}

#[tokio::test]
async fn steps_of_another_recipe_have_numbers_only() {
    let bench = Bench::three(NEW).all_in(3);
    bench.plan(0, "another");
    let report = bench.run(&["status", "--output=json"]).await.json();
    assert_eq!(report["servers"][0]["step"], 3);
    assert!(report["servers"][0]["step_name"].is_null() && report["request"]["steps"].is_null());
}

#[tokio::test]
async fn secrets_are_in_no_output() {
    const SECRETS: [(&str, &str); 6] = [
        ("config/github-token", "hunter2-token"),
        ("config/notification/slack", "https://hooks.example/hunter2-slack"),
        ("vault-unseal-key", "hunter2-unseal"),
        ("vault-root-token", "hunter2-root"),
        ("bmc/ipmi-password", "hunter2-bmc"),
        ("teleport/auth-token", "hunter2-teleport"),
    ];
    let bench = in_the_middle();
    for (key, secret) in SECRETS {
        bench.put(key, secret);
    }
    for line in [
        &["status"][..],
        &["why"],
        &["history"],
        &["turn", "list"],
        &["config", "list"],
        &["config", "get", "github-token"],
        &["config", "get", "slack"],
        &["recover", "--force", "--dry-run"],
        &["config", "unset", "github-token", "--dry-run"],
        &["config", "unset", "slack"],
        &["leave", "2", "--dry-run"],
    ] {
        for (form, _) in FORMS {
            let run = bench.run(&[line, &["--output", form]].concat()).await;
            let all = run.out + &run.err;
            assert!(!all.contains("hunter2"), "{line:?}: {all}");
        }
    }
    let revealed = bench.run(&["config", "get", "github-token", "--reveal"]).await;
    assert_eq!(revealed.out, "hunter2-token\n");
}

fn with_history() -> Bench {
    let bench = completed();
    let id = RequestId::claimed("0123456789abcdef");
    let record = HistoryRecord {
        id: id.clone(),
        version: version(OLD),
        servers: [0, 1, 2].map(lrn).to_vec(),
        kind: "release".into(),
        started_at: at("06:00:00"),
        ended_at: at("06:03:05"),
        outcome: Outcome::Aborted,
        by: "updater on boot-1".into(),
        cause: "boot server 0 aborted in step 2: broken".into(),
        origin: Some(Origin {
            lrn: lrn(0),
            step: 2,
            cause: "broken".into(),
            unknown: Default::default(),
        }),
        notices: Vec::new(),
        unknown: Map::new(),
    };
    let part = HistoryServer {
        lrn: lrn(0),
        steps: vec![
            StepTimes {
                step: 1,
                begun: at("06:00:01"),
                ended: Some(at("06:01:00")),
                unknown: Default::default(),
            },
            StepTimes { step: 2, begun: at("06:01:00"), ended: None, unknown: Default::default() },
        ],
        unknown: Map::new(),
    };
    bench
        .set(Key::HistoryServer(at("06:00:00"), id.clone(), lrn(0)), &part)
        .set(Key::History(at("06:00:00"), id), &record)
        .set(
            Key::History(at("07:00:00"), RequestId::claimed("fedcba9876543210")),
            &HistoryRecord {
                id: RequestId::claimed("fedcba9876543210"),
                started_at: at("07:00:00"),
                ended_at: at("07:02:00"),
                outcome: Outcome::Completed,
                cause: String::new(),
                origin: None,
                ..record
            },
        );
    bench
}

#[tokio::test]
async fn history_looks_as_expected() {
    let bench = with_history();
    for (form, _) in FORMS {
        let run = bench.run(&["history", "--output", form]).await;
        assert_eq!(run.code, 0);
        golden(&format!("history.{form}.txt"), &run.out);
        let run = bench.run(&["history", "0123", "--output", form]).await;
        assert_eq!(run.code, 0);
        golden(&format!("history-one.{form}.txt"), &run.out);
    }
    let last = bench.run(&["history", "--last=1"]).await;
    assert!(last.out.contains("fedcba9876543210") && !last.out.contains("0123456789abcdef"));
    let none = bench.run(&["history", "77"]).await;
    assert_eq!(none.code, 3, "{}", none.err);
}

#[tokio::test]
async fn without_etcd_reading_ends_with_2_and_says_what_is_stale() {
    let bench = completed();
    bench.store.go_down();
    for verb in ["why", "history"] {
        assert_eq!(bench.run(&[verb]).await.code, 2, "{verb}");
    }
    let run = bench.run(&["status"]).await;
    assert_eq!(run.code, 2);
    assert!(
        run.out.starts_with("STALE: ") && run.out.contains("neco-worker does not run"),
        "{run:?}"
    );
    let json = bench.run(&["status", "--output=json"]).await.json();
    assert_eq!((json["stale"].clone(), json["format"].clone()), (true.into(), 1.into()));
}

#[tokio::test(start_paused = true)]
async fn a_watched_status_tells_news_and_only_news() {
    let bench = Bench::three(NEW).all_in(1);
    let store = bench.store.clone();
    let watching = async {
        let mut out = Vec::new();
        let mut err = Vec::new();
        let mut io = necoctl::io::Io {
            out: &mut out,
            err: &mut err,
            input: &mut std::io::empty(),
            input_is_terminal: false,
            output_is_terminal: false,
            output: necoctl::cli::Output::Human,
            style: Style::Ours,
        };
        let mut session = necoctl::session::Session {
            store: Arc::new(store),
            root: bench.root.path().to_owned(),
            user: "alice".into(),
            now: || at("09:00:00"),
            io: &mut io,
        };
        let end = tokio::time::sleep(Duration::from_secs(120));
        necoctl::commands::status::watch(&mut session, end).await.expect("a watch");
        String::from_utf8(out).expect("text")
    };
    let changing = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        bench.status(1, 2, Condition::Running);
    };
    let (text, ()) = tokio::join!(watching, changing);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "2026-11-21T09:00:00Z update to 2026.11.21-40152: running",
            "2026-11-21T09:00:00Z boot server 0: step 1/4 fetch-images, running",
            "2026-11-21T09:00:00Z boot server 1: step 1/4 fetch-images, running",
            "2026-11-21T09:00:00Z boot server 2: step 1/4 fetch-images, running",
            "2026-11-21T09:00:00Z boot server 1: step 2/4 serf, running",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_watched_status_on_a_terminal_draws_over_itself() {
    let bench = in_the_middle();
    let mut out = Vec::new();
    let mut err = Vec::new();
    let mut io = necoctl::io::Io {
        out: &mut out,
        err: &mut err,
        input: &mut std::io::empty(),
        input_is_terminal: false,
        output_is_terminal: true,
        output: necoctl::cli::Output::Human,
        style: Style::Ours,
    };
    let mut session = necoctl::session::Session {
        store: Arc::new(bench.store.clone()),
        root: bench.root.path().to_owned(),
        user: "alice".into(),
        now: || at("09:00:00"),
        io: &mut io,
    };
    let end = tokio::time::sleep(Duration::from_millis(1500));
    necoctl::commands::status::watch(&mut session, end).await.expect("a watch");
    let text = String::from_utf8(out).expect("text");
    // Drawn twice or more: each picture but the first begins by going up its four lines.
    assert!(text.matches("\u{1b}[4A").count() >= 1, "{text:?}");
    let picture = necoctl::status::live::picture(&report(&bench).await, at("09:00:00"));
    golden("status-live.txt", &(picture.join("\n") + "\n"));
}

async fn report(bench: &Bench) -> necoctl::status::Report {
    let ranges = neco_plan::operator_ranges();
    let snapshot = bench.store.with(|mvcc| mvcc.read(&ranges, None)).expect("a snapshot");
    let names = necoctl::status::StepNames::read(bench.root.path());
    necoctl::status::Report::new(&neco_plan::View::assemble(&snapshot), &snapshot, names.as_ref())
}

/// A worker on this server, with a status page.
async fn worker(bench: &Bench, page: serde_json::Value) -> (Ready, Listener) {
    daemon(bench, "neco-worker", page).await
}

/// A daemon on this server, with a status page.
async fn daemon(bench: &Bench, name: &str, page: serde_json::Value) -> (Ready, Listener) {
    let (_, readiness) = tokio::sync::watch::channel(Readiness::Ready);
    let (_, status) = tokio::sync::watch::channel(page);
    let pages = Pages { metrics: Arc::default(), readiness, status };
    let listener = Listener::start("127.0.0.1:0", pages);
    let mut bound = listener.bound();
    let mut ready = Ready::announce(bench.root.path(), name, NEW).expect("a ready file");
    ready.follow(listener.bound());
    let file = ReadyFile::path(bench.root.path(), name);
    let told = async {
        bound.wait_for(Option::is_some).await.expect("an address");
        while ReadyFile::read(&file).ok().flatten().and_then(|file| file.listen).is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), told).await.expect("a listener");
    (ready, listener)
}

#[tokio::test]
async fn without_etcd_status_shows_what_the_worker_here_last_knew() {
    let bench = completed();
    let page = serde_json::json!({ "decided": "rest", "waiting_for": "etcd", "busy": [] });
    let _worker = worker(&bench, page).await;
    bench.store.go_down();
    let run = bench.run(&["status"]).await;
    assert_eq!(run.code, 2);
    assert!(
        run.out
            .contains(&format!("neco-worker {NEW} runs\n  decided: rest\n  waiting_for: etcd\n")),
        "{}",
        run.out
    );
    let json = bench.run(&["status", "--output=json"]).await.json();
    assert_eq!(json["daemons"][1]["status"]["waiting_for"], "etcd");
}

#[tokio::test]
async fn why_quotes_a_worker_that_does_not_believe_etcd() {
    let bench = completed();
    std::fs::create_dir_all(bench.root.path().join("etc/neco")).expect("a folder");
    std::fs::write(bench.root.path().join("etc/neco/rack"), "1\n").expect("a rack file");
    let page = serde_json::json!({
        "row": 5,
        "waiting_for": "etcd was restored from a backup (revision 5, this server has seen 90): run 'necoctl recover --force'",
        "since": "2026-11-21T08:20:00Z",
    });
    let _worker = worker(&bench, page).await;
    let run = bench.run(&["why"]).await;
    assert!(
        run.out.starts_with("boot server 1 rests: etcd was restored")
            && run.out.contains("command necoctl recover --force"),
        "{}",
        run.out
    );
}

#[tokio::test]
async fn a_release_whose_update_was_aborted_is_shown_as_not_taken() {
    let bench = Bench::new();
    bench.put(
        "seen/2026.11.22-40153",
        r#"{"at":"2026-11-21T07:00:00Z","aborted":"0123456789abcdef"}"#,
    );
    let run = bench.run(&["status"]).await;
    let line =
        "Not taken  2026.11.22-40153: its update was aborted; it is not chosen again by itself";
    assert!(run.out.lines().any(|shown| shown == line), "{}", run.out);
    let json = bench.run(&["status", "--output=json"]).await.json();
    assert_eq!(json["aborted"], serde_json::json!(["2026.11.22-40153"]));
}

#[tokio::test]
async fn a_leader_here_that_finds_no_release_is_quoted_and_another_updater_is_not() {
    let bench = completed();
    let page = |leads: bool| {
        serde_json::json!({
            "leads": leads,
            "release_trouble": "https://host/ answered 502: the server has trouble",
            "waiting_for": "nothing is due",
        })
    };
    let updater = daemon(&bench, "neco-updater", page(true)).await;
    let told = "about releases: https://host/ answered 502";
    let run = bench.run(&["why"]).await;
    assert!(run.out.starts_with(told) && run.out.contains("remedy"), "{}", run.out);
    let run = bench.run(&["status"]).await;
    let line = "no newer release is found: https://host/ answered 502: the server has trouble";
    let shown = |shown: &str| shown.starts_with("Trouble ") && shown.ends_with(line);
    assert!(run.out.lines().any(shown), "{}", run.out);
    let json = bench.run(&["status", "--output=json"]).await.json();
    assert!(json["release_trouble"].as_str().is_some_and(|why| why.contains("502")), "{json}");
    drop(updater);
    let _updater = daemon(&bench, "neco-updater", page(false)).await;
    let run = bench.run(&["why"]).await;
    assert!(run.out.starts_with("Nothing stands in the way"), "{}", run.out);
}
