//! Whether a transaction may be sent again when its answer was lost.
//!
//! A transaction is sent again only if a second run cannot succeed after the first: it writes or
//! deletes a key that it also requires to be at a given mod-revision, or deletes one that it requires
//! to have a given create-revision. Revisions never come back, so after the first run the condition
//! never holds again. If the second run is then refused, the first may be the reason: its writes are
//! read, and if all of them stand in one revision as the transaction would have left them, it is
//! taken to have happened (somebody who wrote the very same bytes cannot be told apart, nor needs to
//! be). Otherwise the answer stays unknown.
//!
//! "Absent" is weaker: the key may be deleted by others between the runs, and a second run would then
//! succeed a second time. Such a transaction is not sent again, but its outcome is read the same way,
//! as the key was not there before.

use neco_schema::{Compare, CompareTarget, Op, Revision, Snapshot, Txn};

/// What may be sent again after its answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// A read, or what does no harm twice.
    Always,
    /// A transaction whose guards keep a second run from succeeding.
    Guarded,
    /// Anything else.
    Never,
}

/// Whether this transaction may be sent again.
pub(super) fn of(txn: &Txn) -> Repeat {
    if txn.ops.is_empty() {
        Repeat::Always
    } else if txn.compares.iter().any(|compare| ends_itself(compare, &txn.ops)) {
        Repeat::Guarded
    } else {
        Repeat::Never
    }
}

/// Whether a later read can tell if the transaction happened.
pub(super) fn is_decidable(txn: &Txn) -> bool {
    let was_absent = |compare: &Compare| {
        let absent = match &compare.target {
            CompareTarget::Absent => true,
            CompareTarget::ModRevision(at) | CompareTarget::CreateRevision(at) => at.0 == 0,
            _ => false,
        };
        absent && txn.ops.iter().any(|op| puts(op, &compare.key))
    };
    let has_put = txn.ops.iter().any(|op| matches!(op, Op::Put { .. }));
    has_put && (of(txn) == Repeat::Guarded || txn.compares.iter().any(was_absent))
}

/// The revision at which all writes stand as the transaction would have left them.
pub(super) fn stands(txn: &Txn, now: &Snapshot) -> Option<Revision> {
    let mut at = None;
    for op in &txn.ops {
        match op {
            Op::Put { key, value, lease } => {
                let kv = now.kvs.get(key)?;
                let same_revision = *at.get_or_insert(kv.mod_revision) == kv.mod_revision;
                if kv.value != *value || kv.lease != *lease || !same_revision {
                    return None;
                }
            }
            Op::Delete(range) => {
                if now.kvs.keys().any(|key| range.contains(key)) {
                    return None;
                }
            }
        }
    }
    at
}

/// Whether the condition can never hold again once the writes have happened.
fn ends_itself(compare: &Compare, ops: &[Op]) -> bool {
    let deleted =
        || ops.iter().any(|op| matches!(op, Op::Delete(range) if range.contains(&compare.key)));
    match compare.target {
        CompareTarget::ModRevision(at) if at.0 > 0 => {
            deleted() || ops.iter().any(|op| puts(op, &compare.key))
        }
        CompareTarget::CreateRevision(at) if at.0 > 0 => deleted(),
        _ => false,
    }
}

fn puts(op: &Op, key: &str) -> bool {
    matches!(op, Op::Put { key: written, .. } if written == key)
}

#[cfg(test)]
mod tests {
    use neco_schema::{Key, KeyValue, Range, RequestId};

    use super::*;

    fn guard(target: CompareTarget) -> Txn {
        Txn::default().when(Compare { key: Key::Request.to_string(), target })
    }

    #[test]
    fn only_what_ends_its_own_condition_is_sent_again() {
        let at = Revision(7);
        let put = Op::put_bytes(&Key::Request, "x");
        let other = Op::put_bytes(&Key::Pause, "x");
        let wipe = Op::delete_prefix("status/");
        use CompareTarget::{Absent, CreateRevision, Exists, ModRevision, Value};
        let cases = [
            (ModRevision(at), &put, Repeat::Guarded),
            (ModRevision(at), &wipe, Repeat::Guarded),
            (ModRevision(at), &other, Repeat::Never),
            (ModRevision(Revision(0)), &put, Repeat::Never),
            (CreateRevision(at), &wipe, Repeat::Guarded),
            (CreateRevision(at), &put, Repeat::Never),
            (Absent, &put, Repeat::Never),
            (Exists, &wipe, Repeat::Never),
            (Value(b"x".to_vec()), &put, Repeat::Never),
        ];
        for (target, op, expected) in cases {
            let txn = guard(target).then(op.clone());
            assert_eq!(of(&txn), expected, "{txn:?}");
        }
        assert_eq!(of(&Txn::default()), Repeat::Always);
        assert!(is_decidable(&guard(Absent).then(put.clone())));
        assert!(is_decidable(&guard(ModRevision(at)).then(put)));
        assert!(!is_decidable(&guard(ModRevision(at)).then(wipe)));
        assert!(!is_decidable(&guard(Absent).then(other)));
    }

    #[test]
    fn a_transaction_stands_if_all_its_writes_do_at_one_revision() {
        let kv = |key: &Key, revision| {
            let kv = KeyValue {
                key: key.to_string(),
                value: b"x".to_vec(),
                create_revision: Revision(1),
                mod_revision: Revision(revision),
                version: 1,
                lease: None,
            };
            (key.to_string(), kv)
        };
        let txn = Txn::default()
            .then(Op::put_bytes(&Key::Request, "x"))
            .then(Op::put_bytes(&Key::Pause, "x"))
            .then(Op::Delete(Range::Prefix("clock/".to_owned())));
        let mut now = Snapshot::default();
        now.kvs.extend([kv(&Key::Request, 5), kv(&Key::Pause, 5)]);
        assert_eq!(stands(&txn, &now), Some(Revision(5)));
        let mut apart = now.clone();
        apart.kvs.extend([kv(&Key::Pause, 6)]);
        assert_eq!(stands(&txn, &apart), None);
        let mut left = now.clone();
        left.kvs.extend([kv(&Key::Clock(RequestId::claimed("a")), 2)]);
        assert_eq!(stands(&txn, &left), None);
        now.kvs.remove("status/current");
        assert_eq!(stands(&txn, &now), None);
    }
}
