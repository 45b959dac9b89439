//! Asks the workers and waits for their answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use neco_plan::View;
use neco_process::exit::Failure;
use neco_schema::{
    Compare, Key, LeaseId, Lrn, NecoVersion, Op, Preview, PreviewQuestion, Range, Record, Snapshot,
    Txn,
};
use neco_store::{Committed, Follower};
use tokio::time::Instant;

use crate::failure;
use crate::session::Session;

/// Question and answers outlive the waiting by this much, should this program die.
const SPARE: Duration = Duration::from_secs(30);

/// No answer takes longer, and no lease of etcd lasts as long as a person may ask for.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// What became of a question.
#[derive(Debug)]
pub struct Answers {
    /// Who answered, and what.
    pub given: BTreeMap<Lrn, Preview>,
    /// Who did not, and why.
    pub missing: BTreeMap<Lrn, String>,
}

/// Asks the members of an update to `version` what it would change on them, and waits for every one of `awaited` that lives,
/// at most so long, and no longer than a day.
///
/// # Errors
/// etcd does not answer.
pub async fn ask(
    session: &mut Session<'_, '_>,
    view: &View,
    version: &NecoVersion,
    members: &BTreeSet<Lrn>,
    awaited: &BTreeSet<Lrn>,
    wait: Duration,
) -> Result<Answers, Failure> {
    let store = Arc::clone(&session.store);
    let wait = wait.min(LONGEST);
    let lease = store.grant(wait + SPARE).await.map_err(failure::of_store)?;
    let asked = put(session, lease, version, members, wait).await;
    let answers = match asked {
        Ok(()) => collect(session, view, lease, awaited, wait).await,
        Err(failure) => Err(failure),
    };
    // Otherwise they go with the lease.
    let _ = store.revoke(lease).await;
    answers
}

/// The number of a lease as it stands in keys.
fn number(lease: LeaseId) -> u64 {
    u64::try_from(lease.0).unwrap_or_default()
}

async fn put(
    session: &Session<'_, '_>,
    lease: LeaseId,
    version: &NecoVersion,
    members: &BTreeSet<Lrn>,
    wait: Duration,
) -> Result<(), Failure> {
    let key = Key::Preview(number(lease));
    let question = PreviewQuestion {
        version: version.clone(),
        servers: members.iter().copied().collect(),
        within: Some(wait.as_secs()),
        by: session.user.clone(),
        unknown: serde_json::Map::new(),
    };
    let put = Op::put(&key, &question).with_lease(lease);
    let txn = Txn::default().when(Compare::absent(&key)).then(put);
    match session.store.commit(&txn).await.map_err(failure::of_store)? {
        Committed::Done(_) => Ok(()),
        Committed::Refused => Err(failure::conflict()),
    }
}

async fn collect(
    session: &mut Session<'_, '_>,
    view: &View,
    lease: LeaseId,
    servers: &BTreeSet<Lrn>,
    wait: Duration,
) -> Result<Answers, Failure> {
    let range = vec![Range::Prefix(format!("{}/", Key::Preview(number(lease))))];
    let mut follower = Follower::new(Arc::clone(&session.store), range.clone());
    let deadline = Instant::now() + wait;
    let mut missing: BTreeMap<Lrn, String> = BTreeMap::new();
    for lrn in servers.iter().filter(|lrn| !view.alive.contains_key(lrn)) {
        missing.insert(*lrn, "it gives no sign of life".to_owned());
    }
    let (mut given, mut told) = (BTreeMap::new(), false);
    loop {
        let changed = tokio::time::timeout_at(deadline, follower.changed()).await;
        let snapshot = session.store.read(&range, None).await.map_err(failure::of_store)?;
        read(&snapshot, &mut given, &mut missing);
        let open = |lrn: &&Lrn| !given.contains_key(*lrn) && !missing.contains_key(*lrn);
        let open: Vec<Lrn> = servers.iter().filter(open).copied().collect();
        if open.is_empty() {
            return Ok(Answers { given, missing });
        }
        if changed.is_err() {
            let why = format!("no answer within {wait:?}; an older version does not answer at all");
            missing.extend(open.into_iter().map(|lrn| (lrn, why.clone())));
            return Ok(Answers { given, missing });
        }
        if !told {
            let names: Vec<String> = open.iter().map(ToString::to_string).collect();
            session.io.remark(format_args!("asking boot servers {}", names.join(", ")));
            told = true;
        }
    }
}

fn read(
    snapshot: &Snapshot,
    given: &mut BTreeMap<Lrn, Preview>,
    missing: &mut BTreeMap<Lrn, String>,
) {
    for kv in snapshot.kvs.values() {
        let Ok(Key::PreviewAnswer(_, lrn)) = kv.key.parse() else { continue };
        match Preview::decode(&kv.value) {
            Ok(answer) => {
                missing.remove(&lrn);
                given.insert(lrn, answer);
            }
            Err(error) => {
                missing.insert(lrn, format!("its answer cannot be read: {error}"));
            }
        }
    }
}
