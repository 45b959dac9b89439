//! Tells systemd how the daemon is. Without systemd all of it does nothing.

use std::pin::pin;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};

/// So many characters of a status are sent; systemd reads messages of up to 4096 bytes.
const STATUS_LENGTH: usize = 1000;

/// The daemon has started: what is ordered after it may start now.
pub fn ready() {
    send(&[NotifyState::Ready]);
}

/// What `systemctl status` shows of the daemon, in one line, and still shows when it has ended.
pub fn status(text: &str) {
    // A line break would start another field of the message, and a message that is too long is not read at all.
    let short = text.chars().take(STATUS_LENGTH);
    let text: String = short.map(|c| if c.is_control() { ' ' } else { c }).collect();
    send(&[NotifyState::Status(&text)]);
}

/// The daemon is ending.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// Does the work of a daemon, and feeds systemd's watchdog while that moves, if the unit asks for one.
///
/// Twice in the time that systemd waits, the work is polled, and the watchdog is fed once it has given the thread back.
/// So nothing that the work waits for, however long, keeps the watchdog hungry; a deadlock, a disk that never answers, an
/// endless loop in the work does, and so does a runtime whose threads are all taken, for then no timer fires.
pub async fn watched<T>(work: impl Future<Output = T>) -> T {
    let Some(patience) = sd_notify::watchdog_enabled() else { return work.await };
    let mut ticks = interval((patience / 2).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            _ = ticks.tick() => send(&[NotifyState::Watchdog]),
        }
    }
}

fn send(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd was not told");
    }
}
