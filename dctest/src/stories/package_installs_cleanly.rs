//! The package installs cleanly on three servers.

use anyhow::{Result, ensure};

use crate::site::Site;
use crate::suite::Story;

pub(super) const STORY: Story = Story::new(
    "package-installs-cleanly",
    "dpkg installs the package on three boot servers, its daemons run, and a first update completes",
    |site| Box::pin(run(site)),
).in_core();

async fn run(site: &mut Site) -> Result<()> {
    for machine in &site.machines {
        site.is_whole(machine).await?;
        let verified = site.ask(machine, &["dpkg", "--verify", "neco"]).await?;
        // Machines are made without manuals: dpkg was told to leave them out.
        let left_out = ["/usr/share/man/", "/usr/share/doc/"];
        let mut other = verified.lines().filter(|line| !left_out.iter().any(|l| line.contains(l)));
        ensure!(other.next().is_none(), "{}: not as packed: {verified}", machine.name);
        for unit in [
            "neco-worker.service",
            "neco-updater.service",
            "sabakan-state-setter.service",
            "serf.service",
        ] {
            let state = site.unit(machine, unit, "ActiveState").await?;
            ensure!(state == "active", "{}: {unit} is {state}", machine.name);
            let enabled = site.unit(machine, unit, "UnitFileState").await?;
            ensure!(enabled == "enabled", "{}: {unit} is {enabled}", machine.name);
        }
        let timer = site.unit(machine, "setup-serf-tags.timer", "ActiveState").await?;
        ensure!(timer == "active", "{}: the timer is {timer}", machine.name);
        let image = ["docker", "inspect", "--format", "{{.Config.Image}}", "serf"];
        let image = site.ask(machine, &image).await?;
        ensure!(image.trim() == "registry.test/serf:0.9.4", "{}: serf runs {image}", machine.name);
        // As the original calls its command line; and as operators come, over the whole fabric.
        let version = site.ssh(machine, &["neco", "--version"]).await?;
        let words = ["dpkg-query", "-W", "-f", "${Version}", "neco"];
        let installed = site.ask(machine, &words).await?;
        ensure!(version.contains(&installed), "{}: neco says {version}", machine.name);
    }
    Ok(())
}
