//! What the worker of a server writes down about itself.

use anyhow::Result;
use neco_schema::journal::Entry;
use serde::Deserialize;

use super::{Machine, Site};

/// Where it does, below the server's root.
pub(super) const JOURNAL: &str = "var/lib/neco/journal";

/// A line of it, as far as it is of interest.
#[derive(Deserialize)]
struct Line {
    entry: Option<Entry>,
}

/// What a line tells; nothing where it is cut off, or no entry of its own.
fn told(line: &str) -> Option<Entry> {
    serde_json::from_str::<Line>(line).ok()?.entry
}

impl Site {
    /// All that the worker of a server has written down, oldest first.
    ///
    /// # Errors
    /// The machine is off.
    pub async fn journal(&self, machine: &Machine) -> Result<Vec<Entry>> {
        // They are named by the number of their first line.
        let script = format!("cat /{JOURNAL}/journal-*.jsonl");
        let text = self.ask(machine, &["sh", "-c", &script]).await?;
        Ok(text.lines().filter_map(told).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_told_and_what_else_stands_there_is_not() {
        let line = r#"{"sum":"9b1c","seq":7,"at":"2026-11-21T08:00:00Z","entry":{"entry":"planned-exit","why":"a"},"more":1}"#;
        assert_eq!(told(line), Some(Entry::PlannedExit { why: "a".to_owned() }));
        assert_eq!(told(&line[..40]), None);
        assert_eq!(told(r#"{"sum":"9b1c","seq":7,"at":"a","head":{"kept":1}}"#), None);
    }
}
