//! Every server is rebooted at once in the middle of an update, which goes on when they are back.

use anyhow::Result;
use futures::future::try_join_all;

use super::LONG;
use crate::instance::orders::Power;
use crate::site::{Site, UPDATE};
use crate::suite::{Stage, Story};

pub(super) const STORY: Story = Story {
    name: "everybody-reboots",
    about: "all servers, and etcd with them, are rebooted at once in mid-update; the same update completes without hands",
    core: true,
    stage: Stage::Running,
    spoils: false,
    within: LONG,
    run: |site| Box::pin(run(site)),
};

async fn run(site: &mut Site) -> Result<()> {
    let version = site.next_version();
    let request = site.get_into_mid_step(&version, 1).await?;
    let lrns: Vec<u32> = site.machines.iter().map(|machine| machine.lrn).collect();
    try_join_all(lrns.iter().map(|lrn| site.power(*lrn, Power::Reboot))).await?;
    site.has_completed(&version, UPDATE * 2).await?;
    site.is_still(&request).await?;
    Ok(())
}
