//! Cases of reads, transactions and leases.

use std::time::Duration;

use neco_schema::{Compare, CompareTarget, LeaseId, Op, Range, Revision, Txn};
use neco_store::{Committed, KeepAlive, StoreError};

use super::{Rig, WITHIN, all, cases, delete, next_event, one, op_put, put};

cases![
    reads_several_ranges_at_one_revision,
    a_read_of_nothing_has_a_revision,
    reads_the_past,
    a_key_in_several_ranges_has_its_value,
    reads_more_keys_than_a_page,
    compares_hold_or_refuse,
    a_transaction_happens_as_a_whole,
    what_changes_nothing_makes_no_revision,
    a_key_is_touched_once,
    versions_count_from_creation,
    the_end_of_a_lease_takes_its_keys_at_once,
    a_later_write_unbinds_a_key,
    an_unknown_lease_is_gone,
    a_lease_runs_out,
    a_healthy_cluster_says_so,
];

fn leased(key: &str, lease: LeaseId) -> Op {
    op_put(key, "x").with_lease(lease)
}

async fn reads_several_ranges_at_one_revision(rig: Rig) {
    let first = rig.commit(&put("a/1", "one").then(op_put("a/2", "two"))).await;
    let second = rig.commit(&put("b/1", "three").then(op_put("c", "four"))).await;
    let now = rig.read(&[all("a/"), Range::KeysOnly("b/".into()), one("c"), one("none")]).await;
    let told: Vec<_> = now
        .kvs
        .values()
        .map(|kv| (kv.key.as_str(), kv.value.as_slice(), kv.mod_revision))
        .collect();
    let expected: [(&str, &[u8], Revision); 4] = [
        ("a/1", b"one", first),
        ("a/2", b"two", first),
        ("b/1", b"", second),
        ("c", b"four", second),
    ];
    assert_eq!(told, expected);
    assert_eq!(now.revision, second);
    assert_ne!(now.cluster_id, 0);
}

async fn a_read_of_nothing_has_a_revision(rig: Rig) {
    let done = rig.commit(&put("a", "")).await;
    assert_eq!(rig.read(&[]).await.revision, done);
    let none = rig.read(&[one("none"), all("none/")]).await;
    assert_eq!((none.revision, none.kvs.len()), (done, 0));
}

async fn reads_the_past(rig: Rig) {
    let first = rig.commit(&put("a", "1")).await;
    let second = rig.commit(&put("a", "2")).await;
    let third = rig.commit(&delete(one("a"))).await;
    let value = |snapshot: neco_schema::Snapshot| snapshot.kvs.get("a").map(|kv| kv.value.clone());
    let then = [one("a")];
    for (revision, expected) in
        [(first, Some(b"1".to_vec())), (second, Some(b"2".to_vec())), (third, None)]
    {
        let snapshot = rig.store.read(&then, Some(revision)).await.expect("not compacted");
        assert_eq!(snapshot.revision, revision);
        assert_eq!(value(snapshot), expected);
    }
    let future = Revision(third.0 + 1);
    assert!(matches!(
        rig.store.read(&then, Some(future)).await,
        Err(StoreError::FutureRevision { revision }) if revision == future
    ));
    (rig.compact)(second).await.expect("the revision is there");
    assert!(matches!(
        rig.store.read(&then, Some(first)).await,
        Err(StoreError::Compacted { revision }) if revision == first
    ));
    assert!(rig.store.read(&then, Some(second)).await.is_ok());
    assert!(matches!((rig.compact)(first).await, Err(StoreError::Compacted { .. })));
}

async fn a_key_in_several_ranges_has_its_value(rig: Rig) {
    rig.commit(&put("a/1", "one")).await;
    let bare = Range::KeysOnly("a".to_owned());
    for ranges in [[bare.clone(), one("a/1")], [one("a/1"), bare]] {
        assert_eq!(rig.read(&ranges).await.kvs["a/1"].value, b"one");
    }
}

async fn reads_more_keys_than_a_page(rig: Rig) {
    const KEYS: usize = 1_203;
    for chunk in (0..KEYS).collect::<Vec<_>>().chunks(100) {
        let ops = chunk.iter().map(|n| op_put(&format!("many/{n:05}"), format!("value {n}")));
        rig.commit(&Txn { compares: Vec::new(), ops: ops.collect() }).await;
    }
    rig.commit(&put("manz", "not among them")).await;
    let now = rig.read(&[all("many/"), one("manz"), Range::KeysOnly("many/01".into())]).await;
    assert_eq!(now.kvs.len(), KEYS + 1);
    assert_eq!(now.kvs["many/01202"].value, b"value 1202");
    // More ranges than a transaction takes operations.
    let ranges: Vec<Range> = (0..150).map(|n| one(&format!("many/{n:05}"))).collect();
    assert_eq!(rig.read(&ranges).await.kvs.len(), 150);
}

async fn compares_hold_or_refuse(rig: Rig) {
    use CompareTarget::{Absent, CreateRevision, Exists, ModRevision, Value};
    let created = rig.commit(&put("a", "1")).await;
    let changed = rig.commit(&put("a", "2")).await;
    let zero = Revision(0);
    let cases = [
        ("a", Exists, true),
        ("a", Absent, false),
        ("a", CreateRevision(created), true),
        ("a", CreateRevision(changed), false),
        ("a", CreateRevision(zero), false),
        ("a", ModRevision(changed), true),
        ("a", ModRevision(created), false),
        ("a", ModRevision(zero), false),
        ("a", Value(b"2".to_vec()), true),
        ("a", Value(b"1".to_vec()), false),
        ("b", Exists, false),
        ("b", Absent, true),
        ("b", CreateRevision(zero), true),
        ("b", ModRevision(zero), true),
        ("b", ModRevision(changed), false),
        ("b", Value(Vec::new()), false),
    ];
    for (key, target, holds) in cases {
        let compare = Compare { key: key.to_owned(), target };
        let txn = put("ran", "x").when(compare.clone());
        let done = rig.store.commit(&txn).await.expect("the store answers");
        assert_eq!(matches!(done, Committed::Done(_)), holds, "{compare:?}");
        assert_eq!(rig.get("ran").await.is_some(), holds, "{compare:?}");
        rig.commit(&delete(one("ran"))).await;
    }
}

async fn a_transaction_happens_as_a_whole(rig: Rig) {
    let before = rig.commit(&put("old/1", "").then(op_put("old/2", ""))).await;
    let exists = Compare { key: "old/1".to_owned(), target: CompareTarget::Exists };
    let absent = Compare { key: "old/2".to_owned(), target: CompareTarget::Absent };
    let writes = put("new", "x").then(Op::Delete(all("old/")));
    let refused = writes.clone().when(exists.clone()).when(absent);
    assert_eq!(rig.store.commit(&refused).await.expect("an answer"), Committed::Refused);
    let now = rig.read(&[all("")]).await;
    assert_eq!((now.revision, now.kvs.len()), (before, 2));
    let done = rig.commit(&writes.when(exists)).await;
    assert_eq!(done, Revision(before.0 + 1));
    let now = rig.read(&[all("")]).await;
    assert_eq!(now.kvs.keys().collect::<Vec<_>>(), ["new"]);
}

async fn what_changes_nothing_makes_no_revision(rig: Rig) {
    let before = rig.commit(&put("a", "1")).await;
    assert_eq!(rig.commit(&Txn::default()).await, before);
    assert_eq!(rig.commit(&delete(all("none"))).await, before);
    assert_eq!(rig.commit(&put("a", "1")).await, Revision(before.0 + 1));
}

async fn a_key_is_touched_once(rig: Rig) {
    let never = Compare { key: "none".to_owned(), target: CompareTarget::Exists };
    let twice = put("a", "1").then(op_put("a", "2"));
    let crossed = put("a", "1").then(Op::Delete(all("")));
    for txn in [twice.clone(), crossed, twice.when(never)] {
        assert!(matches!(rig.store.commit(&txn).await, Err(StoreError::DuplicateKey)), "{txn:?}");
    }
    assert_eq!(rig.get("a").await, None);
    rig.commit(&put("a", "1")).await;
    rig.commit(&delete(all("a")).then(Op::Delete(one("a")))).await;
}

async fn versions_count_from_creation(rig: Rig) {
    let created = rig.commit(&put("a", "1")).await;
    let changed = rig.commit(&put("a", "2")).await;
    let kv = rig.get("a").await.expect("it was written");
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (created, changed, 2));
    rig.commit(&delete(one("a"))).await;
    let again = rig.commit(&put("a", "3")).await;
    let kv = rig.get("a").await.expect("it was written");
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (again, again, 1));
}

async fn the_end_of_a_lease_takes_its_keys_at_once(rig: Rig) {
    let lease = rig.store.grant(Duration::from_secs(600)).await.expect("granted");
    let bound = Txn::default().then(leased("b", lease)).then(leased("a", lease));
    let before = rig.commit(&bound.then(op_put("c", "stays"))).await;
    assert_eq!(rig.get("a").await.and_then(|kv| kv.lease), Some(lease));
    let alive = rig.store.keep_alive(lease).await.expect("an answer");
    assert!(matches!(alive, KeepAlive::Alive(ttl) if ttl >= Duration::from_secs(600)), "{alive:?}");
    let mut watch = rig.watch(&[all("")], Revision(before.0 + 1)).await;
    rig.store.revoke(lease).await.expect("revoked");
    let neco_store::WatchEvent::Changed(changes) = next_event(&mut *watch).await else {
        panic!("the deletions are told");
    };
    let gone = Revision(before.0 + 1);
    let told: Vec<_> =
        changes.iter().map(|change| (change.key.as_str(), change.revision)).collect();
    assert_eq!(told, [("a", gone), ("b", gone)]);
    assert_eq!(rig.store.keep_alive(lease).await.expect("an answer"), KeepAlive::Expired);
    rig.store.revoke(lease).await.expect("a lease that is gone is fine");
    assert_eq!(rig.read(&[all("")]).await.kvs.keys().collect::<Vec<_>>(), ["c"]);
}

async fn a_later_write_unbinds_a_key(rig: Rig) {
    let lease = rig.store.grant(Duration::from_secs(600)).await.expect("granted");
    rig.commit(&Txn::default().then(leased("a", lease))).await;
    let before = rig.commit(&put("a", "free")).await;
    rig.store.revoke(lease).await.expect("revoked");
    let kv = rig.get("a").await.expect("it is not bound any more");
    assert_eq!((kv.lease, kv.mod_revision), (None, before));
}

async fn an_unknown_lease_is_gone(rig: Rig) {
    let lease = LeaseId(0x0bad_cafe);
    let bound = Txn::default().then(leased("a", lease));
    let result = rig.store.commit(&bound).await;
    assert!(matches!(result, Err(StoreError::LeaseGone { lease: gone }) if gone == lease));
    assert_eq!(rig.store.keep_alive(lease).await.expect("an answer"), KeepAlive::Expired);
    let guarded = bound.when(Compare { key: "none".to_owned(), target: CompareTarget::Exists });
    assert_eq!(rig.store.commit(&guarded).await.expect("an answer"), Committed::Refused);
}

async fn a_lease_runs_out(rig: Rig) {
    let lease = rig.store.grant(Duration::from_millis(900)).await.expect("granted");
    let bound = rig.commit(&Txn::default().then(leased("a", lease)).then(leased("b", lease))).await;
    let mut watch = rig.watch(&[all("")], Revision(bound.0 + 1)).await;
    let gone = tokio::time::timeout(WITHIN, watch.next()).await.expect("it runs out in time");
    let Ok(neco_store::WatchEvent::Changed(changes)) = gone else { panic!("{gone:?}") };
    assert_eq!(changes.len(), 2);
    assert!(changes.iter().all(|change| change.kv.is_none()));
    assert_eq!(rig.store.keep_alive(lease).await.expect("an answer"), KeepAlive::Expired);
}

async fn a_healthy_cluster_says_so(rig: Rig) {
    let health = rig.store.health().await.expect("an answer");
    assert!(health.quorum && health.all_healthy(), "{health:?}");
    assert_eq!(health.members.iter().filter(|member| member.is_leader).count(), 1);
    assert_eq!(health.cluster_id, rig.read(&[]).await.cluster_id);
}
