//! A leader and an operator that behave like the original's.
//!
//! They write requests without our fields, drop those fields when they rewrite a request to stop it, prove only that
//! their election key exists, compare nothing of the request, measure the deadline by the wall clock, list servers by
//! their decimal text, and know nothing of `control/`.

use std::time::Duration;

use neco_schema::{
    Compare, Condition, Key, Lrn, NecoVersion, Op, Record as _, Timestamp, Txn, UpdateRequest,
    prefixes,
};

use crate::View;

/// What the original's leader does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GoAction {
    /// Wait for a release or a change of the registered servers.
    WaitInfo,
    /// Request the known release.
    NewVersion(NecoVersion),
    /// Request the same version of the servers that are registered now.
    Reconfigure,
    /// Stop the request.
    Stop,
    /// Wait for the members.
    WaitWorkers,
    /// Wait until an operator has removed the request.
    WaitClear,
}

impl GoAction {
    /// The name that the original logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::WaitInfo => "wait-for-info",
            Self::NewVersion(_) => "request-update",
            Self::Reconfigure => "reconfigure",
            Self::Stop => "request-stop",
            Self::WaitWorkers => "wait-for-workers",
            Self::WaitClear => "wait-for-user-recovery",
        }
    }
}

/// What the original's leader does next, by a wall clock that says `now`.
///
/// It ends its process when it cannot read what it needs; then nothing is written either.
pub fn go_next_action(view: &View, now: Timestamp, timeout: Duration) -> GoAction {
    let Some(latest) = view.release.clone() else { return GoAction::WaitInfo };
    let Some(request) = view.current() else {
        return match view.request {
            crate::Slot::Absent => GoAction::NewVersion(latest),
            _ => GoAction::WaitInfo,
        };
    };
    if request.stop {
        return GoAction::WaitClear;
    }
    // Membership is not asked for.
    let of_version =
        || view.statuses.iter().filter(|(_, status)| status.value.version == request.version);
    if of_version().any(|(_, status)| status.value.cond == Condition::Abort) {
        return GoAction::Stop;
    }
    let complete = |lrn: &Lrn| {
        of_version().any(|(at, status)| at == lrn && status.value.cond == Condition::Complete)
    };
    if !request.servers.iter().all(complete) {
        let limit = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        return if now.seconds_since(request.started_at) > limit {
            GoAction::Stop
        } else {
            GoAction::WaitWorkers
        };
    }
    if request.servers != by_text(view) {
        return GoAction::Reconfigure;
    }
    if latest != request.version { GoAction::NewVersion(latest) } else { GoAction::WaitInfo }
}

/// The transaction of an action: guarded by the existence of the own election key alone.
pub fn go_txn(action: &GoAction, view: &View, own: &Key, now: Timestamp) -> Option<Txn> {
    let guarded = Txn::default().when(Compare::exists(own));
    let request = |version: &NecoVersion| {
        Op::put(&Key::Request, &UpdateRequest::new(version.clone(), by_text(view), now))
    };
    match action {
        GoAction::NewVersion(version) => Some(guarded.then(request(version))),
        GoAction::Reconfigure => Some(
            guarded
                .then(Op::delete_prefix(prefixes::STATUSES))
                .then(request(&view.current()?.version)),
        ),
        GoAction::Stop => {
            Some(guarded.then(Op::put_bytes(&Key::Request, go_stop(view.current()?))))
        }
        GoAction::WaitInfo | GoAction::WaitWorkers | GoAction::WaitClear => None,
    }
}

/// What `recover` of the original does: only a stopped request, and only the one that was read.
pub fn go_recover(view: &View) -> Option<Txn> {
    view.current().filter(|request| request.stop)?;
    Some(
        Txn::default()
            .when(Compare::unchanged(&Key::Request, view.request.mod_revision()))
            .then(Op::delete_prefix(prefixes::STATUS))
            .then(Op::delete_prefix(prefixes::CONTENTS)),
    )
}

/// A request as the original rewrites it to stop it: what it does not know is gone.
fn go_stop(request: &UpdateRequest) -> Vec<u8> {
    let bare =
        UpdateRequest::new(request.version.clone(), request.servers.clone(), request.started_at);
    UpdateRequest { stop: true, ..bare }.encode()
}

fn by_text(view: &View) -> Vec<Lrn> {
    let mut servers: Vec<Lrn> = view.registered.iter().copied().collect();
    servers.sort_by_key(ToString::to_string);
    servers
}

#[cfg(test)]
mod tests {
    use neco_schema::{Ending, RequestKind};

    use super::*;

    #[test]
    fn a_stop_drops_our_fields_and_keeps_the_identity() {
        let version: NecoVersion = "2026.11.21-40152".parse().expect("a version");
        let ours = UpdateRequest {
            kind: Some(RequestKind::Release),
            ending: Some(Ending::Superseded),
            ..UpdateRequest::new(version, vec![Lrn::new(0)], Timestamp::from_unix(1))
        };
        let stopped = UpdateRequest::decode(&go_stop(&ours)).expect("a request");
        assert_eq!((stopped.id(), stopped.stop), (ours.id(), true));
        assert_eq!((stopped.kind, stopped.ending), (None, None));
    }

    #[test]
    fn the_deadline_is_measured_by_the_wall_clock() {
        let version: NecoVersion = "2026.11.21-40152".parse().expect("a version");
        let request =
            UpdateRequest::new(version.clone(), vec![Lrn::new(0)], Timestamp::from_unix(0));
        let view = View {
            release: Some(version),
            request: crate::Slot::Present(crate::Versioned {
                value: request,
                mod_revision: neco_schema::Revision(1),
                create_revision: neco_schema::Revision(1),
            }),
            ..View::default()
        };
        let hour = Duration::from_secs(3600);
        let at = |seconds| go_next_action(&view, Timestamp::from_unix(seconds), hour);
        assert_eq!(at(3600), GoAction::WaitWorkers);
        assert_eq!(at(3601), GoAction::Stop);
    }
}
