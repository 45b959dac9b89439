//! A release whose daemons end as soon as they are started.

use anyhow::{Result, ensure};

use crate::site::{Draft, Flavour, Site, UPDATE};
use crate::suite::Story;

pub(super) const STORY: Story = Story::new(
    "daemons-exit-at-start",
    "a release whose daemons exit at start is taken back on the first server and reaches no other; the next release heals without hands",
    |site| Box::pin(run(site)),
);

async fn run(site: &mut Site) -> Result<()> {
    let old = site.version().await?;
    let bad = site.offer(Flavour::DaemonsExit).await?;
    let report = site.gives_up(&bad, &old, UPDATE * 2).await?;
    let first = report.message(0)?;
    ensure!(first.contains("exited with status 1"), "boot server 0 does not say why: {first:?}");
    for lrn in [1, 2] {
        site.has_not_met(site.machine(lrn), &bad).await?;
    }
    // These are the real ones, and say themselves what they lack.
    let mute = site.next_version();
    let draft = Draft::sound(mute.clone()).with("usr/share/neco/VERSION", "the newest\n");
    site.workshop.publish(&draft).await?;
    let report = site.gives_up(&mute, &old, UPDATE * 2).await?;
    let first = report.message(0)?;
    let words = "it said: error: reading the installed version from /usr/share/neco/VERSION";
    ensure!(first.contains(words), "boot server 0 does not say why: {first:?}");
    site.update(UPDATE).await.map(drop)
}
