//! A package manager for tests, in memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use neco_schema::NecoVersion;

use super::{Installed, PackageError, PackageManager, check_intact};
use crate::VerifiedPackage;

/// What an installation of the fake comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FakeInstall {
    /// It succeeds.
    Succeed,
    /// It reports success, and nothing is changed.
    DoNothing,
    /// It fails half way: the package is half configured until it is repaired or installed again.
    Break,
}

/// Remembers what is installed, and what was asked for.
#[derive(Debug, Default)]
pub struct FakePackages {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    installed: BTreeMap<String, Installed>,
    next: Vec<FakeInstall>,
    log: Vec<(String, NecoVersion)>,
}

impl FakePackages {
    /// Nothing is installed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what is installed of a package.
    pub fn set(&self, package: &str, installed: Installed) {
        self.state().installed.insert(package.to_owned(), installed);
    }

    /// Says what the next installation comes to; those after it succeed.
    pub fn next(&self, outcome: FakeInstall) {
        self.state().next.push(outcome);
    }

    /// The installations that were begun, in order.
    pub fn log(&self) -> Vec<(String, NecoVersion)> {
        self.state().log.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl PackageManager for FakePackages {
    async fn installed(&self, package: &str) -> Result<Installed, PackageError> {
        Ok(self.state().installed.get(package).cloned().unwrap_or(Installed::No))
    }

    async fn install(&self, package: &VerifiedPackage) -> Result<(), PackageError> {
        check_intact(package).await?;
        let (name, version) = (package.package().to_owned(), package.version().clone());
        let mut state = self.state();
        state.log.push((name.clone(), version.clone()));
        let outcome = match state.next.is_empty() {
            true => FakeInstall::Succeed,
            false => state.next.remove(0),
        };
        let found = match outcome {
            FakeInstall::Succeed => Installed::Yes(version.clone()),
            FakeInstall::DoNothing => state.installed.get(&name).cloned().unwrap_or(Installed::No),
            FakeInstall::Break => Installed::Broken {
                version: version.to_string(),
                state: "half-configured".to_owned(),
            },
        };
        state.installed.insert(name.clone(), found.clone());
        if found == Installed::Yes(version.clone()) {
            Ok(())
        } else {
            Err(PackageError::NotTaken { package: name, wanted: version, found })
        }
    }

    async fn repair(&self) -> Result<(), PackageError> {
        for installed in self.state().installed.values_mut() {
            if let Installed::Broken { version, .. } = installed
                && let Ok(version) = version.parse()
            {
                *installed = Installed::Yes(version);
            }
        }
        Ok(())
    }
}
