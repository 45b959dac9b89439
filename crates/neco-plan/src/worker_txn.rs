//! The transactions that carry a boot server's moves out; each compares what its decision was made from.

use neco_schema::{
    Compare, Group, HistoryServer, Key, Lrn, MemberPlan, Op, RequestId, Revision, StepTimes,
    Timestamp, Turn, Txn, UpdateStatus, Way,
};

use crate::{Local, Move, Post, PostKind, View};

/// What a write needs beside view and move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusWrite {
    /// The server's wall clock; for people.
    pub now: Timestamp,
    /// The components that the request would change here; for the plan.
    pub changes: Vec<String>,
    /// When the steps of this request were begun and ended here, oldest first.
    pub steps: Vec<StepTimes>,
}

impl Move {
    /// The transaction of this move, decided from `view`; `None` for a move that writes nothing to etcd.
    pub fn txn(&self, view: &View, me: &Local, write: &StatusWrite) -> Option<Txn> {
        match self {
            Self::Post(post) => Some(post_txn(view, me, post, write)),
            Self::PublishPlan { request } => Some(plan_txn(view, me, request, write)),
            Self::ReleaseTurn { name, create_revision } => {
                Some(release_turn(name, *create_revision))
            }
            Self::Restore { group, request, way, decided: false } => {
                Some(decide_way(view, group, request, *way))
            }
            _ => None,
        }
    }
}

fn request_unchanged(view: &View) -> Compare {
    Compare::unchanged(&Key::Request, view.request.mod_revision())
}

fn own_status_unchanged(view: &View, lrn: Lrn) -> Compare {
    Compare::unchanged(&Key::Status(lrn), view.status_revision(lrn))
}

fn post_txn(view: &View, me: &Local, post: &Post, write: &StatusWrite) -> Txn {
    let own = view.statuses.get(&me.lrn).map(|status| &status.value);
    let origin = match &post.kind {
        PostKind::Aborted(origin) => Some(origin.clone()),
        PostKind::Settled | PostKind::Running | PostKind::Complete => None,
    };
    let message = match (&post.kind, &origin) {
        (_, Some(origin)) => {
            format!("boot server {} in step {}: {}", origin.lrn, origin.step, origin.cause)
        }
        // Settled does not mean that all is well here: a service may have been left stopped.
        (PostKind::Settled, None) => {
            me.journal.of(&post.request).failed.map(|(_, cause)| cause).unwrap_or_default()
        }
        (_, None) => String::new(),
    };
    let status = UpdateStatus {
        version: post.version.clone(),
        step: post.step,
        cond: post.condition(),
        message,
        request: Some(post.request.clone()),
        origin,
        unknown: own.map(|status| status.unknown.clone()).unwrap_or_default(),
    };
    let mut txn = Txn::default();
    #[cfg(feature = "testing")]
    let guarded = me.planted != Some(crate::testing::Planted::GuardLeftOut);
    #[cfg(not(feature = "testing"))]
    let guarded = true;
    if guarded {
        txn = txn.when(request_unchanged(view)).when(own_status_unchanged(view, me.lrn));
        if matches!(post.kind, PostKind::Running | PostKind::Complete) {
            // A server that has left starts nothing.
            txn = txn.when(Compare::exists(&Key::BootServer(me.lrn)));
        }
    }
    txn = txn.then(Op::put(&Key::Status(me.lrn), &status));
    if let Some(request) = view.current()
        && !write.steps.is_empty()
    {
        let part = HistoryServer {
            lrn: me.lrn,
            steps: write.steps.clone(),
            unknown: serde_json::Map::new(),
        };
        txn = txn.then(Op::put(
            &Key::HistoryServer(request.started_at, post.request.clone(), me.lrn),
            &part,
        ));
    }
    txn
}

fn plan_txn(view: &View, me: &Local, request: &RequestId, write: &StatusWrite) -> Txn {
    let plan = MemberPlan {
        request: request.clone(),
        recipe: me.recipe.digest.clone(),
        changes: write.changes.clone(),
        unknown: serde_json::Map::new(),
    };
    Txn::default().when(request_unchanged(view)).then(Op::put(&Key::Plan(me.lrn), &plan))
}

/// Deletes the turn `name`, if it still is the one that came into being at `create_revision`.
pub fn release_turn(name: &str, create_revision: Revision) -> Txn {
    let key = Key::Turn(name.to_owned());
    Txn::default().when(Compare::same(&key, create_revision)).then(Op::delete(&key))
}

/// Takes the turn `name` for `lrn`, if nobody holds it and the request of `view` is still the current one.
pub fn take_turn(view: &View, name: &str, lrn: Lrn, request: &RequestId, now: Timestamp) -> Txn {
    let key = Key::Turn(name.to_owned());
    let turn = Turn { lrn, request: request.clone(), since: now, unknown: serde_json::Map::new() };
    Txn::default()
        .when(request_unchanged(view))
        .when(Compare::absent(&key))
        .then(Op::put(&key, &turn))
}

/// Writes down which way `group` goes for `request`, if the view is still right about the request and nobody has
/// decided in the meantime.
pub fn decide_way(view: &View, group: &str, request: &RequestId, way: Way) -> Txn {
    let key = Key::Group(group.to_owned());
    let record = Group { request: request.clone(), way, unknown: serde_json::Map::new() };
    let before = view.groups.get(group).map_or(Revision(0), |group| group.mod_revision);
    Txn::default()
        .when(request_unchanged(view))
        .when(Compare::unchanged(&key, before))
        .then(Op::put(&key, &record))
}
