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
    let [first, all] = [report.message(0)?, report.why_stopped()];
    let cause = "cannot be configured, on purpose";
    ensure!(first.contains(cause), "boot server 0 gives another cause: {first:?}");
    let both = all.contains("boot server 0") && all.contains(cause);
    ensure!(both, "it is not said of the update who gave up and why: {all:?}");
    site.update(UPDATE).await.map(drop)
}
