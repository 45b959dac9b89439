//! A package whose postinst fails.

use anyhow::{Context as _, Result, ensure};

use super::LONG;
use crate::site::{Draft, Flavour, Site, UPDATE};
use crate::suite::{Stage, Story};

pub(super) const STORY: Story = Story {
    name: "postinst-fails",
    about: "a package that cannot be configured ends aborted, naming server and cause, with the old version everywhere; the next release heals",
    core: false,
    stage: Stage::Running,
    spoils: false,
    within: LONG,
    run: |site| Box::pin(run(site)),
};

async fn run(site: &mut Site) -> Result<()> {
    let old = site.version().await?;
    let bad = site.next_version();
    site.workshop.publish(&Draft::sound(bad.clone()).flavour(Flavour::PostinstFails)).await?;
    let report = site.gives_up(&bad, &old, UPDATE * 2).await?;
    let first = report.server(0).context("boot server 0 is not among those that are told of")?;
    ensure!(
        first.message.contains("cannot be configured, on purpose"),
        "boot server 0 gives another cause: {:?}",
        first.message
    );
    let other = report.server(1).context("boot server 1 is not among those that are told of")?;
    ensure!(
        other.message.contains("boot server 0") && other.message.contains("on purpose"),
        "boot server 1 does not say who gave up and why: {:?}",
        other.message
    );
    let next = site.next_version();
    site.workshop.publish(&Draft::sound(next.clone())).await?;
    site.has_completed(&next, UPDATE).await
}
