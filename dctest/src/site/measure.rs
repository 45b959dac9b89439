//! What an update takes, and what it leaves alone.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use neco_schema::{HistoryServer, Timestamp};
use serde::Deserialize;

use super::{Machine, Site};

/// An update, as `necoctl history` tells it.
#[derive(Debug, Deserialize)]
struct Past {
    started_at: Timestamp,
    #[serde(default)]
    servers: Vec<HistoryServer>,
}

/// Services that run, each with the id of its present run and its first process.
pub type Running = BTreeMap<String, String>;

impl Site {
    /// Notes something that was measured, for the results.
    pub fn note(&mut self, figure: &str, value: f64) {
        self.figures.insert(figure.to_owned(), value);
    }

    /// How long the current update took, which all servers have completed: from its request until the last of them was through.
    ///
    /// # Errors
    /// One of them has not told.
    pub async fn took(&self) -> Result<Duration> {
        let request = self.request().await?;
        let words = ["necoctl", "history", &request, "--output=json"];
        let told = self.ask(self.machine(0), &words).await?;
        let mut told: serde_json::Value = serde_json::from_str(&told)?;
        let update: Past = serde_json::from_value(told["update"].take())
            .context("reading the history of an update")?;
        ensure!(update.servers.len() == self.machines.len(), "not all tell: {:?}", update.servers);
        let ends = update.servers.iter().map(|server| server.steps.last()?.ended);
        let ends: Option<Vec<_>> = ends.collect();
        let ended =
            ends.and_then(|ends| ends.into_iter().max()).context("a server is not through")?;
        let took = ended.get().duration_since(update.started_at.get());
        Duration::try_from(took).context("it ended before it began")
    }

    /// The containers that run on a machine, each with its id and the moment of its start.
    ///
    /// # Errors
    /// Docker does not answer there.
    pub async fn containers(&self, machine: &Machine) -> Result<Running> {
        let names = self.ask(machine, &["docker", "ps", "--format", "{{.Names}}"]).await?;
        let mut running = Running::new();
        for name in names.lines() {
            let words = ["docker", "inspect", "--format", "{{.Id}} {{.State.StartedAt}}", name];
            let told = self.ask(machine, &words).await?;
            running.insert(name.to_owned(), told.trim().to_owned());
        }
        Ok(running)
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
