//! Commands as units of their own.

use std::time::Duration;

use neco_base::Backoff;
use zbus::Variant;

use super::answers::Said;
use super::jobs::REPLACE;
use super::proxies::Property;
use super::session::Session;
use crate::{Job, UnitError, UnitName};

/// How long to wait until systemd has forgotten a unit that has ended.
const FORGOTTEN: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));

impl Session {
    /// Starts a command as a unit of its own, unless one of that name runs.
    pub(super) async fn start_transient(
        &self,
        unit: &UnitName,
        argv: &[String],
    ) -> Result<(), UnitError> {
        self.listen().await?;
        let name = unit.as_str();
        let mut retry = FORGOTTEN.retry();
        loop {
            let properties = properties(unit, argv);
            let asked = self.manager.start_transient_unit(name, REPLACE, &properties, &[]);
            match self.begin(asked).await {
                Ok(begun) => {
                    let word = self.end_of(begun, unit, Job::Start).await?;
                    let mut judged = self.judge(unit, Job::Start, &word).await;
                    // A command may end before systemd sees that it began; its own end is no failed start.
                    if judged.is_err() && self.has_run(unit).await? {
                        judged = Ok(());
                    }
                    // The end of the connection does the same, but perhaps after the next call's beginning.
                    let _ = self.answer(self.manager.unref_unit(name)).await;
                    return judged;
                }
                Err(Said::Exists(_)) => {}
                Err(other) => return Err(other.about_job(unit, Job::Start)),
            }
            // systemd itself saw to it that there is one of that name. Is it running, or a leftover?
            if self.state(unit).await?.is_alive() {
                return Ok(());
            }
            self.refuse_a_file(unit).await?;
            match self.answer(self.manager.reset_failed_unit(name)).await {
                Ok(()) | Err(Said::NotFound(_)) => {}
                Err(other) => return Err(other.about_job(unit, Job::Start)),
            }
            self.outcome(unit, Job::Start, tokio::time::sleep(retry.pause())).await?;
        }
    }

    /// A unit that has a file would never go away.
    async fn refuse_a_file(&self, unit: &UnitName) -> Result<(), UnitError> {
        let seen = self.look(&self.path(unit).await?, "Unit").await?;
        let file: String = seen.get("FragmentPath")?;
        if file.is_empty() || seen.get("Transient")? {
            return Ok(());
        }
        Err(UnitError::Refused {
            call: self.call.clone(),
            why: format!("there is a unit file of that name, {file}"),
        })
    }
}

/// What makes a unit of a command.
fn properties<'a>(unit: &UnitName, argv: &'a [String]) -> Vec<Property<'a>> {
    let program = argv.first().map(String::as_str).unwrap_or_default();
    // Without this flag systemd would replace `$NAME` in the arguments.
    let command = (program, argv.to_vec(), vec!["no-env-expand"]);
    vec![
        ("Description", Variant::new(format!("{unit}, a command run by Neco"))),
        // The job ends when the program is executed, and fails when it cannot be.
        ("Type", Variant::new("exec")),
        ("ExecStartEx", Variant::new(vec![command])),
        // Whatever the end is, the name is free after it.
        ("CollectMode", Variant::new("inactive-or-failed")),
        // Until the reason of a failed start was asked for.
        ("AddRef", Variant::new(true)),
    ]
}
