//! A top-of-rack switch fails, and nobody notices.

use anyhow::Result;

use super::LONG;
use crate::instance::orders::{Link, Order};
use crate::site::{Draft, Site, UPDATE};
use crate::suite::{Stage, Story};

pub(super) const STORY: Story = Story {
    name: "switch-goes-down",
    about: "one of a rack's two switches loses all its cables in mid-update; the update completes over the other",
    core: false,
    stage: Stage::Running,
    spoils: false,
    within: LONG,
    run: |site| Box::pin(run(site)),
};

async fn run(site: &mut Site) -> Result<()> {
    let version = site.next_version();
    site.get_into_mid_step(&version, 1).await?;
    for other in ["spine1", "spine2", "boot-0"] {
        let (one, other) = ("rack0-tor1".to_owned(), other.to_owned());
        site.order(Order::Link { one, other, state: Link::Down }).await?;
    }
    site.has_completed(&version, UPDATE).await?;
    // A whole update on one leg: fetched, installed, run.
    let version = site.next_version();
    site.workshop.publish(&Draft::sound(version.clone())).await?;
    site.has_completed(&version, UPDATE).await
}
