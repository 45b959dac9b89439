//! The key that signs releases is replaced while a server is off.

use anyhow::{Context as _, Result, ensure};

use crate::instance::orders::Power;
use crate::site::{Draft, Keys, Site, UPDATE};
use crate::suite::Story;

pub(super) const STORY: Story = Story::new(
    "keys-rotate-with-one-server-off",
    "a release of a key that nobody trusts is refused; a server that was off while the signing key was replaced trusts the release that brings the new key, and then those of the new key alone",
    |site| Box::pin(run(site)),
);

async fn run(site: &mut Site) -> Result<()> {
    // Nobody trusts the new key as yet.
    let old = site.version().await?;
    let early = site.next_version();
    site.workshop.publish(&Draft::sound(early.clone()).signed_by(Keys::Second)).await?;
    let report = site.gives_up(&early, &old, UPDATE).await?;
    let why = report.message(0)?;
    ensure!(why.contains("no signature that can be accepted"), "boot server 0 says why: {why:?}");
    for machine in &site.machines {
        site.has_not_met(machine, &early).await?;
    }
    let bridge = site.next_version();
    site.workshop.publish(&Draft::sound(bridge.clone()).signed_by(Keys::Both)).await?;
    site.begins(&bridge).await?;
    // The first server installs; this one has not begun.
    site.power(2, Power::Cut).await?;
    site.until_status("the other servers to have installed it", UPDATE, |report| {
        let waits = |lrn: &u32| {
            let server = report.server(*lrn);
            server.is_some_and(|s| s.step == Some(1) && s.condition.as_deref() == Some("running"))
        };
        report.under_way(&bridge).is_some() && [0, 1].iter().all(waits)
    })
    .await?;
    let new = site.next_version();
    site.workshop.publish(&Draft::sound(new.clone()).signed_by(Keys::Second)).await?;
    site.power(2, Power::On).await?;
    site.has_not_met(site.machine(2), &bridge).await.context("before it went off")?;
    site.has_completed(&new, UPDATE * 2).await
}
