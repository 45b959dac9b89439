//! `audit` judges what a cluster has left behind.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use neco_host::Journal;
use neco_host::journal::Options;
use neco_schema::journal::{Entry, Mark};
use neco_schema::{
    Condition, HistoryRecord, Key, Outcome, Range, Revision, Timestamp, Txn, UpdateRequest,
    UpdateStatus,
};
use nix::unistd::{Uid, geteuid, setfsuid};
use serde_json::Value;

use crate::disturbed::Disturbed;
use crate::harness::{Bench, FORMS, NEW, Run, golden, lrn, request, version};

/// A bench with a whole update on it, and what its servers have written down.
struct Update {
    bench: Bench,
    entries: [Vec<Entry>; 3],
}

impl Update {
    /// All servers take all four steps, one after the other.
    fn new() -> Self {
        let bench = Bench::three(NEW);
        bench.set(Key::Request, &request());
        let mut update = Self { bench, entries: Default::default() };
        for number in 0..3 {
            let start =
                Entry::ProcessStarted { version: version(NEW), boot_id: "b".into(), pid: number };
            update.write(number, [start]);
        }
        for step in 1..=4 {
            for number in 0..3 {
                update.bench.status(number, step, Condition::Running);
            }
            for number in 0..3 {
                let begun = update.begun(step);
                update.write(number, [begun, Entry::StepDone { request: request().id(), step }]);
            }
        }
        for number in 0..3 {
            update.bench.status(number, 4, Condition::Complete);
        }
        let request = request();
        let record = HistoryRecord {
            id: request.id(),
            version: request.version.clone(),
            servers: request.servers.clone(),
            kind: "release".into(),
            started_at: request.started_at,
            ended_at: crate::harness::at("08:20:00"),
            outcome: Outcome::Completed,
            by: "updater on boot-1".into(),
            cause: String::new(),
            origin: None,
            notices: Vec::new(),
            unknown: Default::default(),
        };
        update.bench.set(Key::History(request.started_at, request.id()), &record);
        update
    }

    fn revision(&self) -> Revision {
        self.bench.store.with(|mvcc| mvcc.revision())
    }

    fn begun(&self, step: u32) -> Entry {
        Entry::StepBegun { request: request().id(), step, attempt: 1, revision: self.revision() }
    }

    fn write(&mut self, number: u32, entries: impl IntoIterator<Item = Entry>) {
        let revision = self.revision();
        let cluster_id = self.bench.store.with(|mvcc| mvcc.cluster_id());
        let mine = &mut self.entries[number as usize];
        mine.push(Entry::Mark(Mark { cluster_id, revision, epoch: 0 }));
        mine.extend(entries);
    }

    /// Makes the bench boot server 0, and gives copies of the journals of the others.
    fn with_journals(&self) -> (tempfile::TempDir, Vec<String>) {
        let root = self.bench.root.path();
        std::fs::create_dir_all(root.join("etc/neco")).expect("room");
        std::fs::write(root.join("etc/neco/rack"), "0\n").expect("room");
        journal(&self.own(), &self.entries[0]);
        let copies = tempfile::tempdir().expect("a directory");
        let mut arguments = Vec::new();
        for number in [1, 2] {
            let dir = copies.path().join(number.to_string());
            journal(&dir, &self.entries[number]);
            arguments.extend(["--journal".to_owned(), format!("{number}={}", dir.display())]);
        }
        (copies, arguments)
    }

    fn own(&self) -> PathBuf {
        self.bench.root.path().join("var/lib/neco/journal")
    }

    async fn audit(&self, arguments: &[String]) -> Run {
        let line = ["audit"].into_iter().chain(arguments.iter().map(String::as_str));
        self.bench.run(&line.collect::<Vec<_>>()).await
    }
}

/// A journal with these entries.
fn journal(dir: &Path, entries: &[Entry]) {
    let clock = Arc::new(|| Timestamp::from_unix(1_800_000_000));
    let options = Options::new(clock, Arc::new(|_| Vec::new()));
    let (journal, ..) = Journal::open(dir, options).expect("a journal");
    entries.iter().for_each(|entry| journal.append(entry).expect("room"));
}

fn segment(dir: &Path) -> PathBuf {
    let mut names =
        std::fs::read_dir(dir).expect("a directory").map(|name| name.expect("a name").path());
    names.find(|path| path.extension().is_some_and(|end| end == "jsonl")).expect("a segment")
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array()
        .expect("a list")
        .iter()
        .map(|entry| entry["id"].as_str().expect("an id"))
        .collect()
}

/// Without where things lie.
fn printed(run: &Run, dirs: &[&Path]) -> String {
    let dirs = dirs.iter().map(|dir| dir.display().to_string());
    dirs.fold(run.out.clone(), |text, dir| text.replace(&dir, "…"))
}

#[tokio::test]
async fn a_sound_update_holds_and_what_was_not_tested_is_told() {
    let update = Update::new();
    let (copies, journals) = update.with_journals();
    let dirs = [update.bench.root.path(), copies.path()];
    for (form, _) in FORMS {
        let arguments = [journals.clone(), vec!["--output".into(), form.into()]].concat();
        let run = update.audit(&arguments).await;
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{}", run.out);
        golden(&format!("audit-sound.{form}.txt"), &printed(&run, &dirs));
    }
    let run = update.audit(&journals).await;
    let first = run.out.lines().next().expect("a line");
    let changes = update.revision().0 - 1;
    assert!(first.ends_with(&format!(" invariants hold over {changes} changes")), "{first}");
}

#[tokio::test]
async fn without_journals_it_says_whose_are_missing() {
    let update = Update::new();
    let run = update.audit(&["--output=json".into()]).await;
    assert_eq!(run.code, 0, "{run:?}");
    let json = run.json();
    assert_eq!(json["without_journal"], serde_json::json!([0, 1, 2]));
    let untested = json["untested"].as_array().expect("a list");
    let why = |id: &str| untested.iter().find(|entry| entry["id"] == id).map(|entry| &entry["why"]);
    assert_eq!(why("13"), Some(&"no-journal".into()));
    assert_eq!(why("2"), Some(&"tests-only".into()));
    assert_eq!(why("16"), Some(&"not-evaluated".into()));
    assert_eq!(why("21"), Some(&"nothing-happened".into()));
    assert_eq!(why("7"), None);
    let run = update.audit(&[]).await;
    assert!(run.out.contains("journals of boot servers 0, 1, 2: --journal LRN=DIR"), "{}", run.out);
    let (_copies, journals) = update.with_journals();
    let run = update.audit(&journals[..2]).await;
    let one = "  not read    the journal of boot server 2: --journal LRN=DIR reads copies\n";
    assert!(run.out.contains(one), "{}", run.out);
}

#[tokio::test]
async fn a_compacted_history_is_judged_from_where_it_begins() {
    let update = Update::new();
    let (_copies, journals) = update.with_journals();
    let whole =
        update.audit(&[journals.clone(), vec!["--output=json".into()]].concat()).await.json();
    let middle = Revision(update.revision().0 - 6);
    update.bench.store.with(|mvcc| mvcc.compact(middle)).expect("compacted");
    let run = update.audit(&journals).await;
    assert_eq!(run.code, 0, "{}", run.out);
    assert!(run.out.contains("invariants hold over 6 changes"), "{}", run.out);
    let from =
        format!("from revision {middle} to {}; what came before is compacted", update.revision());
    assert!(run.out.contains(&from), "{}", run.out);
    let part = update.audit(&[journals, vec!["--output=json".into()]].concat()).await.json();
    assert!(ids(&part["holding"]).contains(&"7"), "{part}");
    let lines = |json: &Value| {
        let of = |name: &str| json["journals"][0][name].as_u64().expect("a number");
        (of("judged") + of("unjudged"), of("unjudged"))
    };
    assert_eq!(lines(&whole).1, 0);
    assert_eq!(lines(&part).0, lines(&whole).0);
    assert!(lines(&part).1 > 0, "lines from before are not judged: {part}");
}

#[tokio::test]
async fn a_status_written_by_hand_is_named_with_its_revision() {
    let update = Update::new();
    // As in the middle of an update, and boot server 2 two steps ahead.
    let second = UpdateRequest { started_at: crate::harness::at("08:30:00"), ..request() };
    update.bench.set(Key::Request, &second);
    let status = UpdateStatus {
        version: version(NEW),
        step: 3,
        cond: Condition::Running,
        message: String::new(),
        request: Some(second.id()),
        origin: None,
        unknown: Default::default(),
    };
    update.bench.set(Key::Status(lrn(2)), &status);
    let at = update.revision();
    // No member at all.
    update.bench.set(Key::Status(lrn(7)), &status);
    for (form, _) in FORMS {
        let run = update.audit(&["--output".into(), form.into()]).await;
        assert_eq!((run.code, run.err.as_str()), (1, ""), "{}", run.out);
        golden(&format!("audit-broken.{form}.txt"), &run.out);
    }
    let json = update.audit(&["--output=json".into()]).await.json();
    assert_eq!(json["holds"], false);
    let broken = json["violations"].as_array().expect("a list");
    let revisions: Vec<i64> = broken.iter().map(|b| b["revision"].as_i64().expect("one")).collect();
    assert!(revisions.is_sorted(), "{revisions:?}");
    let of =
        |id: &str| broken.iter().find(|broken| broken["id"] == id).cloned().unwrap_or_default();
    assert_eq!(of("7")["revision"], at.0);
    assert_eq!(of("8")["revision"], at.0 + 1);
    assert_eq!(of("8")["keys"][0], "status/bootservers/7");
    assert!(!ids(&json["holding"]).contains(&"7"));
}

#[tokio::test]
async fn a_falsified_journal_is_named_with_its_revision() {
    let mut update = Update::new();
    let at = Revision(20);
    for entry in &mut update.entries[1] {
        if let Entry::StepBegun { step: 4, revision, .. } = entry {
            *revision = at;
        }
    }
    let (_copies, journals) = update.with_journals();
    let run = update.audit(&journals).await;
    assert_eq!(run.code, 1, "{}", run.out);
    let first = run.out.lines().next().expect("a line");
    let expected = "invariant 7 (no early start) does not hold: revision 20: boot server 1 began step 4 before";
    assert!(first.starts_with(expected), "{first}");
    let sum = run.out.lines().nth(1).expect("a line");
    assert!(
        sum.starts_with("1 finding; ") && sum.contains(" other invariants hold over "),
        "{sum}"
    );
}

#[tokio::test]
async fn a_journal_of_an_etcd_that_is_gone_is_one_line_and_no_pass() {
    let mut update = Update::new();
    let ahead = Mark { cluster_id: 0, revision: Revision(900), epoch: 0 };
    let cluster_id = update.bench.store.with(|mvcc| mvcc.cluster_id());
    for mark in
        [Mark { cluster_id, ..ahead }, Mark { cluster_id: 77, revision: Revision(3), epoch: 0 }]
    {
        let written = update.entries[1].clone();
        let late = Entry::Posting { request: request().id(), step: 1, cond: 3 };
        update.entries[1].extend([Entry::Mark(mark), late.clone(), late]);
        let (_copies, journals) = update.with_journals();
        let run = update.audit(&journals).await;
        assert_eq!(run.code, 1, "{}", run.out);
        let faults: Vec<_> = run.out.lines().filter(|line| line.contains("fault: ")).collect();
        assert_eq!(faults.len(), 1, "{}", run.out);
        assert_eq!(run.out.lines().next(), Some(faults[0]));
        let sum = run.out.lines().nth(1).expect("a line");
        assert!(sum.ends_with(" changes, but the evidence has a fault"), "{sum}");
        let says = "journal of boot server 1 was not judged: it has seen revision";
        assert!(faults[0].contains(says) && faults[0].contains("restored"), "{}", faults[0]);
        assert!(!run.out.contains("does not hold"), "{}", run.out);
        std::fs::remove_dir_all(update.own()).expect("gone");
        update.entries[1] = written;
    }
    // Its server was made to believe this etcd: what it did since is judged.
    let now = Entry::Mark(Mark { cluster_id, revision: update.revision(), epoch: 1 });
    let gone = Entry::Mark(Mark { cluster_id: 77, ..ahead });
    let wrong =
        Entry::StepBegun { request: request().id(), step: 9, attempt: 4, revision: Revision(880) };
    update.entries[1].splice(0..0, [gone, wrong]);
    update.entries[1].push(now);
    let (_copies, journals) = update.with_journals();
    let run = update.audit(&journals).await;
    assert_eq!(run.code, 0, "{}", run.out);
    assert!(
        run.out.contains("lines are older than the last time etcd was restored"),
        "{}",
        run.out
    );
}

#[tokio::test]
async fn journals_that_cannot_be_used_are_told_in_one_line() {
    let update = Update::new();
    let (copies, journals) = update.with_journals();
    let one = copies.path().join("1");
    let argument =
        |lrn: u32, dir: &Path| ["--journal".to_owned(), format!("{lrn}={}", dir.display())];
    let missing = copies.path().join("nowhere");
    let empty = copies.path().join("empty");
    std::fs::create_dir(&empty).expect("room");
    for (arguments, code, says) in [
        (argument(1, &missing).to_vec(), 1, "it is no directory"),
        (argument(1, &empty).to_vec(), 1, "there is no journal in it"),
        ([argument(1, &one), argument(1, &one)].concat(), 64, "boot server 1 is named twice"),
        ([argument(1, &one), argument(2, &one)].concat(), 64, "cannot be that of 1 and of 2"),
    ] {
        let run = update.audit(&arguments).await;
        assert_eq!((run.code, run.out.as_str()), (code, ""), "{says}");
        assert!(run.err.contains(says), "{says}: {}", run.err);
        assert!(run.err.lines().count() <= 2, "one line and a hint: {}", run.err);
    }

    // Cut off: it was never acknowledged.
    let path = segment(&one);
    let whole = std::fs::read(&path).expect("a segment");
    std::fs::write(&path, &whole[..whole.len() - 9]).expect("room");
    let run = update.audit(&journals).await;
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.out.contains("is cut off"), "{}", run.out);

    // Damaged in its middle: what is missing may be what counts.
    let mut damaged = whole.clone();
    let line = whole.iter().position(|byte| *byte == b'\n').expect("lines") + 40;
    damaged[line] ^= 1;
    std::fs::write(&path, &damaged).expect("room");
    let run = update.audit(&journals).await;
    assert_eq!(run.code, 1, "{run:?}");
    let first = run.out.lines().next().expect("a line");
    for part in ["journal of boot server 1 is damaged", "checksum", ":2:", "look after its disk"] {
        assert!(first.contains(part), "{part}: {first}");
    }
    assert!(!run.out.contains("does not hold"), "{}", run.out);
}

/// For the superuser nothing is forbidden: while this lives, this thread is somebody else to the file system.
struct Nobody;

impl Nobody {
    fn begin() -> Self {
        if geteuid().is_root() {
            setfsuid(Uid::from_raw(65534));
        }
        Self
    }
}

impl Drop for Nobody {
    fn drop(&mut self) {
        setfsuid(geteuid());
    }
}

#[tokio::test]
async fn without_the_right_to_read_its_own_journal_it_judges_the_rest() {
    let update = Update::new();
    let (copies, journals) = update.with_journals();
    let mode = |path: &Path, mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(path, permissions).expect("permissions");
    };
    mode(update.bench.root.path(), 0o755);
    mode(copies.path(), 0o755);
    let (own, copy) = (update.own(), segment(&copies.path().join("1")));
    for forbidden in [segment(&own), own] {
        mode(&forbidden, 0);
        let _nobody = Nobody::begin();
        assert!(std::fs::File::open(&forbidden).is_err(), "the test would say nothing");
        let run = update.audit(&[]).await;
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{}", run.out);
        for part in [
            "  not read    the journal of boot server 0, this one: you may not read ",
            "/var/lib/neco/journal; root may\n",
            "  not read    the journals of boot servers 1, 2: --journal LRN=DIR",
        ] {
            assert!(run.out.contains(part), "{part}: {}", run.out);
        }
        let json = update.audit(&["--output=json".into()]).await.json();
        assert_eq!(json["without_journal"], serde_json::json!([0, 1, 2]));
        assert_eq!(json["forbidden"]["lrn"], 0);
    }
    // What was asked for is another thing.
    mode(&copy, 0);
    let _nobody = Nobody::begin();
    let run = update.audit(&journals).await;
    assert_eq!((run.code, run.out.as_str()), (1, ""), "{}", run.err);
    assert!(run.err.contains("journal of boot server 1 cannot be read"), "{}", run.err);
}

#[tokio::test]
async fn a_history_of_the_original_is_not_accused() {
    let bench = Bench::new();
    bench.put("leader/updater//694d1", "boot-0").put("info/neco-release", NEW);
    for number in 0..3 {
        bench.put(&format!("info/bootservers/{number}"), "");
    }
    let request = |second: u32, stop: bool| {
        format!(
            r#"{{"version":"{NEW}","servers":[0,1,2],"stop":{stop},"started_at":"2026-11-21T08:00:0{second}Z"}}"#
        )
    };
    let status = |step: u32, cond: u32| {
        format!(r#"{{"version":"{NEW}","step":{step},"cond":{cond},"message":""}}"#)
    };
    bench.put("status/current", request(0, false));
    for (step, cond) in [(1, 1), (2, 1), (1, 1), (2, 1), (2, 2)] {
        for number in 0..3 {
            bench.put(&format!("status/bootservers/{number}"), status(step, cond));
        }
    }
    bench.put("status/current", request(0, true));
    bench.delete(&Key::Request).put("status/current", request(1, false));
    let run = bench.run(&["audit"]).await;
    assert_eq!(run.code, 0, "{}", run.out);
}

#[tokio::test]
async fn a_secret_in_a_value_is_named_and_not_shown() {
    let update = Update::new();
    let secret = "ghp_0123456789abcdefghij";
    update
        .bench
        .put("config/github-token", secret)
        .put("config/node-proxy", format!("http://{secret}@p"));
    update.bench.put(&format!("notes/{secret}"), "x");
    let run = update.audit(&[]).await;
    assert_eq!(run.code, 1, "{}", run.out);
    assert!(run.out.starts_with("invariant 43 "), "{}", run.out);
    assert!(!run.out.contains(secret) && !run.err.contains(secret), "{run:?}");
}

#[tokio::test]
async fn nothing_to_look_at_is_3_and_no_answer_is_2() {
    let run = Bench::new().run(&["audit"]).await;
    assert_eq!((run.code, run.out.as_str()), (3, ""), "{run:?}");
    let update = Update::new();
    let end = update.revision();
    update.bench.store.with(|mvcc| mvcc.compact(end)).expect("compacted");
    let run = update.audit(&[]).await;
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.err.contains(&format!("since revision {end}")), "{}", run.err);
    update.bench.store.go_down();
    assert_eq!(update.audit(&[]).await.code, 2);
}

#[tokio::test(start_paused = true)]
async fn an_etcd_that_falls_silent_is_2_in_the_time_that_was_given() {
    let update = Update::new();
    update.bench.store.hold_watches(true);
    let run = update.audit(&["--within=10s".into()]).await;
    assert_eq!(run.code, 2, "{run:?}");
    let says = format!("up to revision 0 of {} in 10s", update.revision());
    assert!(run.err.contains(&says) && run.err.contains("--within"), "{}", run.err);
    let run = update.audit(&[]).await;
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.err.contains("said nothing for 30s after revision 0"), "{}", run.err);
}

#[tokio::test]
async fn a_compaction_while_it_reads_begins_it_anew() {
    for (times, code) in [(3, 0), (9, 4)] {
        let update = Update::new();
        let (store, compactions) = (update.bench.store.clone(), AtomicUsize::new(times));
        let store = Arc::new(Disturbed { store, compactions, ..Disturbed::default() });
        let run = update.bench.run_on(store, &["audit"]).await;
        assert_eq!(run.code, code, "{run:?}");
        if code == 0 {
            assert!(run.out.contains("history     from revision 6 to "), "{}", run.out);
        }
    }
}

#[tokio::test]
async fn a_history_that_ends_in_silence_is_not_called_whole() {
    let update = Update::new();
    let store = || {
        let (store, of_others) = (update.bench.store.clone(), 3);
        Arc::new(Disturbed { store, of_others, ..Disturbed::default() })
    };
    let (to, present) = (update.revision(), update.revision().0 + 3);
    let silence = format!("nothing was heard after it, and etcd is at {present}");
    let run = update.bench.run_on(store(), &["audit"]).await;
    assert_eq!(run.code, 0, "{run:?}");
    let line = format!("  history     to revision {to}; {silence}\n");
    assert!(run.out.contains(&line), "{}", run.out);
    let run = update.bench.run_on(store(), &["audit", "--output=json"]).await;
    let history = &run.json()["history"];
    assert_eq!((&history["to"], &history["silent_until"]), (&to.0.into(), &present.into()));

    let middle = Revision(to.0 - 6);
    update.bench.store.with(|mvcc| mvcc.compact(middle)).expect("compacted");
    let run = update.bench.run_on(store(), &["audit"]).await;
    let line = format!("from revision {middle} to {to}; {silence}; what came before is compacted");
    assert!(run.out.contains(&line), "{}", run.out);
}

#[tokio::test]
async fn what_is_told_twice_or_leaves_no_trace_is_taken_in_once() {
    let update = Update::new();
    update.bench.put("notes/a", "x").delete(&Key::Pause);
    let txn = Txn::default().then(neco_schema::Op::Delete(Range::Key("notes/a".into())));
    update.bench.store.with(|mvcc| mvcc.commit(&txn)).expect("deleted");
    update.bench.store.repeat_events(2);
    let run = update.audit(&[]).await;
    assert_eq!(run.code, 0, "{}", run.out);
    let changes = update.revision().0 - 1;
    assert!(run.out.contains(&format!("hold over {changes} changes")), "{}", run.out);
}
