//! What an update takes, and what it leaves alone.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use neco_schema::{HistoryRecord, NecoVersion};

use super::{Machine, Site, until};

/// How long the leader may take to write down an update that was completed.
const RECORDED_WITHIN: Duration = Duration::from_secs(30);

/// Services that run, each with the id of its present run and its first process.
pub type Running = BTreeMap<String, String>;

impl Site {
    /// Notes something that was measured, for the results.
    pub fn note(&mut self, figure: &str, value: f64) {
        self.figures.insert(figure.to_owned(), value);
    }

    /// How long the last update took, which was to `version`: from the request until it was found completed.
    ///
    /// # Errors
    /// Another was the last.
    pub async fn took(&self, version: &NecoVersion) -> Result<Duration> {
        let words = ["necoctl", "history", "--last=1", "--output=json"];
        until(&format!("the record of {version}"), RECORDED_WITHIN, async || {
            let told = self.ask(self.machine(0), &words).await?;
            let mut told: serde_json::Value = serde_json::from_str(&told)?;
            let record = told["history"][0]["record"].take();
            let record: HistoryRecord = serde_json::from_value(record).context("reading it")?;
            ensure!(record.version == *version, "the last is that of {}", record.version);
            let took = record.ended_at.get().duration_since(record.started_at.get());
            Duration::try_from(took).context("it ended before it began").map(Some)
        })
        .await
    }

    /// The services that run on a machine, but for Neco's own and those of logins.
    ///
    /// # Errors
    /// The machine is off.
    pub async fn running(&self, machine: &Machine) -> Result<Running> {
        let words = "systemctl list-units --type=service --state=running --plain --no-legend";
        let told = self.ask(machine, &words.split(' ').collect::<Vec<_>>()).await?;
        let units = told.lines().filter_map(|line| line.split_whitespace().next());
        let mut running = Running::new();
        for unit in units.filter(|unit| !unit.starts_with("neco-") && !unit.starts_with("user@")) {
            let run = self.unit(machine, unit, "InvocationID").await?;
            let process = self.unit(machine, unit, "MainPID").await?;
            running.insert(unit.to_owned(), format!("{run}, process {process}"));
        }
        Ok(running)
    }
}
