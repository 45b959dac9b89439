//! Who may begin which step: invariants 7 to 10, 13 and 14, and 11 and 12 as far as records tell.

use neco_schema::journal::Entry;
use neco_schema::{
    Condition, ContentsStatus, Group, HistoryRecord, Key, Outcome, RequestId, UpdateStatus, Way,
};

use super::server::Line;
use super::state::State;
use super::verdict::Verdicts;
use super::{Change, event::StatusPut};
use crate::words::named;

pub(super) fn judge_change(change: &Change<'_>, verdicts: &mut Verdicts) {
    for put in change.event.statuses() {
        no_early_post(change, &put, verdicts);
        members_only_post(change, &put, verdicts);
        monotone_steps(change, &put, verdicts);
        completion_by_recipe(change, &put, verdicts);
    }
    one_way_for_a_group(change, verdicts);
    once_per_cluster(change, verdicts);
    completion_is_recorded_truly(change, verdicts);
}

pub(super) fn judge_state(state: &State, verdicts: &mut Verdicts) {
    skew_at_most_one(state, verdicts);
}

pub(super) fn judge_line(line: &Line<'_>, verdicts: &mut Verdicts) {
    no_early_start(line, verdicts);
    members_only_begin(line, verdicts);
    groups_end_as_decided(line, verdicts);
    resume_is_the_same_step(line, verdicts);
    posts_follow_the_work(line, verdicts);
}

const REQUEST: &str = "status/current";

/// 7, in etcd: a member that posts step n+1 has run step n, so everybody had arrived at n before; the same for
/// completion.
fn no_early_post(change: &Change<'_>, put: &StatusPut, verdicts: &mut Verdicts) {
    let Some(trail) = change.state.trail() else { return };
    if !put.after.belongs_to(&trail.id, &trail.request.version) {
        return;
    }
    let was_run = match put.after.cond {
        Condition::Running => put.after.step.saturating_sub(1),
        Condition::Complete => put.after.step,
        _ => return,
    };
    if was_run == 0 {
        return;
    }
    let missing = trail.missing_at(was_run, change.state.revision);
    let wrong = (!missing.is_empty()).then(|| {
        format!(
            "boot server {} has done step {was_run} before {} arrived there",
            put.lrn,
            named(missing.iter().copied())
        )
    });
    verdicts.safety(7, change.revision(), &[&put.key, REQUEST], wrong);
}

/// 7, on the servers: a step is begun from a view in which every member had arrived at it.
fn no_early_start(line: &Line<'_>, verdicts: &mut Verdicts) {
    let Entry::StepBegun { request, step, revision, .. } = line.entry else { return };
    let Some(trail) = line.trail(request).filter(|_| line.state.covers(*revision)) else { return };
    let missing = trail.missing_at(*step, *revision);
    let wrong = (!missing.is_empty()).then(|| {
        format!(
            "boot server {} began step {step} before {} arrived there",
            line.lrn,
            named(missing.clone())
        )
    });
    verdicts.safety(7, *revision, &[REQUEST], wrong);
}

/// 8, in etcd: only members post, and who has left posts no progress.
fn members_only_post(change: &Change<'_>, put: &StatusPut, verdicts: &mut Verdicts) {
    let Some(trail) = change.state.trail() else { return };
    // A Go peer that is no member may leave any status: it counts for nobody.
    if put.after.request.as_ref() != Some(&trail.id) {
        return;
    }
    let lrn = put.lrn;
    let runs = matches!(put.after.cond, Condition::Running | Condition::Complete);
    let registered = change.state.was_registered(lrn, change.state.revision).unwrap_or(true);
    let wrong = if !trail.request.is_member(lrn) {
        Some(format!(
            "boot server {lrn} posted a status for request {}, of which it is no member",
            trail.id
        ))
    } else {
        (runs && !registered)
            .then(|| format!("boot server {lrn} posted step {} after it left", put.after.step))
    };
    verdicts.safety(8, change.revision(), &[&put.key, REQUEST], wrong);
}

/// 8, on the servers: only members begin anything, and who has left begins no step.
fn members_only_begin(line: &Line<'_>, verdicts: &mut Verdicts) {
    let Some(begin) = line.begins() else { return };
    let Some(trail) = line.trail(&begin.request) else { return };
    let lrn = line.lrn;
    let registered = line.state.was_registered(lrn, begin.view).unwrap_or(true);
    let begins_step = matches!(line.entry, Entry::StepBegun { .. });
    let wrong = if !trail.request.is_member(lrn) {
        Some(format!(
            "boot server {lrn} {} for request {}, of which it is no member",
            begin.what, trail.id
        ))
    } else {
        (begins_step && !registered && line.state.covers(begin.view))
            .then(|| format!("boot server {lrn} {} after it left", begin.what))
    };
    verdicts.safety(8, begin.view, &[REQUEST], wrong);
}

/// 9: members are never more than one step apart.
fn skew_at_most_one(state: &State, verdicts: &mut Verdicts) {
    let Some(trail) = state.trail() else { return };
    let steps = || {
        trail.members().into_iter().map(|lrn| (trail.highest.get(&lrn).copied().unwrap_or(0), lrn))
    };
    let (Some(low), Some(high)) = (steps().min(), steps().max()) else { return };
    if high.0 == 0 {
        return;
    }
    // What a Go worker left from an earlier request of the version is taken for its arrival.
    let wrong = (high.0 - low.0 > 1 && !trail.missing_at(high.0 - 1, state.revision).is_empty())
        .then(|| {
            format!(
                "boot server {} is in step {} and boot server {} in step {}",
                high.1, high.0, low.1, low.0
            )
        });
    verdicts.safety(9, state.revision, &[REQUEST], wrong);
}

/// 10: within one request steps do not go back, and a closed status is the last; an abort may be told more of.
fn monotone_steps(change: &Change<'_>, put: &StatusPut, verdicts: &mut Verdicts) {
    let (Some(before), after) = (&put.before, &put.after) else { return };
    // A Go worker that restarts begins with step 1, and what a person puts there by hand is no step of a server.
    let of_one_request = before.request.is_some() && before.request == after.request;
    if !of_one_request || change.event.is_foreign() {
        return;
    }
    let lrn = put.lrn;
    let wrong = if after.step < before.step {
        Some(format!(
            "boot server {lrn} went back from step {} to step {}",
            before.step, after.step
        ))
    } else {
        let goes_on = before.is_closed() && !tells_more(before, after);
        goes_on.then(|| {
            format!(
                "boot server {lrn} went on after it had closed: {} to {}",
                before.cond, after.cond
            )
        })
    };
    verdicts.safety(10, change.revision(), &[&put.key], wrong);
}

/// Whether `after` is the abort that `before` is, with what has come of it since.
fn tells_more(before: &UpdateStatus, after: &UpdateStatus) -> bool {
    let (Some(told), Some(tells)) = (&before.origin, &after.origin) else { return false };
    before.cond == Condition::Abort
        && (before.cond, before.step) == (after.cond, after.step)
        && (told.lrn, told.step) == (tells.lrn, tells.step)
        && tells.cause.len() > told.cause.len()
        && tells.cause.starts_with(&told.cause)
}

/// 11, as far as records tell: which way a group goes is decided once for a request, and forward only when every
/// member has come to the step that starts the service again, so that each has stopped the old one.
fn one_way_for_a_group(change: &Change<'_>, verdicts: &mut Verdicts) {
    for changed in &change.event.changes {
        let Some(Key::Group(name)) = &changed.key else { continue };
        let Some(after) = changed.now::<Group>() else { continue };
        let revised = changed
            .then::<Group>()
            .is_some_and(|before| before.request == after.request && before.way != after.way);
        let trail = change.state.trails.get(&after.request);
        let missing = trail
            .filter(|_| after.way == Way::Forward)
            .and_then(|trail| {
                let recipe = change.rules.recipe_of(&trail.request.version)?;
                let shape = recipe.groups.iter().find(|group| group.name == *name)?;
                Some(trail.missing_at(shape.apply, change.state.revision))
            })
            .unwrap_or_default();
        let wrong = if revised {
            Some(format!("the way of group {name} was decided twice for {}", after.request))
        } else {
            (!missing.is_empty())
                .then(|| format!("group {name} goes forward before {} came", named(missing)))
        };
        verdicts.safety(11, change.revision(), &[&changed.name], wrong);
    }
}

/// 11, on the servers: each ends its group the way that was decided.
fn groups_end_as_decided(line: &Line<'_>, verdicts: &mut Verdicts) {
    let Entry::GroupClosed { group, request, way } = line.entry else { return };
    let key = Key::Group(group.clone()).to_string();
    let record = line.state.kvs.get(&key);
    let decided: Option<Group> = record.and_then(|kv| neco_schema::Record::decode(&kv.value).ok());
    let Some(decided) = decided.filter(|decided| decided.request == *request) else { return };
    let wrong = (decided.way != *way).then(|| {
        format!(
            "boot server {} went {way:?} with group {group}, {:?} was decided",
            line.lrn, decided.way
        )
    });
    verdicts.safety(11, line.revision(), &[&key], wrong);
}

/// 12, as far as records tell: what has been done once in a request, or for a version and the same inputs, is not done again.
fn once_per_cluster(change: &Change<'_>, verdicts: &mut Verdicts) {
    for changed in &change.event.changes {
        let Some(Key::Contents(name)) = &changed.key else { continue };
        let Some(after) =
            changed.now::<ContentsStatus>().filter(|_| change.rules.once.contains(name))
        else {
            continue;
        };
        let again = changed.then::<ContentsStatus>().is_some_and(|before| {
            let in_request = before.request.is_some() && before.request == after.request;
            let equal = before.version == after.version && before.inputs == after.inputs;
            before.success && (in_request || equal)
        });
        let wrong = again.then(|| format!("contents {name} was made twice for {}", after.version));
        verdicts.safety(12, change.revision(), &[&changed.name], wrong);
    }
}

/// 13: a step that is begun is the one after the last that was done, and its attempts are counted on.
fn resume_is_the_same_step(line: &Line<'_>, verdicts: &mut Verdicts) {
    let Entry::StepBegun { request, step, attempt, .. } = line.entry else { return };
    let known = line.server.journal.of(request);
    let expected = if known.counted == *step { known.attempts + 1 } else { 1 };
    let lrn = line.lrn;
    let wrong = if *step != known.done + 1 {
        Some(format!("boot server {lrn} began step {step} after step {} was done", known.done))
    } else {
        (*attempt != expected).then(|| {
            format!(
                "boot server {lrn} began step {step} as attempt {attempt} instead of {expected}"
            )
        })
    };
    verdicts.safety(13, line.revision(), &[], wrong);
}

/// 13 and 14, on the servers: the next step is posted when the one before was done, completion when the last was.
fn posts_follow_the_work(line: &Line<'_>, verdicts: &mut Verdicts) {
    let Entry::Posting { request, step, cond } = line.entry else { return };
    let done = line.server.journal.of(request).done;
    let lrn = line.lrn;
    match Condition::from_code(*cond) {
        Condition::Running if *step > 1 => {
            let wrong = (done + 1 < *step).then(|| {
                format!("boot server {lrn} posts step {step} when only step {done} was done")
            });
            verdicts.safety(13, line.revision(), &[], wrong);
        }
        Condition::Complete => {
            let wrong = if done < *step {
                Some(format!(
                    "boot server {lrn} posts completion at step {step} when only step {done} was done"
                ))
            } else {
                wrong_version(line, request)
            };
            verdicts.safety(14, line.revision(), &[], wrong);
        }
        _ => {}
    }
}

fn wrong_version(line: &Line<'_>, request: &RequestId) -> Option<String> {
    let (running, trail) = (line.server.running.as_ref()?, line.trail(request)?);
    (*running != trail.request.version).then(|| {
        format!("boot server {} completes {} and runs {running}", line.lrn, trail.request.version)
    })
}

/// 14, in etcd: a member completes at the last step, with the requested version installed and running.
fn completion_by_recipe(change: &Change<'_>, put: &StatusPut, verdicts: &mut Verdicts) {
    let Some(trail) = change.state.trail() else { return };
    let version = &trail.request.version;
    if put.after.cond != Condition::Complete || !put.after.belongs_to(&trail.id, version) {
        return;
    }
    let last = change.rules.recipe_of(version).map(|recipe| recipe.steps);
    let installed = change.world.installed(put.lrn);
    let running = change.world.worker_version(put.lrn);
    let wrong = if let Some(last) = last.filter(|last| *last != put.after.step) {
        Some(format!("boot server {} completes at step {} of {last}", put.lrn, put.after.step))
    } else if let Some(other) = installed.filter(|installed| *installed != version) {
        Some(format!("boot server {} completes {version} and has {other} installed", put.lrn))
    } else {
        running
            .filter(|running| *running != version)
            .map(|other| format!("boot server {} completes {version} and runs {other}", put.lrn))
    };
    verdicts.safety(14, change.revision(), &[&put.key], wrong);
}

/// 14, in the history: "completed" stands there if and only if every member has completed.
fn completion_is_recorded_truly(change: &Change<'_>, verdicts: &mut Verdicts) {
    for changed in &change.event.changes {
        let Some(Key::History(_, id)) = &changed.key else { continue };
        let (Some(record), None) = (changed.now::<HistoryRecord>(), &changed.before) else {
            continue;
        };
        let Some(trail) = change.state.trails.get(id) else { continue };
        let open = trail.incomplete();
        let wrong = match (record.outcome == Outcome::Completed, open.is_empty()) {
            (true, false) => {
                Some(format!("request {id} is recorded as completed without {}", named(open)))
            }
            (false, true) => {
                Some(format!("request {id} was completed and is recorded as {}", record.outcome))
            }
            _ => None,
        };
        verdicts.safety(14, change.revision(), &[&changed.name], wrong);
    }
}
