//! One server loses its power in the middle of a step and is powered on again: the same request goes on to its end.

use anyhow::{Result, ensure};

use super::LONG;
use crate::instance::orders::Power;
use crate::site::{Site, UPDATE};
use crate::suite::{Stage, Story};

pub(super) const STORY: Story = Story {
    name: "power-cut-in-mid-step",
    about: "a server that loses its power while it restarts a program comes back, resumes the step, and the same update completes",
    core: true,
    stage: Stage::Running,
    spoils: false,
    within: LONG,
    run: |site| Box::pin(run(site)),
};

async fn run(site: &mut Site) -> Result<()> {
    let version = site.next_version();
    let request = site.get_into_mid_step(&version, 1).await?;
    site.power(1, Power::Cut).await?;
    site.power(1, Power::On).await?;
    site.has_completed(&version, UPDATE * 2).await?;
    site.is_still(&request).await?;
    // It was about to be started when the power went.
    let words = ["journalctl", "--boot", "--unit=neco-worker.service", "--output=cat"];
    let said = site.ask(site.machine(1), &words).await?;
    ensure!(said.contains("completing what an earlier process began"), "boot-1 resumed nothing");
    let state = site.unit(site.machine(1), "serf.service", "ActiveState").await?;
    ensure!(state == "active", "serf.service of boot-1 is {state}");
    Ok(())
}
