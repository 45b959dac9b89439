//! Stop, abort, recovery, pause and time: invariants 20 to 26.

use std::time::Duration;

use neco_schema::journal::Entry;
use neco_schema::{ClockRecord, Condition, ConfigKey, Ending, Key, RequestKind, UpdateRequest};

use super::event::{Changed, RequestChange};
use super::server::Line;
use super::verdict::Verdicts;
use super::{Change, Writer};
use crate::words::named;

const REQUEST: &str = "status/current";

pub(super) fn judge_change(change: &Change<'_>, verdicts: &mut Verdicts) {
    no_progress_after_stop(change, verdicts);
    abort_spreads(change, verdicts);
    pause_changes_nothing(change, verdicts);
    time_is_counted_once(change, verdicts);
    if let Some(request) = change.event.request() {
        stop_is_sticky(change, &request, verdicts);
        recover_only_when_stopped(change, &request, verdicts);
        no_early_deadline(change, &request, verdicts);
        windows(change, &request, verdicts);
    }
}

pub(super) fn judge_line(line: &Line<'_>, verdicts: &mut Verdicts) {
    nothing_begins_after_stop(line, verdicts);
    settled_with_nothing_open(line, verdicts);
    nothing_begins_after_abort(line, verdicts);
    nothing_begins_in_a_pause(line, verdicts);
}

/// 20, in etcd: a status that goes on is never written to a stopped request; its transaction compares the request. A Go
/// worker sees a stop between steps only.
fn no_progress_after_stop(change: &Change<'_>, verdicts: &mut Verdicts) {
    let Some(trail) = change.state.trail().filter(|trail| trail.stopped_at.is_some()) else {
        return;
    };
    for put in change.event.statuses() {
        if put.after.request.as_ref() != Some(&trail.id) {
            continue;
        }
        let goes_on = matches!(put.after.cond, Condition::Running | Condition::Complete);
        let wrong = goes_on.then(|| {
            format!(
                "boot server {} posted step {} after request {} was stopped",
                put.lrn, put.after.step, trail.id
            )
        });
        verdicts.safety(20, change.revision(), &[&put.key, REQUEST], wrong);
    }
}

/// 20, on the servers: nothing is begun from a view in which the request was stopped.
fn nothing_begins_after_stop(line: &Line<'_>, verdicts: &mut Verdicts) {
    let Some(begin) = line.begins() else { return };
    let Some(trail) = line.trail(&begin.request) else { return };
    let wrong = trail.is_stopped_at(begin.view).then(|| {
        format!("boot server {} {} after request {} was stopped", line.lrn, begin.what, trail.id)
    });
    verdicts.safety(20, begin.view, &[REQUEST], wrong);
}

/// 20, on the servers: who settles has put back what was half done.
fn settled_with_nothing_open(line: &Line<'_>, verdicts: &mut Verdicts) {
    let Entry::Posting { cond, .. } = line.entry else { return };
    if Condition::from_code(*cond) != Condition::NotRunning {
        return;
    }
    let open = line.server.journal.groups.keys().next();
    let wrong =
        open.map(|group| format!("boot server {} settles with group {group} open", line.lrn));
    verdicts.safety(20, line.revision(), &[], wrong);
}

/// 21: a stop is never taken back, and a stopped request never comes again.
fn stop_is_sticky(change: &Change<'_>, request: &RequestChange, verdicts: &mut Verdicts) {
    let known = request.after.as_ref().and_then(|after| {
        let trail = change.state.trails.get(&after.id())?;
        trail.stopped_at.map(|_| (after, trail))
    });
    let Some((after, trail)) = known else {
        if request.before.as_ref().is_some_and(|before| before.stop) {
            // It stayed stopped to its end.
            verdicts.safety(21, change.revision(), &[REQUEST], None);
        }
        return;
    };
    let again = trail.ended_at.is_some();
    let wrong = if again {
        Some(format!("request {} was stopped and came back", trail.id))
    } else {
        (!after.stop).then(|| format!("the stop of request {} was taken back", trail.id))
    };
    verdicts.safety(21, change.revision(), &[REQUEST], wrong);
}

/// 22, in etcd: after a member has aborted, another may have had one status under way; whoever posts a second has looked
/// and gone on.
fn abort_spreads(change: &Change<'_>, verdicts: &mut Verdicts) {
    let Some(trail) = change.state.trail() else { return };
    let Some(aborted) = trail.aborted_at else { return };
    for put in change.event.statuses() {
        if put.after.request.as_ref() != Some(&trail.id) {
            continue;
        }
        let goes_on = matches!(put.after.cond, Condition::Running | Condition::Complete);
        let before = trail.went_on.get(&(put.lrn, aborted)).copied().unwrap_or(0);
        let wrong = (goes_on && before > 0).then(|| {
            format!(
                "boot server {} goes on to step {} after a member aborted",
                put.lrn, put.after.step
            )
        });
        verdicts.safety(22, change.revision(), &[&put.key], wrong);
    }
}

/// 22, on the servers: nothing is begun from a view in which a member had aborted.
fn nothing_begins_after_abort(line: &Line<'_>, verdicts: &mut Verdicts) {
    let Some(begin) = line.begins() else { return };
    let Some(trail) = line.trail(&begin.request) else { return };
    let wrong = trail.is_aborted_at(begin.view).then(|| {
        format!("boot server {} {} after a member of {} aborted", line.lrn, begin.what, trail.id)
    });
    verdicts.safety(22, begin.view, &[REQUEST], wrong);
}

/// 23: a request is put away only when it was stopped or finished, by whoever read it, and when every member that has
/// been living since the stop has closed its status. `--force` is an operator's own responsibility.
fn recover_only_when_stopped(
    change: &Change<'_>,
    request: &RequestChange,
    verdicts: &mut Verdicts,
) {
    let Some(before) = &request.before else { return };
    let replaced = request.after.as_ref().is_some_and(|after| after.id() != before.id());
    if !request.deleted && !replaced {
        return;
    }
    let Some(trail) = change.state.trails.get(&before.id()) else { return };
    let finished = trail.finished_at.is_some();
    let wrong = if request.deleted {
        match change.event.writer() {
            Some(Writer::Operator { forced: true } | Writer::Stranger) => return,
            // Without a word about the writer a deletion may have been forced.
            None if !before.stop => return,
            None | Some(Writer::Go) => {
                (!before.stop).then(|| "a request was deleted that was not stopped".to_owned())
            }
            Some(_) if !before.stop => {
                Some("a request was deleted that was not stopped".to_owned())
            }
            Some(_) => unsettled(change, request, before),
        }
    } else if change.event.is_foreign()
        || request.after.as_ref().is_some_and(|after| after.kind.is_none())
    {
        return;
    } else if finished {
        None
    } else if !before.stop {
        Some(format!("request {} was replaced while it ran", trail.id))
    } else if before.ending != Some(Ending::Superseded)
        && request.after.as_ref().is_some_and(|after| after.version == before.version)
    {
        Some(format!("request {} was stopped and started anew without recover", trail.id))
    } else {
        unsettled(change, request, before)
    };
    verdicts.safety(23, change.revision(), &[REQUEST], wrong);
}

/// Members living since before the last change of the request, with a status that is not closed.
fn unsettled(
    change: &Change<'_>,
    request: &RequestChange,
    before: &UpdateRequest,
) -> Option<String> {
    let id = before.id();
    let open: Vec<_> = before
        .members()
        .into_iter()
        .filter(|lrn| {
            let alive = change.state.alive.get(lrn);
            alive.is_some_and(|alive| alive.create_revision <= request.before_revision)
        })
        .filter(|lrn| {
            change.state.statuses.get(lrn).is_none_or(|status| {
                !(status.value.belongs_to(&id, &before.version) && status.value.is_closed())
            })
        })
        .collect();
    (!open.is_empty()).then(|| format!("request {id} ended before {} settled", named(open)))
}

/// 24: what has been counted of a request's time is never counted anew or lost, whoever leads, and does not grow faster
/// than time itself.
fn time_is_counted_once(change: &Change<'_>, verdicts: &mut Verdicts) {
    for changed in &change.event.changes {
        let Some(Key::Clock(id)) = &changed.key else { continue };
        let Some(after) = changed.now::<ClockRecord>() else { continue };
        let before = changed.then::<ClockRecord>().map_or(0, |before| before.elapsed);
        let since = change
            .world
            .counted(id)
            .or_else(|| change.state.trails.get(id).and_then(|trail| trail.published_time));
        let passed = change.state.now.zip(since).map(|(now, since)| now.saturating_sub(since));
        let grown = Duration::from_nanos(after.elapsed.saturating_sub(before));
        let wrong = if after.elapsed < before {
            Some(format!("the time of request {id} went back"))
        } else {
            passed.filter(|passed| grown > *passed + change.rules.grace).map(|passed| {
                format!("the time of request {id} grew by {grown:?} within {passed:?}")
            })
        };
        verdicts.safety(24, change.revision(), &[&changed.name], wrong);
    }
}

/// 24: a leader that stops a request in which nobody aborted, which nobody left and whose version stands must have waited
/// for a deadline. A Go leader waits by the wall clock.
fn no_early_deadline(change: &Change<'_>, request: &RequestChange, verdicts: &mut Verdicts) {
    let (Some(before), Some(after)) = (&request.before, &request.after) else { return };
    let by_leader = after.stopped.as_ref().is_some_and(|stopped| stopped.leader);
    if before.stop || !after.stop || before.id() != after.id() || !by_leader {
        return;
    }
    let Some(trail) = change.state.trail() else { return };
    let withdrawn = change.state.withdrawn.contains(&before.version);
    if trail.aborted_at.is_some() || withdrawn || after.ending.is_some() {
        return;
    }
    let Some((now, since)) = change.state.now.zip(trail.published_time) else { return };
    let passed = now.saturating_sub(since);
    let (state, rules) = (change.state, change.rules);
    let least = state
        .deadline(ConfigKey::WorkerTimeout, rules.request_timeout)
        .min(state.deadline(ConfigKey::StepTimeout, rules.step_timeout));
    let wrong = (passed < least).then(|| {
        format!("request {} was given up after {passed:?}, before any deadline", trail.id)
    });
    verdicts.safety(24, change.revision(), &[REQUEST], wrong);
}

/// 25, in etcd: to pause and to resume changes nothing else. In a pause a member may have had one status under way;
/// whoever posts a second has looked and gone on. Groups are brought to their end.
fn pause_changes_nothing(change: &Change<'_>, verdicts: &mut Verdicts) {
    if let Some(pause) = change.event.find(&Key::Pause) {
        // The order writes down who gave it.
        let itself = |changed: &&Changed| matches!(changed.key, Some(Key::Pause | Key::Order(_)));
        let others = change.event.changes.iter().any(|changed| !itself(&changed));
        let wrong = others.then(|| "a pause changed more than itself".to_owned());
        verdicts.safety(25, change.revision(), &[&pause.name], wrong);
    }
    let revision = change.state.revision;
    let Some(trail) = change.state.trail() else { return };
    let Some(since) = change.state.pause_at(revision) else { return };
    let groups = change.rules.recipe_of(&trail.request.version).map(|recipe| &recipe.groups);
    let may_be_in_group = groups.is_none_or(|groups| !groups.is_empty());
    for put in change.event.statuses() {
        let goes_on = put.after.cond == Condition::Running;
        if put.after.request.as_ref() != Some(&trail.id) || !goes_on || may_be_in_group {
            continue;
        }
        let before = trail.went_on.get(&(put.lrn, since)).copied().unwrap_or(0);
        let wrong = (before > 0).then(|| {
            format!("boot server {} goes on to step {} in a pause", put.lrn, put.after.step)
        });
        verdicts.safety(25, change.revision(), &[&put.key, "control/pause"], wrong);
    }
}

/// 25, on the servers: no step is begun from a paused view, but for those that bring a group to its end.
fn nothing_begins_in_a_pause(line: &Line<'_>, verdicts: &mut Verdicts) {
    let Entry::StepBegun { request, step, revision, .. } = line.entry else { return };
    let Some(trail) = line.trail(request) else { return };
    let paused = line.state.pause_at(*revision).is_some();
    if !paused || !line.state.covers(*revision) {
        return;
    }
    let recipe = line.rules.recipe_of(&trail.request.version);
    let Some(recipe) = recipe else { return };
    let wrong = (!trail.has_open_group_at(&recipe.groups, *revision))
        .then(|| format!("boot server {} began step {step} in a pause", line.lrn));
    verdicts.safety(25, *revision, &["control/pause"], wrong);
}

/// 26: a release that follows a completed request begins inside its window. Operators and healing do not wait for one.
fn windows(change: &Change<'_>, request: &RequestChange, verdicts: &mut Verdicts) {
    let (Some(before), Some(after)) = (&request.before, &request.after) else { return };
    let Some((open, since)) = change.world.window() else { return };
    let follows = before.id() != after.id() && before.version != after.version;
    let finished =
        change.state.trails.get(&before.id()).is_some_and(|trail| trail.finished_at.is_some());
    if change.event.is_foreign()
        || !follows
        || !finished
        || after.kind != Some(RequestKind::Release)
    {
        return;
    }
    let just_closed = change
        .state
        .now
        .zip(since)
        .is_some_and(|(now, since)| now.saturating_sub(since) <= change.rules.grace);
    let wrong = (!open && !just_closed)
        .then(|| format!("{} was requested outside of its window", after.version));
    verdicts.safety(26, change.revision(), &[REQUEST], wrong);
}
