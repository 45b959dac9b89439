//! One of three boot servers dies, and is taken out.

use anyhow::{Result, ensure};

use super::server_removed::{GONE, leaves};
use crate::instance::orders::Power;
use crate::site::{Report, Site, UPDATE};
use crate::suite::Story;

pub(super) const STORY: Story = Story::new(
    "dead-server-removed",
    "a boot server that lost its power for good leaves: the update that follows takes its dead member out of etcd, without hands, and completes on the others, which go on",
    |site| Box::pin(run(site)),
)
.on_full_servers()
.spoiling();

async fn run(site: &mut Site) -> Result<()> {
    site.power(GONE, Power::Cut).await?;
    let dead = |report: &Report| report.server(GONE).is_some_and(|server| !server.alive);
    site.until_status("the dead server to be known as dead", UPDATE, dead).await?;
    let members = site.etcd_members(site.machine(0)).await?;
    ensure!(members == ["boot-0", "boot-1", "boot-2"], "members of etcd are {members:?}");
    leaves(site, &[]).await?;
    site.update(UPDATE).await?;
    site.everything_runs().await
}
