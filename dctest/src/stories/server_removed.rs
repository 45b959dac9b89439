//! One of three boot servers is taken out.

use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::instance::orders::Power;
use crate::site::{Report, Site, UPDATE, until};
use crate::suite::Story;

pub(super) const STORY: Story = Story::new(
    "server-removed",
    "a boot server that leaves is taken out of etcd by the update that follows, without hands; once it is off, the others go on",
    |site| Box::pin(run(site)),
)
.on_full_servers()
.spoiling();

const GONE: u32 = 2;

async fn run(site: &mut Site) -> Result<()> {
    let operator = site.machine(0).clone();
    // It is alive still, so that its member of etcd is well: no update begins while one is not.
    let words = ["necoctl", "leave", "2", "--force", "--reason", "a story"];
    site.act(&operator, &words).await?;
    site.machines.retain(|machine| machine.lrn != GONE);
    let left = |report: &Report| {
        let theirs = report.servers.iter().filter(|server| server.condition.is_some());
        report.state == "completed" && theirs.count() == site.machines.len()
    };
    site.until_status("the others to be through", UPDATE * 2, left).await?;
    until("etcd to have two members", Duration::from_secs(30), async || {
        let members = site.etcd_members(&operator).await?;
        if members == ["boot-0", "boot-1"] { Ok(Some(())) } else { bail!("there are {members:?}") }
    })
    .await?;
    let told =
        site.etcdctl(&operator, &["get", "--prefix", "--keys-only", "/neco/info/boot"]).await?;
    ensure!(!told.contains("/bootservers/2"), "boot server 2 is registered still: {told}");
    site.order_power(GONE, Power::Off).await?;
    site.update(UPDATE).await?;
    site.everything_runs().await
}
