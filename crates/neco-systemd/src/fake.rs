//! The engine of unit tests: units in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use neco_sandbox::{Entry, Noted};

use crate::manager::{Definition, Manager};
use crate::{ActiveState, Job, UnitEffect, UnitError, UnitName, UnitRecord, UnitState, Units};

/// Units in memory, with scripted failures. Clones share the units.
#[derive(Clone, Debug, Default)]
pub struct Fake {
    machine: Arc<Mutex<Machine>>,
}

#[derive(Debug, Default)]
struct Machine {
    manager: Manager,
    files: BTreeMap<UnitName, String>,
    failures: Vec<Failure>,
    late: Vec<Late>,
    /// How units are whose job has not ended in time.
    meanwhile: BTreeMap<UnitName, ActiveState>,
    effects: Vec<Entry<UnitEffect>>,
}

#[derive(Debug)]
struct Failure {
    job: Job,
    unit: UnitName,
    message: String,
    left: Option<u32>,
}

/// A job that does not end in time.
#[derive(Debug)]
struct Late {
    job: Job,
    unit: UnitName,
    meanwhile: ActiveState,
    left: u32,
}

impl Fake {
    /// A machine without units.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a unit file.
    pub fn write(&self, unit: &UnitName, text: &str) {
        self.with(|machine| machine.files.insert(unit.clone(), text.to_owned()));
    }

    /// Removes a unit file.
    pub fn remove(&self, unit: &UnitName) {
        self.with(|machine| machine.files.remove(unit));
    }

    /// From now on `job` fails on `unit`: `times` times, or always when that is `None`. A failing start fails
    /// restarts too.
    pub fn fail(&self, job: Job, unit: &UnitName, message: &str, times: Option<u32>) {
        let failure = Failure { job, unit: unit.clone(), message: message.to_owned(), left: times };
        self.with(|machine| machine.failures.push(failure));
    }

    /// The next `times` times that `job` is asked of `unit`, it does not end in time, and changes nothing. Until another job of
    /// the unit has ended, it is seen as `meanwhile`.
    pub fn be_late(&self, job: Job, unit: &UnitName, meanwhile: ActiveState, times: u32) {
        let late = Late { job, unit: unit.clone(), meanwhile, left: times };
        self.with(|machine| machine.late.push(late));
    }

    /// Forgets all scripted failures.
    pub fn heal(&self) {
        self.with(|machine| machine.failures.clear());
    }

    /// All effects so far, oldest first.
    pub fn effects(&self) -> Vec<Entry<UnitEffect>> {
        self.with(|machine| machine.effects.clone())
    }

    /// What is known about `unit`, if anything was ever done to it.
    pub fn record(&self, unit: &UnitName) -> Option<UnitRecord> {
        self.with(|machine| machine.manager.record(unit).cloned())
    }

    /// A simulated reboot: enabled units become active, with their present files, and all others inactive.
    pub fn boot(&self) {
        self.with(|machine| {
            let Machine { manager, files, failures, effects, .. } = machine;
            manager.boot(
                |unit| definition(files, unit),
                |unit| failure(failures, unit, Job::Start),
                &mut |effect| note(effects, effect),
            );
        });
    }

    fn job(&self, unit: &UnitName, job: Job) -> Result<(), UnitError> {
        self.with(|machine| {
            machine.pass(unit, job)?;
            let Machine { manager, files, failures, effects, .. } = machine;
            let fault = failure(failures, unit, job);
            let disk = definition(files, unit);
            manager.apply(unit, job, disk, fault, &mut |effect| note(effects, effect))
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Machine) -> T) -> T {
        act(&mut self.machine.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Machine {
    /// Lets a job pass that ends in time.
    fn pass(&mut self, unit: &UnitName, job: Job) -> Result<(), UnitError> {
        let fits = |late: &&mut Late| late.job == job && late.unit == *unit && late.left > 0;
        let Some(late) = self.late.iter_mut().find(fits) else {
            self.meanwhile.remove(unit);
            return Ok(());
        };
        late.left -= 1;
        self.meanwhile.insert(unit.clone(), late.meanwhile.clone());
        Err(UnitError::TimedOut { unit: unit.clone(), job, after: Duration::ZERO })
    }
}

fn definition(files: &BTreeMap<UnitName, String>, unit: &UnitName) -> Option<Definition> {
    files.get(unit).map(|text| Definition::of(text.as_bytes()))
}

fn failure(failures: &mut [Failure], unit: &UnitName, job: Job) -> Option<UnitError> {
    let fits = |failure: &&mut Failure| {
        let same = failure.job == job || (job == Job::Restart && failure.job == Job::Start);
        same && failure.unit == *unit && failure.left != Some(0)
    };
    let failure = failures.iter_mut().find(fits)?;
    failure.left = failure.left.map(|left| left - 1);
    Some(UnitError::JobFailed { unit: unit.clone(), job, result: failure.message.clone() })
}

fn note(effects: &mut Vec<Entry<UnitEffect>>, effect: UnitEffect) -> Noted {
    let noted = Noted { seq: effects.len() as u64 + 1, at: 0 };
    effects.push(Entry { seq: noted.seq, at: noted.at, effect });
    noted
}

#[async_trait]
impl Units for Fake {
    async fn daemon_reload(&self) -> Result<(), UnitError> {
        self.with(|machine| {
            let Machine { manager, files, effects, .. } = machine;
            manager.reload(|unit| definition(files, unit), &mut |effect| note(effects, effect));
        });
        Ok(())
    }

    async fn enable(&self, unit: &UnitName) -> Result<(), UnitError> {
        self.job(unit, Job::Enable)
    }

    async fn disable(&self, unit: &UnitName) -> Result<(), UnitError> {
        self.job(unit, Job::Disable)
    }

    async fn start(&self, unit: &UnitName) -> Result<(), UnitError> {
        self.job(unit, Job::Start)
    }

    async fn stop(&self, unit: &UnitName) -> Result<(), UnitError> {
        self.job(unit, Job::Stop)
    }

    async fn restart(&self, unit: &UnitName) -> Result<(), UnitError> {
        self.job(unit, Job::Restart)
    }

    async fn reload(&self, unit: &UnitName) -> Result<(), UnitError> {
        self.job(unit, Job::Reload)
    }

    async fn start_transient(&self, unit: &UnitName, argv: &[String]) -> Result<(), UnitError> {
        self.with(|machine| {
            let Machine { manager, files, failures, effects, .. } = machine;
            let fault = failure(failures, unit, Job::Start);
            let disk = definition(files, unit);
            manager.start_transient(unit, argv, disk, fault, &mut |effect| note(effects, effect))
        })
    }

    async fn state(&self, unit: &UnitName) -> Result<UnitState, UnitError> {
        self.with(|machine| {
            let disk = definition(&machine.files, unit);
            let mut state = machine.manager.state(unit, disk.as_ref());
            if let Some(active) = machine.meanwhile.get(unit) {
                state.active.clone_from(active);
            }
            Ok(state)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{self, Bench};

    impl Bench for Fake {
        fn units(&self) -> &dyn Units {
            self
        }

        fn write_unit(&self, unit: &UnitName, text: &str) {
            self.write(unit, text);
        }

        fn remove_unit(&self, unit: &UnitName) {
            self.remove(unit);
        }

        fn fail(&self, job: Job, unit: &UnitName, message: Option<&str>) {
            match message {
                Some(message) => Fake::fail(self, job, unit, message, None),
                None => self.heal(),
            }
        }

        fn run_of(&self, unit: &UnitName) -> Option<String> {
            self.record(unit)?.started_at.map(|seq| seq.to_string())
        }
    }

    #[tokio::test]
    async fn the_fake_keeps_the_contract() {
        contract::holds(Fake::new).await;
    }

    #[tokio::test]
    async fn a_scripted_failure_ends_after_its_number_of_times() {
        let fake = Fake::new();
        let vault: UnitName = "vault.service".parse().expect("a name");
        fake.write(&vault, "[Install]\n");
        Fake::fail(&fake, Job::Start, &vault, "sealed", Some(2));
        for _ in 0..2 {
            assert!(fake.start(&vault).await.is_err());
        }
        fake.start(&vault).await.expect("healed");
        assert!(fake.record(&vault).expect("known").active);
    }

    #[tokio::test]
    async fn a_late_job_changes_nothing_and_shows_its_unit_as_it_is_told_to() {
        let fake = Fake::new();
        let vault: UnitName = "vault.service".parse().expect("a name");
        fake.write(&vault, "[Install]\n");
        fake.be_late(Job::Start, &vault, ActiveState::Activating, 1);
        let error = fake.start(&vault).await.expect_err("it is late");
        assert!(matches!(error, UnitError::TimedOut { .. }), "{error}");
        let state = fake.state(&vault).await.expect("a state");
        assert_eq!(state.active, ActiveState::Activating);
        assert!(fake.effects().is_empty());
        fake.start(&vault).await.expect("started");
        assert!(fake.state(&vault).await.expect("a state").is_active());
    }
}
