//! What is installed: invariants 27 to 33.

use std::collections::BTreeSet;

use neco_schema::journal::{Effect, Entry};
use neco_schema::{
    Condition, HistoryRecord, Key, NecoVersion, Outcome, PackageRef, RequestId, RequestKind,
};

use super::liveness::World;
use super::server::Line;
use super::state::State;
use super::trail::Trail;
use super::verdict::Verdicts;
use super::{Change, Fact, Rules};
use crate::words::named;

const REQUEST: &str = "status/current";

pub(super) fn judge_change(change: &Change<'_>, verdicts: &mut Verdicts) {
    new_request(change, verdicts);
    same_recipe_everywhere(change, verdicts);
    same_package_everywhere(change, verdicts);
    releases_do_not_go_back(change, verdicts);
    aborted_versions_are_marked(change, verdicts);
}

pub(super) fn judge_line(line: &Line<'_>, verdicts: &mut Verdicts) {
    install(line, verdicts);
}

pub(super) fn judge_fact(
    fact: &Fact,
    world: &World,
    state: &State,
    rules: &Rules,
    verdicts: &mut Verdicts,
) {
    installed(fact, world, state, rules, verdicts);
}

/// The package that a line begins to install: for which request, and its digest.
pub(super) fn package_of(line: &Line<'_>) -> Option<(RequestId, String)> {
    match line.entry {
        Entry::IntentOpened { request, effect: Effect::Install { package, .. }, .. } => {
            Some((request.clone(), package.sha256.clone()))
        }
        _ => None,
    }
}

/// 27, 31 and 33 at their first gate: a leader of ours requests no version that is older than what a living member
/// runs (unless allowed), that was withdrawn, or whose last request was aborted.
fn new_request(change: &Change<'_>, verdicts: &mut Verdicts) {
    let Some(request) = change.event.request() else { return };
    let Some(after) = request.after.filter(|after| after.kind.is_some() && !after.stop) else {
        return;
    };
    if change.event.is_foreign() || change.state.trails.contains_key(&after.id()) {
        return;
    }
    let (revision, version) = (change.revision(), &after.version);
    let newer: Vec<_> = after
        .members()
        .into_iter()
        .filter(|lrn| {
            let alive = change.state.alive.get(lrn);
            alive.is_some_and(|alive| alive.value.version.precedence(version).is_gt())
        })
        .collect();
    let wrong = (!newer.is_empty() && !after.allow_downgrade)
        .then(|| format!("{version} was requested while {} run a newer version", named(newer)));
    verdicts.safety(27, revision, &[REQUEST], wrong);

    let withdrawn = change.state.withdrawn.contains(version);
    let wrong = withdrawn.then(|| format!("{version} was requested after it was withdrawn"));
    verdicts.safety(31, revision, &[REQUEST], wrong);

    if after.kind != Some(RequestKind::Reconfigure) {
        let aborted = change.state.seen.get(version).is_some_and(|seen| seen.aborted.is_some());
        let forgiven = change.event.find(&Key::Seen(version.clone())).is_some_and(|seen| {
            seen.now().is_some_and(|seen: neco_schema::Seen| seen.aborted.is_none())
        });
        let wrong = (aborted && !forgiven)
            .then(|| format!("{version} was requested again by itself after it was aborted"));
        verdicts.safety(33, revision, &[REQUEST], wrong);
    }
}

/// 27, 28, 32 and 33 at their second gate, before dpkg: no unallowed downgrade, exactly the requested bits, a way back,
/// no second try of what failed.
fn install(line: &Line<'_>, verdicts: &mut Verdicts) {
    let Entry::IntentOpened { request, effect, .. } = line.entry else { return };
    let Effect::Install { from, to, package, way_back } = effect else { return };
    let Some(trail) = line.trail(request) else { return };
    let (lrn, revision) = (line.lrn, line.revision());

    let back = from.precedence(to).is_gt() && !trail.request.allow_downgrade;
    let wrong = back.then(|| format!("boot server {lrn} goes back from {from} to {to} unasked"));
    verdicts.safety(27, revision, &[REQUEST], wrong);

    let wrong =
        wrong_bits(trail.request.package.as_ref(), &trail.request.version, to, package, line.rules)
            .map(|what| format!("boot server {lrn} is about to install {what}"));
    verdicts.safety(28, revision, &[REQUEST], wrong);

    let wrong = (way_back.is_none() && !trail.request.allow_no_way_back).then(|| {
        format!("boot server {lrn} is about to install {to} without a way back to {from}")
    });
    verdicts.safety(32, revision, &[REQUEST], wrong);

    let again = line.server.failed_installs.contains(&(request.clone(), to.clone()));
    let wrong = again.then(|| format!("boot server {lrn} tries {to} again after it failed"));
    verdicts.safety(33, revision, &[REQUEST], wrong);
}

fn wrong_bits(
    requested: Option<&PackageRef>,
    version: &NecoVersion,
    to: &NecoVersion,
    package: &PackageRef,
    rules: &Rules,
) -> Option<String> {
    if to != version {
        return Some(format!("{to}, requested is {version}"));
    }
    if requested.is_some_and(|requested| requested != package) {
        return Some(format!("a package of {to} that is not the requested one"));
    }
    rules
        .packages
        .get(to)
        .filter(|right| **right != package.sha256)
        .map(|_| format!("a package of {to} that is not the published one"))
}

/// 27 and 28, by facts: what was installed in the end.
fn installed(fact: &Fact, world: &World, state: &State, rules: &Rules, verdicts: &mut Verdicts) {
    let Fact::Installed { lrn, version, sha256, way_back } = fact else { return };
    let request = state.trail().map(|trail| &trail.request);
    if let Some(before) = world.installed(*lrn) {
        // The request that it was installed for may have been replaced by now.
        let asked =
            |trail: &Trail| trail.request.version == *version && trail.request.allow_downgrade;
        let allowed = *way_back || state.trails.values().any(asked);
        let wrong = (before.precedence(version).is_gt() && !allowed)
            .then(|| format!("boot server {lrn} went back from {before} to {version} unasked"));
        verdicts.safety(27, state.revision, &[], wrong);
    }
    if let Some(sha256) = sha256 {
        let requested = request
            .filter(|request| request.version == *version && !way_back)
            .and_then(|request| request.package.as_ref())
            .map(|package| &package.sha256);
        let published = rules.packages.get(version);
        let wrong =
            requested.into_iter().chain(published).any(|right| right != sha256).then(|| {
                format!("boot server {lrn} has installed a package of {version} that is not the right one")
            });
        verdicts.safety(28, state.revision, &[], wrong);
    }
}

/// 29: members that go on to step 2 follow one recipe.
fn same_recipe_everywhere(change: &Change<'_>, verdicts: &mut Verdicts) {
    let Some(trail) = change.state.trail() else { return };
    for put in change.event.statuses() {
        let goes_on = put.after.cond == Condition::Running && put.after.step == 2;
        if !goes_on || put.after.request.as_ref() != Some(&trail.id) {
            continue;
        }
        let plans = change.state.plans.iter();
        let digests: BTreeSet<_> = plans
            .filter(|(lrn, plan)| plan.request == trail.id && trail.request.is_member(**lrn))
            .map(|(_, plan)| &plan.recipe)
            .collect();
        let wrong = (digests.len() > 1).then(|| {
            format!("boot server {} goes on though members follow different recipes", put.lrn)
        });
        verdicts.safety(29, change.revision(), &[&put.key], wrong);
    }
}

/// 29: members that complete a request have installed the same bits.
fn same_package_everywhere(change: &Change<'_>, verdicts: &mut Verdicts) {
    let Some(trail) = change.state.trail() else { return };
    for put in change.event.statuses() {
        let version = &trail.request.version;
        if put.after.cond != Condition::Complete || !put.after.belongs_to(&trail.id, version) {
            continue;
        }
        let completed = || trail.completed.keys().chain(std::iter::once(&put.lrn));
        let began = completed().filter_map(|lrn| trail.packages.get(lrn));
        let ended = completed().filter_map(|lrn| change.world.digest(*lrn, version));
        let digests: BTreeSet<&String> = began.chain(ended).collect();
        if digests.is_empty() {
            continue;
        }
        let wrong = (digests.len() > 1)
            .then(|| format!("members completed {version} with different packages"));
        verdicts.safety(29, change.revision(), &[&put.key], wrong);
    }
}

/// 30: the known release never goes back.
fn releases_do_not_go_back(change: &Change<'_>, verdicts: &mut Verdicts) {
    let Some(changed) = change.event.find(&Key::Release) else { return };
    if change.event.is_foreign() {
        return;
    }
    let read = |kv: &neco_schema::KeyValue| {
        String::from_utf8_lossy(&kv.value).trim().parse::<NecoVersion>().ok()
    };
    let before = changed.before.as_ref().and_then(read);
    let Some(after) = changed.after.as_ref().and_then(read) else { return };
    let wrong = before
        .filter(|before| before.precedence(&after).is_gt())
        .map(|before| format!("the known release went back from {before} to {after}"));
    verdicts.safety(30, change.revision(), &[&changed.name], wrong);
}

/// 33: who records that a request was aborted marks its version, so that it is not chosen again. An operator may forgive
/// it in the same breath.
fn aborted_versions_are_marked(change: &Change<'_>, verdicts: &mut Verdicts) {
    for changed in &change.event.changes {
        let Some(Key::History(..)) = &changed.key else { continue };
        let Some(record) = changed.now::<HistoryRecord>().filter(|_| changed.before.is_none())
        else {
            continue;
        };
        if record.outcome != Outcome::Aborted || !record.by.starts_with("updater on ") {
            continue;
        }
        let marked = match change.event.find(&Key::Seen(record.version.clone())) {
            Some(seen) => seen.now::<neco_schema::Seen>(),
            None => change.state.seen.get(&record.version).cloned(),
        };
        let marked = marked.is_some_and(|seen| seen.aborted.is_some());
        let wrong = (!marked).then(|| {
            format!("request {} was aborted and {} is not marked", record.id, record.version)
        });
        verdicts.safety(33, change.revision(), &[&changed.name], wrong);
    }
}
