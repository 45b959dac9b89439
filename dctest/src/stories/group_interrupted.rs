//! An update is interrupted while a service is down on all servers for it.

use anyhow::{Result, bail, ensure};

use crate::site::{Draft, Report, Server, Site, UPDATE, Update, until};
use crate::suite::Story;

pub(super) const STORY: Story = Story::new(
    "group-interrupted",
    "an update that is paused or stopped while Vault or CKE is down for it on all servers, or aborted because that does not come up on one, leaves Vault, CKE and its proxy up wherever they can run",
    |site| Box::pin(run(site)),
)
.on_full_servers()
.for_long();

/// On which server a service does not come up, as long as it has this file.
const BROKEN: u32 = 1;
const HINDRANCE: &str = "/etc/neco/hindrance";

async fn run(site: &mut Site) -> Result<()> {
    let operator = site.machine(2).clone();
    let necoctl = async |site: &Site, words: &[&str]| {
        site.act(&operator, &[&["necoctl"], words].concat()).await.map(drop)
    };

    for outage in OUTAGES {
        let update = into_the_outage(site, outage).await?;
        necoctl(site, &["pause", "--reason", "a story"]).await?;
        all_are_up(site).await?;
        let report = site.status().await?;
        ensure!(report.under_way(&update.version).is_some(), "paused: {}", report.in_brief());
        necoctl(site, &["resume"]).await?;
        site.completes(&update, UPDATE).await?;
    }

    let closed = |server: &Server| !matches!(server.condition.as_deref(), Some("running") | None);
    let settled = |report: &Report| report.state == "stopped" && report.servers.iter().all(closed);
    for outage in OUTAGES {
        let update = into_the_outage(site, outage).await?;
        necoctl(site, &["stop", "--reason", "a story"]).await?;
        site.until_status("all servers to settle", UPDATE, settled).await?;
        all_are_up(site).await?;
        necoctl(site, &["recover", "--reason", "a story"]).await?;
        site.completes_anew(&update, UPDATE).await?;
    }

    for outage in OUTAGES {
        is_aborted(site, outage).await?;
    }
    site.everything_runs().await
}

/// A service that is down on all servers for an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outage {
    Vault,
    Cke,
}

const OUTAGES: [Outage; 2] = [Outage::Vault, Outage::Cke];

impl Outage {
    /// A release for which it comes; its service begins with this on each server.
    fn begins_with(self, site: &mut Site, first: &str) -> Draft {
        let draft = Draft::sound(site.next_version()).other_cke();
        match self {
            Self::Vault => draft.vault_begins_with(first),
            Self::Cke => draft.cke_begins_with(first),
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Vault => "vault.service",
            Self::Cke => "cke.service",
        }
    }

    /// What the status tells of an update that ends in it.
    fn words(self) -> [&'static str; 2] {
        match self {
            Self::Vault => ["step 4", "vault"],
            Self::Cke => ["step 12", "cke"],
        }
    }
}

/// The service does not come up on one server: the update is aborted, and it runs on the others, as everything else does
/// everywhere. The next update heals.
async fn is_aborted(site: &mut Site, outage: Outage) -> Result<()> {
    let draft = outage.begins_with(site, &format!("ExecStartPre=/usr/bin/test ! -e {HINDRANCE}\n"));
    let version = draft.version.clone();
    let broken = site.machine(BROKEN).clone();
    site.ask(&broken, &["touch", HINDRANCE]).await?;
    site.workshop.publish(&draft).await?;
    let aborted = |report: &Report| report.has_aborted(&version);
    let report = site.until_status("the update to be aborted", UPDATE, aborted).await?;
    let why = report.why_stopped();
    let server = format!("boot server {BROKEN} ");
    for word in [&*server].into_iter().chain(outage.words()) {
        ensure!(why.contains(word), "the status does not tell {word:?}: {why}");
    }
    for machine in &site.machines {
        for other in OUTAGES {
            if machine.lrn != BROKEN || other != outage {
                site.is_up(machine, other.unit()).await?;
            }
        }
        // It is stopped and started with CKE, and does not need it: one that fails keeps no other from being started.
        site.is_up(machine, "cke-localproxy.service").await?;
        if machine.lrn != BROKEN || outage != Outage::Vault {
            has_a_leader(site, machine.lrn).await?;
        }
    }
    // What was told at once is tried again for minutes, and gets done once it can be. The next one heals.
    site.ask(&broken, &["rm", HINDRANCE]).await?;
    let version = site.next_version();
    site.workshop.publish(&Draft::sound(version.clone())).await?;
    site.has_completed(&version, UPDATE * 2).await
}

/// Publishes a release for which the service is restarted, and waits until it is about to start on a server: then it was stopped
/// on all.
async fn into_the_outage(site: &mut Site, outage: Outage) -> Result<Update> {
    let draft = outage.begins_with(site, "ExecStartPre=/bin/sleep 4\n");
    let unit = outage.unit();
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
