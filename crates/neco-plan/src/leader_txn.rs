//! The transactions that carry a leader's actions out; each proves leadership and compares what it was decided from.

use neco_schema::{
    Compare, HistoryRecord, Key, NecoVersion, Op, Outcome, RequestId, RequestKind, Revision, Seen,
    StopNote, Txn, UpdateRequest, prefixes,
};

use crate::leader::{outcome, stop_cause};
use crate::worker::first_abort;
use crate::{Action, LeaderContext, NewRequest, View};

/// How many records of the history are kept.
const KEPT_HISTORY: usize = 200;
/// How many releases are remembered.
const KEPT_SEEN: usize = 50;
/// How much is tidied up at once, so that a transaction stays within what etcd accepts.
const TIDIED_AT_ONCE: usize = 20;

impl Action {
    /// The transaction of this action, decided from `view`; `None` for an action that writes nothing.
    pub fn txn(&self, view: &View, context: &LeaderContext) -> Option<Txn> {
        match self {
            Self::Wait(_) => None,
            Self::NoteSeen { version } => Some(note_seen(view, context, version)),
            Self::Record { request } => {
                let current = view.current().filter(|current| current.id() == *request)?;
                let txn = guarded(view, context);
                Some(txn_with(
                    txn,
                    end_request(
                        view,
                        current,
                        &format!("updater on {}", context.host),
                        context.now,
                        None,
                    ),
                ))
            }
            Self::Request(request) => Some(new_request(view, context, request)),
            Self::Stop { request, ending, cause } => {
                let current = view.current().filter(|current| current.id() == *request)?;
                let stopped = UpdateRequest {
                    stop: true,
                    ending: ending.clone(),
                    stopped: Some(StopNote {
                        by: format!("updater on {}", context.host),
                        leader: true,
                        reason: cause.clone(),
                        at: context.now,
                        unknown: Default::default(),
                    }),
                    ..current.clone()
                };
                Some(guarded(view, context).then(Op::put(&Key::Request, &stopped)))
            }
        }
    }
}

/// Makes `version` the known release, if it is newer than the one known so far.
pub fn publish_release(view: &View, context: &LeaderContext, version: &NecoVersion) -> Option<Txn> {
    let newer = view.release.as_ref().is_none_or(|known| version.is_newer_than(known));
    (newer && !view.withdrawn.contains_key(version)).then(|| {
        Txn::default()
            .when(context.leadership.clone())
            .when(Compare::unchanged(&Key::Release, view.release_revision))
            .then(Op::put_bytes(&Key::Release, version.as_str()))
    })
}

fn guarded(view: &View, context: &LeaderContext) -> Txn {
    Txn::default()
        .when(context.leadership.clone())
        .when(Compare::unchanged(&Key::Request, view.request.mod_revision()))
}

fn txn_with(mut txn: Txn, ops: Vec<Op>) -> Txn {
    txn.ops.extend(ops);
    txn
}

fn note_seen(view: &View, context: &LeaderContext, version: &NecoVersion) -> Txn {
    let seen = Seen { at: context.now, ..Seen::default() };
    let key = Key::Seen(version.clone());
    // One that cannot be read is written anew.
    let before = view.unreadable.get(&key).map_or(Revision(0), |record| record.mod_revision);
    let mut txn = Txn::default()
        .when(context.leadership.clone())
        .when(Compare::unchanged(&key, before))
        .then(Op::put(&key, &seen));
    let surplus = (view.seen.len() + 1).saturating_sub(KEPT_SEEN);
    let mut oldest: Vec<_> = view.seen.iter().collect();
    oldest.sort_by_key(|(_, seen)| seen.value.at);
    for (version, _) in oldest.into_iter().take(surplus.min(TIDIED_AT_ONCE)) {
        txn = txn.then(Op::delete(&Key::Seen(version.clone())));
    }
    txn
}

fn new_request(view: &View, context: &LeaderContext, request: &NewRequest) -> Txn {
    let mut txn = guarded(view, context);
    let mut ops = Vec::new();
    if let Some(current) = view.current() {
        let recorded = view.history.contains_key(&(current.started_at, current.id()));
        if !recorded {
            let by = format!("updater on {}", context.host);
            ops = end_request(view, current, &by, context.now, None);
        }
    }
    // Later than anything in the history, also when this host's clock is behind.
    let last = view
        .history
        .keys()
        .map(|(at, _)| *at)
        .chain(view.current().map(|current| current.started_at))
        .max();
    // Without a request of ours before it, one may have been removed without a record of its time; then the revision
    // keeps its identity from coming again.
    let after_ours = view.current().is_some_and(|current| current.kind.is_some());
    let nanos = if after_ours { 1 } else { view.revision.0.max(1) };
    let started_at = last.map_or(context.now, |last| context.now.max(last.plus_nanos(nanos)));
    let made = UpdateRequest {
        kind: Some(request.kind.clone()),
        package: context.package.clone(),
        allow_downgrade: request.allow_downgrade,
        allow_no_way_back: request.allow_no_way_back,
        ..UpdateRequest::new(request.version.clone(), request.servers.clone(), started_at)
    };
    if request.kind == RequestKind::Reconfigure {
        // As in the original: old statuses go with it.
        ops.push(Op::delete_prefix(prefixes::STATUSES));
    }
    txn = txn.when(Compare::absent(&Key::Withdrawn(request.version.clone())));
    ops.push(Op::put(&Key::Request, &made));
    txn_with(txn, ops)
}

/// The writes that end a request: its history, and the end of what belonged to it. Used by leaders and operators alike.
pub(crate) fn end_request(
    view: &View,
    request: &UpdateRequest,
    by: &str,
    now: neco_schema::Timestamp,
    cause: Option<&str>,
) -> Vec<Op> {
    let id = request.id();
    let ended = outcome(view, request);
    let cause = match ended {
        Outcome::Completed => String::new(),
        _ => cause.map_or_else(|| stop_cause(view, request), str::to_owned),
    };
    let record = HistoryRecord {
        id: id.clone(),
        version: request.version.clone(),
        servers: request.servers.clone(),
        kind: request.kind.as_ref().map(ToString::to_string).unwrap_or_default(),
        started_at: request.started_at,
        ended_at: now,
        outcome: ended,
        by: by.to_owned(),
        cause,
        origin: first_abort(view, request),
        notices: Vec::new(),
        unknown: serde_json::Map::new(),
    };
    let mut ops = vec![
        Op::put(&Key::History(request.started_at, id.clone()), &record),
        Op::delete(&Key::Clock(id.clone())),
    ];
    ops.extend(belongings(view, &id));
    if ended == Outcome::Aborted {
        let before =
            view.seen.get(&request.version).map(|seen| seen.value.clone()).unwrap_or_default();
        let at = if before.at.is_zero() { now } else { before.at };
        ops.push(Op::put(
            &Key::Seen(request.version.clone()),
            &Seen { at, aborted: Some(id), ..before },
        ));
    }
    let surplus = (view.history.len() + 1).saturating_sub(KEPT_HISTORY).min(TIDIED_AT_ONCE);
    ops.extend(
        view.history
            .keys()
            .take(surplus)
            .map(|(at, id)| Op::delete_prefix(Key::history_prefix(*at, id))),
    );
    ops
}

/// What members published for a request.
fn belongings(view: &View, id: &RequestId) -> Vec<Op> {
    let plans = view.plans.iter().filter(|(_, plan)| plan.value.request == *id);
    let progress = view.progress.iter().filter(|(_, progress)| progress.value.request == *id);
    plans
        .map(|(lrn, _)| Op::delete(&Key::Plan(*lrn)))
        .chain(progress.map(|(lrn, _)| Op::delete(&Key::Progress(*lrn))))
        .collect()
}
