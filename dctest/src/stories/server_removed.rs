//! One of three boot servers is taken out.

use anyhow::{Result, ensure};

use crate::instance::orders::Power;
use crate::site::{Report, Site, UPDATE};
use crate::suite::Story;

pub(super) const STORY: Story = Story::new(
    "server-removed",
    "a boot server that leaves is taken out of etcd by the update that follows, without hands, and nobody is told of it any more; once it is off, the others go on",
    |site| Box::pin(run(site)),
)
.on_full_servers()
.spoiling();

/// The one that goes.
pub(super) const GONE: u32 = 2;

async fn run(site: &mut Site) -> Result<()> {
    leaves(site, &["--force"]).await?;
    site.order_power(GONE, Power::Off).await?;
    site.update(UPDATE).await?;
    site.everything_runs().await
}

/// Has an operator take the server out, and sees that the update that follows completes on the others and takes its member out
/// of etcd.
pub(super) async fn leaves(site: &mut Site, words: &[&str]) -> Result<()> {
    let operator = site.machine(0).clone();
    let of_three = site.request().await?;
    let words = [&["necoctl", "leave", "2", "--reason", "a story"], words].concat();
    site.act(&operator, &words).await?;
    site.machines.retain(|machine| machine.lrn != GONE);
    let through = |report: &Report| {
        let another = report.request.as_ref().is_some_and(|request| request.id != of_three);
        // One that is alive is told of, though it has no part in it.
        let takes_part = report.servers.iter().filter(|server| server.condition.is_some());
        another && report.state == "completed" && takes_part.count() == site.machines.len()
    };
    site.until_status("the others to be through", UPDATE * 2, through).await?;
    let members = site.etcd_members(&operator).await?;
    ensure!(members == ["boot-0", "boot-1"], "members of etcd are {members:?}");
    let told =
        site.etcdctl(&operator, &["get", "--prefix", "--keys-only", "/neco/info/boot"]).await?;
    ensure!(!told.contains("/bootservers/2"), "boot server 2 is registered still: {told}");
    site.know_etcd().await
}
