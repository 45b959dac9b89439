//! Who may write and act: invariants 1 to 6.

use neco_schema::{CompareTarget, Key, Lrn, Record, UpdateRequest, UpdateStatus};

use super::server::{Begin, Line};
use super::verdict::Verdicts;
use super::{Change, Writer};

pub(super) fn judge_change(change: &Change<'_>, verdicts: &mut Verdicts) {
    one_leader_writes(change, verdicts);
    no_lost_decision(change, verdicts);
    request_identity(change, verdicts);
    own_records_only(change, verdicts);
    zombies_write_nothing(change, verdicts);
    immutable_plan(change, verdicts);
}

/// Judges one journal line; gives back what was begun although its request had ended.
pub(super) fn judge_line(line: &Line<'_>, verdicts: &mut Verdicts) -> Option<Begin> {
    zombies_begin_nothing(line, verdicts)
}

const REQUEST: &str = "status/current";

/// 1: a request is written by the leader alone, proven by its election key, or stopped and deleted by an operator.
///
/// Proven means: the transaction compared an election key that exists and is the oldest. Of a Go leader, whose guard
/// is its key's existence alone, nothing is asked. Without [`super::Fact::Transaction`] it can only be seen that somebody
/// was a candidate at all.
fn one_leader_writes(change: &Change<'_>, verdicts: &mut Verdicts) {
    let Some(request) = change.event.request() else { return };
    let wrong = match &change.event.told {
        Some((Writer::Leader, compares)) => {
            let first = change.state.candidates.iter().min_by_key(|(_, created)| **created);
            let proven = compares.iter().any(|compare| {
                let exists = match &compare.target {
                    CompareTarget::Exists | CompareTarget::Value(_) => true,
                    CompareTarget::ModRevision(at) | CompareTarget::CreateRevision(at) => at.0 != 0,
                    CompareTarget::Absent => false,
                };
                exists && first.is_some_and(|(key, _)| *key == compare.key)
            });
            (!proven).then(|| "an updater wrote the request without proving that it leads".into())
        }
        Some((Writer::Operator { .. }, _)) => {
            let stops = request.after.as_ref().is_some_and(|after| {
                after.stop
                    && request.before.as_ref().is_some_and(|before| before.id() == after.id())
            });
            (!request.deleted && !stops).then(|| "an operator wrote a request".to_owned())
        }
        Some((Writer::Worker(lrn), _)) => {
            Some(format!("the worker of boot server {lrn} wrote the request"))
        }
        Some((Writer::Go | Writer::Stranger, _)) => return,
        None => {
            let leads = request.after.as_ref().is_some_and(|after| {
                after.kind.is_some() && after.stopped.as_ref().is_none_or(|stopped| stopped.leader)
            });
            if !leads || !change.state.shows_elections {
                return;
            }
            let nobody = change.state.candidates.is_empty();
            nobody.then(|| "the request was written while nobody was a candidate".to_owned())
        }
    };
    verdicts.safety(1, change.revision(), &[REQUEST], wrong);
}

/// 2: whoever changes the request compares the revision that the decision was made from. A Go leader does not.
fn no_lost_decision(change: &Change<'_>, verdicts: &mut Verdicts) {
    let Some(request) = change.event.request() else { return };
    if !matches!(change.event.writer(), Some(Writer::Leader | Writer::Operator { .. })) {
        return;
    }
    let compared = change.event.compared_unchanged(&Key::Request, request.before_revision);
    let wrong = (!compared).then(|| {
        "the request was changed without comparing the revision it was read at".to_owned()
    });
    verdicts.safety(2, change.revision(), &[REQUEST], wrong);
}

/// 3: an identity is never used twice, never claimed falsely, and every status of ours carries it.
fn request_identity(change: &Change<'_>, verdicts: &mut Verdicts) {
    let revision = change.revision();
    if let Some(request) = change.event.request()
        && let Some(after) = &request.after
    {
        let id = after.id();
        let is_new = request.before.as_ref().is_none_or(|before| before.id() != id);
        if is_new && change.state.current.as_ref() != Some(&id) {
            let used = change.state.trails.contains_key(&id)
                || change.state.history.iter().any(|(_, known)| *known == id);
            let wrong = used.then(|| format!("request {id} was made a second time"));
            verdicts.safety(3, revision, &[REQUEST], wrong);
        }
        let written = change.event.find(&Key::Request).and_then(|change| change.after.as_ref());
        let fields: Option<serde_json::Value> =
            written.and_then(|kv| serde_json::from_slice(&kv.value).ok());
        let claimed = fields.as_ref().and_then(|fields| fields.get("id")?.as_str());
        if let Some(claimed) = claimed {
            let wrong = (claimed != id.as_str())
                .then(|| format!("the request claims to be {claimed} and is {id}"));
            verdicts.safety(3, revision, &[REQUEST], wrong);
        }
    }
    for put in change.event.statuses() {
        let go = change.event.is_foreign()
            || change.state.go_peers.contains(&put.lrn)
            || (change.event.told.is_none() && !change.state.runs_ours(put.lrn));
        if !go {
            let wrong = put.after.request.is_none().then(|| {
                format!(
                    "the status of boot server {} at step {} names no request",
                    put.lrn, put.after.step
                )
            });
            verdicts.safety(3, revision, &[&put.key], wrong);
        }
    }
}

/// 4: what a server says about itself is written by its own worker, and a status compares the request and the status
/// before it.
fn own_records_only(change: &Change<'_>, verdicts: &mut Verdicts) {
    let Some(writer) = change.event.writer() else { return };
    if change.event.is_foreign() {
        return;
    }
    for changed in change.event.changes.iter().filter(|changed| !changed.is_deleted()) {
        let owner: Lrn = match changed.key {
            Some(Key::Status(lrn) | Key::Plan(lrn) | Key::Progress(lrn) | Key::Alive(lrn)) => lrn,
            _ => continue,
        };
        let wrong = (writer != Writer::Worker(owner))
            .then(|| format!("{} was written by {}", changed.name, in_words(writer)));
        verdicts.safety(4, change.revision(), &[&changed.name], wrong);
    }
    for put in change.event.statuses() {
        let request = change.state.request.mod_revision();
        let compared = change.event.compared_unchanged(&Key::Request, request)
            && change.event.compared_unchanged(&Key::Status(put.lrn), put.before_revision);
        let wrong = (!compared).then(|| {
            format!(
                "the status of boot server {} was written without comparing the request and the status before it",
                put.lrn
            )
        });
        verdicts.safety(4, change.revision(), &[&put.key, REQUEST], wrong);
    }
}

fn in_words(writer: Writer) -> String {
    match writer {
        Writer::Leader => "an updater".to_owned(),
        Writer::Worker(lrn) => format!("the worker of boot server {lrn}"),
        Writer::Operator { .. } => "an operator".to_owned(),
        Writer::Go => "a program of the original".to_owned(),
        Writer::Stranger => "somebody else".to_owned(),
    }
}

/// 5, in etcd: nothing is written for a request that is not the current one.
fn zombies_write_nothing(change: &Change<'_>, verdicts: &mut Verdicts) {
    if change.event.is_foreign() || matches!(change.state.request, crate::Slot::Unreadable { .. }) {
        return;
    }
    let current = match change.event.request() {
        Some(request) => request.after.map(|after| after.id()),
        None => change.state.current.clone(),
    };
    for changed in &change.event.changes {
        let meant = match &changed.key {
            Some(Key::Status(_)) => changed.now().and_then(|status: UpdateStatus| status.request),
            Some(Key::Plan(_)) => changed.now().map(|plan: neco_schema::MemberPlan| plan.request),
            Some(Key::Turn(_)) => changed.now().map(|turn: neco_schema::Turn| turn.request),
            Some(Key::Clock(id)) if !changed.is_deleted() => Some(id.clone()),
            _ => None,
        };
        if let Some(meant) = meant {
            let wrong = (current.as_ref() != Some(&meant)).then(|| {
                format!("{} was written for request {meant}, which is not current", changed.name)
            });
            verdicts.safety(5, change.revision(), &[&changed.name, REQUEST], wrong);
        }
    }
}

/// 5, on the servers: nothing is begun from a view in which the request was not current, and after its end at most the
/// one effect that had been fenced before.
fn zombies_begin_nothing(line: &Line<'_>, verdicts: &mut Verdicts) -> Option<Begin> {
    let begin = line.begins()?;
    let trail = line.trail(&begin.request)?;
    if !line.state.covers(begin.view) {
        return None;
    }
    let late = trail.ended_at.zip(line.stamp.revision).is_some_and(|(ended, at)| ended <= at);
    let fenced_before = line.server.late.get(&begin.request);
    let wrong = if !trail.is_current_at(begin.view) {
        Some(format!(
            "boot server {} {} for request {}, which was over",
            line.lrn, begin.what, begin.request
        ))
    } else if late && fenced_before.is_some_and(|views| !views.contains(&begin.view)) {
        Some(format!(
            "boot server {} {} as a second effect after its request ended",
            line.lrn, begin.what
        ))
    } else {
        None
    };
    verdicts.safety(5, line.revision(), &[REQUEST], wrong);
    late.then_some(begin)
}

/// 6: a published request keeps its plan: only `stop`, `ending` and `stopped` change. A Go program that stops a request
/// drops our fields.
fn immutable_plan(change: &Change<'_>, verdicts: &mut Verdicts) {
    if let Some(request) = change.event.request()
        && let (Some(before), Some(after)) = (&request.before, &request.after)
        && before.id() == after.id()
    {
        let drops = after.stop && after.kind.is_none() && after.package.is_none();
        let go = match change.event.writer() {
            Some(Writer::Go | Writer::Stranger) => true,
            Some(_) => false,
            None => drops,
        };
        if !go {
            let plan = |request: &UpdateRequest| UpdateRequest {
                stop: false,
                ending: None,
                stopped: None,
                unknown: serde_json::Map::new(),
                ..request.clone()
            };
            let wrong = (plan(before) != plan(after))
                .then(|| format!("the plan of request {} was changed", before.id()));
            verdicts.safety(6, change.revision(), &[REQUEST], wrong);
        }
    }
    for changed in &change.event.changes {
        let Some(Key::Plan(lrn)) = changed.key else { continue };
        let (Some(before), Some(after)) =
            (changed.then::<neco_schema::MemberPlan>(), changed.now::<neco_schema::MemberPlan>())
        else {
            continue;
        };
        let posted = change
            .state
            .statuses
            .get(&lrn)
            .is_some_and(|status| status.value.request.as_ref() == Some(&before.request));
        if posted && before.request == after.request {
            let wrong = (before.recipe != after.recipe).then(|| {
                format!("boot server {lrn} changed its recipe in the midst of {}", before.request)
            });
            verdicts.safety(6, change.revision(), &[&changed.name], wrong);
        }
    }
}

/// Whether a value under `key` can be read; keys without a form of their own always can.
pub(super) fn is_readable(key: &Key, value: &[u8]) -> bool {
    match key {
        Key::Request => UpdateRequest::decode(value).is_ok(),
        Key::Status(_) => UpdateStatus::decode(value).is_ok(),
        Key::Progress(_) => neco_schema::Progress::decode(value).is_ok(),
        Key::Plan(_) => neco_schema::MemberPlan::decode(value).is_ok(),
        Key::Alive(_) => neco_schema::Alive::decode(value).is_ok(),
        Key::Turn(_) => neco_schema::Turn::decode(value).is_ok(),
        Key::Group(_) => neco_schema::Group::decode(value).is_ok(),
        Key::Clock(_) => neco_schema::ClockRecord::decode(value).is_ok(),
        Key::Target => neco_schema::Target::decode(value).is_ok(),
        Key::Pause | Key::Withdrawn(_) | Key::Epoch => neco_schema::Control::decode(value).is_ok(),
        Key::Seen(_) => neco_schema::Seen::decode(value).is_ok(),
        Key::History(..) => neco_schema::HistoryRecord::decode(value).is_ok(),
        Key::HistoryServer(..) => neco_schema::HistoryServer::decode(value).is_ok(),
        Key::Order(_) => neco_schema::OrderNote::decode(value).is_ok(),
        Key::Preview(_) => neco_schema::PreviewQuestion::decode(value).is_ok(),
        Key::PreviewAnswer(..) => neco_schema::Preview::decode(value).is_ok(),
        Key::GracePeriods => neco_schema::GracePeriods::decode(value).is_ok(),
        Key::Contents(_) => neco_schema::ContentsStatus::decode(value).is_ok(),
        _ => true,
    }
}
