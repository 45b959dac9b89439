//! Changing verbs do what they say, say what they did, and refuse with the right exit code.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use neco_schema::{Condition, Key, Record, Turn, UpdateRequest};
use necoctl::cli::Style;
use serde_json::Map;

use crate::disturbed::Disturbed;
use crate::harness::{Bench, NEW, OLD, at, golden, lrn, request};

fn running() -> Bench {
    Bench::three(NEW).all_in(2)
}

fn stopped(bench: &Bench, cond: Condition) {
    bench.set(Key::Request, &UpdateRequest { stop: true, ..request() });
    for number in 0..3 {
        bench.status(number, 2, cond);
    }
}

fn current(bench: &Bench) -> Option<UpdateRequest> {
    let text = bench.get("status/current")?;
    Some(UpdateRequest::decode(text.as_bytes()).expect("a request"))
}

#[tokio::test]
async fn stop_says_by_whom_and_why() {
    let bench = running();
    let run = bench.run(&["stop", "--reason", "wrong week"]).await;
    assert_eq!(run.code, 0, "{}", run.err);
    assert_eq!(
        run.out,
        "the update to 2026.11.21-40152 is stopped; its members settle at their next safe point\n"
    );
    let request = current(&bench).expect("a request");
    let note = request.stopped.expect("a note");
    assert_eq!((request.stop, &*note.by, &*note.reason), (true, "alice", "wrong week"));

    let again = bench.run(&["stop"]).await;
    assert_eq!(again.code, 0);
    assert!(again.out.starts_with("unchanged: ") && again.out.contains("already"), "{}", again.out);
}

#[tokio::test]
async fn stop_without_a_request_ends_with_3() {
    assert_eq!(Bench::new().run(&["stop"]).await.code, 3);
}

#[tokio::test]
async fn stop_of_an_unreadable_request_is_refused_and_names_the_flag() {
    let bench = running();
    bench.put("status/current", "{");
    let run = bench.run(&["stop"]).await;
    assert_eq!(run.code, 5);
    assert!(
        run.err.contains("status/current") && run.err.contains("recover --force"),
        "{}",
        run.err
    );
}

#[tokio::test]
async fn a_rehearsal_tells_and_writes_nothing() {
    for line in [
        &["stop"][..],
        &["pause"],
        &["withdraw", NEW],
        &["update", "--to", NEW],
        &["leave", "1", "--force"],
        &["recover", "--force"],
        &["config", "set", "env", "prod"],
    ] {
        let bench = running();
        let before = bench.store.with(|mvcc| mvcc.revision());
        let run = bench.run(&[line, &["--dry-run"]].concat()).await;
        assert_eq!(run.code, 0, "{line:?}: {}", run.err);
        assert!(run.out.starts_with("would be done, and was not:\n  "), "{}", run.out);
        assert_eq!(bench.store.with(|mvcc| mvcc.revision()), before, "{line:?}");
        let json = bench.run(&[line, &["--dry-run", "--output=json"]].concat()).await.json();
        assert_eq!(json["outcome"], "planned");
        assert!(json["writes"][0].is_object(), "{json}");
    }
}

#[tokio::test]
async fn pause_and_resume_are_idempotent() {
    let bench = running();
    assert_eq!(bench.run(&["pause", "--reason", "maintenance"]).await.code, 0);
    let again = bench.run(&["pause"]).await;
    assert_eq!(
        (again.code, again.out.as_str()),
        (0, "unchanged: already paused by alice: maintenance\n")
    );
    let run = bench.run(&["resume"]).await;
    assert_eq!((run.code, run.out.as_str()), (0, "goes on; it was paused by alice: maintenance\n"));
    assert_eq!(bench.run(&["resume"]).await.out, "unchanged: nothing is paused\n");
    assert_eq!(bench.get("control/pause"), None);
}

#[tokio::test]
async fn recover_of_a_running_update_is_refused_and_names_the_flag() {
    let run = running().run(&["recover"]).await;
    assert_eq!(run.code, 5);
    assert!(run.err.contains("--force"), "{}", run.err);
    assert_eq!(Bench::new().run(&["recover"]).await.code, 3);
}

#[tokio::test]
async fn recover_puts_everything_of_the_update_away() {
    let bench = running();
    stopped(&bench, Condition::NotRunning);
    bench.put("contents/sabakan", r#"{"version":"1.0.0","success":true}"#);
    let run = bench.run(&["recover"]).await;
    assert_eq!((run.code, run.out.as_str()), (0, "the update to 2026.11.21-40152 is put away\n"));
    let keys = bench.keys();
    assert!(!keys.iter().any(|key| key.starts_with("status/") || key.starts_with("contents/")));
    assert!(keys.iter().any(|key| key.starts_with("history/")), "{keys:?}");
}

#[tokio::test(start_paused = true)]
async fn recover_waits_and_names_who_is_missing() {
    let bench = running();
    stopped(&bench, Condition::NotRunning);
    bench.status(1, 2, Condition::Running);
    let settling = async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        bench.status(1, 2, Condition::NotRunning);
    };
    let (run, ()) = tokio::join!(bench.run(&["recover"]), settling);
    assert_eq!(run.code, 0, "{}", run.err);
    assert_eq!(run.err, "waiting for boot servers 1 to settle (--force does not wait)\n");
}

#[tokio::test(start_paused = true)]
async fn recover_gives_up_at_its_deadline_with_2() {
    let bench = running();
    stopped(&bench, Condition::NotRunning);
    bench.alive(2, NEW, &["restart of etcd.service"]);
    let run = bench.run(&["recover", "--wait", "5s"]).await;
    assert_eq!(run.code, 2);
    assert!(run.err.contains("boot servers 2") && run.err.contains("--force"), "{}", run.err);
    assert!(current(&bench).is_some());
    assert_eq!(bench.run(&["recover", "--force"]).await.code, 0);
    assert!(current(&bench).is_none());
}

#[tokio::test]
async fn an_aborted_version_is_forgiven_only_when_asked() {
    for (line, forgiven) in [(&["recover"][..], false), (&["recover", "--retry"], true)] {
        let bench = running();
        stopped(&bench, Condition::Abort);
        let run = bench.run(line).await;
        assert_eq!(run.code, 0, "{}", run.err);
        let seen = bench.get(&format!("seen/{NEW}")).expect("seen");
        assert_eq!(!seen.contains("aborted"), forgiven, "{seen}");
    }
}

#[tokio::test]
async fn update_to_pins_and_unpin_follows_again() {
    let bench = Bench::three(OLD);
    let run = bench.run(&["update", "--to", NEW, "--reason", "today"]).await;
    assert_eq!(run.code, 0, "{}", run.err);
    let target = bench.get("control/target").expect("a target");
    assert!(target.contains(r#""pinned":true"#) && target.contains(r#""by":"alice""#), "{target}");
    assert_eq!(bench.run(&["update", "--unpin"]).await.code, 0);
    assert_eq!(bench.get("control/target"), None);
    assert_eq!(bench.run(&["update", "--unpin"]).await.out, "unchanged: no version is pinned\n");
}

#[tokio::test]
async fn going_back_is_refused_and_names_the_flag() {
    let bench = Bench::three(NEW);
    let run = bench.run(&["update", "--to", OLD]).await;
    assert_eq!(run.code, 5);
    assert!(run.err.contains("--allow-downgrade"), "{}", run.err);
    assert_eq!(bench.run(&["update", "--to", OLD, "--allow-downgrade"]).await.code, 0);
}

#[tokio::test]
async fn withdraw_is_idempotent_and_forbids_the_version() {
    let bench = running();
    let run = bench.run(&["withdraw", NEW, "--reason", "broken"]).await;
    assert_eq!(run.code, 0);
    assert!(run.out.contains("is withdrawn; the update to it is stopped"), "{}", run.out);
    assert!(bench.run(&["withdraw", NEW]).await.out.starts_with("unchanged: "));
    assert_eq!(bench.run(&["update", "--to", NEW]).await.code, 5);
}

#[tokio::test]
async fn leave_takes_exactly_its_own_records() {
    let bench = running();
    bench
        .put("info/bootservers/10", "")
        .put("install/1/debs/x", "v1")
        .put("install/10/debs/x", "v1")
        .delete(&Key::Alive(lrn(1)));
    let run = bench.run(&["leave", "1"]).await;
    assert_eq!(run.code, 0, "{}", run.err);
    assert_eq!(
        run.out,
        "\
boot server 1 has left; the leader replaces the request by one without it
  delete info/bootservers/1
  delete status/bootservers/1
  delete install/1/debs/x
"
    );
    let keys = bench.keys();
    assert!(keys.contains(&"install/10/debs/x".to_owned()));
    assert!(keys.contains(&"info/bootservers/10".to_owned()));
    assert_eq!(bench.run(&["leave", "1"]).await.code, 3);
}

#[tokio::test]
async fn leave_of_a_living_or_the_last_server_is_refused() {
    let bench = running();
    let run = bench.run(&["leave", "1"]).await;
    assert_eq!(run.code, 5);
    assert!(run.err.contains("--force"), "{}", run.err);
    assert_eq!(bench.run(&["leave", "1", "--force"]).await.code, 0);
    let alone = Bench::new();
    alone.put("info/bootservers/0", "");
    assert_eq!(alone.run(&["leave", "0", "--force"]).await.code, 5);
}

#[tokio::test]
async fn a_turn_is_released_for_the_dead_and_by_force_only() {
    let bench = running();
    let turn =
        Turn { lrn: lrn(2), request: request().id(), since: at("08:57:00"), unknown: Map::new() };
    bench.set(Key::Turn("etcd".into()), &turn);
    let list = bench.run(&["turn", "list"]).await;
    assert!(list.out.contains("etcd") && list.out.contains(request().id().as_str()));

    let line = ["turn", "release", "etcd", "--reason", "burnt down"];
    let run = bench.run(&line).await;
    assert_eq!(run.code, 5);
    assert!(run.err.contains("--force"), "{}", run.err);
    bench.delete(&Key::Alive(lrn(2)));
    let run = bench.run(&line).await;
    assert_eq!(
        (run.code, run.out.as_str()),
        (0, "the turn etcd is released; boot server 2 held it\n")
    );
    assert_eq!(bench.run(&line).await.code, 3);
    assert_eq!(bench.run(&["turn", "list"]).await.out, "No turn is taken.\n");
}

#[tokio::test]
async fn what_was_ordered_stands_in_the_history_with_name_and_reason() {
    let mut bench = running();
    bench.input = "http://user:hunter2@proxy:3128\n";
    assert_eq!(bench.run(&["history", "--orders"]).await.out, "Nothing was ordered.\n");
    bench.set(
        Key::Turn("etcd".into()),
        &Turn { lrn: lrn(1), request: request().id(), since: at("08:57:00"), unknown: Map::new() },
    );
    // What was not carried out was not ordered.
    for line in [&["pause", "--dry-run"][..], &["resume"], &["leave", "1"]] {
        bench.run(line).await;
    }
    for line in [
        &["pause", "--reason", "maintenance"][..],
        &["resume", "--reason", "is over", "--by", "bob"],
        &["update", "--to", NEW, "--allow-downgrade"],
        &["update", "--unpin", "--reason", "no pin"],
        &["turn", "release", "etcd", "--force", "--reason", "burnt down"],
        &["leave", "1", "--force", "--reason", "sold"],
        &["config", "set", "proxy", "--reason", "moved"],
        &["withdraw", OLD, "--reason", "unfit"],
        &["stop", "--reason", "wrong week"],
        &["recover", "--force", "--reason", "enough"],
    ] {
        let run = bench.run(line).await;
        assert_eq!(run.code, 0, "{line:?}: {}", run.err);
    }
    let run = bench.run(&["history", "--orders"]).await;
    golden("history-orders.human.txt", &run.out);
    let json = bench.run(&["history", "--orders", "--last=2", "--output=json"]).await.json();
    let told: Vec<_> = json["orders"].as_array().expect("a list").iter().collect();
    assert_eq!(told.len(), 2);
    assert_eq!(
        (told[1]["order"].as_str(), told[1]["by"].as_str(), told[1]["reason"].as_str()),
        (Some("recover --force"), Some("alice"), Some("enough"))
    );
    assert!(told[0]["at"].as_str() < told[1]["at"].as_str(), "{json}");

    bench.put("order/2026-11-21T08:00:00.000000000Z", "{");
    let run = bench.run(&["history", "--orders"]).await;
    assert_eq!(run.code, 1);
    assert!(run.err.contains("order/2026-11-21T08:00:00.000000000Z"), "{}", run.err);
}

#[tokio::test]
async fn without_etcd_every_order_ends_with_2() {
    let bench = running();
    bench.store.go_down();
    for line in [
        &["stop"][..],
        &["recover"],
        &["pause"],
        &["resume"],
        &["withdraw", NEW],
        &["update", "--to", NEW],
        &["leave", "1"],
        &["turn", "list"],
        &["config", "set", "env", "prod"],
        &["config", "get", "env"],
    ] {
        assert_eq!(bench.run(line).await.code, 2, "{line:?}");
    }
}

#[tokio::test]
async fn a_lost_answer_is_told_as_such() {
    let bench = running();
    bench.store.lose_answers(1);
    let run = bench.run(&["pause"]).await;
    assert_eq!(run.code, 2);
    assert!(
        run.err.contains("not known whether") && run.err.contains("necoctl status"),
        "{}",
        run.err
    );
}

#[tokio::test]
async fn the_original_is_silent_when_done_and_knows_one_failure() {
    let mut bench = running();
    bench.style = Style::Original;
    assert_eq!(bench.run(&["recover"]).await.code, 1);
    stopped(&bench, Condition::NotRunning);
    let run = bench.run(&["recover"]).await;
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (0, "", ""));
    assert_eq!(bench.run(&["recover"]).await.code, 1);
    bench.store.go_down();
    assert_eq!(bench.run(&["status"]).await.code, 1);
}

#[tokio::test]
async fn a_lost_race_is_run_again_and_then_told_with_4() {
    for (races, code) in [(2, 0), (100, 4)] {
        let bench = running();
        let (store, lost_races) = (bench.store.clone(), AtomicUsize::new(races));
        let store = Arc::new(Disturbed { store, lost_races, ..Disturbed::default() });
        let run = bench.run_on(store, &["pause"]).await;
        assert_eq!(run.code, code, "{}", run.err);
        assert_eq!(bench.get("control/pause").is_some(), code == 0);
    }
}
