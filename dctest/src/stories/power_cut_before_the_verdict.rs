//! The first server loses its power between the start of daemons that will not run and the verdict on them.

use anyhow::{Result, ensure};

use crate::instance::orders::Power;
use crate::site::{Flavour, Site, UPDATE};
use crate::suite::Story;

pub(super) const STORY: Story = Story::new(
    "power-cut-before-the-verdict",
    "a server that loses its power while daemons that will not run are started takes their release back at boot; it reaches no other, and the next one heals",
    |site| Box::pin(run(site)),
);

async fn run(site: &mut Site) -> Result<()> {
    let old = site.version().await?;
    let machine = site.machine(0).clone();
    site.hold(&machine).await?;
    let bad = site.offer(Flavour::DaemonsExit).await?;
    site.is_held(&machine).await?;
    site.has_installed(&machine, bad.as_str()).await?;
    site.power(0, Power::Cut).await?;
    site.let_go(&machine).await?;
    site.power(0, Power::On).await?;
    let report = site.gives_up(&bad, &old, UPDATE * 2).await?;
    let first = report.message(0)?;
    ensure!(first.contains("exited with status 1"), "boot server 0 does not say why: {first:?}");
    site.was_installed_at_boot(&machine, "not installed").await?;
    for lrn in [1, 2] {
        site.has_not_met(site.machine(lrn), &bad).await?;
    }
    site.update(UPDATE).await.map(drop)
}
