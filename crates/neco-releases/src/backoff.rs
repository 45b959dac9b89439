//! How long to wait before the next try.

use std::time::Duration;

/// Waits that double from try to try, up to a cap, each cut by chance to between a half and the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The longest first wait.
    pub first: Duration,
    /// The longest wait at all.
    pub cap: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(500), cap: Duration::from_secs(15) }
    }
}

impl Backoff {
    /// The wait after `failures` failures in a row, counted from 1.
    pub fn delay(&self, failures: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
        let longest = self.first.saturating_mul(doubled).min(self.cap);
        longest.mul_f64(rand::random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_the_cap_and_vary() {
        let backoff = Backoff { first: Duration::from_millis(100), cap: Duration::from_secs(1) };
        for (failures, longest) in [(1, 100), (2, 200), (4, 800), (5, 1000), (99, 1000)] {
            let longest = Duration::from_millis(longest);
            for _ in 0..50 {
                let delay = backoff.delay(failures);
                assert!(longest / 2 <= delay && delay <= longest, "{failures}: {delay:?}");
            }
        }
        let delays: std::collections::BTreeSet<_> = (0..50).map(|_| backoff.delay(3)).collect();
        assert!(delays.len() > 1);
    }
}
