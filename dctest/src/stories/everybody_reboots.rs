//! Every server is rebooted at once in the middle of an update, which goes on when they are back.

use anyhow::Result;
use futures::future::try_join_all;

use crate::instance::orders::Power;
use crate::site::{Site, UPDATE};
use crate::suite::Story;

pub(super) const STORY: Story = Story::new(
    "everybody-reboots",
    "all servers, and etcd with them, are rebooted at once in mid-update; the same update completes without hands",
    |site| Box::pin(run(site)),
).in_core();

async fn run(site: &mut Site) -> Result<()> {
    let update = site.get_into_mid_step(1).await?;
    let lrns: Vec<u32> = site.machines.iter().map(|machine| machine.lrn).collect();
    try_join_all(lrns.iter().map(|lrn| site.power(*lrn, Power::Reboot))).await?;
    site.completes(&update, UPDATE * 2).await
}
