//! A server dies for good in the middle of an update.

use anyhow::{Result, ensure};

use crate::instance::orders::Power;
use crate::site::{Site, UPDATE};
use crate::suite::Story;

pub(super) const STORY: Story = Story::new(
    "member-never-comes-back",
    "a server that dies for good in mid-update is taken out by an operator, and the others complete the update without it",
    |site| Box::pin(run(site)),
).spoiling();

async fn run(site: &mut Site) -> Result<()> {
    let update = site.get_into_mid_step(1).await?;
    site.power(2, Power::Cut).await?;
    let what = "the dead server to be known as dead";
    site.until_status(what, UPDATE, |report| report.server(2).is_some_and(|server| !server.alive))
        .await?;
    let operator = site.machine(0).clone();
    let members = site.etcd_members(&operator).await?;
    ensure!(members == ["boot-0", "boot-1", "boot-2"], "members of etcd are {members:?}");
    site.remove_etcd_member(&operator, "boot-2").await?;
    site.necoctl(&operator, &["leave", "2", "--reason", "a story"]).await?;
    site.machines.retain(|machine| machine.lrn != 2);
    // The request before lists the dead server.
    site.completes_anew(&update, UPDATE * 2).await?;
    let members = site.etcd_members(&operator).await?;
    ensure!(members == ["boot-0", "boot-1"], "members of etcd are {members:?}");
    let told =
        site.etcdctl(&operator, &["get", "--prefix", "--keys-only", "/neco/info/boot"]).await?;
    ensure!(!told.contains("/bootservers/2"), "boot server 2 is registered still: {told}");
    Ok(())
}
