//! Tells systemd how the daemon is. Without systemd all of it does nothing.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval};

/// The daemon has started: what is ordered after it may start now.
pub fn ready() {
    send(&[NotifyState::Ready]);
}

/// What `systemctl status` shows of the daemon, in one line.
pub fn status(text: &str) {
    // A line break would start another field of the message.
    let text = text.replace(['\n', '\r'], " ");
    send(&[NotifyState::Status(&text)]);
}

/// The daemon is ending.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// Feeds systemd's watchdog as long as the daemon is alive. Dropping it stops the feeding, and with
/// it, after the unit's `WatchdogSec`, the daemon.
#[derive(Debug)]
pub struct Watchdog {
    task: AbortHandle,
}

impl Watchdog {
    /// Starts feeding, if the unit asks for it: at half the time that systemd waits, and only while
    /// `is_alive` says so. It is asked each time and must not wait for anything.
    pub fn start(is_alive: impl Fn() -> bool + Send + 'static) -> Option<Self> {
        let patience = sd_notify::watchdog_enabled()?;
        let task = tokio::spawn(feed(patience / 2, is_alive)).abort_handle();
        Some(Self { task })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn feed(every: Duration, is_alive: impl Fn() -> bool + Send) {
    let mut ticks = interval(every.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if is_alive() {
            send(&[NotifyState::Watchdog]);
        } else {
            tracing::warn!("the engine does not move, the watchdog is not fed");
        }
    }
}

fn send(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd was not told");
    }
}
