//! Units for tests, in memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{DetachError, RunDetached, check};

/// What a fake knows about a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FakeUnit {
    /// The command it runs.
    pub running: Option<Vec<String>>,
    /// The command it runs at boot.
    pub enabled: Option<Vec<String>>,
    /// How often it was started.
    pub starts: usize,
}

/// Remembers which units run and which are enabled; runs nothing.
#[derive(Debug, Default)]
pub struct FakeDetached {
    units: Mutex<BTreeMap<String, FakeUnit>>,
    log: Mutex<Vec<(String, Vec<String>)>>,
}

impl FakeDetached {
    /// No unit is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is known about a unit.
    pub fn unit(&self, unit: &str) -> FakeUnit {
        self.units().get(unit).cloned().unwrap_or_default()
    }

    /// Ends a unit, as if its command had come to its end.
    pub fn end(&self, unit: &str) {
        self.units().entry(unit.to_owned()).or_default().running = None;
    }

    /// Reboots: everything ends, and what is enabled starts.
    pub fn reboot(&self) {
        for (name, unit) in self.units().iter_mut() {
            unit.running.clone_from(&unit.enabled);
            if let Some(argv) = &unit.enabled {
                unit.starts += 1;
                self.note(name, argv);
            }
        }
    }

    /// Which commands ran as which units, in order.
    pub fn log(&self) -> Vec<(String, Vec<String>)> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, unit: &str, argv: &[String]) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push((unit.to_owned(), argv.to_vec()));
    }

    fn units(&self) -> MutexGuard<'_, BTreeMap<String, FakeUnit>> {
        self.units.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl RunDetached for FakeDetached {
    async fn start(&self, unit: &str, argv: &[String]) -> Result<(), DetachError> {
        check(unit, Some(argv))?;
        let mut units = self.units();
        let found = units.entry(unit.to_owned()).or_default();
        if found.running.is_none() {
            found.running = Some(argv.to_vec());
            found.starts += 1;
            self.note(unit, argv);
        }
        Ok(())
    }

    async fn is_running(&self, unit: &str) -> Result<bool, DetachError> {
        check(unit, None)?;
        Ok(self.unit(unit).running.is_some())
    }

    async fn enable(&self, unit: &str, argv: &[String]) -> Result<(), DetachError> {
        check(unit, Some(argv))?;
        self.units().entry(unit.to_owned()).or_default().enabled = Some(argv.to_vec());
        Ok(())
    }

    async fn command(&self, unit: &str) -> Result<Option<Vec<String>>, DetachError> {
        check(unit, None)?;
        Ok(self.unit(unit).enabled)
    }

    async fn disable(&self, unit: &str) -> Result<(), DetachError> {
        check(unit, None)?;
        self.units().entry(unit.to_owned()).or_default().enabled = None;
        Ok(())
    }
}
