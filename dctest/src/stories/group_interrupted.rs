//! An update is interrupted while a service is down on all servers for it.

use anyhow::{Result, bail, ensure};

use crate::site::{Draft, Report, Server, Site, UPDATE, Update, until};
use crate::suite::Story;

pub(super) const STORY: Story = Story::new(
    "group-interrupted",
    "an update that is paused or stopped while Vault is down for it on all servers, or aborted because it does not come up on one, leaves Vault and CKE up wherever they can run",
    |site| Box::pin(run(site)),
)
.on_full_servers()
.for_long();

/// On which server Vault does not come up.
const BROKEN: u32 = 1;

async fn run(site: &mut Site) -> Result<()> {
    let operator = site.machine(2).clone();
    let necoctl = async |site: &Site, words: &[&str]| {
        site.act(&operator, &[&["necoctl"], words].concat()).await.map(drop)
    };

    let update = into_the_outage(site).await?;
    necoctl(site, &["pause", "--reason", "a story"]).await?;
    both_are_up(site).await?;
    let report = site.status().await?;
    ensure!(report.under_way(&update.version).is_some(), "paused: {}", report.in_brief());
    necoctl(site, &["resume"]).await?;
    site.completes(&update, UPDATE).await?;

    let update = into_the_outage(site).await?;
    necoctl(site, &["stop", "--reason", "a story"]).await?;
    let closed = |server: &Server| !matches!(server.condition.as_deref(), Some("running") | None);
    let settled = |report: &Report| report.state == "stopped" && report.servers.iter().all(closed);
    site.until_status("all servers to settle", UPDATE, settled).await?;
    both_are_up(site).await?;
    necoctl(site, &["recover", "--reason", "a story"]).await?;
    site.completes_anew(&update, UPDATE).await?;

    let version = site.next_version();
    let fails = format!("{{% if lrn == {BROKEN} %}}\nExecStartPre=/bin/false\n{{% endif %}}\n");
    let draft = Draft::sound(version.clone()).vault_begins_with(&fails).other_cke();
    site.workshop.publish(&draft).await?;
    let aborted = |report: &Report| report.has_aborted(&version);
    let report = site.until_status("the update to be aborted", UPDATE, aborted).await?;
    let why = report.why_stopped();
    for word in [format!("boot server {BROKEN} "), "step 4".to_owned(), "vault".to_owned()] {
        ensure!(why.contains(&word), "the status does not tell {word:?}: {why}");
    }
    for machine in &site.machines {
        site.is_up(machine, "cke.service").await?;
        if machine.lrn != BROKEN {
            site.is_up(machine, "vault.service").await?;
            has_a_leader(site, machine.lrn).await?;
        }
    }
    // The next one heals.
    let version = site.next_version();
    site.workshop.publish(&Draft::sound(version.clone())).await?;
    site.has_completed(&version, UPDATE).await?;
    site.everything_runs().await
}

/// Publishes a release for which Vault and CKE are restarted, and waits until Vault is about to start on a server: then it was
/// stopped on all.
async fn into_the_outage(site: &mut Site) -> Result<Update> {
    let version = site.next_version();
    let draft = Draft::sound(version.clone());
    let draft = draft.vault_begins_with("ExecStartPre=/bin/sleep 4\n").other_cke();
    site.workshop.publish(&draft).await?;
    let update = site.begins(&version).await?;
    until("Vault to be about to start", UPDATE, async || {
        let state = site.unit(site.machine(0), "vault.service", "SubState").await?;
        if state == "start-pre" { Ok(Some(())) } else { bail!("it is {state}") }
    })
    .await?;
    Ok(update)
}

/// Waits until Vault and CKE run everywhere.
async fn both_are_up(site: &Site) -> Result<()> {
    for machine in &site.machines {
        for unit in ["vault.service", "cke.service", "cke-localproxy.service"] {
            site.is_up(machine, unit).await?;
        }
    }
    site.vault_is_up().await
}

/// Waits until the Vault of a server knows a leader.
async fn has_a_leader(site: &Site, lrn: u32) -> Result<()> {
    until(&format!("Vault of boot-{lrn} to have a leader"), UPDATE, async || {
        let told = site.ask_vault(site.machine(lrn), "sys/leader").await?;
        let leader = told["leader_address"].as_str().unwrap_or_default();
        if leader.is_empty() { bail!("it says {told}") } else { Ok(Some(())) }
    })
    .await
}
