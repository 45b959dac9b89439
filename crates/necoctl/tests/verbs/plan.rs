//! `plan` asks every living server and tells what the answers say together.

use neco_schema::{
    ChangeKind, GroupPreview, HistoryRecord, HistoryServer, Key, LeaseId, Op, Outcome, Preview,
    PreviewQuestion, PreviewedChange, RecipeDigest, Record, StepPreview, StepTimes, Txn,
};
use neco_store::{Follower, MemoryStore, Store};
use serde_json::Map;
use std::sync::Arc;

use crate::harness::{Bench, FORMS, NEW, OLD, Run, at, golden, lrn, request, version};

fn change(component: &str, kind: ChangeKind, subject: &str, what: &str) -> PreviewedChange {
    PreviewedChange {
        component: component.into(),
        kind,
        subject: subject.into(),
        what: what.into(),
        diff: String::new(),
    }
}

fn step(name: &str, changes: Vec<PreviewedChange>) -> StepPreview {
    StepPreview { name: name.into(), one_way: false, scope: String::new(), changes }
}

/// What server `number` answers: Vault's configuration changes everywhere, serf's on 0 alone.
fn answer(number: u32) -> Preview {
    let config = PreviewedChange {
        diff: "@@ -1 +1 @@\n-ttl = \"5m\"\n+ttl = \"1h\"\n".into(),
        ..change("vault", ChangeKind::File, "/etc/vault/config.hcl", "content changes")
    };
    let vault = vec![config, change("vault", ChangeKind::Unit, "vault.service", "is restarted")];
    let serf = change("serf", ChangeKind::Unit, "serf.service", "is restarted");
    let serf = StepPreview {
        scope: "one server at a time, turn serf".into(),
        ..step("serf", (number == 0).then_some(serf).into_iter().collect())
    };
    let template =
        change("", ChangeKind::Action, "cke-template", "runs; it does what is not done yet");
    let template = StepPreview { one_way: true, ..step("cke", vec![template]) };
    let group = |name: &str, stop, apply, because: &[&str]| GroupPreview {
        name: name.into(),
        stop,
        apply,
        units: vec![format!("{name}.service")],
        because: because.iter().map(|text| (*text).to_owned()).collect(),
    };
    Preview {
        running: version(OLD),
        recipe: Some(RecipeDigest("0123456789abcdef".into())),
        steps: vec![step("stop-vault", vec![]), step("vault", vault), serf, template],
        groups: vec![group("vault", 1, 2, &["vault"]), group("cke", 3, 4, &[])],
        error: String::new(),
        unknown: Map::new(),
    }
}

/// Answers like the workers of `answers` do, until the test ends.
async fn workers(store: MemoryStore, answers: Vec<(u32, Preview)>) {
    let prefix = vec![neco_schema::Range::Prefix("preview/".into())];
    let mut follower = Follower::new(Arc::new(store.clone()), prefix.clone());
    loop {
        follower.changed().await;
        let snapshot = store.read(&prefix, None).await.expect("a snapshot");
        for kv in snapshot.kvs.values() {
            let Ok(Key::Preview(id)) = kv.key.parse() else { continue };
            let question = PreviewQuestion::decode(&kv.value).expect("a question");
            assert_eq!((question.by.as_str(), question.servers.len()), ("alice", 3));
            let lease = LeaseId(i64::try_from(id).expect("an id"));
            assert_eq!(kv.lease, Some(lease), "a question goes with its lease");
            for (number, answer) in &answers {
                let key = Key::PreviewAnswer(id, lrn(*number));
                if !snapshot.kvs.contains_key(&key.to_string()) {
                    let put = Op::put(&key, answer).with_lease(lease);
                    store.commit(&Txn::default().then(put)).await.expect("a put");
                }
            }
        }
    }
}

async fn plan(bench: &Bench, answers: Vec<(u32, Preview)>, arguments: &[&str]) -> Run {
    let workers = tokio::spawn(workers(bench.store.clone(), answers));
    let run = bench.run(&[&["plan"], arguments].concat()).await;
    workers.abort();
    let left: Vec<String> =
        bench.keys().into_iter().filter(|key| key.starts_with("preview/")).collect();
    assert!(left.is_empty(), "the question and its answers are gone: {left:?}");
    run
}

fn all() -> Vec<(u32, Preview)> {
    (0..3).map(|number| (number, answer(number))).collect()
}

/// An update that was completed before.
fn completed_once(bench: &Bench) {
    let begun = at("07:00:00");
    let id = request().id();
    let record = HistoryRecord {
        id: id.clone(),
        version: version(OLD),
        servers: [0, 1, 2].map(lrn).to_vec(),
        kind: "release".into(),
        started_at: begun,
        ended_at: at("07:02:05"),
        outcome: Outcome::Completed,
        by: "updater on boot-0".into(),
        cause: String::new(),
        origin: None,
        notices: Vec::new(),
        unknown: Map::new(),
    };
    bench.set(Key::History(begun, id.clone()), &record);
    let times = |step, from: &str, to: &str| StepTimes {
        step,
        begun: at(from),
        ended: Some(at(to)),
        unknown: Map::new(),
    };
    for number in 0..3 {
        // The slowest counts.
        let end = format!("07:01:{}", 10 + number);
        let steps = vec![
            times(1, "07:00:50", "07:01:00"),
            times(2, "07:01:00", &end),
            times(3, "07:01:20", "07:01:40"),
        ];
        let part = HistoryServer { lrn: lrn(number), steps, unknown: Map::new() };
        bench.set(Key::HistoryServer(begun, id.clone(), lrn(number)), &part);
    }
}

#[tokio::test]
async fn what_would_change_is_told_step_by_step() {
    let bench = Bench::three(OLD);
    completed_once(&bench);
    for (form, _) in FORMS {
        let run = plan(&bench, all(), &["--output", form]).await;
        assert_eq!((run.code, run.err.as_str()), (0, "asking boot servers 0, 1, 2\n"));
        golden(&format!("plan.{form}"), &run.out);
    }
}

#[tokio::test]
async fn nothing_to_change_is_said_as_such() {
    let bench = Bench::three(NEW);
    let idle = Preview { steps: vec![step("serf", vec![])], groups: vec![], ..answer(0) };
    let answers = (0..3).map(|number| (number, idle.clone())).collect();
    let run = plan(&bench, answers, &["--to", NEW]).await;
    assert_eq!(run.code, 0);
    assert!(run.out.ends_with("\nNothing would change.\n"), "{}", run.out);
    assert!(!run.out.contains("Takes") && !run.out.contains("Outage"), "{}", run.out);
}

#[tokio::test]
async fn who_does_not_answer_is_named_and_the_plan_is_not_whole() {
    let bench = Bench::three(OLD);
    bench.delete(&Key::Alive(lrn(2)));
    let answers = vec![(0, answer(0))];
    let run = plan(&bench, answers, &["--wait", "300ms"]).await;
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.out.contains("Boot server 2: it gives no sign of life\n"), "{}", run.out);
    let silent = "Boot server 1: no answer within 300ms; an older version does not answer at all\n";
    assert!(run.out.contains(silent), "{}", run.out);
    assert!(run.out.contains("Takes    not known"), "{}", run.out);
}

/// No lease of etcd lasts as long as a person may ask for.
#[tokio::test(start_paused = true)]
async fn nobody_is_waited_for_longer_than_a_day() {
    let bench = Bench::three(OLD);
    let run = plan(&bench, vec![(0, answer(0))], &["--wait", "25h"]).await;
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.out.contains("Boot server 1: no answer within 86400s; "), "{}", run.out);
}

#[tokio::test]
async fn a_server_that_cannot_follow_and_recipes_that_differ_are_no() {
    let bench = Bench::three(OLD);
    let cannot = Preview {
        recipe: None,
        steps: vec![],
        groups: vec![],
        error: "no release of it\nis published".into(),
        ..answer(1)
    };
    let run = plan(&bench, vec![(0, answer(0)), (1, cannot), (2, answer(2))], &[]).await;
    assert_eq!(run.code, 1);
    assert!(run.out.contains("Boot server 1: no release of it is published\n"), "{}", run.out);
    let other = Preview { recipe: Some(RecipeDigest("fedcba9876543210".into())), ..answer(1) };
    let run = plan(&bench, vec![(0, answer(0)), (1, other), (2, answer(2))], &[]).await;
    assert_eq!(run.code, 1);
    let expected =
        "Recipe   0123456789ab, fedcba987654: not the same everywhere, it would be aborted\n";
    assert!(run.out.contains(expected), "{}", run.out);
}

#[tokio::test]
async fn without_servers_or_releases_there_is_nothing_to_plan() {
    let run = Bench::new().run(&["plan", "--to", NEW]).await;
    assert_eq!((run.code, run.out.as_str()), (3, ""));
    let bench = Bench::new();
    bench.put("info/bootservers/0", "");
    let run = bench.run(&["plan"]).await;
    assert_eq!(run.code, 3);
    assert!(run.err.contains("--to"), "{}", run.err);
}

#[tokio::test]
async fn an_answer_cannot_change_the_terminal() {
    let bench = Bench::three(OLD);
    let odd = PreviewedChange {
        diff: "+\x1b[2J\ta\n".into(),
        ..change("x", ChangeKind::File, "/etc/\x1b[2Jx", "is\nnew")
    };
    let odd = Preview { steps: vec![step("a\x07", vec![odd])], groups: vec![], ..answer(0) };
    let answers = (0..3).map(|number| (number, odd.clone())).collect();
    let run = plan(&bench, answers, &[]).await;
    assert!(run.out.contains("    file    /etc/ [2Jx is new\n      + [2J\ta\n"), "{:?}", run.out);
    assert!(!run.out.contains('\x1b') && !run.out.contains('\x07'));
}
