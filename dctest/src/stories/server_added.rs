//! A fourth boot server joins three.

use anyhow::{Result, ensure};

use crate::instance::orders::Power;
use crate::site::{Report, Site, UPDATE};
use crate::suite::Story;

pub(super) const STORY: Story = Story::new(
    "server-added",
    "a new boot server is registered: the update that follows brings everything to it, and its etcd joins as a learner that is promoted; the others keep etcd writable and Vault up",
    |site| Box::pin(run(site)),
)
.on_full_servers()
.for_long()
.spoiling();

/// The spare one.
const NEW: u32 = 3;

/// How long a writer may wait: nobody else's etcd is restarted for the new one.
const LONGEST: f64 = 10.0;

async fn run(site: &mut Site) -> Result<()> {
    let version = site.version().await?;
    site.order_power(NEW, Power::On).await?;
    let before = site.machines.clone();
    let ((), seen) = {
        let new = site.prepare_to_join(NEW, &version).await?;
        site.machines.push(new);
        let site = &*site;
        site.watching_etcd_of(&before, async {
            site.register_server(NEW).await?;
            let all = |report: &Report| {
                report.has_completed(&version) && report.servers.len() == site.machines.len()
            };
            site.until_status("the new server to be through", UPDATE * 2, all).await.map(drop)
        })
        .await?
    };
    let members = site.etcd_members(site.machine(0)).await?;
    ensure!(members == ["boot-0", "boot-1", "boot-2", "boot-3"], "members are {members:?}");
    let gap = seen.longest_gap.as_secs_f64();
    site.note("seconds without a write to etcd, at most", gap);
    ensure!(gap < LONGEST, "nothing could be written for {gap:.1} s: {seen:?}");
    ensure!(seen.most_silent <= 1, "{} members were down at once: {seen:?}", seen.most_silent);
    site.everything_runs().await?;
    // One more release, by four.
    site.update(UPDATE).await?;
    site.everything_runs().await
}
