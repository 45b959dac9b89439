//! The engine of sandboxes: records what would be done.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use neco_sandbox::{Entry, Faults, Ledger};

use crate::manager::{Definition, Manager};
use crate::{Job, UnitEffect, UnitError, UnitName, UnitRecord, UnitState, Units};

/// Keeps the units of one root in files and starts nothing.
///
/// | File under the root | Holds |
/// |---|---|
/// | `etc/systemd/system/`, `run/systemd/system/`, `usr/lib/systemd/system/`, `lib/systemd/system/` | the unit files, as on a real system |
/// | `var/lib/neco/sandbox-units.json` | per unit: enabled, active, what it was started with and when |
/// | `var/log/neco/units.log` | one JSON line per effect, numbered; a call that changes nothing leaves none |
/// | `etc/neco/sandbox-faults.json` | the jobs that shall fail or hang, see [`Faults`] |
///
/// A transient unit is recorded with its command and stays active until it is stopped or the machine is booted.
///
/// Any number of processes may share a root.
#[derive(Clone, Debug)]
pub struct Recorder {
    files: Arc<Files>,
    faults: Faults,
}

#[derive(Debug)]
struct Files {
    root: PathBuf,
    ledger: Ledger<Manager, UnitEffect>,
}

impl Recorder {
    /// The state, relative to the root.
    pub const STATE: &str = "var/lib/neco/sandbox-units.json";
    /// The log of effects, relative to the root.
    pub const LOG: &str = "var/log/neco/units.log";
    /// The faults, relative to the root.
    pub const FAULTS: &str = Faults::FILE;
    /// How long a job may hang where nothing else is said.
    pub const DEADLINE: Duration = Duration::from_secs(90);

    /// The units of the machine whose files lie under `root`.
    pub fn new(root: impl AsRef<Path>) -> Self {
        Self::with_deadline(root, Self::DEADLINE)
    }

    /// As [`new`](Self::new); a job that hangs fails after `deadline`.
    pub fn with_deadline(root: impl AsRef<Path>, deadline: Duration) -> Self {
        let root = root.as_ref();
        Self {
            files: Arc::new(Files {
                root: root.to_owned(),
                ledger: Ledger::new(root.join(Self::STATE), root.join(Self::LOG)),
            }),
            faults: Faults::new(root.join(Self::FAULTS), deadline),
        }
    }

    /// The faults of this root.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// All effects so far, oldest first.
    pub fn effects(&self) -> Result<Vec<Entry<UnitEffect>>, UnitError> {
        Ok(self.files.ledger.entries()?)
    }

    /// What is known about `unit`, if anything was ever done to it.
    pub fn record(&self, unit: &UnitName) -> Result<Option<UnitRecord>, UnitError> {
        Ok(self.files.ledger.read()?.record(unit).cloned())
    }

    /// A simulated reboot: enabled units become active, with their present files, and all others inactive.
    pub async fn boot(&self) -> Result<(), UnitError> {
        let names: Vec<UnitName> = self.files.ledger.read()?.names().cloned().collect();
        let mut faults = std::collections::BTreeMap::new();
        for unit in names {
            if let Some(fault) = self.fault(&unit, Job::Start).await? {
                faults.insert(unit, fault);
            }
        }
        self.blocking(move |files| {
            files.ledger.update(|manager, entries| {
                manager.boot(
                    |unit| files.definition(unit).ok().flatten(),
                    |unit| faults.remove(unit),
                    &mut |effect| entries.note(effect),
                );
            })?;
            Ok(())
        })
        .await
    }

    async fn job(&self, unit: &UnitName, job: Job) -> Result<(), UnitError> {
        let fault = self.fault(unit, job).await?;
        let unit = unit.clone();
        self.blocking(move |files| {
            let disk = files.definition(&unit)?;
            files.ledger.update(|manager, entries| {
                manager.apply(&unit, job, disk, fault, &mut |effect| entries.note(effect))
            })?
        })
        .await
    }

    /// The failure that is asked for, after waiting as long as the job is held.
    async fn fault(&self, unit: &UnitName, job: Job) -> Result<Option<UnitError>, UnitError> {
        let call = format!("{job} {unit}");
        let start = format!("start {unit}");
        let calls: &[&str] = if job == Job::Restart { &[&call, &start] } else { &[&call] };
        match self.faults.pass(calls).await.map_err(|fault| UnitError::asked(unit, job, fault)) {
            Ok(()) => Ok(None),
            Err(fault @ UnitError::JobFailed { .. }) => Ok(Some(fault)),
            Err(other) => Err(other),
        }
    }

    /// Runs `work` where it may block, for the lock may be held by another process.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Files) -> Result<T, UnitError> + Send + 'static,
    ) -> Result<T, UnitError> {
        let files = Arc::clone(&self.files);
        tokio::task::spawn_blocking(move || work(&files)).await?
    }
}

impl Files {
    const FOLDERS: [&str; 4] = [
        "etc/systemd/system",
        "run/systemd/system",
        "usr/lib/systemd/system",
        "lib/systemd/system",
    ];

    fn definition(&self, unit: &UnitName) -> Result<Option<Definition>, UnitError> {
        for folder in Self::FOLDERS {
            let path = self.root.join(folder).join(unit.as_str());
            match std::fs::read(&path) {
                Ok(text) => return Ok(Some(Definition::of(&text))),
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(source) => return Err(UnitError::Definition { path, source }),
            }
        }
        Ok(None)
    }
}

#[async_trait]
impl Units for Recorder {
    async fn daemon_reload(&self) -> Result<(), UnitError> {
        self.blocking(|files| {
            files.ledger.update(|manager, entries| {
                manager.reload(|unit| files.definition(unit).ok().flatten(), &mut |effect| {
                    entries.note(effect)
                });
            })?;
            Ok(())
        })
        .await
    }

    async fn enable(&self, unit: &UnitName) -> Result<(), UnitError> {
        self.job(unit, Job::Enable).await
    }

    async fn disable(&self, unit: &UnitName) -> Result<(), UnitError> {
        self.job(unit, Job::Disable).await
    }

    async fn start(&self, unit: &UnitName) -> Result<(), UnitError> {
        self.job(unit, Job::Start).await
    }

    async fn stop(&self, unit: &UnitName) -> Result<(), UnitError> {
        self.job(unit, Job::Stop).await
    }

    async fn restart(&self, unit: &UnitName) -> Result<(), UnitError> {
        self.job(unit, Job::Restart).await
    }

    async fn reload(&self, unit: &UnitName) -> Result<(), UnitError> {
        self.job(unit, Job::Reload).await
    }

    async fn start_transient(&self, unit: &UnitName, argv: &[String]) -> Result<(), UnitError> {
        let fault = self.fault(unit, Job::Start).await?;
        let (unit, argv) = (unit.clone(), argv.to_vec());
        self.blocking(move |files| {
            let disk = files.definition(&unit)?;
            files.ledger.update(|manager, entries| {
                manager
                    .start_transient(&unit, &argv, disk, fault, &mut |effect| entries.note(effect))
            })?
        })
        .await
    }

    async fn state(&self, unit: &UnitName) -> Result<UnitState, UnitError> {
        let unit = unit.clone();
        self.blocking(move |files| {
            let disk = files.definition(&unit)?;
            Ok(files.ledger.read()?.state(&unit, disk.as_ref()))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{self, Bench};

    struct Machine {
        root: tempfile::TempDir,
        recorder: Recorder,
    }

    impl Machine {
        fn new() -> Self {
            let root = tempfile::tempdir().expect("a folder");
            let recorder = Recorder::with_deadline(root.path(), Duration::from_secs(60));
            Self { root, recorder }
        }

        fn path(&self, unit: &UnitName) -> PathBuf {
            self.root.path().join("etc/systemd/system").join(unit.as_str())
        }
    }

    impl Bench for Machine {
        fn units(&self) -> &dyn Units {
            &self.recorder
        }

        fn write_unit(&self, unit: &UnitName, text: &str) {
            let path = self.path(unit);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
            std::fs::write(path, text).expect("writable");
        }

        fn remove_unit(&self, unit: &UnitName) {
            std::fs::remove_file(self.path(unit)).expect("removable");
        }

        fn fail(&self, job: Job, unit: &UnitName, message: Option<&str>) {
            let call = format!("{job} {unit}");
            match message {
                Some(message) => self.recorder.faults().fail(&call, message),
                None => self.recorder.faults().clear(&call),
            }
            .expect("writable");
        }

        fn run_of(&self, unit: &UnitName) -> Option<String> {
            let record = self.recorder.record(unit).expect("readable")?;
            record.started_at.map(|seq| seq.to_string())
        }
    }

    fn unit(name: &str) -> UnitName {
        name.parse().expect("a name")
    }

    fn words(machine: &Machine) -> Vec<String> {
        let effects = machine.recorder.effects().expect("readable");
        effects.iter().map(|entry| entry.effect.words()).collect()
    }

    const WANTED: &str = "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n";

    #[tokio::test]
    async fn the_recorder_keeps_the_contract() {
        contract::holds(Machine::new).await;
    }

    #[tokio::test]
    async fn the_log_holds_one_line_per_effect_and_none_for_what_changes_nothing() {
        let machine = Machine::new();
        let vault = unit("vault.service");
        machine.write_unit(&vault, WANTED);
        let units = machine.units();
        for _ in 0..2 {
            units.enable(&vault).await.expect("enabled");
            units.start(&vault).await.expect("started");
        }
        units.restart(&vault).await.expect("restarted");
        units.stop(&vault).await.expect("stopped");
        assert_eq!(
            words(&machine),
            [
                "enable vault.service",
                "start vault.service",
                "restart vault.service",
                "stop vault.service"
            ]
        );
        let log = std::fs::read_to_string(machine.root.path().join(Recorder::LOG)).expect("a log");
        let first = log.lines().next().expect("a line");
        assert!(first.starts_with("{\"seq\":1,\"at\":"), "{log}");
        assert!(first.ends_with(",\"effect\":\"enable\",\"unit\":\"vault.service\"}"), "{log}");
    }

    #[tokio::test]
    async fn a_reboot_starts_what_is_enabled_and_nothing_else() {
        let machine = Machine::new();
        let (vault, serf) = (unit("vault.service"), unit("serf.service"));
        machine.write_unit(&vault, WANTED);
        machine.write_unit(&serf, WANTED);
        let units = machine.units();
        units.enable(&vault).await.expect("enabled");
        units.start(&serf).await.expect("started");
        let started_with = machine.recorder.record(&serf).expect("readable").expect("known");
        machine.write_unit(&vault, &format!("{WANTED}# changed\n"));
        machine.recorder.boot().await.expect("booted");
        assert!(units.state(&vault).await.expect("known").is_active());
        assert!(!units.state(&serf).await.expect("known").is_active());
        let record = machine.recorder.record(&vault).expect("readable").expect("known");
        assert_ne!(record.started_with, started_with.started_with, "the present file counts");
        assert_eq!(record.started_at, Some(4));
        assert_eq!(words(&machine)[2..], ["boot", "start vault.service"]);
    }

    #[tokio::test]
    async fn a_restart_without_a_daemon_reload_starts_the_old_definition() {
        let machine = Machine::new();
        let vault = unit("vault.service");
        machine.write_unit(&vault, WANTED);
        machine.units().start(&vault).await.expect("started");
        let started_with = || {
            let record = machine.recorder.record(&vault).expect("readable").expect("known");
            record.started_with.expect("started")
        };
        let old = started_with();
        machine.write_unit(&vault, &format!("{WANTED}# changed\n"));
        machine.units().restart(&vault).await.expect("restarted");
        assert_eq!(started_with(), old);
        machine.units().daemon_reload().await.expect("reloaded");
        machine.units().restart(&vault).await.expect("restarted");
        assert_ne!(started_with(), old);
    }

    #[tokio::test]
    async fn a_unit_that_fails_at_boot_is_failed_and_the_boot_goes_on() {
        let machine = Machine::new();
        let (vault, zebra) = (unit("vault.service"), unit("zebra.service"));
        for unit in [&vault, &zebra] {
            machine.write_unit(unit, WANTED);
            machine.units().enable(unit).await.expect("enabled");
        }
        machine.fail(Job::Start, &vault, Some("sealed"));
        machine.recorder.boot().await.expect("booted");
        let state = machine.units().state(&vault).await.expect("known");
        assert_eq!(state.active, crate::ActiveState::Failed);
        assert!(machine.units().state(&zebra).await.expect("known").is_active());
    }

    #[tokio::test]
    async fn another_process_on_the_same_root_sees_the_same_units() {
        let machine = Machine::new();
        let vault = unit("vault.service");
        machine.write_unit(&vault, WANTED);
        machine.units().start(&vault).await.expect("started");
        let other = Recorder::new(machine.root.path());
        assert!(other.state(&vault).await.expect("known").is_active());
        other.stop(&vault).await.expect("stopped");
        assert!(!machine.units().state(&vault).await.expect("known").is_active());
    }

    #[tokio::test]
    async fn a_held_job_has_had_no_effect_when_it_is_cut_off() {
        let machine = Machine::new();
        let vault = unit("vault.service");
        machine.write_unit(&vault, WANTED);
        machine.recorder.faults().hold("start vault.service").expect("writable");
        let recorder = machine.recorder.clone();
        let (name, job) = (vault.clone(), recorder);
        let job = tokio::spawn(async move { job.start(&name).await });
        tokio::task::yield_now().await;
        job.abort();
        assert!(job.await.expect_err("cut off").is_cancelled());
        assert!(!machine.units().state(&vault).await.expect("known").is_active());
        assert_eq!(words(&machine), Vec::<String>::new());
    }
}
