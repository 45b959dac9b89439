//! All steps of the package's own recipe, on boot servers that run everything.

use anyhow::{Result, ensure};
use futures::future::{try_join, try_join_all};

use crate::site::{Machine, Running, Site, UPDATE};
use crate::suite::Story;

pub(super) const STORY: Story = Story::new(
    "full-recipe",
    "all steps of the package's own recipe bring etcd, Vault and the other programs of three boot servers up; a release that changes nothing starts none of them anew",
    |site| Box::pin(run(site)),
)
.on_full_servers();

async fn run(site: &mut Site) -> Result<()> {
    site.everything_runs().await?;
    let before = running(site).await?;
    site.update(UPDATE).await?;
    let after = running(site).await?;
    let took = site.took().await?;
    site.note("seconds of an update of everything that changes nothing", took.as_secs_f64());
    for (machine, (before, after)) in site.machines.iter().zip(before.iter().zip(&after)) {
        for (what, run) in before {
            let now = after.get(what);
            let name = &machine.name;
            ensure!(now == Some(run), "{name}: {what} was {run}, and is {now:?} now");
        }
    }
    site.everything_runs().await
}

/// What runs on each machine: units and containers.
async fn running(site: &Site) -> Result<Vec<Running>> {
    try_join_all(site.machines.iter().map(async |machine: &Machine| {
        let (mut units, containers) =
            try_join(site.running(machine), site.containers(machine)).await?;
        units.extend(containers);
        Ok(units)
    }))
    .await
}
