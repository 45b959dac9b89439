//! Proof that an update has arrived, on the disks and by the processes themselves; and the summary.

use std::time::Duration;

use neco_host::Installed;
use neco_schema::{Condition, NecoVersion};
use serde::Serialize;

use crate::state::completed;
use crate::{BootServer, Site, SiteError, state_text};

/// How long daemons that have just been replaced may take to say that they run.
const WITHIN: Duration = Duration::from_secs(30);
/// How often they are asked.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// How an update went.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// `completed`.
    pub outcome: &'static str,
    /// The version before.
    pub from: NecoVersion,
    /// The version after.
    pub to: NecoVersion,
    /// Every boot server.
    pub servers: Vec<ServerSummary>,
    /// From the publication of the release to the completion of its update.
    pub seconds: f64,
}

/// What one boot server came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerSummary {
    /// Its logical rack number.
    pub lrn: u32,
    /// The version that its disk and its processes agree on.
    pub version: NecoVersion,
    /// The step it has posted last.
    pub step: u32,
    /// The condition it has posted last, as its number; 3 is completed.
    pub cond: i64,
    /// The process that runs that version.
    #[serde(skip)]
    pub worker: u32,
}

/// Proves that every one of these servers of the site has completed `to`, has it on its disk and runs it.
///
/// # Errors
/// What contradicts it.
pub async fn prove(
    site: &Site,
    servers: impl IntoIterator<Item = &BootServer>,
    from: &NecoVersion,
    to: &NecoVersion,
    took: Duration,
) -> Result<Summary, SiteError> {
    let view = site.view().await?;
    let mut proven = Vec::new();
    for server in servers {
        let status = completed(&view, server.lrn(), to).ok_or_else(|| SiteError::Unproven {
            what: format!("boot-{} has completed {to}", server.lrn()),
            state: state_text(&view),
        })?;
        proven.push(ServerSummary {
            lrn: server.lrn().get(),
            version: to.clone(),
            step: status.step,
            cond: status.cond.code(),
            worker: runs(server, to).await?,
        });
    }
    let seconds = (took.as_secs_f64() * 10.0).round() / 10.0;
    Ok(Summary {
        outcome: "completed",
        from: from.clone(),
        to: to.clone(),
        servers: proven,
        seconds,
    })
}

/// Waits until the server has `version` on its disk and its daemons run it; returns its worker.
async fn runs(server: &BootServer, version: &NecoVersion) -> Result<u32, SiteError> {
    let deadline = tokio::time::Instant::now() + WITHIN;
    loop {
        let state = match wrong(server, version).await? {
            Ok(worker) => return Ok(worker),
            Err(state) => state,
        };
        if tokio::time::Instant::now() >= deadline {
            let what = format!("boot-{} with {version} on disk and running", server.lrn());
            return Err(SiteError::Deadline { what, within: WITHIN, state });
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// The worker, or what is wrong.
async fn wrong(
    server: &BootServer,
    version: &NecoVersion,
) -> Result<Result<u32, String>, SiteError> {
    let on_disk = server.version_on_disk();
    if on_disk.as_deref() != Some(version.as_str()) {
        return Ok(Err(format!("its VERSION file says {on_disk:?}")));
    }
    let installed = server.installed().await?;
    if installed != Installed::Yes(version.clone()) {
        return Ok(Err(format!("its package manager says {installed}")));
    }
    let mut pid = 0;
    let daemons = [("neco-updater", server.updater()), ("neco-worker", Some(server.worker()))];
    for (name, daemon) in daemons {
        let Some(daemon) = daemon else { continue };
        match server.ready(name) {
            None => return Ok(Err(format!("{name} does not say that it is ready"))),
            Some(ready) if ready.version != version.as_str() => {
                return Ok(Err(format!("{name} says that it runs {}", ready.version)));
            }
            Some(ready) if Some(ready.pid) != daemon.pid() => {
                return Ok(Err(format!("{name} says that it is process {}", ready.pid)));
            }
            Some(ready) => pid = ready.pid,
        }
    }
    Ok(Ok(pid))
}

impl Summary {
    /// The table for people.
    pub fn table(&self) -> String {
        let width = self.to.as_str().len().max("on disk".len());
        let mut text = format!(
            "{} boot servers went from {} to {} in {:.1} s.\n\n",
            self.servers.len(),
            self.from,
            self.to,
            self.seconds
        );
        text.push_str(&format!(
            "  {:<8}  {:<width$}  {:<9}  {:>4}  {}\n",
            "server", "on disk", "status", "step", "worker"
        ));
        for server in &self.servers {
            let cond = Condition::from_code(server.cond).to_string();
            text.push_str(&format!(
                "  {:<8}  {:<width$}  {cond:<9}  {:>4}  process {} says it runs {}\n",
                format!("boot-{}", server.lrn),
                server.version.as_str(),
                server.step,
                server.worker,
                server.version,
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        let version = |text: &str| text.parse::<NecoVersion>().expect("a version");
        let server = |lrn| ServerSummary {
            lrn,
            version: version("2026.11.21-40152"),
            step: 18,
            cond: 3,
            worker: 4000 + lrn,
        };
        Summary {
            outcome: "completed",
            from: version("2026.11.20-40151"),
            to: version("2026.11.21-40152"),
            servers: vec![server(0), server(1)],
            seconds: 12.3,
        }
    }

    #[test]
    fn the_json_form_has_the_promised_fields() {
        let text = serde_json::to_string(&summary()).expect("plain data");
        let expected = concat!(
            r#"{"outcome":"completed","from":"2026.11.20-40151","to":"2026.11.21-40152","#,
            r#""servers":[{"lrn":0,"version":"2026.11.21-40152","step":18,"cond":3},"#,
            r#"{"lrn":1,"version":"2026.11.21-40152","step":18,"cond":3}],"seconds":12.3}"#
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn the_table_names_every_server_and_its_process() {
        let table = summary().table();
        assert!(table.contains("boot-0") && table.contains("process 4001"), "{table}");
        assert!(table.contains("completed") && table.contains("12.3 s"), "{table}");
    }
}
