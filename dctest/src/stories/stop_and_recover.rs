//! An operator stops an update in mid-step and recovers from it.

use anyhow::Result;

use crate::site::{Report, Server, Site, UPDATE};
use crate::suite::Story;

pub(super) const STORY: Story = Story::new(
    "stop-and-recover",
    "an update that an operator stops settles on every server; after recover the release is taken up again and completes",
    |site| Box::pin(run(site)),
);

async fn run(site: &mut Site) -> Result<()> {
    let update = site.get_into_mid_step(1).await?;
    let operator = site.machine(2).clone();
    site.necoctl(&operator, &["stop", "--reason", "a story"]).await?;
    let settled = |report: &Report| {
        let closed =
            |server: &Server| !matches!(server.condition.as_deref(), Some("running") | None);
        report.state == "stopped" && report.servers.iter().all(closed)
    };
    site.until_status("all servers to settle", UPDATE, settled).await?;
    site.necoctl(&operator, &["recover", "--reason", "a story"]).await?;
    site.completes_anew(&update, UPDATE * 2).await
}
