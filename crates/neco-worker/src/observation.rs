//! What the last look gave: the source of the status page and of `why` without etcd.

use neco_plan::Problem;
use neco_schema::Timestamp;
use serde::Serialize;

/// What this worker sees and does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Observation {
    /// The revision of the last view.
    pub revision: i64,
    /// The row of the worker's table that decided.
    pub row: u8,
    /// What was decided, in a word.
    pub decided: String,
    /// Why it rests, or what it waits for; empty while it works.
    pub waiting_for: String,
    /// What runs, in words; empty when nothing does.
    pub doing: String,
    /// What is open and must not be cut off.
    pub busy: Vec<String>,
    /// Records in etcd that cannot be read, each with what to do about it.
    pub problems: Vec<String>,
    /// Since when it has decided so, by this server's clock.
    pub since: Timestamp,
}

impl Observation {
    /// Takes in what the present view cannot make sense of; what is new is logged.
    pub(crate) fn note_problems(&mut self, problems: &[Problem]) {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        for problem in problems.iter().filter(|problem| !self.problems.contains(problem)) {
            tracing::warn!("{problem}");
        }
        self.problems = problems;
    }
}
