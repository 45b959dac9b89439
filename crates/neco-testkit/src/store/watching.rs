//! Cases of watches.

use std::time::Duration;

use neco_schema::{KeyValue, Range, Revision};
use neco_store::{Change, Follower, Heard, WatchEvent, bring_forward};
use tokio::time::timeout;

use super::{Rig, WITHIN, all, cases, delete, next_event, one, op_put, put};

cases![
    a_watch_replays_what_it_missed,
    a_watch_tells_what_happens,
    changes_of_a_transaction_come_together,
    several_ranges_come_in_order_and_nothing_else,
    a_dropped_wait_loses_nothing,
    a_watch_of_the_compacted_past_is_lost,
    a_watch_of_a_far_future_is_lost,
    a_follower_says_when_to_look_again,
    a_snapshot_is_brought_forward_by_what_a_follower_tells,
];

fn value(kv: &Option<KeyValue>) -> Option<&[u8]> {
    kv.as_ref().map(|kv| kv.value.as_slice())
}

/// The next changes, this many, in however many events.
async fn changes(watch: &mut dyn neco_store::Watch, count: usize) -> Vec<Change> {
    let mut told = Vec::new();
    while told.len() < count {
        match next_event(watch).await {
            WatchEvent::Changed(more) => told.extend(more),
            other => panic!("{other:?} after {told:?}"),
        }
    }
    told
}

async fn a_watch_replays_what_it_missed(rig: Rig) {
    let first = rig.commit(&put("a", "1")).await;
    let second = rig.commit(&put("a", "2")).await;
    let third = rig.commit(&delete(one("a"))).await;
    let mut watch = rig.watch(&[one("a")], second).await;
    let told = changes(&mut *watch, 2).await;
    assert_eq!((told[0].revision, told[1].revision), (second, third));
    assert_eq!((value(&told[0].kv), value(&told[1].kv)), (Some(&b"2"[..]), None));
    let kv = told[0].kv.as_ref().expect("a put");
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (first, second, 2));
}

async fn a_watch_tells_what_happens(rig: Rig) {
    let before = rig.read(&[]).await.revision;
    let mut watch = rig.watch(&[all("a/")], Revision(before.0 + 1)).await;
    for text in ["1", "2", "3"] {
        let at = rig.commit(&put("a/x", text)).await;
        let told = changes(&mut *watch, 1).await;
        assert_eq!((told[0].revision, value(&told[0].kv)), (at, Some(text.as_bytes())));
    }
}

async fn changes_of_a_transaction_come_together(rig: Rig) {
    let before = rig.commit(&put("old", "x")).await;
    let mut watch = rig.watch(&[all("")], Revision(before.0 + 1)).await;
    let txn = put("c", "1").then(op_put("a", "2")).then(neco_schema::Op::Delete(one("old")));
    let at = rig.commit(&txn).await;
    let WatchEvent::Changed(told) = next_event(&mut *watch).await else { panic!("changes") };
    let told: Vec<_> = told.iter().map(|change| (change.key.as_str(), change.revision)).collect();
    assert_eq!(told, [("c", at), ("a", at), ("old", at)]);
}

async fn several_ranges_come_in_order_and_nothing_else(rig: Rig) {
    let start = rig.read(&[]).await.revision;
    let mut expected = Vec::new();
    for n in 0..30 {
        let key = ["a/1", "b", "c/x/1", "bb", "d"][n % 5];
        let at = rig.commit(&put(key, format!("{n}"))).await;
        if !matches!(key, "bb" | "d") {
            expected.push((key.to_owned(), at));
        }
    }
    let ranges = [Range::KeysOnly("c/".into()), all("a"), one("b")];
    let mut watch = rig.watch(&ranges, Revision(start.0 + 1)).await;
    let told = changes(&mut *watch, expected.len()).await;
    let told: Vec<_> = told.into_iter().map(|change| (change.key, change.revision)).collect();
    assert_eq!(told, expected);
}

async fn a_dropped_wait_loses_nothing(rig: Rig) {
    let start = rig.read(&[]).await.revision;
    let mut watch = rig.watch(&[all("")], Revision(start.0 + 1)).await;
    let mut told = Vec::new();
    for n in 0..50 {
        let at = rig.commit(&put("a", format!("{n}"))).await;
        // Given up at once, wherever it is just then.
        let waited = timeout(Duration::from_micros(20 * n), watch.next()).await;
        if let Ok(Ok(WatchEvent::Changed(changes))) = waited {
            told.extend(changes);
        }
        assert!(told.last().is_none_or(|change| change.revision <= at));
    }
    let missing = 50 - told.len();
    told.extend(changes(&mut *watch, missing).await);
    let revisions: Vec<_> = told.iter().map(|change| change.revision.0 - start.0).collect();
    assert_eq!(revisions, (1..=50).collect::<Vec<_>>());
}

async fn a_watch_of_the_compacted_past_is_lost(rig: Rig) {
    let first = rig.commit(&put("a", "1")).await;
    rig.commit(&put("a", "2")).await;
    let third = rig.commit(&put("a", "3")).await;
    (rig.compact)(third).await.expect("the revision is there");
    let mut watch = rig.watch(&[one("a")], first).await;
    assert_eq!(next_event(&mut *watch).await, WatchEvent::Lost { revision: third });
    // Listing again and watching anew goes on.
    let now = rig.read(&[one("a")]).await;
    let mut watch = rig.watch(&[one("a")], Revision(now.revision.0 + 1)).await;
    let fourth = rig.commit(&put("a", "4")).await;
    assert_eq!(changes(&mut *watch, 1).await[0].revision, fourth);
}

/// What a watcher finds that comes back after a restore from a backup.
async fn a_watch_of_a_far_future_is_lost(rig: Rig) {
    let now = rig.commit(&put("a", "1")).await;
    let mut watch = rig.watch(&[one("a")], Revision(now.0 + 1_000)).await;
    let event = next_event(&mut *watch).await;
    assert!(matches!(event, WatchEvent::Lost { .. }), "{event:?}");
}

async fn a_follower_says_when_to_look_again(rig: Rig) {
    let hour = Duration::from_secs(3600);
    let mut follower = Follower::every(rig.store.clone(), vec![all("a/"), one("b")], hour);
    let look = async |follower: &mut Follower| {
        timeout(WITHIN, follower.changed()).await.expect("a hint comes in time");
    };
    look(&mut follower).await;
    for n in 0..20 {
        let key = if n % 2 == 0 { "a/x" } else { "b" };
        let at = rig.commit(&put(key, format!("{n}"))).await;
        // A hint may come early, but one comes after the change.
        loop {
            look(&mut follower).await;
            if rig.read(&[one(key)]).await.kvs[key].mod_revision >= at {
                break;
            }
        }
    }
}

async fn a_snapshot_is_brought_forward_by_what_a_follower_tells(rig: Rig) {
    let hour = Duration::from_secs(3600);
    let ranges = [all("a/"), one("b")];
    let mut follower = Follower::every(rig.store.clone(), ranges.to_vec(), hour);
    let mut kept = rig.read(&ranges).await;
    let mut told = 0;
    for n in 0..60 {
        let key = ["a/x", "b", "a/y", "elsewhere"][n % 4];
        let txn = match n % 7 {
            5 => put(key, format!("{n}")).then(op_put("a/z", "with it")),
            6 => delete(one("a/z")),
            _ => put(key, format!("{n}")),
        };
        let at = rig.commit(&txn).await;
        if key == "elsewhere" && n % 7 < 5 {
            continue;
        }
        while kept.revision < at {
            let heard = timeout(WITHIN, follower.heard_since(kept.revision));
            match heard.await.expect("it is told in time") {
                Heard::Look => kept = rig.read(&ranges).await,
                Heard::Changes(changes) => {
                    told += 1;
                    bring_forward(&mut kept, changes);
                }
            }
        }
        let there = rig.store.read(&ranges, Some(kept.revision)).await.expect("still there");
        assert_eq!(kept.kvs, there.kvs, "after {n}");
    }
    assert!(told > 20, "told only {told} times");
}
