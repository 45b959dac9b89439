//! What this updater sees and does: the source of its status page.

use neco_schema::Timestamp;
use serde::Serialize;

/// What this updater sees and does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Observation {
    /// Whether it leads.
    pub leads: bool,
    /// How often it has looked while leading.
    pub looks: u64,
    /// The revision of the last view.
    pub revision: i64,
    /// What was decided, in a word.
    pub decided: String,
    /// What it waits for; empty while it acts.
    pub waiting_for: String,
    /// Why the last look for releases failed; empty when it did not.
    pub release_trouble: String,
    /// Settings and records that cannot be read.
    pub problems: Vec<String>,
    /// Keys that mean nothing, in folders that no decision reads.
    pub strays: Vec<String>,
    /// Since when it has decided so, by this host's clock.
    pub since: Timestamp,
}
