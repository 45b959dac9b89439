//! How long to wait before trying again: the one type for every retry.

use std::time::Duration;

use rand::RngExt;

/// Growing, capped, jittered delays.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// The first delay.
    pub base: Duration,
    /// The longest delay.
    pub cap: Duration,
    /// By how much a delay is longer than the one before; at least 1.
    pub factor: f64,
    /// Which part of each delay is left to chance, from 0 (none) to 1 (all): a delay `d` becomes
    /// something between `d × (1 - jitter)` and `d`.
    pub jitter: f64,
}

impl Backoff {
    /// Delays that double, half of each left to chance.
    pub const fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, factor: 2.0, jitter: 0.5 }
    }

    /// The delay after so many failures, before chance.
    fn full(&self, failures: u32) -> Duration {
        let grown = self.base.as_secs_f64() * self.factor.max(1.0).powf(f64::from(failures));
        let cap = self.cap.as_secs_f64();
        // Infinity and NaN end at the cap too.
        if grown < cap { Duration::from_secs_f64(grown) } else { self.cap }
    }

    /// The delay after so many failures, counted from 0.
    pub fn delay(&self, failures: u32, rng: &mut impl rand::Rng) -> Duration {
        let chance: f64 = rng.random();
        self.full(failures).mul_f64(1.0 - self.jitter.clamp(0.0, 1.0) * chance)
    }

    /// Starts counting failures.
    pub const fn retry(self) -> Retry {
        Retry { backoff: self, failures: 0 }
    }

    /// The delays of one series of failures, without end.
    pub fn delays(self, mut rng: impl rand::Rng) -> impl Iterator<Item = Duration> {
        let mut retry = self.retry();
        std::iter::from_fn(move || Some(retry.next_delay(&mut rng)))
    }
}

/// A series of failures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    backoff: Backoff,
    failures: u32,
}

impl Retry {
    /// Counts a failure, and tells how long to wait now.
    pub fn next_delay(&mut self, rng: &mut impl rand::Rng) -> Duration {
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

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    const PLAIN: Backoff = Backoff {
        base: Duration::from_millis(100),
        cap: Duration::from_secs(1),
        factor: 2.0,
        jitter: 0.0,
    };

    #[test]
    fn delays_grow_to_the_cap_and_stay_there() {
        let rng = StdRng::seed_from_u64(1);
        let delays: Vec<u128> = PLAIN.delays(rng).take(7).map(|d| d.as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1000, 1000, 1000]);
    }

    #[test]
    fn jitter_stays_between_its_bounds_and_varies() {
        let rng = StdRng::seed_from_u64(1);
        let backoff = Backoff { factor: 1.0, jitter: 0.5, ..PLAIN };
        let delays: Vec<Duration> = backoff.delays(rng).take(200).collect();
        assert!(delays.iter().all(|d| (50..=100).contains(&d.as_millis())), "{delays:?}");
        let (low, high) = (delays.iter().min().unwrap(), delays.iter().max().unwrap());
        assert!(*high - *low > Duration::from_millis(30), "{low:?} {high:?}");
    }

    #[test]
    fn a_success_starts_over() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut retry = PLAIN.retry();
        retry.next_delay(&mut rng);
        retry.next_delay(&mut rng);
        assert_eq!(retry.failures(), 2);
        retry.reset();
        assert_eq!(retry.next_delay(&mut rng), PLAIN.base);
    }

    #[test]
    fn any_number_of_failures_is_bounded() {
        let mut rng = StdRng::seed_from_u64(1);
        assert_eq!(PLAIN.delay(u32::MAX, &mut rng), PLAIN.cap);
        let odd = Backoff { factor: f64::NAN, jitter: 7.0, ..PLAIN };
        assert!(odd.delay(3, &mut rng) <= odd.cap);
    }
}
