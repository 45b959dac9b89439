//! The daemons as services of systemd.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use neco_connect::one_line;
use neco_systemd::{ActiveState, Units};

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
        let mut starts = 0;
        loop {
            starts += 1;
            let error = match self.units.restart(&unit).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if starts == STARTS {
                return Err(one_line(&error));
            }
            tracing::warn!(daemon, error = %one_line(&error), "it does not start, trying again");
            tokio::time::sleep(PAUSE).await;
        }
    }
}
