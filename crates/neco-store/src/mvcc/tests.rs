use super::*;

fn put(key: &str, value: &str) -> Txn {
    Txn::default().then(raw_put(key, value, None))
}

fn raw_put(key: &str, value: &str, lease: Option<LeaseId>) -> Op {
    Op::Put { key: key.to_owned(), value: value.as_bytes().to_vec(), lease }
}

fn delete(range: Range) -> Txn {
    Txn::default().then(Op::Delete(range))
}

fn key(key: &str) -> Range {
    Range::Key(key.to_owned())
}

fn prefix(text: &str) -> Range {
    Range::Prefix(text.to_owned())
}

fn done(mvcc: &mut Mvcc, txn: &Txn) -> Revision {
    match mvcc.commit(txn) {
        Ok(Committed::Done(revision)) => revision,
        other => panic!("expected a commit, got {other:?}"),
    }
}

#[test]
fn only_a_change_makes_a_revision() {
    let mut mvcc = Mvcc::default();
    assert_eq!(done(&mut mvcc, &put("a", "1")), Revision(2));
    assert_eq!(done(&mut mvcc, &Txn::default()), Revision(2));
    assert_eq!(done(&mut mvcc, &delete(prefix("b"))), Revision(2));
    assert_eq!(done(&mut mvcc, &put("a", "1")), Revision(3));
    assert_eq!(done(&mut mvcc, &delete(key("a"))), Revision(4));
}

#[test]
fn a_key_may_be_put_once() {
    let mut mvcc = Mvcc::default();
    let twice = put("a", "1").then(raw_put("a", "2", None));
    assert!(matches!(mvcc.commit(&twice), Err(StoreError::DuplicateKey)));
    let crossed = put("a", "1").then(Op::Delete(prefix("")));
    assert!(matches!(mvcc.commit(&crossed), Err(StoreError::DuplicateKey)));
    let overlapping = delete(prefix("a")).then(Op::Delete(key("a")));
    assert!(mvcc.commit(&overlapping).is_ok());
}

#[test]
fn the_past_can_be_read_until_it_is_compacted() {
    let mut mvcc = Mvcc::default();
    let first = done(&mut mvcc, &put("a", "1"));
    let second = done(&mut mvcc, &put("a", "2").then(raw_put("b", "x", None)));
    let third = done(&mut mvcc, &delete(key("b")));
    let read = |mvcc: &Mvcc, at| mvcc.read(&[prefix("")], Some(at)).map(|snapshot| snapshot.kvs);
    assert_eq!(read(&mvcc, first).expect("kept")["a"].value, b"1");
    let then = read(&mvcc, second).expect("kept");
    assert_eq!((then.len(), then["a"].version), (2, 2));
    mvcc.compact(second).expect("not compacted yet");
    assert!(matches!(read(&mvcc, first), Err(StoreError::Compacted { .. })));
    assert_eq!(read(&mvcc, second).expect("kept"), then);
    assert_eq!(read(&mvcc, third).expect("kept").len(), 1);
    assert_eq!(mvcc.changes_since(first, &[]), Err(Compacted { oldest: second }));
    let later = mvcc.changes_since(third, &[prefix("")]).expect("kept");
    assert_eq!(later.len(), 1);
    assert_eq!((later[0].key.as_str(), later[0].revision, &later[0].kv), ("b", third, &None));
}

#[test]
fn a_lease_takes_its_keys_with_it_in_one_revision() {
    let mut mvcc = Mvcc::default();
    let lease = mvcc.grant(Duration::from_millis(4_200));
    let bound = Txn::default()
        .then(raw_put("b", "1", Some(lease)))
        .then(raw_put("a", "1", Some(lease)))
        .then(raw_put("c", "1", Some(lease)));
    done(&mut mvcc, &bound);
    let unbound = done(&mut mvcc, &put("c", "2"));
    mvcc.advance(Duration::from_secs(4));
    assert_eq!(mvcc.keep_alive(lease), KeepAlive::Alive(Duration::from_secs(5)));
    mvcc.advance(Duration::from_secs(4));
    assert!(mvcc.get("a").is_some());
    assert_eq!(mvcc.advance(Duration::from_secs(1)), [lease]);
    let gone = Revision(unbound.0 + 1);
    let changes = mvcc.changes_since(gone, &[prefix("")]).expect("kept");
    let told: Vec<_> =
        changes.iter().map(|change| (change.key.as_str(), change.revision)).collect();
    assert_eq!(told, [("a", gone), ("b", gone)]);
    assert_eq!(mvcc.keep_alive(lease), KeepAlive::Expired);
    let late = Txn::default().then(raw_put("a", "1", Some(lease)));
    assert!(matches!(mvcc.commit(&late), Err(StoreError::LeaseGone { .. })));
}

#[test]
fn a_restored_backup_goes_back_in_revision_under_another_identity() {
    let mut mvcc = Mvcc::new(7);
    done(&mut mvcc, &put("a", "1"));
    let backup = mvcc.clone();
    done(&mut mvcc, &put("a", "2"));
    mvcc.restore(&backup, 8);
    assert_eq!((mvcc.revision(), mvcc.cluster_id()), (Revision(2), 8));
    assert_eq!(mvcc.get("a").expect("restored").value, b"1");
}
