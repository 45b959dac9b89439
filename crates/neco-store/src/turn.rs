//! Turns: the permission to do what only one server may do at a time.
//!
//! A turn has no lease. Its holder may lose etcd, be cut off or reboot, and still nobody else goes
//! ahead; it ends when its holder, or an operator with a reason, deletes it.

use neco_schema::{Compare, Key, Op, Range, Record, Revision, Turn, Txn, prefixes};

use crate::{Committed, Store, StoreError};

/// How often a turn that comes and goes is looked at again.
const TRIES: usize = 5;

/// What became of the wish for a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taking {
    /// It is ours. The create-revision is needed to give it back.
    Taken(Revision),
    /// Somebody else has it.
    HeldBy(Turn),
}

/// A turn that is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldTurn {
    /// The name.
    pub name: String,
    /// The record.
    pub turn: Turn,
    /// The create-revision, to release exactly this one.
    pub create_revision: Revision,
}

/// Takes a turn. One that the same server holds already is held, not a conflict.
///
/// # Errors
/// The record of the holder cannot be read; whatever keeps the store from answering. After
/// [`StoreError::Unknown`] it may be taken: take it again.
pub async fn take(store: &dyn Store, name: &str, turn: &Turn) -> Result<Taking, StoreError> {
    let key = Key::Turn(name.to_owned());
    let create = Txn::default().when(Compare::absent(&key)).then(Op::put(&key, turn));
    let mut tries = 1;
    loop {
        if let Committed::Done(revision) = store.commit(&create).await? {
            return Ok(Taking::Taken(revision));
        }
        match find(store, name).await? {
            Some(held) if held.turn.lrn == turn.lrn => {
                return Ok(Taking::Taken(held.create_revision));
            }
            Some(held) => return Ok(Taking::HeldBy(held.turn)),
            // It was released in between.
            None if tries < TRIES => tries += 1,
            None => {
                return Err(StoreError::Unreachable {
                    endpoints: Vec::new(),
                    within: std::time::Duration::ZERO,
                    reason: format!("the turn {name} comes and goes too fast to be taken"),
                    source: None,
                });
            }
        }
    }
}

/// Gives back the turn that came into being at `create_revision`. Says whether it was there.
///
/// # Errors
/// Whatever keeps the store from answering. After [`StoreError::Unknown`] release it again.
pub async fn release(
    store: &dyn Store,
    name: &str,
    create_revision: Revision,
) -> Result<bool, StoreError> {
    let key = Key::Turn(name.to_owned());
    let txn = Txn::default().when(Compare::same(&key, create_revision)).then(Op::delete(&key));
    Ok(matches!(store.commit(&txn).await?, Committed::Done(_)))
}

/// The turn of this name, if it is taken.
///
/// # Errors
/// The record cannot be read; whatever keeps the store from answering.
pub async fn find(store: &dyn Store, name: &str) -> Result<Option<HeldTurn>, StoreError> {
    let key = Key::Turn(name.to_owned());
    let now = store.read(&[Range::from(&key)], None).await?;
    now.kvs.into_values().next().map(held).transpose()
}

/// All turns that are taken, by name.
///
/// # Errors
/// A record cannot be read; whatever keeps the store from answering.
pub async fn list(store: &dyn Store) -> Result<Vec<HeldTurn>, StoreError> {
    let now = store.read(&[Range::Prefix(prefixes::TURN.to_owned())], None).await?;
    now.kvs.into_values().map(held).collect()
}

fn held(kv: neco_schema::KeyValue) -> Result<HeldTurn, StoreError> {
    let turn = Turn::decode(&kv.value).map_err(|error| StoreError::Malformed {
        key: kv.key.clone(),
        reason: error.to_string(),
    })?;
    let name = kv.key.strip_prefix(prefixes::TURN).unwrap_or(&kv.key).to_owned();
    Ok(HeldTurn { name, turn, create_revision: kv.create_revision })
}
