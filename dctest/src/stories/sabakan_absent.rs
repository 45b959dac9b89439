//! sabakan does not come up after an update has restarted it: it is not there, or it is there and answers nobody.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::site::{Draft, Machine, Report, Site, UPDATE};
use crate::suite::Story;

pub(super) const STORY: Story = Story::new(
    "sabakan-absent",
    "an update that restarts sabakan aborts within the step's deadline and tells server, step, program and cause, be it that sabakan ends as it starts and nobody listens on its port, or that it takes connections and never answers; once it is well, the same version completes",
    |site| Box::pin(run(site)),
)
.on_full_servers()
.for_long();

/// What it does not run without, and what is left of that while it is lost.
const CERTIFICATE: &str = "/etc/sabakan/etcd.crt";
const LOST: &str = "/etc/sabakan/etcd.crt.lost";

/// How curl(1) ends where nobody listens on a port.
const REFUSED: i32 = 7;

async fn run(site: &mut Site) -> Result<()> {
    // It is not there.
    for machine in &site.machines {
        let script = format!("cp -p {CERTIFICATE} {LOST} && : > {CERTIFICATE}");
        site.ask(machine, &["sh", "-c", &script]).await?;
    }
    let outcome = an_update_is_aborted(site, &["sabakan.service"]).await;
    let mut refusing = Ok(());
    for machine in &site.machines {
        refusing = refusing.and(nobody_listens(site, machine).await);
    }
    // Whatever came of it, those that follow need it.
    for machine in &site.machines {
        site.ask(machine, &["sh", "-c", &format!("cp -p {LOST} {CERTIFICATE} && rm {LOST}")])
            .await?;
    }
    outcome?;
    refusing?;
    the_same_completes(site).await?;

    // It is there, and silent.
    site.break_sabakan(&json!([{ "path": "/", "fault": "stall" }])).await?;
    let outcome = an_update_is_aborted(site, &["no answer within "]).await;
    site.break_sabakan(&json!([])).await?;
    outcome?;
    the_same_completes(site).await
}

/// Publishes a release for which sabakan is restarted; waits until its update is aborted, and sees that it is told where, and
/// why with these words.
async fn an_update_is_aborted(site: &mut Site, words: &[&str]) -> Result<()> {
    let version = site.next_version();
    site.workshop.publish(&Draft::sound(version.clone()).other_sabakan()).await?;
    let aborted = |report: &Report| report.has_aborted(&version);
    let report = site.until_status("the update to be aborted", UPDATE * 2, aborted).await?;
    let why = report.why_stopped();
    for word in [&["boot server ", "step 9", "sabakan"], words].concat() {
        ensure!(why.contains(word), "the status does not tell {word:?}: {why}");
    }
    Ok(())
}

/// Sees that nobody takes connections in the place of the sabakan of a server.
async fn nobody_listens(site: &Site, machine: &Machine) -> Result<()> {
    let words = ["curl", "--silent", "--max-time", "5", "http://127.0.0.1:10080/health"];
    let asked = site.outcome(machine, &words).await?;
    let (name, code) = (&machine.name, asked.status.code());
    ensure!(code == Some(REFUSED), "{name}: somebody listens for sabakan: curl ends with {code:?}");
    Ok(())
}

/// Has the update that was aborted tried again, which completes.
async fn the_same_completes(site: &Site) -> Result<()> {
    let report = site.status().await?;
    let Some(request) = report.request else { anyhow::bail!("there is no request any more") };
    let words = ["necoctl", "recover", "--retry", "--reason", "a story"];
    site.act(site.machine(0), &words).await?;
    site.has_completed(&request.version, UPDATE).await?;
    site.everything_runs().await
}
