//! The daemons as services of systemd.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use neco_connect::one_line;
use neco_systemd::{ActiveState, UnitError, UnitName, Units};

use super::daemons::{Daemons, NAMES};
use super::systemd::service;

/// How often a daemon may end before it says that it runs, until it counts as one that does not start.
const STARTS: u32 = 3;
/// Between two of these.
const PAUSE: Duration = Duration::from_secs(1);

/// Daemons as services of systemd, which says that they run when they say so (`Type=notify`).
pub struct SystemdDaemons {
    units: Arc<dyn Units>,
}

impl SystemdDaemons {
    /// The daemons that `units` drives.
    pub fn new(units: Arc<dyn Units>) -> Self {
        Self { units }
    }

    /// Whether `unit` is about to run, and not only to be started in its turn.
    async fn is_starting(&self, unit: &UnitName) -> bool {
        match self.units.state(unit).await {
            Ok(state) => state.active == ActiveState::Activating,
            Err(error) => {
                tracing::warn!(%unit, error = %one_line(&error), "its state is unknown");
                false
            }
        }
    }
}

#[async_trait]
impl Daemons for SystemdDaemons {
    async fn running(&self) -> Vec<String> {
        let mut running = Vec::new();
        for name in NAMES {
            let Ok(unit) = service(name) else { continue };
            match self.units.state(&unit).await {
                // One that has failed ran, and is to run.
                Ok(state) if state.is_alive() || state.active == ActiveState::Failed => {
                    running.push(name.to_owned());
                }
                Ok(_) => {}
                // Whether it ran is not known: it is to run.
                Err(error) => {
                    tracing::warn!(daemon = name, error = %one_line(&error), "its state is unknown");
                    running.push(name.to_owned());
                }
            }
        }
        running
    }

    async fn restart(&self, daemon: &str) -> Result<(), String> {
        let unit = service(daemon).map_err(|error| one_line(&error))?;
        // The package may have brought another unit file.
        self.units.daemon_reload().await.map_err(|error| one_line(&error))?;
        let (mut starts, mut starting) = (0, false);
        loop {
            let asked = match starting {
                // The same job: another restart would cut off what is about to say that it runs.
                true => self.units.start(&unit).await,
                false => self.units.restart(&unit).await,
            };
            let error = match asked {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let why = one_line(&error);
            // It may have waited for its turn all the time, behind a network that comes up slowly, say: that tells nothing
            // of the daemon, and is waited for. One that was starting all the time has had its time.
            if matches!(error, UnitError::TimedOut { .. }) && !starting {
                starting = self.is_starting(&unit).await;
                tracing::warn!(daemon, %why, starting, "it has not started yet, waiting on");
            } else {
                (starts, starting) = (starts + 1, false);
                if starts == STARTS {
                    return Err(why);
                }
                tracing::warn!(daemon, %why, "it does not start, trying again");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use neco_systemd::{Fake, Job};

    use super::*;

    const NAME: &str = "neco-worker";

    fn unit() -> UnitName {
        service(NAME).expect("a name")
    }

    fn machine() -> (Fake, SystemdDaemons) {
        let fake = Fake::new();
        fake.write(&unit(), "[Service]\n");
        (fake.clone(), SystemdDaemons::new(Arc::new(fake)))
    }

    fn effects(fake: &Fake) -> Vec<String> {
        fake.effects().iter().map(|entry| entry.effect.words()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_whose_turn_comes_late_is_waited_for() {
        for meanwhile in [ActiveState::Inactive, ActiveState::Active, ActiveState::Deactivating] {
            let (fake, daemons) = machine();
            fake.be_late(Job::Restart, &unit(), meanwhile, 5 * STARTS);
            daemons.restart(NAME).await.expect("its turn has come");
            assert_eq!(effects(&fake), ["daemon-reload", "restart neco-worker.service"]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_began_to_start_late_is_not_cut_off() {
        let (fake, daemons) = machine();
        fake.be_late(Job::Restart, &unit(), ActiveState::Activating, 1);
        daemons.restart(NAME).await.expect("it runs");
        assert_eq!(effects(&fake), ["daemon-reload", "start neco-worker.service"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_is_starting_for_good_is_given_up() {
        let (fake, daemons) = machine();
        for job in [Job::Restart, Job::Start] {
            fake.be_late(job, &unit(), ActiveState::Activating, STARTS);
        }
        let error = daemons.restart(NAME).await.expect_err("it never says that it runs");
        assert!(error.contains("did not end within"), "{error}");
        assert_eq!(effects(&fake), ["daemon-reload"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_fails_is_given_up_after_some_starts_however_late() {
        let (fake, daemons) = machine();
        fake.be_late(Job::Restart, &unit(), ActiveState::Inactive, 2);
        fake.fail(Job::Restart, &unit(), "exit-code", None);
        let error = daemons.restart(NAME).await.expect_err("it fails");
        assert!(error.contains("exit-code"), "{error}");
        assert_eq!(effects(&fake).len(), 1 + STARTS as usize);
    }
}
