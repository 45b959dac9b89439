//! A release whose daemons end as soon as they are started.

use anyhow::{Context as _, Result, ensure};

use super::LONG;
use crate::site::{Draft, Flavour, Site, UPDATE};
use crate::suite::{Stage, Story};

pub(super) const STORY: Story = Story {
    name: "daemons-exit-at-start",
    about: "a release whose daemons exit at start is taken back on the first server and reaches no other; the next release heals without hands",
    core: false,
    stage: Stage::Running,
    spoils: false,
    within: LONG,
    run: |site| Box::pin(run(site)),
};

async fn run(site: &mut Site) -> Result<()> {
    let old = site.version().await?;
    let bad = site.next_version();
    site.workshop.publish(&Draft::sound(bad.clone()).flavour(Flavour::DaemonsExit)).await?;
    let report = site.gives_up(&bad, &old, UPDATE * 2).await?;
    let first = report.server(0).context("boot server 0 is not among those that are told of")?;
    ensure!(
        first.message.contains("exited with status 1"),
        "boot server 0 does not say why: {:?}",
        first.message
    );
    for lrn in [1, 2] {
        let seen = ["grep", "--count", "--fixed-strings", bad.as_str(), "/var/log/dpkg.log"];
        let seen = site.outcome(site.machine(lrn), &seen).await?;
        let seen = String::from_utf8_lossy(&seen.stdout).trim().to_owned();
        ensure!(seen == "0", "boot-{lrn} has met the bad package ({seen} lines of dpkg's log)");
    }
    let next = site.next_version();
    site.workshop.publish(&Draft::sound(next.clone())).await?;
    site.has_completed(&next, UPDATE).await
}
