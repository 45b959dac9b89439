//! Vault stays sealed after an update has restarted it.

use anyhow::{Result, ensure};

use crate::site::{Draft, Report, Site, UPDATE};
use crate::suite::Story;

pub(super) const STORY: Story = Story::new(
    "vault-sealed",
    "an update that restarts Vault, whose key is lost, aborts when bringing it back was tried in vain, too, and tells server, step, program and cause; once it is unsealed, the same version completes",
    |site| Box::pin(run(site)),
)
.on_full_servers()
.for_long();

const KEY: &str = "/neco/vault-unseal-key";

async fn run(site: &mut Site) -> Result<()> {
    let operator = site.machine(0).clone();
    let key = site.etcdctl(&operator, &["get", "--print-value-only", KEY]).await?;
    site.etcdctl(&operator, &["del", KEY]).await?;
    let version = site.next_version();
    let draft = Draft::sound(version.clone()).vault_begins_with("").impatient_vault();
    site.workshop.publish(&draft).await?;
    let aborted = |report: &Report| report.has_aborted(&version);
    let outcome = site.until_status("the update to be aborted", UPDATE, aborted).await;
    // Whatever came of it, those that follow need the key.
    site.etcdctl_told(&operator, &["put", KEY], key.trim_end()).await?;
    let report = outcome?;
    let why = report.why_stopped().to_owned();
    for word in ["boot server ", "step 4", "vault", "503"] {
        ensure!(why.contains(word), "the status does not tell {word:?}: {why}");
    }
    for machine in &site.machines {
        site.act(machine, &["necoctl", "vault", "unseal"]).await?;
    }
    site.vault_is_up().await?;
    site.act(&operator, &["necoctl", "recover", "--retry", "--reason", "a story"]).await?;
    site.has_completed(&version, UPDATE).await?;
    site.everything_runs().await
}
