//! When to try again: the one back-off and the one jitter of this crate.

use std::time::Duration;

use rand::RngExt as _;

/// Waits that double up to a cap, each somewhere between half and all of its length.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    next: Duration,
    first: Duration,
    cap: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, cap: Duration) -> Self {
        Self { next: first, first, cap }
    }

    /// How long to wait now.
    pub(crate) fn wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.cap);
        jittered(wait)
    }

    /// Begins anew, after a success.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Somewhere between half and all of `time`.
pub(crate) fn jittered(time: Duration) -> Duration {
    time.mul_f64(rand::rng().random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_start_anew() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new(second, 3 * second);
        let within = |wait: Duration, full: Duration| wait >= full / 2 && wait <= full;
        for full in [second, 2 * second, 3 * second, 3 * second] {
            assert!(within(backoff.wait(), full));
        }
        backoff.reset();
        assert!(within(backoff.wait(), second));
    }
}
