//! How often each interesting thing happened: a run that reaches nothing proves nothing.

use std::collections::BTreeMap;

/// Counters by kind and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    counted: BTreeMap<(Kind, String), u64>,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A row of the worker's table that decided.
    WorkerRow,
    /// An action of our leader.
    LeaderAction,
    /// What our leader waited for.
    LeaderWait,
    /// A fault.
    Fault,
    /// An operator's order that was carried out.
    Order,
    /// A move of the writer that behaves like the original.
    GoWriter,
    /// Something that a run came by.
    State,
}

impl Counts {
    /// Counts one more.
    pub fn add(&mut self, kind: Kind, name: &str) {
        match self.counted.get_mut(&(kind, name.to_owned())) {
            Some(count) => *count += 1,
            None => {
                self.counted.insert((kind, name.to_owned()), 1);
            }
        }
    }

    /// How often.
    pub fn of(&self, kind: Kind, name: &str) -> u64 {
        self.counted.get(&(kind, name.to_owned())).copied().unwrap_or_default()
    }

    /// Adds the counts of another run.
    pub fn merge(&mut self, other: &Self) {
        for (key, count) in &other.counted {
            *self.counted.entry(key.clone()).or_default() += count;
        }
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut last = None;
        for ((kind, name), count) in &self.counted {
            if last != Some(kind) {
                writeln!(f, "{kind:?}")?;
                last = Some(kind);
            }
            writeln!(f, "  {count:>9}  {name}")?;
        }
        Ok(())
    }
}
