//! sabakan does not come up after an update has restarted it.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::site::{Draft, Report, Site, UPDATE};
use crate::suite::Story;

pub(super) const STORY: Story = Story::new(
    "sabakan-absent",
    "an update that restarts sabakan, which then answers nobody, aborts within the step's deadline and tells server, step, program and cause; once it answers, the same version completes",
    |site| Box::pin(run(site)),
)
.on_full_servers()
.for_long();

async fn run(site: &mut Site) -> Result<()> {
    let version = site.next_version();
    let draft = Draft::sound(version.clone()).other_sabakan();
    let silence = json!([{ "path": "/", "fault": { "status": [500, "unhealthy"] } }]);
    site.break_sabakan(&silence).await?;
    site.workshop.publish(&draft).await?;
    let aborted = |report: &Report| report.has_aborted(&version);
    let outcome = site.until_status("the update to be aborted", UPDATE * 2, aborted).await;
    site.break_sabakan(&json!([])).await?;
    let report = outcome?;
    let why = report.why_stopped().to_owned();
    for word in ["boot server ", "step 9", "sabakan", "500"] {
        ensure!(why.contains(word), "the status does not tell {word:?}: {why}");
    }
    let operator = site.machine(0).clone();
    site.act(&operator, &["necoctl", "recover", "--retry", "--reason", "a story"]).await?;
    site.has_completed(&version, UPDATE).await?;
    site.everything_runs().await
}
