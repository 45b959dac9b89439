//! What the leader does next: the table of the update protocol, first match wins.

use std::collections::BTreeSet;
use std::time::Duration;

use neco_schema::{
    Condition, Ending, Key, Lrn, NecoVersion, Outcome, RequestKind, Timestamp, UpdateRequest,
};

use crate::barrier::lowest_step;
use crate::waited;
use crate::worker::first_abort;
use crate::{Action, Elapsed, NewRequest, Slot, View, Waiting};

/// What bounds a leader's decisions and what it has found out outside of etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a request may take.
    pub request: Duration,
    /// How long a step may go without progress.
    pub step: Duration,
    /// The release window for the target.
    pub window: Window,
    /// What probes found wrong (etcd, Vault); a request waits until they find nothing.
    pub probes: Vec<String>,
}

/// Whether a new release may be requested now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// Yes.
    Open,
    /// Not before the next opening; never, when absent.
    Closed(Option<Timestamp>),
}

/// What the leader should do next.
pub fn next_action(view: &View, limits: &Limits, clock: &Elapsed) -> Action {
    if let Some(version) = &view.release
        && !view.seen.contains_key(version)
    {
        return Action::NoteSeen { version: version.clone() };
    }
    let complete = view.current().is_some_and(|request| is_finished(view, request));
    // A request that is still there and recorded was recorded as complete; a member that left since took its status with it.
    let recorded = view
        .current()
        .is_some_and(|request| view.history.contains_key(&(request.started_at, request.id())));
    if let Some(request) = view.current().filter(|_| complete && !recorded) {
        return Action::Record { request: request.id() };
    }
    let finished = complete || recorded;
    if let Slot::Unreadable { error, .. } = &view.request {
        return Action::Wait(Waiting::Unreadable {
            key: Key::Request.to_string(),
            error: error.clone(),
        });
    }
    if let Slot::Unreadable { error, .. } = &view.target {
        // Only a stop may still come; what to go for is unknown.
        if view.current().is_none() || finished {
            return Action::Wait(Waiting::Unreadable {
                key: Key::Target.to_string(),
                error: error.clone(),
            });
        }
    }
    let goal = choose_target(view);
    if matches!(goal, Err(Waiting::Release)) && view.current().is_none() {
        return Action::Wait(Waiting::Release);
    }
    let Some(request) = view.current() else {
        return match goal {
            Ok(goal) => checked(view, limits, goal.request(view, None)),
            Err(waiting) => Action::Wait(waiting),
        };
    };
    if request.stop && !finished {
        return stopped(view, request, goal);
    }
    if !finished {
        return unfinished(view, limits, clock, request);
    }
    let withdrawn = view.withdrawn.contains_key(&request.version);
    let changed = view.registered != request.members() || came_again(view, request);
    if changed && !view.registered.is_empty() && !withdrawn {
        let due = goal
            .as_ref()
            .is_ok_and(|goal| goal.version != request.version && goal.follows(request));
        let reconfigure = reconfiguration(view, request, goal.as_ref().ok(), false);
        // A server that came with something newer does not take the old version; what is due takes all of them along.
        if !due || newer_than(view, &reconfigure).is_empty() {
            return checked(view, limits, reconfigure);
        }
    }
    match goal {
        Ok(goal) if goal.version != request.version && goal.follows(request) => {
            if view.is_paused() {
                return Action::Wait(Waiting::Paused { version: goal.version });
            }
            match limits.window {
                Window::Closed(next) if !goal.manual => {
                    Action::Wait(Waiting::Window { version: goal.version, next })
                }
                _ => checked(view, limits, goal.request(view, Some(request))),
            }
        }
        Ok(_) | Err(Waiting::Release) => Action::Wait(Waiting::Idle),
        Err(waiting @ (Waiting::AbortedBefore { .. } | Waiting::Withdrawn { .. })) => {
            Action::Wait(waiting)
        }
        Err(_) => Action::Wait(Waiting::Idle),
    }
}

/// The version of `request` for the servers that are registered now. They may go back to it if that was `allowed`, or if
/// it is what an operator wants to go back to.
fn reconfiguration(
    view: &View,
    request: &UpdateRequest,
    goal: Option<&Goal>,
    allowed: bool,
) -> NewRequest {
    let asked = goal
        .is_some_and(|goal| goal.manual && goal.allow_downgrade && goal.version == request.version);
    NewRequest {
        version: request.version.clone(),
        servers: original_order(&view.registered),
        kind: RequestKind::Reconfigure,
        allow_downgrade: allowed || asked,
        allow_no_way_back: request.allow_no_way_back,
        replaces: Some(request.id()),
    }
}

/// Rows 4 to 6: the request is stopped and not finished.
fn stopped(view: &View, request: &UpdateRequest, goal: Result<Goal, Waiting>) -> Action {
    let settled = |lrn: Lrn| {
        let closed = view.status_of(request, lrn).is_some_and(|status| status.value.is_closed());
        let busy = view.alive.get(&lrn).is_some_and(|alive| !alive.value.busy.is_empty());
        (closed || !request.is_member(lrn)) && !busy
    };
    let living = request.servers.iter().copied().filter(|lrn| view.is_alive(*lrn));
    // Of a withdrawn version no request is made any more, not even for other servers.
    let withdrawn = view.withdrawn.contains_key(&request.version);
    let superseded = request.ending == Some(Ending::Superseded) && !withdrawn;
    let mut missing: BTreeSet<Lrn> = living.filter(|lrn| !settled(*lrn)).collect();
    let mut absent = BTreeSet::new();
    if superseded {
        let registered = || view.registered.iter().copied();
        missing.extend(registered().filter(|lrn| view.is_alive(*lrn) && !settled(*lrn)));
        absent = registered()
            .filter(|lrn| view.speaks_our_protocol(*lrn) && !view.is_alive(*lrn))
            .collect();
        if missing.is_empty() && absent.is_empty() && !view.registered.is_empty() {
            let allowed = request.allow_downgrade;
            return Action::Request(reconfiguration(view, request, goal.as_ref().ok(), allowed));
        }
    }
    // Row 4 waits also for the dead: a newer release does not.
    let settling = |more: BTreeSet<Lrn>| {
        let missing = missing.iter().copied().chain(more).collect::<BTreeSet<_>>();
        Action::Wait(Waiting::Settling { missing: missing.into_iter().collect() })
    };
    match goal {
        Ok(goal)
            if goal.version != request.version
                && goal.follows(request)
                && !view.registered.is_empty() =>
        {
            let wanted = goal.request(view, Some(request));
            let problems = newer_than(view, &wanted);
            if problems.is_empty() && missing.is_empty() {
                Action::Request(wanted)
            } else if problems.is_empty() || superseded {
                settling(absent)
            } else {
                Action::Wait(Waiting::Preflight { problems })
            }
        }
        _ if superseded => settling(absent),
        _ => Action::Wait(Waiting::Recovery { cause: stop_cause(view, request) }),
    }
}

/// Rows 7 to 9: the request runs.
fn unfinished(view: &View, limits: &Limits, clock: &Elapsed, request: &UpdateRequest) -> Action {
    let id = request.id();
    let stop = |cause: String| Action::Stop { request: id.clone(), ending: None, cause };
    if let Some(origin) = first_abort(view, request) {
        return stop(format!(
            "boot server {} aborted in step {}: {}",
            origin.lrn, origin.step, origin.cause
        ));
    }
    let step = lowest_step(view, request);
    let behind: Vec<Lrn> = request
        .members()
        .into_iter()
        .filter(|lrn| view.status_of(request, *lrn).map_or(0, |status| status.value.step) == step)
        .filter(|lrn| {
            view.status_of(request, *lrn)
                .is_none_or(|status| status.value.cond != Condition::Complete)
        })
        .collect();
    let waited_for = || waited::in_words(view, request, step, &behind);
    if clock.request > limits.request {
        return stop(format!("not finished within {:?}: {}", limits.request, waited_for()));
    }
    if clock.step > limits.step {
        return stop(format!("no progress within {:?}: {}", limits.step, waited_for()));
    }
    if view.withdrawn.contains_key(&request.version) {
        return stop(format!("{} was withdrawn", request.version));
    }
    let left: Vec<String> =
        request.members().difference(&view.registered).map(ToString::to_string).collect();
    if !left.is_empty() {
        let cause = format!("boot servers {} left", left.join(", "));
        return Action::Stop { request: id, ending: Some(Ending::Superseded), cause };
    }
    Action::Wait(Waiting::Workers { step, behind })
}

/// Whether a member of a finished request was taken out and registered again since: it may be a fresh machine, and its
/// status of before went with it. A Go peer that spoils its own `complete` is no such member, nor is one whose condition
/// this version does not know.
fn came_again(view: &View, request: &UpdateRequest) -> bool {
    let id = request.id();
    request.members().into_iter().any(|lrn| match view.statuses.get(&lrn).map(|s| &s.value) {
        None => !view.unreadable.contains_key(&Key::Status(lrn)),
        Some(status) => status.request.as_ref().is_some_and(|of| {
            *of != id || !matches!(status.cond, Condition::Complete | Condition::Other(_))
        }),
    })
}

/// Whether every member has completed the request.
pub(crate) fn is_finished(view: &View, request: &UpdateRequest) -> bool {
    let complete = view
        .member_statuses(request)
        .filter(|(_, status)| status.value.cond == Condition::Complete)
        .count();
    complete == request.members().len()
}

/// How the current request has ended, or would if it were replaced now.
pub fn outcome(view: &View, request: &UpdateRequest) -> Outcome {
    if is_finished(view, request) {
        Outcome::Completed
    } else if request.ending == Some(Ending::Superseded) {
        Outcome::Superseded
    } else if first_abort(view, request).is_some()
        || request.stopped.as_ref().is_some_and(|note| note.leader)
    {
        Outcome::Aborted
    } else {
        Outcome::Stopped
    }
}

/// Why the current request is stopped, in words.
pub(crate) fn stop_cause(view: &View, request: &UpdateRequest) -> String {
    if let Some(note) = &request.stopped {
        return if note.leader {
            note.reason.clone()
        } else {
            format!("by {}: {}", note.by, note.reason)
        };
    }
    first_abort(view, request).map_or_else(
        || "by a leader that gave no reason".to_owned(),
        |origin| {
            format!("boot server {} aborted in step {}: {}", origin.lrn, origin.step, origin.cause)
        },
    )
}

/// The order in which the original lists servers: by their decimal text.
pub(crate) fn original_order(servers: &BTreeSet<Lrn>) -> Vec<Lrn> {
    let mut ordered: Vec<Lrn> = servers.iter().copied().collect();
    ordered.sort_by_key(ToString::to_string);
    ordered
}

/// Where to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goal {
    /// The version.
    pub version: NecoVersion,
    /// Whether an operator named it: then no window is waited for.
    pub manual: bool,
    /// Whether it may be older than what runs.
    pub allow_downgrade: bool,
    /// Whether the way back may be missing.
    pub allow_no_way_back: bool,
}

impl Goal {
    /// Whether the goal is a reason to leave `request` behind: an operator named it, it is newer, or what was requested
    /// is withdrawn.
    pub(crate) fn follows(&self, request: &UpdateRequest) -> bool {
        self.manual || self.allow_downgrade || self.version.is_newer_than(&request.version)
    }

    fn request(self, view: &View, replaces: Option<&UpdateRequest>) -> NewRequest {
        NewRequest {
            version: self.version,
            servers: original_order(&view.registered),
            kind: if self.manual { RequestKind::Manual } else { RequestKind::Release },
            allow_downgrade: self.allow_downgrade,
            allow_no_way_back: self.allow_no_way_back,
            replaces: replaces.map(UpdateRequest::id),
        }
    }
}

/// The version to go for: what an operator pinned, else the newest known release that was neither withdrawn nor aborted.
///
/// When a release is withdrawn, going back to the newest one before it is what the withdrawal asks for.
pub fn choose_target(view: &View) -> Result<Goal, Waiting> {
    if let Some(target) = view.target.value() {
        let newer = |release: &NecoVersion| release.is_newer_than(&target.version);
        let holds = target.pinned || !view.release.as_ref().is_some_and(newer);
        let aborted =
            view.seen.get(&target.version).is_some_and(|seen| seen.value.aborted.is_some());
        if holds && view.withdrawn.contains_key(&target.version) {
            return Err(Waiting::Withdrawn { version: target.version.clone() });
        }
        if holds && aborted {
            return Err(Waiting::AbortedBefore { version: target.version.clone() });
        }
        if holds {
            return Ok(Goal {
                version: target.version.clone(),
                manual: true,
                allow_downgrade: target.allow_downgrade,
                allow_no_way_back: target.allow_no_way_back,
            });
        }
    }
    let mut known: Vec<&NecoVersion> = view.seen.keys().chain(&view.release).collect();
    known.sort_by(|a, b| b.precedence(a).then_with(|| b.cmp(a)));
    let Some(newest) = known.first().copied() else { return Err(Waiting::Release) };
    let mut passed_over_withdrawn = false;
    let mut aborted = None;
    for version in known {
        if view.withdrawn.contains_key(version) {
            passed_over_withdrawn = true;
        } else if view.seen.get(version).is_some_and(|seen| seen.value.aborted.is_some()) {
            aborted = aborted.or(Some(version));
        } else {
            let runs_newer =
                view.alive.values().any(|alive| alive.value.version.precedence(version).is_gt());
            if let Some(aborted) = aborted.filter(|_| runs_newer) {
                return Err(Waiting::AbortedBefore { version: aborted.clone() });
            }
            return Ok(Goal {
                version: version.clone(),
                manual: false,
                allow_downgrade: passed_over_withdrawn && aborted.is_none(),
                allow_no_way_back: false,
            });
        }
    }
    Err(match aborted {
        Some(version) => Waiting::AbortedBefore { version: version.clone() },
        None => Waiting::Withdrawn { version: newest.clone() },
    })
}

/// The releases newer than the request's that are not chosen by themselves because their update was aborted, newest first.
pub fn aborted_releases(view: &View) -> Vec<&NecoVersion> {
    let newer = |version: &NecoVersion| {
        view.current().is_none_or(|request| version.is_newer_than(&request.version))
    };
    let aborted = view.seen.iter().filter(|(_, seen)| seen.value.aborted.is_some());
    let mut versions: Vec<_> = aborted
        .map(|(version, _)| version)
        .filter(|version| newer(version) && !view.withdrawn.contains_key(version))
        .collect();
    versions.sort_by(|a, b| b.precedence(a).then_with(|| b.cmp(a)));
    versions
}

/// A request that passes the preflight, or what it waits for.
fn checked(view: &View, limits: &Limits, request: NewRequest) -> Action {
    let problems = preflight(view, limits, &request);
    if problems.is_empty() {
        Action::Request(request)
    } else {
        Action::Wait(Waiting::Preflight { problems })
    }
}

fn preflight(view: &View, limits: &Limits, request: &NewRequest) -> Vec<String> {
    let mut problems = Vec::new();
    if request.servers.is_empty() {
        problems.push("no boot server is registered".to_owned());
    }
    for lrn in &request.servers {
        match view.alive.get(lrn) {
            None if view.speaks_our_protocol(*lrn) => {
                problems.push(format!("boot server {lrn} is not alive"))
            }
            None => {}
            Some(alive) => {
                if !alive.value.busy.is_empty() {
                    problems.push(format!(
                        "boot server {lrn} is busy: {}",
                        alive.value.busy.join(", ")
                    ));
                }
                let installs = alive.value.version != request.version;
                let matters = |why: &&String| {
                    !why.starts_with(neco_schema::Alive::NO_WAY_BACK)
                        || (installs && !request.allow_no_way_back)
                };
                let unfit = alive.value.unfit.iter().filter(matters);
                problems.extend(unfit.map(|why| format!("boot server {lrn}: {why}")));
            }
        }
    }
    problems.extend(newer_than(view, request));
    problems.extend(limits.probes.iter().cloned());
    problems
}

/// The members that run something newer than what is to be requested, unless going back was asked for.
fn newer_than(view: &View, request: &NewRequest) -> Vec<String> {
    let newer = |lrn: &&Lrn| {
        view.alive.get(lrn).filter(|alive| alive.value.version.precedence(&request.version).is_gt())
    };
    let members = request.servers.iter().filter(|_| !request.allow_downgrade);
    members
        .filter_map(|lrn| newer(&lrn).map(|alive| (lrn, &alive.value.version)))
        .map(|(lrn, version)| {
            format!(
                "boot server {lrn} runs {version}, newer than {}: 'necoctl update --to {} --allow-downgrade' goes back",
                request.version, request.version
            )
        })
        .collect()
}
