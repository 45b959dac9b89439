//! What this daemon sees and does: the sources of its status page and of its metrics.

use std::collections::BTreeMap;

use neco_schema::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::Serialize;

/// What this daemon sees and does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Observation {
    /// Whether it leads.
    pub leads: bool,
    /// What it waits for; empty while it acts.
    pub waiting_for: String,
    /// How often it has looked at all machines while leading.
    pub looks: u64,
    /// When it did so last, by this host's clock.
    pub looked_at: Option<Timestamp>,
    /// How many machines are in which state.
    pub machines: BTreeMap<String, u64>,
    /// The changes of states that it has made last, the newest at the end.
    pub changes: Vec<Change>,
    /// How many losses are held back because they are so many; none otherwise.
    pub held: u64,
    /// Since when machines are bad that are not told unhealthy yet, by serial.
    pub grace: BTreeMap<String, Timestamp>,
    /// What is known against machines that are not told well, by serial.
    pub remarks: BTreeMap<String, String>,
    /// Whom it cannot ask, and what it cannot do.
    pub troubles: Vec<String>,
}

/// How many changes are remembered.
pub(crate) const CHANGES_KEPT: usize = 50;

/// A state that was set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// When, by this host's clock.
    pub at: Timestamp,
    /// The machine.
    pub serial: String,
    /// The state that it had.
    pub from: String,
    /// The state that it has.
    pub to: String,
    /// Why.
    pub why: String,
}

/// The numbers that `/metrics` shows. Clones are the same ones.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// 1 while this daemon leads.
    pub leader: Gauge,
    /// Looks at all machines, by how they ended.
    pub looks: Family<Ended, Counter>,
    /// When the last one succeeded, in seconds since 1970.
    pub looked_at: Gauge,
    /// Machines by state.
    pub machines: Family<InState, Gauge>,
    /// States that were set, by the new one.
    pub changes: Family<InState, Counter>,
    /// Losses that are held back.
    pub held: Gauge,
    /// Machines that are bad and not told unhealthy yet.
    pub grace: Gauge,
    /// Retirements and shutdowns, by what was done and how it ended.
    pub jobs: Family<Job, Counter>,
}

/// How something ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Ended {
    /// `ok` or `failed`.
    pub result: &'static str,
}

/// A state of machines.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct InState {
    /// As sabakan writes it.
    pub state: &'static str,
}

/// Something that is done to a machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Job {
    /// `retire` or `shutdown`.
    pub job: &'static str,
    /// `ok` or `failed`.
    pub result: &'static str,
}

/// The label for how something ended.
pub(crate) fn result(ok: bool) -> &'static str {
    if ok { "ok" } else { "failed" }
}

impl Metrics {
    /// Puts them on the page.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("state_setter");
        registry.register("leader", "1 while this daemon leads", self.leader.clone());
        registry.register("looks", "Looks at all machines, by how they ended", self.looks.clone());
        let help = "When all machines were looked at last, in seconds since 1970";
        registry.register("last_look_timestamp_seconds", help, self.looked_at.clone());
        registry.register("machines", "Machines by their state in sabakan", self.machines.clone());
        let help = "States of machines that were set, by the new one";
        registry.register("state_changes", help, self.changes.clone());
        let help = "Losses of machines that are held back because they are so many at once";
        registry.register("held_changes", help, self.held.clone());
        let help = "Machines that are bad, and not told unhealthy before their grace is over";
        registry.register("grace_periods", help, self.grace.clone());
        let help = "Machines that were retired or switched off, by how that ended";
        registry.register("jobs", help, self.jobs.clone());
    }
}
