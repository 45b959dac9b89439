//! Hand-over, formats, history, notices, secrets: invariants 39 to 43.

use neco_schema::journal::Entry;
use neco_schema::{Condition, HistoryRecord, Key, RequestKind, UpdateRequest, UpdateStatus};

use super::liveness::World;
use super::server::Line;
use super::state::State;
use super::verdict::Verdicts;
use super::{Change, Daemon, Fact, Rules, Writer, authority};

const REQUEST: &str = "status/current";

pub(super) fn judge_change(change: &Change<'_>, verdicts: &mut Verdicts) {
    formats_keep(change, verdicts);
    ends_are_recorded(change, verdicts);
    stops_and_aborts_say_why(change, verdicts);
    records_fit_their_request(change, verdicts);
    no_secret_in_values(change, verdicts);
}

pub(super) fn judge_line(line: &Line<'_>, verdicts: &mut Verdicts) {
    old_binary_rests(line, verdicts);
    no_secret_in_journal(line, verdicts);
}

pub(super) fn judge_fact(
    fact: &Fact,
    world: &World,
    state: &State,
    rules: &Rules,
    verdicts: &mut Verdicts,
) {
    match fact {
        Fact::Started { lrn, daemon: Daemon::Worker, .. } => {
            let wrong = world
                .runs_worker(*lrn)
                .then(|| format!("a second worker was started on boot server {lrn}"));
            verdicts.safety(39, state.revision, &[], wrong);
        }
        Fact::Text { place, text } => {
            let shown = rules.secrets.iter().any(|secret| secret.is_in(text.as_bytes()));
            if !rules.secrets.is_empty() {
                let wrong = shown.then(|| format!("a secret appears in {place}"));
                verdicts.safety(43, state.revision, &[], wrong);
            }
        }
        _ => {}
    }
}

/// 39: after it has said that it ends, a worker begins nothing; what runs a step is the requested version; and nothing
/// is begun for a kind of request that this version does not know.
fn old_binary_rests(line: &Line<'_>, verdicts: &mut Verdicts) {
    let (request, what) = match (line.entry, line.begins()) {
        (_, Some(begin)) => (begin.request, begin.what),
        (Entry::Posting { request, step, .. }, None) => {
            (request.clone(), format!("posts step {step}"))
        }
        _ => return,
    };
    let lrn = line.lrn;
    let trail = line.trail(&request);
    let unknown =
        trail.is_some_and(|trail| matches!(trail.request.kind, Some(RequestKind::Unknown(_))));
    let other = match (line.entry, &line.server.running, trail) {
        (Entry::StepBegun { .. }, Some(running), Some(trail))
            if *running != trail.request.version =>
        {
            Some(running)
        }
        _ => None,
    };
    let wrong = if line.server.leaving {
        Some(format!(
            "boot server {lrn} {what} after its worker had said that it ends (for a new binary, or because it was told to)"
        ))
    } else if unknown {
        Some(format!("boot server {lrn} {what} for a kind of request that it does not know"))
    } else {
        other.map(|running| format!("boot server {lrn} {what} with the binary of {running}"))
    };
    verdicts.safety(39, line.revision(), &[REQUEST], wrong);
}

/// 40: what we write can be read, and fields that we do not know survive. Go programs drop what they do not know.
fn formats_keep(change: &Change<'_>, verdicts: &mut Verdicts) {
    if let Some(Writer::Leader | Writer::Worker(_) | Writer::Operator { .. }) =
        change.event.writer()
    {
        for changed in &change.event.changes {
            let (Some(key), Some(after)) = (&changed.key, &changed.after) else { continue };
            let wrong = (!authority::is_readable(key, &after.value))
                .then(|| format!("{} was written in a form that cannot be read", changed.name));
            verdicts.safety(40, change.revision(), &[&changed.name], wrong);
        }
    }
    if change.event.is_foreign() {
        return;
    }
    for changed in &change.event.changes {
        let kept = match &changed.key {
            Some(Key::Request) => {
                let (Some(before), Some(after)) =
                    (changed.then::<UpdateRequest>(), changed.now::<UpdateRequest>())
                else {
                    continue;
                };
                if before.id() != after.id() || after.kind.is_none() {
                    continue;
                }
                before.unknown.keys().all(|field| after.unknown.contains_key(field))
            }
            Some(Key::Status(_)) => {
                let (Some(before), Some(after)) =
                    (changed.then::<UpdateStatus>(), changed.now::<UpdateStatus>())
                else {
                    continue;
                };
                if after.request.is_none() || before.request != after.request {
                    continue;
                }
                before.unknown.keys().all(|field| after.unknown.contains_key(field))
            }
            _ => continue,
        };
        let wrong = (!kept).then(|| format!("{} lost fields of another version", changed.name));
        verdicts.safety(40, change.revision(), &[&changed.name], wrong);
    }
}

/// 41: the transaction that replaces or deletes a request leaves its record in the history. A Go program keeps none.
fn ends_are_recorded(change: &Change<'_>, verdicts: &mut Verdicts) {
    let Some(request) = change.event.request() else { return };
    let Some(before) = request.before else { return };
    let id = before.id();
    let go = match change.event.writer() {
        Some(writer) => matches!(writer, Writer::Go | Writer::Stranger),
        None => match &request.after {
            Some(after) => after.kind.is_none(),
            // Our `recover` raises the epoch, the original's knows none.
            None => change.event.find(&Key::Epoch).is_none(),
        },
    };
    let ended = request.deleted || request.after.is_some_and(|after| after.id() != id);
    if go || !ended {
        return;
    }
    let key = (before.started_at, id.clone());
    let recorded = change.state.history.contains(&key)
        || change
            .event
            .find(&Key::History(before.started_at, id.clone()))
            .is_some_and(|record| !record.is_deleted());
    let wrong = (!recorded).then(|| format!("request {id} ended without a record in the history"));
    verdicts.safety(41, change.revision(), &[REQUEST], wrong);
}

/// 41: a stop says who and why, an abort says where it began and why.
fn stops_and_aborts_say_why(change: &Change<'_>, verdicts: &mut Verdicts) {
    if let Some(request) = change.event.request()
        && let (Some(before), Some(after)) = (&request.before, &request.after)
        && before.id() == after.id()
        && !before.stop
        && after.stop
        && !change.event.is_foreign()
        && after.kind.is_some()
    {
        let named = after.stopped.as_ref().is_some_and(|stopped| !stopped.by.is_empty());
        let wrong = (!named).then(|| format!("request {} was stopped by nobody", after.id()));
        verdicts.safety(41, change.revision(), &[REQUEST], wrong);
    }
    for put in change.event.statuses() {
        if put.after.cond == Condition::Abort && put.after.request.is_some() {
            let told = put.after.origin.as_ref().is_some_and(|origin| !origin.cause.is_empty());
            let wrong =
                (!told).then(|| format!("boot server {} aborted and does not say why", put.lrn));
            verdicts.safety(41, change.revision(), &[&put.key], wrong);
        }
    }
}

/// 41: a record tells of the request that its key names.
fn records_fit_their_request(change: &Change<'_>, verdicts: &mut Verdicts) {
    for changed in &change.event.changes {
        let Some(Key::History(at, id)) = &changed.key else { continue };
        let Some(record) = changed.now::<HistoryRecord>() else { continue };
        let fits = record.id == *id
            && record.started_at == *at
            && change.state.trails.get(id).is_none_or(|trail| {
                trail.request.version == record.version
                    && trail.members() == record.servers.iter().copied().collect()
            });
        let wrong = (!fits).then(|| format!("{} tells of another request", changed.name));
        verdicts.safety(41, change.revision(), &[&changed.name], wrong);
    }
}

/// 43, in etcd: a secret stands under secret keys only.
fn no_secret_in_values(change: &Change<'_>, verdicts: &mut Verdicts) {
    if change.rules.secrets.is_empty() {
        return;
    }
    for changed in &change.event.changes {
        let Some(after) = &changed.after else { continue };
        if changed.key.as_ref().is_some_and(Key::is_secret) {
            continue;
        }
        let shows = |text: &[u8]| change.rules.secrets.iter().any(|secret| secret.is_in(text));
        let in_name = shows(changed.name.as_bytes());
        let wrong = (in_name || shows(&after.value))
            .then(|| "a secret stands in a value that is shown".to_owned());
        // What is found is shown as well.
        let keys: &[&str] = if in_name { &[] } else { &[&changed.name] };
        verdicts.safety(43, change.revision(), keys, wrong);
    }
}

/// 43, in the journals.
fn no_secret_in_journal(line: &Line<'_>, verdicts: &mut Verdicts) {
    if line.rules.secrets.is_empty() {
        return;
    }
    let text = serde_json::to_vec(line.entry).unwrap_or_default();
    let shown = line.rules.secrets.iter().any(|secret| secret.is_in(&text));
    let wrong =
        shown.then(|| format!("a secret stands in the journal of boot server {}", line.lrn));
    verdicts.safety(43, line.revision(), &[], wrong);
}
