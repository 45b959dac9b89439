//! What a view says about an update, in words and numbers.

use std::fmt::Write;

use neco_plan::View;
use neco_schema::{Condition, Lrn, NecoVersion, Outcome, RequestId, UpdateRequest, UpdateStatus};

/// How far a server is with the current request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The server.
    pub lrn: Lrn,
    /// The version it said it runs.
    pub version: Option<NecoVersion>,
    /// The step it has posted; 0 before the first.
    pub step: u32,
    /// How it stands in that step; nothing before its first status.
    pub cond: Option<Condition>,
    /// What it does right now, if it says so.
    pub doing: Option<String>,
}

/// How every member of the current request stands.
pub fn standings(view: &View) -> Vec<Standing> {
    let Some(request) = view.current() else { return Vec::new() };
    let standing = |lrn: Lrn| {
        let status = view.status_of(request, lrn).map(|status| &status.value);
        let progress = view.progress.get(&lrn).map(|progress| &progress.value);
        Standing {
            lrn,
            version: view.alive.get(&lrn).map(|alive| alive.value.version.clone()),
            step: status.map_or(0, |status| status.step),
            cond: status.map(|status| status.cond),
            doing: progress
                .filter(|progress| progress.request == request.id())
                .map(|progress| progress.doing.clone()),
        }
    };
    request.members().into_iter().map(standing).collect()
}

/// Whether every member of a request for `version` has completed it, and that is recorded.
pub fn is_completed(view: &View, version: &NecoVersion) -> bool {
    view.current().is_some_and(|request| {
        let complete = |lrn: &Lrn| completed(view, *lrn, version).is_some();
        request.version == *version
            && request.members().iter().all(complete)
            && outcome_of(view, request) == Some(Outcome::Completed)
    })
}

/// The status by which a member has completed `version` in the request that stands.
pub(crate) fn completed<'v>(
    view: &'v View,
    lrn: Lrn,
    version: &NecoVersion,
) -> Option<&'v UpdateStatus> {
    let request = view.current().filter(|request| request.version == *version)?;
    let member = request.members().contains(&lrn);
    let status = view.status_of(request, lrn).filter(|_| member)?;
    (status.value.cond == Condition::Complete).then_some(&status.value)
}

/// Whether a request for `version` is stopped for good.
pub(crate) fn is_stopped(view: &View, version: &NecoVersion) -> bool {
    view.current().is_some_and(|request| {
        request.version == *version && request.stop && request.ending.is_none()
    })
}

/// Whether every member has closed its status: nothing more comes of the request.
pub fn has_settled(view: &View, request: &UpdateRequest) -> bool {
    let closed = |lrn: &Lrn| {
        let status = view.status_of(request, *lrn);
        status.is_some_and(|status| status.value.is_closed())
    };
    request.members().iter().all(closed)
}

/// How a request ended, if that is recorded.
pub fn outcome_of(view: &View, request: &UpdateRequest) -> Option<Outcome> {
    let record = view.history.get(&(request.started_at, request.id()))?.as_ref()?;
    Some(record.outcome)
}

/// The state of an update for a report, a few lines.
pub fn state_text(view: &View) -> String {
    let mut text = String::new();
    let Some(request) = view.current() else { return "there is no request\n".to_owned() };
    let stopped = if request.stop { ", stopped" } else { "" };
    let _ = writeln!(text, "request {} for {}{stopped}", short(&request.id()), request.version);
    if let Some(note) = &request.stopped {
        let _ = writeln!(text, "  by {}: {}", note.by, note.reason);
    }
    for standing in standings(view) {
        let Standing { lrn, version, step, cond, doing } = standing;
        let version = version.map_or_else(|| "not alive".to_owned(), |version| version.to_string());
        let cond = cond.map_or_else(|| "no status".to_owned(), |cond| cond.to_string());
        let _ = write!(text, "  boot-{lrn}: {version}, step {step}, {cond}");
        if let Some(status) = view.status_of(request, lrn).filter(|s| !s.value.message.is_empty()) {
            let _ = write!(text, " ({})", status.value.message);
        }
        if let Some(doing) = doing {
            let _ = write!(text, "; {doing}");
        }
        text.push('\n');
    }
    for (name, turn) in &view.turns {
        let _ = writeln!(text, "  turn {name} is held by boot-{}", turn.value.lrn);
    }
    for problem in &view.problems {
        let _ = writeln!(text, "  {problem}");
    }
    text
}

/// The beginning of an identity, enough to tell requests apart.
pub(crate) fn short(id: &RequestId) -> &str {
    id.as_str().get(..8).unwrap_or(id.as_str())
}

#[cfg(test)]
mod tests {
    use neco_schema::{KeyValue, Revision, Snapshot};

    use super::*;

    /// What etcd holds, given key by key as Go writes it.
    fn view(kvs: &[(&str, &str)]) -> View {
        let mut snapshot = Snapshot::default();
        for (key, value) in kvs {
            let kv = KeyValue {
                key: (*key).to_owned(),
                value: value.as_bytes().to_vec(),
                create_revision: Revision(1),
                mod_revision: Revision(1),
                version: 1,
                lease: None,
            };
            snapshot.kvs.insert((*key).to_owned(), kv);
        }
        View::assemble(&snapshot)
    }

    #[test]
    fn only_a_member_that_has_completed_this_version_has_completed_it() {
        let request = |version: &str| {
            format!(
                r#"{{"version":"{version}","servers":[0],"stop":false,"started_at":"2026-11-21T08:00:00Z"}}"#
            )
        };
        let status = |version: &str, cond: i64| {
            format!(r#"{{"version":"{version}","step":18,"cond":{cond},"message":""}}"#)
        };
        let (old, new) = ("2026.11.20-40151", "2026.11.21-40152");
        let done = |request: Option<&str>, lrn: u32, status: &str| {
            let mut kvs = vec![("status/bootservers/0", status), ("status/bootservers/1", status)];
            kvs.extend(request.map(|request| ("status/current", request)));
            let version = new.parse().expect("a version");
            completed(&view(&kvs), Lrn::new(lrn), &version).is_some()
        };
        assert!(done(Some(&request(new)), 0, &status(new, 3)));
        assert!(!done(Some(&request(new)), 0, &status(new, 1)), "it still runs");
        assert!(!done(Some(&request(new)), 1, &status(new, 3)), "it is no member");
        assert!(!done(Some(&request(old)), 0, &status(old, 3)), "another version");
        assert!(!done(None, 0, &status(new, 3)), "no request");
    }
}
