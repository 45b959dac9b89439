//! `necoctl audit` passes what is sound, and names what was falsified on a live site.

use std::path::Path;
use std::sync::Arc;

use neco_host::Journal;
use neco_host::journal::{Options, Record};
use neco_playground::BootServer;
use neco_scenarios::{Scenario, live_audit, now};
use neco_schema::journal::Entry;
use neco_schema::{Condition, Key, Lrn, Record as _, UpdateRequest, UpdateStatus};

/// A journal with these lines.
fn journal(dir: &Path, records: impl IntoIterator<Item = Record>) {
    let options = Options::new(Arc::new(now), Arc::new(|_| Vec::new()));
    let (journal, ..) = Journal::open(dir, options).expect("a journal");
    let entries: Vec<Entry> = records.into_iter().map(|record| record.entry).collect();
    journal.append_all(&entries).expect("room");
}

fn falsified(records: Vec<Record>, falsify: impl Fn(&mut Entry)) -> Vec<Record> {
    let falsify = |mut record: Record| {
        falsify(&mut record.entry);
        record
    };
    records.into_iter().map(falsify).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn necoctl_audit_names_what_was_falsified_in_a_journal_or_in_etcd() {
    let scenario = Scenario::begin().await;
    let version = scenario.publish_update().await;
    let view = scenario.completed(&version).await;
    let request = view.current().expect("a request").clone();
    let servers: Vec<&BootServer> = scenario.servers().iter().collect();
    let told = live_audit(&servers, &[]).await.ended(0);
    let first = told.out.lines().next().expect("a line");
    assert!(first.contains(" invariants hold over "), "{first}");

    // Boot server 1 says that it began a step before the others had come to it.
    let records = servers[1].journal().expect("a journal");
    let asked = scenario.requests(neco_schema::Revision(0)).await;
    let of_it = |request_then: &Option<UpdateRequest>| {
        request_then.as_ref().is_some_and(|then| then.id() == request.id())
    };
    let (asked, _) = asked.iter().find(|(_, then)| of_it(then)).expect("a request");
    let copies = tempfile::tempdir().expect("a directory");
    let early = copies.path().join("early");
    journal(
        &early,
        falsified(records.clone(), |entry| match entry {
            Entry::StepBegun { request: of, step: 6, revision, .. } if *of == request.id() => {
                *revision = *asked;
            }
            _ => {}
        }),
    );
    let told = live_audit(&servers[..1], &["--journal", &format!("1={}", early.display())]).await;
    let told = told.ended(1);
    let first = told.out.lines().next().expect("a line");
    let expected = format!(
        "invariant 7 (no early start) does not hold: revision {asked}: boot server 1 began"
    );
    assert!(first.starts_with(&expected), "{}", told.out);

    // Its journal has seen more than this etcd holds.
    let ahead = copies.path().join("ahead");
    journal(
        &ahead,
        falsified(records, |entry| {
            if let Entry::Mark(mark) = entry {
                mark.revision.0 += 1_000_000;
            }
        }),
    );
    let told = live_audit(&servers[..1], &["--journal", &format!("1={}", ahead.display())]).await;
    let told = told.ended(1);
    let faults = told.out.lines().filter(|line| line.contains("restored from a backup"));
    assert_eq!(faults.count(), 1, "{}", told.out);
    assert!(!told.out.contains("does not hold"), "{}", told.out);

    // Somebody writes a status for a server that is no member, and lets one go on that has closed its own.
    for (server, expected) in [(9, "invariant 8 (members only)"), (2, "invariant 10 (monotone")] {
        let status = UpdateStatus {
            version: version.clone(),
            step: 18,
            cond: Condition::Running,
            message: String::new(),
            request: Some(request.id()),
            origin: None,
            unknown: serde_json::Map::new(),
        };
        let key = Key::Status(Lrn::new(server)).to_string();
        let text = String::from_utf8(status.encode()).expect("text");
        scenario.write(&key, &text).await;
        // Its worker may have written another one already.
        let history = scenario.history().await;
        let written = history.iter().rev().find(|(_, changes)| {
            changes.iter().any(|change| {
                let after = change.after.as_ref();
                change.key == key && after.is_some_and(|kv| kv.value == text.as_bytes())
            })
        });
        let (at, _) = written.expect("it was written");
        let told = live_audit(&servers, &[]).await.ended(1);
        let named = told.out.lines().any(|line| {
            line.starts_with(expected)
                && line.contains(&format!("revision {at}: boot server {server} "))
        });
        assert!(named, "{expected} at {at}: {}", told.out);
    }
}
