//! A top-of-rack switch fails, and nobody notices.

use anyhow::Result;

use crate::instance::orders::{Link, Order};
use crate::site::{Site, UPDATE};
use crate::suite::Story;

pub(super) const STORY: Story = Story::new(
    "switch-goes-down",
    "one of a rack's two switches loses all its cables in mid-update; the update completes over the other",
    |site| Box::pin(run(site)),
);

async fn run(site: &mut Site) -> Result<()> {
    let update = site.get_into_mid_step(1).await?;
    for other in ["spine1", "spine2", "boot-0"] {
        let (one, other) = ("rack0-tor1".to_owned(), other.to_owned());
        site.order(Order::Link { one, other, state: Link::Down }).await?;
    }
    site.has_completed(&update.version, UPDATE).await?;
    // A whole update on one leg: fetched, installed, run.
    site.update(UPDATE).await.map(drop)
}
