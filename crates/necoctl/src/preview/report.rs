//! What the answers of all servers say together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use neco_schema::{
    HistoryRecord, HistoryServer, Key, Lrn, NecoVersion, Outcome, Preview, Record, Snapshot,
    Timestamp,
};
use serde::Serialize;

use crate::preview::Answers;

/// What an update would change, as JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The version of this form.
    pub format: u32,
    /// The version of the update.
    pub version: NecoVersion,
    /// The recipes of that version that the servers looked at: one, or the update would be aborted.
    pub recipes: BTreeSet<String>,
    /// Services that would be down on all servers for a while.
    pub outages: Vec<Outage>,
    /// The names of steps that would change something and cannot be undone by an older version.
    pub one_way: Vec<String>,
    /// How long it might take; absent where no update was completed yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimate: Option<Estimate>,
    /// The servers.
    pub servers: Vec<Server>,
}

/// A service that would be down on all servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outage {
    /// The name of its group.
    pub group: String,
    /// The units that are stopped.
    pub units: Vec<String>,
    /// The step that stops them.
    pub from: u32,
    /// The step that starts them again.
    pub to: u32,
    /// On which servers what changes.
    pub because: BTreeMap<Lrn, Vec<String>>,
}

/// How long an update might take, judged by one that was completed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Estimate {
    /// So many seconds, from the request to its completion.
    pub seconds: u64,
    /// Of these, how many the outages would last: the steps between, each as long as its slowest server took.
    pub outage_seconds: u64,
    /// By the update to this version.
    pub by: NecoVersion,
    /// Which began then.
    pub begun: Timestamp,
}

/// What one server answered.
#[derive(Clone, Debug, Serialize)]
pub struct Server {
    /// The server.
    pub lrn: Lrn,
    /// Its answer; absent where it gave none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Preview>,
    /// Why it gave none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub missing: String,
}

impl Report {
    /// Puts the answers together; the history of `snapshot` tells how long such things take.
    pub fn new(version: NecoVersion, answers: Answers, snapshot: &Snapshot) -> Self {
        let given = &answers.given;
        let recipes = given.values().filter_map(|answer| answer.recipe.as_ref());
        let recipes = recipes.map(ToString::to_string).collect();
        let outages = outages(given);
        let mut one_way = Vec::new();
        for step in given.values().flat_map(|answer| &answer.steps) {
            if step.one_way && !step.changes.is_empty() && !one_way.contains(&step.name) {
                one_way.push(step.name.clone());
            }
        }
        let estimate = estimate(snapshot, &outages);
        let mut servers: Vec<Server> = answers
            .given
            .into_iter()
            .map(|(lrn, answer)| Server { lrn, answer: Some(answer), missing: String::new() })
            .chain(answers.missing.into_iter().map(|(lrn, missing)| Server {
                lrn,
                answer: None,
                missing,
            }))
            .collect();
        servers.sort_by_key(|server| server.lrn);
        Self { format: 1, version, recipes, outages, one_way, estimate, servers }
    }

    /// Whether anything would change anywhere, as far as it is known.
    pub fn changes_something(&self) -> bool {
        let answers = self.servers.iter().filter_map(|server| server.answer.as_ref());
        answers.flat_map(|answer| &answer.steps).any(|step| !step.changes.is_empty())
    }
}

fn outages(given: &BTreeMap<Lrn, Preview>) -> Vec<Outage> {
    let mut outages: Vec<Outage> = Vec::new();
    for (lrn, answer) in given {
        for group in answer.groups.iter().filter(|group| !group.because.is_empty()) {
            let known = outages.iter().position(|outage| outage.group == group.name);
            let at = known.unwrap_or_else(|| {
                outages.push(Outage {
                    group: group.name.clone(),
                    units: group.units.clone(),
                    from: group.stop,
                    to: group.apply,
                    because: BTreeMap::new(),
                });
                outages.len() - 1
            });
            outages[at].because.insert(*lrn, group.because.clone());
        }
    }
    outages.sort_by_key(|outage| outage.from);
    outages
}

/// By the last update that was completed.
fn estimate(snapshot: &Snapshot, outages: &[Outage]) -> Option<Estimate> {
    let completed = snapshot.kvs.values().rev().find_map(|kv| {
        let Ok(Key::History(at, id)) = kv.key.parse() else { return None };
        let record = HistoryRecord::decode(&kv.value).ok()?;
        (record.outcome == Outcome::Completed).then_some((at, id, record))
    });
    let (begun, id, record) = completed?;
    // As long as the slowest server took.
    let mut longest: BTreeMap<u32, Duration> = BTreeMap::new();
    for kv in snapshot.kvs.values() {
        let Ok(Key::HistoryServer(of, request, _)) = kv.key.parse() else { continue };
        let steps = HistoryServer::decode(&kv.value).map(|server| server.steps);
        for step in steps.into_iter().flatten().filter(|_| of == begun && request == id) {
            let span = between(step.begun, step.ended.unwrap_or(record.ended_at));
            let known = longest.entry(step.step).or_default();
            *known = (*known).max(span);
        }
    }
    let within = |step: &u32| outages.iter().any(|outage| (outage.from..=outage.to).contains(step));
    let outage: Duration =
        longest.iter().filter(|(step, _)| within(step)).map(|(_, span)| *span).sum();
    Some(Estimate {
        seconds: seconds(between(record.started_at, record.ended_at)),
        outage_seconds: seconds(outage),
        by: record.version,
        begun,
    })
}

/// How long it is from one to the other; nothing where clocks disagree.
fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.get().duration_since(from.get())).unwrap_or_default()
}

/// Whole seconds, rounded up: what was short was not nothing.
fn seconds(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}
