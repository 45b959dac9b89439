//! The time, as an argument.
//!
//! Engines that owe determinism take a [`Clock`] instead of asking the machine. Waiting goes through tokio's timers,
//! which a test can pause.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock, as time since 1970-01-01T00:00:00Z; for people only.
    fn wall(&self) -> Duration;

    /// Time since some fixed moment of this process; never goes back. What decisions may count.
    fn monotonic(&self) -> Duration;
}

/// The clock of this machine.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn wall(&self) -> Duration {
        // A clock before 1970 is as wrong as one in 1970.
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}
