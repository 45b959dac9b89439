//! A release with a newer image of etcd.

use anyhow::{Result, ensure};

use crate::site::{Draft, Site, UPDATE, pins};
use crate::suite::Story;

pub(super) const STORY: Story = Story::new(
    "new-etcd-image",
    "a release with a newer image of etcd restarts one member after the other: never two are down, and a writer is kept waiting for seconds at most",
    |site| Box::pin(run(site)),
)
.on_full_servers();

/// The newer image, and the one before.
const TAGS: [&str; 2] = ["3.4.23.2", "3.4.23.1"];

async fn run(site: &mut Site) -> Result<()> {
    let other = another_image(site, 0).await?;
    let version = site.next_version();
    let draft = Draft::sound(version.clone()).with(pins::FILE, pins::with_tag("etcd", other)?);
    site.workshop.publish(&draft).await?;
    let ((), seen) = site.watching_etcd(site.has_completed(&version, UPDATE)).await?;
    site.note_gap(&seen)?;
    for machine in &site.machines {
        let image = image(site, machine.lrn).await?;
        ensure!(image.ends_with(other), "{}: etcd runs {image}", machine.name);
    }
    ensure!(seen.silent.len() == site.machines.len(), "not all members were restarted: {seen:?}");
    ensure!(seen.most_silent == 1, "{} members were down at once: {seen:?}", seen.most_silent);
    site.everything_runs().await
}

/// The tag of an image of etcd that a server does not run: stories may be told more than once to the same boot servers.
pub(super) async fn another_image(site: &Site, lrn: u32) -> Result<&'static str> {
    let now = image(site, lrn).await?;
    Ok(TAGS.into_iter().find(|tag| !now.ends_with(tag)).unwrap_or(TAGS[0]))
}

/// The image that etcd of a server runs.
async fn image(site: &Site, lrn: u32) -> Result<String> {
    let words = ["docker", "inspect", "--format", "{{.Config.Image}}", "etcd"];
    let image = site.ask(site.machine(lrn), &words).await?;
    Ok(image.trim().to_owned())
}
