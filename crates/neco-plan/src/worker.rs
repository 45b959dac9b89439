//! What a boot server does next: the table of the update protocol, first match wins.

use std::collections::BTreeMap;

use neco_schema::{
    Condition, Key, Lrn, Origin, RequestId, UpdateRequest, UpdateStatus, Way, abridged,
};

use crate::barrier::{group_is_open, missing_at};
use crate::moves::short;
use crate::{Doing, Local, Move, Post, PostKind, Rest, Slot, View};

/// After how many crashes in one step the request is given up.
const CRASHES_ALLOWED: u32 = 2;

/// The row of the worker's table that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row(pub u8);

/// What this boot server should do next, given what it has written down and what it is doing.
pub fn next_move(view: &View, me: &Local) -> Move {
    next_move_with_row(view, me).1
}

/// The same, with the row of the table that decided: for the journal, `why`, and the counters of the tests.
pub fn next_move_with_row(view: &View, me: &Local) -> (Row, Move) {
    let (row, decided) = decide(view, me);
    (Row(row), decided)
}

fn decide(view: &View, me: &Local) -> (u8, Move) {
    if let Some(found) = leftover_intent(me) {
        return (1, found);
    }
    #[cfg(feature = "testing")]
    if me.planted == Some(crate::testing::Planted::StopBeforeRestore)
        && let Some(request) = view.current()
        && let Some(settle) = settle(view, me, request)
    {
        return (7, settle);
    }
    if let Some(found) = group_to_restore(view, me) {
        return match failure_beside_restoration(view, me) {
            Some(post) => (9, post),
            None => (2, found),
        };
    }
    if let Some(why) = runs_in_vain(view, me) {
        return (3, Move::Cancel { why });
    }
    let other_machine = another_machine(view, me);
    if other_machine.is_none()
        && let Some(found) = turn_to_release(view, me)
    {
        return (4, found);
    }
    if let Some(rest) = distrust(view, me).or(other_machine) {
        return (5, Move::Rest(rest));
    }
    let Some(request) = view.current() else {
        return (6, Move::Rest(Rest::NoRequest));
    };
    if !request.is_member(me.lrn) {
        return (6, Move::Rest(Rest::NotAMember));
    }
    for_member(view, me, request)
}

/// Rows 7 to 18, and 9 before them: a readable request of a known kind with this server among its members.
fn for_member(view: &View, me: &Local, request: &UpdateRequest) -> (u8, Move) {
    let id = request.id();
    let own = own_status(view, me, request);
    if let Some(post) = failure_to_tell(view, me, request) {
        return (9, post);
    }
    if request.stop {
        return (7, settle(view, me, request).unwrap_or_else(|| Move::Rest(closed(own))));
    }
    if let Some(status) = own.filter(|status| status.is_closed()) {
        return (8, Move::Rest(Rest::Closed(status.cond)));
    }
    let post = |step: u32, kind: PostKind| {
        Move::Post(Post { request: id.clone(), version: request.version.clone(), step, kind })
    };
    let abort = |origin: Origin| abort(request, own, origin);
    let own_origin = |step: u32, cause: String| own_origin(me, step, cause);

    if let Some(origin) = first_abort(view, request) {
        return (10, abort(origin));
    }
    if me.journal.ended.contains(&id) {
        return (6, Move::Rest(Rest::Ended));
    }
    if !view.registered.contains(&me.lrn) {
        return (6, if me.doing.is_some() { Move::Keep } else { Move::Rest(Rest::NotRegistered) });
    }
    if let Some(cause) = apart(view, me, request) {
        return (11, abort(own_origin(own.map_or(0, |status| status.step), cause)));
    }
    if let Some(cause) =
        different_recipes(view, me, request).or_else(|| another_recipe(view, me, request, own))
    {
        return (12, abort(own_origin(own.map_or(0, |status| status.step), cause)));
    }
    if let Some(rest) = paused(view, me, request) {
        return (13, rest);
    }
    if me.installed != request.version {
        return (14, install(view, me, request, abort));
    }
    if me.running != request.version {
        return (15, Move::ExitForNewBinary);
    }
    let Some(status) = own else {
        let published = view
            .plans
            .get(&me.lrn)
            .is_some_and(|plan| plan.value.request == id && plan.value.recipe == me.recipe.digest);
        return (
            16,
            if published { post(1, PostKind::Running) } else { Move::PublishPlan { request: id } },
        );
    };
    let step = status.step;
    if step == 0 || step > me.recipe.steps {
        let cause =
            format!("the own status says step {step}, the recipe has {} steps", me.recipe.steps);
        return (11, abort(own_origin(step, cause)));
    }
    let done = me.journal.of(&id).done;
    #[cfg(feature = "testing")]
    let done = if me.planted == Some(crate::testing::Planted::ResumeAtNext)
        && me.journal.of(&id).attempts > 0
        && me.doing.is_none()
    {
        done.max(me.journal.of(&id).counted)
    } else {
        done
    };
    if done < step {
        return (17, run(view, me, request, step));
    }
    match step.cmp(&me.recipe.steps) {
        std::cmp::Ordering::Less => (18, post(step + 1, PostKind::Running)),
        _ => (18, post(step, PostKind::Complete)),
    }
}

/// Row 1: an intent of an earlier process. While this process runs something, intents are its own.
fn leftover_intent(me: &Local) -> Option<Move> {
    match &me.doing {
        Some(Doing::Complete { .. }) => Some(Move::Keep),
        Some(_) => None,
        None => me.journal.intents.iter().next().map(|(intent, state)| {
            let intent = intent.clone();
            if state.begun { Move::CompleteIntent { intent } } else { Move::DropIntent { intent } }
        }),
    }
}

/// Row 2: an open group whose request will not bring it to its apply step.
fn group_to_restore(view: &View, me: &Local) -> Option<Move> {
    if let Some(Doing::Restore { .. }) = me.doing {
        return Some(Move::Keep);
    }
    // A request that cannot be read may still run.
    let unreadable = matches!(view.request, Slot::Unreadable { .. });
    #[cfg(feature = "testing")]
    let unreadable = unreadable && me.planted != Some(crate::testing::Planted::UnreadableIsAbsent);
    if unreadable {
        return None;
    }
    let (name, open) = me.journal.groups.iter().find(|(_, open)| {
        let current = view.current().filter(|request| request.id() == open.request);
        current.is_none_or(|request| {
            !request.is_member(me.lrn)
                || request.stop
                || first_abort(view, request).is_some()
                || failed(me, &open.request)
        })
    })?;
    if me.doing.is_some() {
        return Some(Move::Cancel { why: format!("group {name} is to be restored") });
    }
    // Which way the others go is decided and not known: row 5 rests.
    if view.unreadable.contains_key(&Key::Group(name.clone())) {
        return None;
    }
    let record = view.groups.get(name).map(|group| &group.value);
    let decided = record.filter(|group| group.request == open.request);
    // A server that left may come back while the present request is in the same group: that one's way stands.
    let anothers = record
        .is_some_and(|group| view.current().is_some_and(|current| current.id() == group.request));
    Some(Move::Restore {
        group: name.clone(),
        request: open.request.clone(),
        way: decided.map_or(Way::Back, |group| group.way),
        decided: decided.is_some() || anothers,
    })
}

/// An own failure counts as an abort for the group, also before it is posted.
fn failed(me: &Local, id: &RequestId) -> bool {
    let state = me.journal.of(id);
    state.failed.is_some() || state.crashes > CRASHES_ALLOWED
}

/// Row 3: why what runs now should not.
fn runs_in_vain(view: &View, me: &Local) -> Option<String> {
    let (Some(Doing::Step { request: id, .. }) | Some(Doing::Install { request: id })) = &me.doing
    else {
        return None;
    };
    match &view.request {
        Slot::Absent => Some("the request is gone".to_owned()),
        // Whoever wrote it: the next safe point waits until it can be read.
        Slot::Unreadable { .. } => None,
        Slot::Present(current) if current.value.id() != *id => {
            Some("another request replaced it".to_owned())
        }
        Slot::Present(current) if current.value.stop => Some("the request is stopped".to_owned()),
        Slot::Present(current) => first_abort(view, &current.value)
            .map(|origin| format!("boot server {} aborted in step {}", origin.lrn, origin.step)),
    }
}

/// Row 4: a turn that nothing here needs any more.
fn turn_to_release(view: &View, me: &Local) -> Option<Move> {
    if me.doing.is_some() || !me.journal.intents.is_empty() {
        return None;
    }
    let (name, turn) = view.turns_of(me.lrn).next()?;
    Some(Move::ReleaseTurn { name: name.to_owned(), create_revision: turn.create_revision })
}

/// Row 5, first half: signs that this view is not to be acted on.
fn distrust(view: &View, me: &Local) -> Option<Rest> {
    let unreadable = |key: Key| {
        let error = view.unreadable.get(&key)?.error.clone();
        Some(Rest::Unreadable { key: key.to_string(), error })
    };
    if let Some(rest) = unreadable(Key::Epoch) {
        return Some(rest);
    }
    let mark = me.journal.mark;
    if view.epoch < mark.epoch {
        return Some(Rest::OlderEpoch { epoch: view.epoch, seen: mark.epoch });
    }
    if view.epoch == mark.epoch {
        if mark.cluster_id != 0 && view.cluster_id != mark.cluster_id {
            return Some(Rest::OtherCluster);
        }
        if view.revision < mark.revision {
            return Some(Rest::OlderRevision { revision: view.revision, seen: mark.revision });
        }
    }
    if let Some(rest) = unreadable(Key::Request) {
        return Some(rest);
    }
    let mut open = me.journal.groups.keys();
    if let Some(rest) = open.find_map(|group| unreadable(Key::Group(group.clone()))) {
        return Some(rest);
    }
    let request = view.current()?;
    if let Some(neco_schema::RequestKind::Unknown(kind)) = &request.kind {
        return Some(Rest::UnknownKind(kind.clone()));
    }
    request.members().into_iter().find_map(|lrn| unreadable(Key::Status(lrn)))
}

/// Row 5, second half: another machine uses this server's number.
fn another_machine(view: &View, me: &Local) -> Option<Rest> {
    let alive = &view.alive.get(&me.lrn)?.value;
    (alive.machine_id != me.machine_id)
        .then(|| Rest::HeldByAnotherMachine { machine_id: alive.machine_id.clone() })
}

/// Row 7: what a stop asks for; `None` when the own status is closed already.
fn settle(view: &View, me: &Local, request: &UpdateRequest) -> Option<Move> {
    if !request.stop || !request.is_member(me.lrn) {
        return None;
    }
    let own = own_status(view, me, request);
    match own {
        Some(status) if status.is_closed() => None,
        _ => Some(Move::Post(Post {
            request: request.id(),
            version: request.version.clone(),
            step: own.map_or(0, |status| status.step),
            kind: PostKind::Settled,
        })),
    }
}

fn closed(own: Option<&UpdateStatus>) -> Rest {
    Rest::Closed(own.map_or(Condition::NotRunning, |status| status.cond))
}

fn own_status<'a>(view: &'a View, me: &Local, request: &UpdateRequest) -> Option<&'a UpdateStatus> {
    view.status_of(request, me.lrn).map(|status| &status.value)
}

fn abort(request: &UpdateRequest, own: Option<&UpdateStatus>, origin: Origin) -> Move {
    Move::Post(Post {
        request: request.id(),
        version: request.version.clone(),
        step: own.map_or(1, |status| status.step.max(1)),
        kind: PostKind::Aborted(origin),
    })
}

fn own_origin(me: &Local, step: u32, cause: String) -> Origin {
    Origin { lrn: me.lrn, step, cause, unknown: Default::default() }
}

/// Row 9 beside row 2: while a group is brought back, which may take minutes, the others learn what has failed here. The
/// restoration waits for nobody: it goes on whatever etcd says to that, and a crash in between leaves the group open.
fn failure_beside_restoration(view: &View, me: &Local) -> Option<Move> {
    let restores = matches!(me.doing, Some(Doing::Restore { .. }));
    if !restores || distrust(view, me).is_some() || another_machine(view, me).is_some() {
        return None;
    }
    let request = view.current().filter(|request| request.is_member(me.lrn))?;
    failure_to_tell(view, me, request)
}

/// Row 9: the post of what failed here and is not told yet; what has come of it since is added to the abort that told it.
fn failure_to_tell(view: &View, me: &Local, request: &UpdateRequest) -> Option<Move> {
    let (id, own) = (request.id(), own_status(view, me, request));
    let (step, cause) = match own.filter(|status| status.is_closed()) {
        Some(told) => grown_failure(me, &id, told)?,
        None if request.stop => return None,
        None => own_failure(me, &id, own)?,
    };
    Some(abort(request, own, own_origin(me, step, cause)))
}

/// An own abort that the journal knows more about than it `told`: such as a service that stays stopped.
fn grown_failure(me: &Local, id: &RequestId, told: &UpdateStatus) -> Option<(u32, String)> {
    let own = |origin: &&Origin| told.cond == Condition::Abort && origin.lrn == me.lrn;
    let origin = told.origin.as_ref().filter(own)?;
    let (_, known) = me.journal.of(id).failed?;
    if origin.cause.contains(&known) {
        return None;
    }
    let cause = match known.starts_with(&origin.cause) {
        true => known,
        false => format!("{}; {known}", origin.cause),
    };
    Some((origin.step, cause))
}

/// A failure of this server, as step and cause.
fn own_failure(me: &Local, id: &RequestId, own: Option<&UpdateStatus>) -> Option<(u32, String)> {
    let state = me.journal.of(id);
    if let Some((step, cause)) = state.failed {
        return Some((step.max(1), cause));
    }
    if state.crashes > CRASHES_ALLOWED {
        let cause = format!("step {} ended the worker {} times", state.counted, state.crashes);
        return Some((state.counted, cause));
    }
    let status = own?;
    let known = state.posted.is_some_and(|(step, _)| step >= status.step);
    (!known).then(|| {
        let cause =
            "the journal of this server knows nothing of its own status: was its disk replaced?";
        (status.step, cause.to_owned())
    })
}

/// How much of a cause is passed on: it goes into the record of every member, and etcd takes only so much.
const LONGEST_CAUSE: usize = 4096;

/// Row 10: where the first abort of the request began. Of several the oldest status tells.
pub(crate) fn first_abort(view: &View, request: &UpdateRequest) -> Option<Origin> {
    let aborted =
        view.member_statuses(request).filter(|(_, status)| status.value.cond == Condition::Abort);
    let (lrn, first) = aborted.min_by_key(|(_, status)| status.mod_revision)?;
    let Some(origin) = &first.value.origin else {
        let cause =
            if first.value.message.is_empty() { "no cause given" } else { &first.value.message };
        return Some(Origin {
            lrn,
            step: first.value.step,
            cause: abridged(cause, LONGEST_CAUSE),
            unknown: Default::default(),
        });
    };
    Some(Origin { cause: abridged(&origin.cause, LONGEST_CAUSE), ..origin.clone() })
}

/// Row 11: members that are more than one step apart, or where the recipe has no place for them.
fn apart(view: &View, me: &Local, request: &UpdateRequest) -> Option<String> {
    // The recipe of another version says nothing about this request.
    let last = (me.running == request.version).then_some(me.recipe.steps);
    for (lrn, status) in view.member_statuses(request) {
        let (step, complete) = (status.value.step, status.value.cond == Condition::Complete);
        match last {
            Some(last) if step > last || (complete && step < last) => {
                let word = if complete { "has completed" } else { "is in" };
                return Some(format!(
                    "protocol error: boot server {lrn} {word} step {step} of {last}"
                ));
            }
            _ => {}
        }
    }
    let known: BTreeMap<Lrn, u32> =
        view.member_statuses(request).map(|(lrn, status)| (lrn, status.value.step)).collect();
    let step = |lrn: Lrn| (known.get(&lrn).copied().unwrap_or(0), lrn);
    // Who has left took its status along; the leader sees to that.
    let stays =
        |lrn: &Lrn| view.registered.contains(lrn) || view.status_of(request, *lrn).is_some();
    let steps: Vec<(u32, Lrn)> = request.members().into_iter().filter(stays).map(step).collect();
    let (low, high) = (steps.iter().min()?, steps.iter().max()?);
    (high.0 - low.0 > 1).then(|| {
        format!(
            "protocol error: boot server {} is in step {} while boot server {} is in step {}",
            high.1, high.0, low.1, low.0
        )
    })
}

/// Row 12: members that would follow different recipes.
fn different_recipes(view: &View, me: &Local, request: &UpdateRequest) -> Option<String> {
    let id = request.id();
    let mut plans = view
        .plans
        .iter()
        .filter(|(lrn, plan)| request.is_member(**lrn) && plan.value.request == id)
        .map(|(lrn, plan)| (*lrn, &plan.value.recipe))
        .filter(|(lrn, _)| *lrn != me.lrn || me.installed == request.version);
    let (first, digest) = plans.next()?;
    let (other, different) = plans.find(|(_, other)| *other != digest)?;
    Some(format!(
        "boot servers follow different recipes: {first} has {}, {other} has {}",
        short(digest),
        short(different)
    ))
}

/// Row 12: this server planned one recipe and would now follow another: somebody changed the files in between. What was
/// planned and compared with the others is what is done, or nothing.
fn another_recipe(
    view: &View,
    me: &Local,
    request: &UpdateRequest,
    own: Option<&UpdateStatus>,
) -> Option<String> {
    let plan = &view.plans.get(&me.lrn)?.value;
    // Before its first step it may plan anew; and the recipe of another version says nothing about this request.
    own?;
    if plan.request != request.id() || me.running != request.version {
        return None;
    }
    (plan.recipe != me.recipe.digest).then(|| {
        format!(
            "the recipe on this server was changed in the midst of the update: planned was {}, now it is {}; install the \
             package again",
            short(&plan.recipe),
            short(&me.recipe.digest)
        )
    })
}

/// Row 13: a pause, unless something runs or a group is open.
fn paused(view: &View, me: &Local, request: &UpdateRequest) -> Option<Move> {
    if !view.is_paused() || me.doing.is_some() || group_is_open(view, request, &me.recipe.groups) {
        return None;
    }
    let (by, reason) = match view.pause.value() {
        Some(control) => (control.by.clone(), control.reason.clone()),
        None => ("an unreadable record".to_owned(), "correct or delete control/pause".to_owned()),
    };
    Some(Move::Rest(Rest::Paused { by, reason }))
}

/// Row 14: another version is installed than the requested one.
fn install(
    view: &View,
    me: &Local,
    request: &UpdateRequest,
    abort: impl Fn(Origin) -> Move,
) -> Move {
    let id = request.id();
    if matches!(&me.doing, Some(Doing::Install { request }) if *request == id) {
        return Move::Keep;
    }
    if !request.allow_downgrade && me.installed.precedence(&request.version).is_gt() {
        let cause = format!(
            "refused to go back from {} to {}: the request does not allow a downgrade",
            me.installed, request.version
        );
        return abort(Origin { lrn: me.lrn, step: 1, cause, unknown: Default::default() });
    }
    let first = request.first_server().unwrap_or(me.lrn);
    let first_has_it = view.status_of(request, first).is_some_and(|status| status.value.step >= 1);
    if first != me.lrn && !first_has_it {
        return Move::Rest(Rest::FirstServer(first));
    }
    Move::Install {
        request: id,
        version: request.version.clone(),
        package: request.package.clone(),
        allow_no_way_back: request.allow_no_way_back,
    }
}

fn running_step(me: &Local, id: &RequestId) -> Option<u32> {
    match &me.doing {
        Some(Doing::Step { request, step }) if request == id => Some(*step),
        _ => None,
    }
}

/// Row 17: the step is posted and not done.
fn run(view: &View, me: &Local, request: &UpdateRequest, step: u32) -> Move {
    let id = request.id();
    if running_step(me, &id) == Some(step) {
        return Move::Keep;
    }
    // Published before step 1 was posted, and lost since.
    if view.plans.get(&me.lrn).is_none_or(|plan| plan.value.request != id) {
        return Move::PublishPlan { request: id };
    }
    let missing = missing_at(view, request, step);
    #[cfg(feature = "testing")]
    let missing = crate::testing::planted_barrier(view, me, request, step, missing);
    if !missing.is_empty() {
        return Move::Rest(Rest::Barrier { step, missing });
    }
    if step == 1 {
        // A member of ours must have said what it would change; a Go member never does.
        let missing: Vec<Lrn> = view
            .member_statuses(request)
            .filter(|(lrn, status)| {
                status.value.request.is_some()
                    && view.plans.get(lrn).is_none_or(|plan| plan.value.request != id)
            })
            .map(|(lrn, _)| lrn)
            .collect();
        if !missing.is_empty() {
            return Move::Rest(Rest::Plans { missing });
        }
    }
    let state = me.journal.of(&id);
    let attempt = if state.counted == step { state.attempts + 1 } else { 1 };
    Move::Run { request: id, step, attempt }
}
