//! The worker of a server dies in every step.

use std::collections::BTreeSet;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::timeout;

use crate::host::command::command;
use crate::site::{Draft, Site, UPDATE, pins};
use crate::suite::Story;

pub(super) const STORY: Story = Story::new(
    "crash-in-each-step",
    "a worker that is killed in each of the 18 steps of an update that changes much resumes it each time, and the same update completes",
    |site| Box::pin(run(site)),
)
.on_full_servers()
.for_long();

/// The steps of the recipe.
const STEPS: u32 = 18;

async fn run(site: &mut Site) -> Result<()> {
    let version = site.next_version();
    let newer = Draft::sound(version.clone()).vault_begins_with("").other_sabakan().other_cke();
    // Told alone, etcd runs the other image.
    let draft = newer.with(pins::FILE, pins::with_tag("etcd", "3.4.23.2")?);
    let machine = site.machine(1).clone();
    let words = ["journalctl", "--unit=neco-worker", "--follow", "--lines=0", "--output=json"];
    let mut follower = command(site.words_inside(&machine, &words).await?);
    let mut follower = follower.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut lines = BufReader::new(follower.stdout.take().context("a journal to read")?).lines();
    site.workshop.publish(&draft).await?;
    let update = site.begins(&version).await?;
    let mut killed = BTreeSet::new();
    while killed.len() < STEPS as usize {
        let line = timeout(UPDATE, lines.next_line()).await;
        let line = line.with_context(|| format!("after steps {killed:?} no more was posted"))??;
        let line: Value = serde_json::from_str(&line.context("the journal has ended")?)?;
        let step = line["F_STEP"].as_str().and_then(|step| step.parse::<u32>().ok());
        let Some(step) = step.filter(|_| line["MESSAGE"] == "posted: running") else { continue };
        if line["F_VERSION"] == version.as_str() && killed.insert(step) {
            let words = ["systemctl", "kill", "--signal=KILL", "neco-worker.service"];
            site.ask(&machine, &words).await?;
        }
    }
    follower.kill().await.context("ending the look at the journal")?;
    ensure!(killed.iter().copied().eq(1..=STEPS), "it was killed in the steps {killed:?}");
    let restarts = site.unit(&machine, "neco-worker.service", "NRestarts").await?;
    ensure!(restarts.parse::<u32>()? >= STEPS, "it was started again {restarts} times");
    site.completes(&update, UPDATE).await?;
    site.everything_runs().await
}
