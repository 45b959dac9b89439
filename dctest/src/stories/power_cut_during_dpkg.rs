//! One server loses its power while dpkg gets the new package ready, and is powered on again.

use anyhow::{Result, ensure};

use crate::instance::orders::Power;
use crate::site::{Flavour, Site, UPDATE};
use crate::suite::Story;

pub(super) const STORY: Story = Story::new(
    "power-cut-during-dpkg",
    "a server that loses its power while dpkg configures the package completes that at boot, the same update completes, and nothing of the installation is left",
    |site| Box::pin(run(site)),
);

async fn run(site: &mut Site) -> Result<()> {
    let machine = site.machine(1).clone();
    site.hold(&machine).await?;
    let version = site.offer(Flavour::PostinstWaits).await?;
    site.is_held(&machine).await?;
    let update = site.begins(&version).await?;
    let words = ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", "neco"];
    let half = site.ask(&machine, &words).await?;
    ensure!(half == format!("half-configured {version}"), "boot-1 is cut off when it is {half}");
    site.power(1, Power::Cut).await?;
    site.let_go(&machine).await?;
    site.power(1, Power::On).await?;
    site.completes(&update, UPDATE * 2).await?;
    site.was_installed_at_boot(&machine, "installed and running").await
}
