//! How long to wait before trying again: the one type for every retry.

use std::time::Duration;

use rand::{Rng, RngExt as _};

/// Waits that double from try to try, up to a cap, each cut by chance to between a half and the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The longest first wait.
    pub first: Duration,
    /// The longest wait at all.
    pub cap: Duration,
}

impl Backoff {
    /// Waits from `first` up to `cap`.
    pub const fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap }
    }

    /// The wait after so many tries that failed and were waited for before: 0 gives the first wait.
    pub fn delay(&self, before: u32, rng: &mut impl Rng) -> Duration {
        let doubled = 2_u32.saturating_pow(before);
        cut(self.first.saturating_mul(doubled).min(self.cap), rng)
    }

    /// Begins to count failures.
    pub const fn retry(self) -> Retry {
        Retry { backoff: self, failures: 0 }
    }
}

/// A series of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    backoff: Backoff,
    failures: u32,
}

impl Retry {
    /// Counts a failure, and tells how long to wait now.
    pub fn next_delay(&mut self, rng: &mut impl Rng) -> Duration {
        let delay = self.backoff.delay(self.failures, rng);
        self.failures = self.failures.saturating_add(1);
        delay
    }

    /// Counts a failure, and tells how long to wait now, by the process's own chance.
    pub fn pause(&mut self) -> Duration {
        self.next_delay(&mut rand::rng())
    }

    /// How many failures there were since the last success.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Counts a success: the next failure is the first again.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Somewhere between half and all of `time` by the process's own chance, so that many who wait do not come
/// at once.
pub fn jittered(time: Duration) -> Duration {
    cut(time, &mut rand::rng())
}

fn cut(time: Duration, rng: &mut impl Rng) -> Duration {
    time.mul_f64(rng.random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    const TENTHS: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));

    #[test]
    fn waits_double_up_to_the_cap_and_vary() {
        let mut rng = StdRng::seed_from_u64(1);
        for (before, longest) in [(0, 100), (1, 200), (3, 800), (4, 1000), (u32::MAX, 1000)] {
            let longest = Duration::from_millis(longest);
            let delays: BTreeSet<_> = (0..200).map(|_| TENTHS.delay(before, &mut rng)).collect();
            let (low, high) = (*delays.first().unwrap(), *delays.last().unwrap());
            assert!(longest / 2 <= low && high <= longest, "{before}: {low:?} to {high:?}");
            assert!(high - low > longest / 4, "{before}: {low:?} to {high:?}");
        }
    }

    #[test]
    fn the_same_chance_gives_the_same_wait() {
        let delay = || TENTHS.delay(2, &mut StdRng::seed_from_u64(7));
        assert_eq!(delay(), delay());
    }

    #[test]
    fn a_first_wait_beyond_the_cap_is_cut_to_it() {
        let odd = Backoff::new(Duration::MAX, Duration::from_secs(1));
        assert!(odd.delay(5, &mut StdRng::seed_from_u64(1)) <= odd.cap);
    }

    #[test]
    fn a_success_starts_over() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut retry = TENTHS.retry();
        assert!(retry.next_delay(&mut rng) <= TENTHS.first);
        assert!(retry.next_delay(&mut rng) >= TENTHS.first);
        assert!(retry.pause() > TENTHS.first);
        assert_eq!(retry.failures(), 3);
        retry.reset();
        assert_eq!(retry.failures(), 0);
        assert!(retry.next_delay(&mut rng) <= TENTHS.first);
    }
}
