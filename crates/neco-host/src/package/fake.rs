//! A package manager for tests, in memory.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use neco_schema::NecoVersion;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::{Installed, PackageError, PackageManager, check_intact};
use crate::{CommandOutput, VerifiedPackage};

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

/// Remembers what is installed, and what was asked for. A clone is another handle on the same.
#[derive(Clone, Debug)]
pub struct FakePackages {
    shared: Arc<Shared>,
    lock_within: Duration,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    installed: BTreeMap<String, Installed>,
    next: Vec<FakeInstall>,
    failing: BTreeMap<NecoVersion, String>,
    holder: Option<String>,
    log: Vec<(String, NecoVersion)>,
}

/// Somebody else's lock on a [`FakePackages`]; dropping it releases it.
#[derive(Debug)]
pub struct FakeLock {
    shared: Arc<Shared>,
}

impl Drop for FakeLock {
    fn drop(&mut self) {
        self.shared.state().holder = None;
        self.shared.freed.notify_waiters();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for FakePackages {
    fn default() -> Self {
        Self { shared: Arc::default(), lock_within: Duration::from_secs(60) }
    }
}

impl FakePackages {
    /// Nothing is installed.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, with another bound on waiting for somebody else's lock.
    pub fn lock_within(self, lock_within: Duration) -> Self {
        Self { lock_within, ..self }
    }

    /// Sets what is installed of a package.
    pub fn set(&self, package: &str, installed: Installed) {
        self.state().installed.insert(package.to_owned(), installed);
    }

    /// Says what the next installation comes to; those after it succeed.
    pub fn next(&self, outcome: FakeInstall) {
        self.state().next.push(outcome);
    }

    /// From now on packages of `version` cannot be got ready to run, whether they are installed or repaired, and say
    /// so with this message; `None` ends that.
    pub fn fail(&self, version: &NecoVersion, message: Option<&str>) {
        let failing = &mut self.state().failing;
        match message {
            Some(message) => failing.insert(version.clone(), message.to_owned()),
            None => failing.remove(version),
        };
    }

    /// Has somebody else, whose name is `holder`, take the lock.
    pub fn hold(&self, holder: &str) -> FakeLock {
        self.state().holder = Some(holder.to_owned());
        FakeLock { shared: Arc::clone(&self.shared) }
    }

    /// The installations that were begun, in order.
    pub fn log(&self) -> Vec<(String, NecoVersion)> {
        self.state().log.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    /// Waits until nobody else holds the lock.
    async fn free(&self) -> Result<(), PackageError> {
        let deadline = Instant::now() + self.lock_within;
        loop {
            let freed = self.shared.freed.notified();
            let Some(holder) = self.state().holder.clone() else { return Ok(()) };
            if timeout_at(deadline, freed).await.is_err() {
                return Err(PackageError::Locked { within: self.lock_within, holder });
            }
        }
    }
}

#[async_trait]
impl PackageManager for FakePackages {
    async fn installed(&self, package: &str) -> Result<Installed, PackageError> {
        Ok(self.state().installed.get(package).cloned().unwrap_or(Installed::No))
    }

    async fn install(&self, package: &VerifiedPackage) -> Result<(), PackageError> {
        self.free().await?;
        check_intact(package).await?;
        let (name, version) = (package.package().to_owned(), package.version().clone());
        let mut state = self.state();
        state.log.push((name.clone(), version.clone()));
        let outcome = match state.next.is_empty() {
            true => FakeInstall::Succeed,
            false => state.next.remove(0),
        };
        let failing = state.failing.get(&version).cloned();
        let message = match (outcome, failing) {
            (FakeInstall::DoNothing, _) => {
                let found = state.installed.get(&name).cloned().unwrap_or(Installed::No);
                if found == Installed::Yes(version.clone()) {
                    return Ok(());
                }
                return Err(PackageError::NotTaken { package: name, wanted: version, found });
            }
            (FakeInstall::Succeed, None) => {
                state.installed.insert(name, Installed::Yes(version));
                return Ok(());
            }
            (_, Some(message)) => message,
            (FakeInstall::Break, None) => "the fake was told to break".to_owned(),
        };
        let now = half_configured(version.as_str());
        state.installed.insert(name.clone(), now.clone());
        Err(failed(&name, message, now))
    }

    async fn repair(&self) -> Result<(), PackageError> {
        self.free().await?;
        let State { installed, failing, .. } = &mut *self.state();
        for (name, installed) in installed {
            let Installed::Broken { version, .. } = &*installed else { continue };
            let Ok(version) = version.parse() else { continue };
            if let Some(message) = failing.get(&version) {
                *installed = half_configured(version.as_str());
                return Err(failed(name, message.clone(), installed.clone()));
            }
            *installed = Installed::Yes(version);
        }
        Ok(())
    }
}

fn half_configured(version: &str) -> Installed {
    Installed::Broken { version: version.to_owned(), state: "half-configured".to_owned() }
}

fn failed(package: &str, message: String, now: Installed) -> PackageError {
    let output = Box::new(CommandOutput {
        argv: vec!["postinst".to_owned(), "configure".to_owned()],
        // As wait(2) tells that a process ended with 1.
        status: ExitStatus::from_raw(1 << 8),
        stdout: String::new(),
        stderr: message,
    });
    PackageError::Failed { package: package.to_owned(), output, now }
}
