//! One server loses its power in the middle of a step and is powered on again: the same request goes on to its end.

use anyhow::{Result, ensure};

use crate::instance::orders::Power;
use crate::site::{Site, UPDATE};
use crate::suite::Story;

pub(super) const STORY: Story = Story::new(
    "power-cut-in-mid-step",
    "a server that loses its power while it restarts a program comes back, resumes the step, and the same update completes",
    |site| Box::pin(run(site)),
).in_core();

async fn run(site: &mut Site) -> Result<()> {
    let update = site.get_into_mid_step(1).await?;
    site.power(1, Power::Cut).await?;
    site.power(1, Power::On).await?;
    site.completes(&update, UPDATE * 2).await?;
    // It was about to be started when the power went.
    let said = site.said(site.machine(1), "neco-worker.service").await?;
    ensure!(said.contains("completing what an earlier process began"), "boot-1 resumed nothing");
    let state = site.unit(site.machine(1), "serf.service", "ActiveState").await?;
    ensure!(state == "active", "serf.service of boot-1 is {state}");
    Ok(())
}
