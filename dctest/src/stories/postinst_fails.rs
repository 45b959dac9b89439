//! A package whose postinst fails.

use anyhow::{Result, ensure};

use crate::site::{Flavour, Site, UPDATE};
use crate::suite::Story;

pub(super) const STORY: Story = Story::new(
    "postinst-fails",
    "a package that cannot be configured ends aborted, naming server and cause, with the old version everywhere; the next release heals",
    |site| Box::pin(run(site)),
);

async fn run(site: &mut Site) -> Result<()> {
    let old = site.version().await?;
    let bad = site.offer(Flavour::PostinstFails).await?;
    let report = site.gives_up(&bad, &old, UPDATE * 2).await?;
    let [first, other] = [report.message(0)?, report.message(1)?];
    let cause = "cannot be configured, on purpose";
    ensure!(first.contains(cause), "boot server 0 gives another cause: {first:?}");
    let both = other.contains("boot server 0") && other.contains(cause);
    ensure!(both, "boot server 1 does not say who gave up and why: {other:?}");
    site.update(UPDATE).await.map(drop)
}
