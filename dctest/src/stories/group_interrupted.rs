//! An update is interrupted while a service is down on all servers for it.

use anyhow::{Result, bail, ensure};

use crate::site::{Draft, Report, Server, Site, UPDATE, Update, until};
use crate::suite::Story;

pub(super) const STORY: Story = Story::new(
    "group-interrupted",
    "an update that is paused or stopped while Vault is down for it on all servers, stopped while CKE is, or aborted because Vault does not come up on one, leaves Vault, CKE and its proxy up wherever they can run",
    |site| Box::pin(run(site)),
)
.on_full_servers()
.for_long();

/// On which server Vault does not come up, as long as it has this file.
const BROKEN: u32 = 1;
const HINDRANCE: &str = "/etc/vault/hindrance";

async fn run(site: &mut Site) -> Result<()> {
    let operator = site.machine(2).clone();
    let necoctl = async |site: &Site, words: &[&str]| {
        site.act(&operator, &[&["necoctl"], words].concat()).await.map(drop)
    };

    let update = into_the_outage_of_vault(site).await?;
    necoctl(site, &["pause", "--reason", "a story"]).await?;
    all_are_up(site).await?;
    let report = site.status().await?;
    ensure!(report.under_way(&update.version).is_some(), "paused: {}", report.in_brief());
    necoctl(site, &["resume"]).await?;
    site.completes(&update, UPDATE).await?;

    let closed = |server: &Server| !matches!(server.condition.as_deref(), Some("running") | None);
    let settled = |report: &Report| report.state == "stopped" && report.servers.iter().all(closed);
    for of_cke in [false, true] {
        let update = match of_cke {
            false => into_the_outage_of_vault(site).await?,
            true => into_the_outage_of_cke(site).await?,
        };
        necoctl(site, &["stop", "--reason", "a story"]).await?;
        site.until_status("all servers to settle", UPDATE, settled).await?;
        all_are_up(site).await?;
        necoctl(site, &["recover", "--reason", "a story"]).await?;
        site.completes_anew(&update, UPDATE).await?;
    }

    let version = site.next_version();
    let fails = format!("ExecStartPre=/usr/bin/test ! -e {HINDRANCE}\n");
    let draft = Draft::sound(version.clone()).vault_begins_with(&fails).other_cke();
    let broken = site.machine(BROKEN).clone();
    site.ask(&broken, &["touch", HINDRANCE]).await?;
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
    // What was told at once is tried again for minutes, and gets done once it can be. The next one heals.
    site.ask(&broken, &["rm", HINDRANCE]).await?;
    let version = site.next_version();
    site.workshop.publish(&Draft::sound(version.clone())).await?;
    site.has_completed(&version, UPDATE * 2).await?;
    site.everything_runs().await
}

/// Publishes a release for which Vault and CKE are restarted, and waits until Vault is about to start on a server: then it was
/// stopped on all.
async fn into_the_outage_of_vault(site: &mut Site) -> Result<Update> {
    let draft = Draft::sound(site.next_version());
    let draft = draft.vault_begins_with("ExecStartPre=/bin/sleep 4\n").other_cke();
    into_the_outage(site, draft, "vault.service").await
}

/// Publishes a release for which CKE and its proxy are restarted, and waits until CKE is about to start on a server.
async fn into_the_outage_of_cke(site: &mut Site) -> Result<Update> {
    let draft = Draft::sound(site.next_version());
    let draft = draft.cke_begins_with("ExecStartPre=/bin/sleep 4\n").other_cke();
    into_the_outage(site, draft, "cke.service").await
}

/// Publishes a release, and waits until a unit is about to start on the first server.
async fn into_the_outage(site: &mut Site, draft: Draft, unit: &str) -> Result<Update> {
    site.workshop.publish(&draft).await?;
    let update = site.begins(&draft.version).await?;
    until(&format!("{unit} to be about to start"), UPDATE, async || {
        let state = site.unit(site.machine(0), unit, "SubState").await?;
        if state == "start-pre" { Ok(Some(())) } else { bail!("it is {state}") }
    })
    .await?;
    Ok(update)
}

/// Waits until Vault, CKE and its proxy run everywhere.
async fn all_are_up(site: &Site) -> Result<()> {
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
