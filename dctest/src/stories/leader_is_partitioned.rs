//! The server of the leading updater hears nothing of the others for a while.

use anyhow::{Result, bail};

use crate::instance::orders::Order;
use crate::site::{Site, UPDATE, until};
use crate::suite::Story;

pub(super) const STORY: Story = Story::new(
    "leader-is-partitioned",
    "the leader's server is cut off in mid-update: another updater leads, and the update completes once the network is whole",
    |site| Box::pin(run(site)),
);

async fn run(site: &mut Site) -> Result<()> {
    let update = site.get_into_mid_step(1).await?;
    // Now: the installation has started every updater anew.
    let leader = site.leader().await?.clone();
    let others: Vec<_> =
        site.machines.iter().filter(|machine| machine.lrn != leader.lrn).cloned().collect();
    let from = others.iter().map(|machine| machine.name.clone()).collect();
    site.order(Order::Partition { machine: leader.name.clone(), from }).await?;
    until("another updater to lead", UPDATE, async || {
        let report = site.status_from(&others[0]).await?;
        match &report.leader {
            Some(host) if !host.ends_with(&leader.name) => Ok(Some(())),
            other => bail!("{other:?} leads"),
        }
    })
    .await?;
    site.heal().await?;
    site.has_completed(&update.version, UPDATE * 2).await
}
