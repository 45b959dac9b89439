//! An operator stops an update in mid-step and recovers from it.

use anyhow::{Result, ensure};

use super::LONG;
use crate::site::{Site, UPDATE};
use crate::suite::{Stage, Story};

pub(super) const STORY: Story = Story {
    name: "stop-and-recover",
    about: "an update that an operator stops settles on every server; after recover the release is taken up again and completes",
    core: false,
    stage: Stage::Running,
    spoils: false,
    within: LONG,
    run: |site| Box::pin(run(site)),
};

async fn run(site: &mut Site) -> Result<()> {
    let version = site.next_version();
    let stopped = site.get_into_mid_step(&version, 1).await?;
    let operator = site.machine(2).clone();
    site.necoctl(&operator, &["stop", "--reason", "a story"]).await?;
    let settled = |report: &crate::site::Report| {
        let closed = |server: &crate::site::Server| {
            !matches!(server.condition.as_deref(), Some("running") | None)
        };
        report.state == "stopped" && report.servers.iter().all(closed)
    };
    site.until_status("all servers to settle", UPDATE, settled).await?;
    site.necoctl(&operator, &["recover", "--reason", "a story"]).await?;
    site.has_completed(&version, UPDATE * 2).await?;
    let now = site.status().await?.request.map(|request| request.id);
    ensure!(now.as_ref() != Some(&stopped), "the stopped request {stopped} was completed");
    Ok(())
}
