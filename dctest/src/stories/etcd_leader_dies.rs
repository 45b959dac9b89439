//! The member of etcd that leads is killed in the middle of an update.

use anyhow::{Result, ensure};

use crate::site::{ETCD_UNIT, Site, UPDATE};
use crate::suite::Story;

pub(super) const STORY: Story = Story::new(
    "etcd-leader-dies",
    "the leading member of etcd is killed in mid-update; daemons ride it out and the same update completes",
    |site| Box::pin(run(site)),
);

async fn run(site: &mut Site) -> Result<()> {
    let update = site.get_into_mid_step(1).await?;
    let daemons = processes(site).await?;
    let leader = site.etcd_leader().await?.clone();
    site.ask(&leader, &["systemctl", "kill", "--signal=KILL", ETCD_UNIT]).await?;
    site.completes(&update, UPDATE * 2).await?;
    let now = processes(site).await?;
    ensure!(now == daemons, "daemons ended with etcd: {daemons:?} were there, {now:?} are");
    Ok(())
}

/// The processes of all daemons.
async fn processes(site: &Site) -> Result<Vec<String>> {
    let mut processes = Vec::new();
    for machine in &site.machines {
        for daemon in ["neco-worker.service", "neco-updater.service"] {
            processes.push(site.unit(machine, daemon, "MainPID").await?);
        }
    }
    Ok(processes)
}
