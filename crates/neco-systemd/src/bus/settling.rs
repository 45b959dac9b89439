//! Whether a service that is active keeps running.

use std::time::Duration;

use super::session::{Seen, Session};
use crate::{UnitError, UnitState};

/// Where the kernel says how long it runs.
const UPTIME: &str = "/proc/uptime";

/// How long the kernel runs. systemd counts the same without the time of a suspension, which makes a service look older.
pub(super) fn uptime() -> Option<Duration> {
    let text = std::fs::read_to_string(UPTIME).ok()?;
    parsed(&text)
}

fn parsed(text: &str) -> Option<Duration> {
    let seconds: f64 = text.split_ascii_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// How much longer a service has to run that became active at `since`; `None` once that is long enough.
fn left(since: Duration, now: Duration) -> Option<Duration> {
    let left = UnitState::SETTLED_AFTER.saturating_sub(now.saturating_sub(since));
    (!left.is_zero()).then_some(left)
}

/// Whether a service of this type is active because it has said that it is ready, or has done its work; all others are
/// because a process was made.
fn is_proven(kind: &str) -> bool {
    matches!(kind, "notify" | "notify-reload" | "dbus" | "oneshot")
}

impl Session {
    /// How much longer an active service has to run until that means that it keeps running.
    pub(super) async fn settles_in(
        &self,
        path: &zbus::OwnedObjectPath,
        seen: &Seen,
    ) -> Result<Option<Duration>, UnitError> {
        let since = Duration::from_micros(seen.get("ActiveEnterTimestampMonotonic")?);
        let Some(left) = uptime().and_then(|now| left(since, now)) else { return Ok(None) };
        // One that is gone meanwhile does not keep running.
        let service = self.look(path, "Service").await.ok();
        let kind = service.and_then(|service| service.find::<String>("Type"));
        Ok((!kind.is_some_and(|kind| is_proven(&kind))).then_some(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = UnitState::SETTLED_AFTER;

    #[test]
    fn what_has_run_long_enough_has_settled() {
        let began = Duration::from_secs(1_000);
        let moment = Duration::from_millis(10);
        assert_eq!(left(began, began), Some(AFTER));
        assert_eq!(left(began, began + AFTER - moment), Some(moment));
        assert_eq!(left(began, began + AFTER), None);
        assert_eq!(left(began, began + Duration::from_secs(86_400)), None);
        assert_eq!(left(began, began - moment), Some(AFTER), "clocks of different grain");
    }

    #[test]
    fn the_kernel_says_how_long_it_runs() {
        assert_eq!(parsed("1234.56 4321.00\n"), Some(Duration::from_millis(1_234_560)));
        assert_eq!(parsed(""), None);
        assert_eq!(parsed("-1 0"), None);
        assert!(uptime().is_some_and(|now| now > Duration::ZERO));
    }
}
