//! What the worker of a server writes down about itself.

use std::process::Stdio;

use anyhow::{Context as _, Result};
use neco_schema::Timestamp;
use neco_schema::journal::Entry;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use super::{Machine, Site};
use crate::host::command::{command, shown};

/// Where it does, below the server's root.
pub(super) const JOURNAL: &str = "var/lib/neco/journal";

/// A line of it, as far as it is of interest.
#[derive(Deserialize)]
struct Line {
    entry: Option<Entry>,
    at: Timestamp,
}

/// What a line tells, and when it was written; nothing where it is cut off, or no entry of its own.
fn told(line: &str) -> Option<(Timestamp, Entry)> {
    let line: Line = serde_json::from_str(line).ok()?;
    Some((line.at, line.entry?))
}

/// Kills the processes of which it reads the ids, at once, as long as they are workers: an id may be somebody else's by then.
const KILLER: &str = "while read -r pid; do \
    read -r name <\"/proc/$pid/comm\" && [ \"$name\" = neco-worker ] && kill -KILL \"$pid\"; done";

/// A worker whose journal is read as it is written, and which can be killed without delay.
pub struct Followed {
    lines: Lines<BufReader<ChildStdout>>,
    killer: ChildStdin,
    pid: u32,
    /// They end with this.
    _programs: [Child; 2],
}

impl Followed {
    /// The next entry.
    ///
    /// # Errors
    /// The machine is off.
    pub async fn next(&mut self) -> Result<Entry> {
        loop {
            let line = self.lines.next_line().await.context("reading the journal")?;
            let line = line.context("nobody shows the journal any more")?;
            let Some((_, entry)) = told(&line) else { continue };
            if let Entry::ProcessStarted { pid, .. } = entry {
                self.pid = pid;
            }
            return Ok(entry);
        }
    }

    /// Kills the worker.
    ///
    /// # Errors
    /// The machine is off.
    pub async fn kill(&mut self) -> Result<()> {
        let line = format!("{}\n", self.pid);
        self.killer.write_all(line.as_bytes()).await.context("having the worker killed")
    }
}

impl Site {
    /// Begins to follow the worker of a server, from now on.
    ///
    /// # Errors
    /// The machine is off.
    pub async fn follow_worker(&self, machine: &Machine) -> Result<Followed> {
        // On an overlay it has to look again and again, which it does once a second by itself.
        let follow = "exec tail --quiet --lines=0 --follow --sleep-interval=0.001";
        let script = format!("{follow} /{JOURNAL}/journal-*.jsonl");
        let reader = self.words_inside(machine, &["sh", "-c", &script]).await?;
        let killer = self.words_inside(machine, &["sh", "-c", KILLER]).await?;
        let start = |words: Vec<String>| {
            let mut program = command(words);
            program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
            program.spawn().with_context(|| format!("starting `{}`", shown(&program)))
        };
        let (mut reader, mut killer) = (start(reader)?, start(killer)?);
        let lines = reader.stdout.take().context("no journal to read")?;
        let lines = BufReader::new(lines).lines();
        let hand = killer.stdin.take().context("nobody to tell whom to kill")?;
        let pid = self.unit(machine, "neco-worker.service", "MainPID").await?;
        let pid = pid.parse().with_context(|| format!("{}: no worker: {pid}", machine.name))?;
        Ok(Followed { lines, killer: hand, pid, _programs: [reader, killer] })
    }

    /// All that the worker of a server has written down, oldest first.
    ///
    /// # Errors
    /// The machine is off.
    pub async fn journal(&self, machine: &Machine) -> Result<Vec<Entry>> {
        Ok(self.dated_journal(machine).await?.into_iter().map(|(_, entry)| entry).collect())
    }

    /// The same, each with the moment at which it was written.
    ///
    /// # Errors
    /// The machine is off.
    pub async fn dated_journal(&self, machine: &Machine) -> Result<Vec<(Timestamp, Entry)>> {
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
        let at = "2026-11-21T08:00:00Z".parse().expect("a moment");
        assert_eq!(told(line), Some((at, Entry::PlannedExit { why: "a".to_owned() })));
        assert_eq!(told(&line[..40]), None);
        assert_eq!(told(r#"{"sum":"9b1c","seq":7,"at":"a","head":{"kept":1}}"#), None);
    }
}
