//! What several runs gave.

use serde::Serialize;

/// The median of some runs, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// The middle one; between the two middle ones if their number is even.
    pub(crate) median: f64,
    /// The smallest.
    pub(crate) min: f64,
    /// The largest.
    pub(crate) max: f64,
    /// How many there were.
    pub(crate) runs: usize,
}

impl Spread {
    /// Of some runs; `None` of none, and where one is not a number.
    pub(crate) fn of(runs: &[f64]) -> Option<Self> {
        if runs.iter().any(|run| !run.is_finite()) {
            return None;
        }
        let mut sorted = runs.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        };
        Some(Self { median, min, max, runs: sorted.len() })
    }

    /// Of what each run of one thing is to the run of another beside it.
    pub(crate) fn of_ratios(these: &[f64], to_those: &[f64]) -> Option<Self> {
        if these.len() != to_those.len() {
            return None;
        }
        let ratios: Vec<f64> = these.iter().zip(to_those).map(|(this, that)| this / that).collect();
        Self::of(&ratios)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        let odd = Spread::of(&[9.0, 1.0, 2.0]).expect("runs");
        assert_eq!((odd.median, odd.min, odd.max, odd.runs), (2.0, 1.0, 9.0, 3));
        let even = Spread::of(&[4.0, 1.0, 2.0, 100.0]).expect("runs");
        assert_eq!((even.median, even.min, even.max, even.runs), (3.0, 1.0, 100.0, 4));
        assert_eq!(Spread::of(&[5.0]).map(|one| one.median), Some(5.0));
    }

    #[test]
    fn nothing_comes_of_no_runs_or_of_a_division_by_nothing() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[1.0, f64::NAN]), None);
        assert_eq!(Spread::of_ratios(&[1.0], &[0.0]), None);
        assert_eq!(Spread::of_ratios(&[1.0, 2.0], &[1.0]), None);
    }

    #[test]
    fn ratios_are_taken_run_by_run() {
        let ratios = Spread::of_ratios(&[2.0, 30.0, 3.0], &[1.0, 10.0, 2.0]).expect("runs");
        assert_eq!((ratios.median, ratios.min, ratios.max), (2.0, 1.5, 3.0));
    }
}
