//! A site whose boot servers reach the internet through a proxy alone.

use anyhow::{Result, ensure};

use crate::instance::mirror;
use crate::instance::orders::Order;
use crate::site::{Site, UPDATE};
use crate::suite::Story;

pub(super) const STORY: Story = Story::new(
    "releases-come-through-a-proxy",
    "with config/proxy set, releases are found and fetched through the proxy by servers that have no other way out",
    |site| Box::pin(run(site)),
);

async fn run(site: &mut Site) -> Result<()> {
    let proxy = site.start_proxy().await?;
    for machine in &site.machines {
        let (machine, from) = (machine.name.clone(), vec!["internet".to_owned()]);
        site.order(Order::Partition { machine, from }).await?;
    }
    let operator = site.machine(0).clone();
    let direct = ["curl", "--silent", "--max-time", "2", "--output", "/dev/null", mirror::API];
    let direct = site.outcome(&operator, &direct).await?;
    ensure!(!direct.status.success(), "there is a way out beside the proxy");
    site.necoctl(&operator, &["config", "set", "proxy", &proxy]).await?;
    let done = site.update(UPDATE * 2).await;
    // Whoever comes next has no proxy.
    site.necoctl(&operator, &["config", "unset", "proxy"]).await?;
    done?;
    let asked = site.asked_of_proxy()?;
    ensure!(asked.contains(mirror::NAME), "nobody asked the proxy for releases: {asked}");
    Ok(())
}
