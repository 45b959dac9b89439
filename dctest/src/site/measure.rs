//! What an update takes, and what it leaves alone.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use neco_schema::{HistoryServer, Timestamp};
use serde::Deserialize;

use super::{Machine, Seen, Site};

/// How long an update that changes nothing may take where nobody else computes.
const FOR_NOTHING: Duration = Duration::from_secs(10);
/// How long a writer to etcd may wait there: an election takes a second, and a program that asks has to be started.
const WITHOUT_A_WRITE: Duration = Duration::from_secs(10);
/// After so long, etcd was out, however slow the machine is.
const OUTAGE: Duration = Duration::from_secs(60);

/// An update, as `necoctl history` tells it.
#[derive(Debug, Deserialize)]
struct Past {
    started_at: Timestamp,
    #[serde(default)]
    servers: Vec<HistoryServer>,
}

/// How long an update took, from its request until the last server was through.
struct Took {
    whole: Duration,
    /// The part of it in which steps were done: from when the last server began with the first of them.
    steps: Duration,
}

impl Took {
    /// `None` where a server has not done anything, or clocks went back.
    fn by(update: &Past) -> Option<Self> {
        let begun = update.servers.iter().map(|server| Some(server.steps.first()?.begun));
        let ended = update.servers.iter().map(|server| server.steps.last()?.ended);
        let begun = begun.collect::<Option<Vec<_>>>()?.into_iter().max()?;
        let ended = ended.collect::<Option<Vec<_>>>()?.into_iter().max()?;
        let since = |from: Timestamp| ended.get().duration_since(from.get()).try_into().ok();
        Some(Self { whole: since(update.started_at)?, steps: since(begun)? })
    }
}

/// Services that run, each with the id of its present run and its first process.
pub type Running = BTreeMap<String, String>;

impl Site {
    /// Notes something that was measured, for the results.
    pub fn note(&mut self, figure: &str, value: f64) {
        self.figures.insert(figure.to_owned(), value);
    }

    /// Notes how long the current update took, which changed nothing and which all servers have completed.
    ///
    /// # Errors
    /// A server has not told.
    pub async fn note_what_nothing_took(&mut self, what: &str) -> Result<()> {
        let took = self.took().await?;
        self.note_beside(&format!("seconds of {what}"), took.whole, FOR_NOTHING);
        self.note("seconds of its steps alone, without the package", took.steps.as_secs_f64());
        Ok(())
    }

    /// Notes the longest time for which nothing could be written to etcd.
    ///
    /// # Errors
    /// It is so long that this is no matter of the machine's speed.
    pub fn note_gap(&mut self, seen: &Seen) -> Result<()> {
        let gap = seen.longest_gap;
        self.note_beside("seconds without a write to etcd, at most", gap, WITHOUT_A_WRITE);
        ensure!(gap < OUTAGE, "nothing could be written for {gap:.1?}: {seen:?}");
        Ok(())
    }

    /// Notes a time with the budget that it has where nobody else computes: machines that tell stories are shared.
    fn note_beside(&mut self, what: &str, took: Duration, budget: Duration) {
        let budget = budget.as_secs();
        let figure = format!("{what} (budget on an idle machine: {budget})");
        self.note(&figure, took.as_secs_f64());
    }

    async fn took(&self) -> Result<Took> {
        let request = self.request().await?;
        let words = ["necoctl", "history", &request, "--output=json"];
        let told = self.ask(self.machine(0), &words).await?;
        let mut told: serde_json::Value = serde_json::from_str(&told)?;
        let update: Past = serde_json::from_value(told["update"].take())
            .context("reading the history of an update")?;
        ensure!(update.servers.len() == self.machines.len(), "not all tell: {:?}", update.servers);
        Took::by(&update).context("a server is not through")
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
