//! What steps read in etcd beside what every view has.

use std::collections::BTreeMap;

use neco_connect::one_line;
use neco_schema::{ConfigKey, Key, KeyValue, Op, Range, Txn};
use neco_store::StoreError;

use crate::context::{Pauses, StepContext, StepError};

/// Reads keys, of which not all need be there; waits while etcd does not answer.
///
/// # Errors
/// Cancelled.
pub(crate) async fn read(
    context: &StepContext,
    ranges: &[Range],
) -> Result<BTreeMap<String, KeyValue>, StepError> {
    let mut pauses = Pauses::new();
    loop {
        match context.store().read(ranges, None).await {
            Ok(snapshot) => return Ok(snapshot.kvs),
            Err(error) => context.waiting(&format!("etcd does not answer: {}", one_line(&error))),
        }
        context.pause(&mut pauses).await;
        context.fence().await?;
    }
}

/// What operators set, as text without white space around it; a setting that is blank is none.
///
/// # Errors
/// Cancelled.
pub(crate) async fn settings(
    context: &StepContext,
    keys: &[ConfigKey],
) -> Result<BTreeMap<ConfigKey, String>, StepError> {
    let stored: Vec<Key> = keys.iter().map(|key| Key::Config(*key)).collect();
    let found = texts(context, &stored).await?;
    Ok(keys.iter().copied().zip(found).filter_map(|(key, text)| Some((key, text?))).collect())
}

/// The same of any keys, in their order.
///
/// # Errors
/// Cancelled.
pub(crate) async fn texts(
    context: &StepContext,
    keys: &[Key],
) -> Result<Vec<Option<String>>, StepError> {
    let ranges: Vec<Range> = keys.iter().map(Range::from).collect();
    let found = read(context, &ranges).await?;
    Ok(keys.iter().map(|key| found.get(&key.to_string()).and_then(text)).collect())
}

/// A stored text without white space around it, unless it is blank.
fn text(stored: &KeyValue) -> Option<String> {
    let text = String::from_utf8_lossy(&stored.value).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// Makes keys have these values. What is so already is not written. A step that is to leave tries it once more and leaves: it is
/// made so by the next one.
pub(crate) async fn ensure(context: &StepContext, values: &[(Key, String)]) {
    if values.is_empty() {
        return;
    }
    let ranges: Vec<Range> = values.iter().map(|(key, _)| Range::from(key)).collect();
    let mut pauses = Pauses::new();
    loop {
        // What is there is read again: whether a write was taken whose answer was lost, it tells.
        let ensured = async {
            let found = context.store().read(&ranges, None).await?.kvs;
            let is_so = |key: &Key, value: &str| {
                found.get(&key.to_string()).is_some_and(|kv| kv.value == value.as_bytes())
            };
            let differing = values.iter().filter(|(key, value)| !is_so(key, value));
            let txn = differing.fold(Txn::default(), |txn, (key, value)| {
                txn.then(Op::put_bytes(key, value.as_bytes()))
            });
            if !txn.ops.is_empty() {
                context.commit(&txn).await?;
            }
            Ok::<_, StoreError>(())
        };
        match ensured.await {
            Ok(()) => return,
            Err(error) => context.waiting(&format!("etcd does not answer: {}", one_line(&error))),
        }
        if context.cancel().is_cancelled() {
            return;
        }
        context.pause(&mut pauses).await;
    }
}
