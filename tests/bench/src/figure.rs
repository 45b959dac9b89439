//! A figure, what it is measured against, and its budget.

use serde::Serialize;

use crate::spread::Spread;

/// What a figure is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Unit {
    /// Milliseconds.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Megabytes of 1000 · 1000 bytes.
    #[serde(rename = "MB")]
    Megabytes,
    /// Megabytes per second.
    #[serde(rename = "MB/s")]
    MegabytesPerSecond,
}

impl Unit {
    /// As it stands behind a number.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Milliseconds => "ms",
            Self::Megabytes => "MB",
            Self::MegabytesPerSecond => "MB/s",
        }
    }
}

/// What the design allows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Budget {
    /// The figure is at most so much, in its own unit.
    AtMost(f64),
    /// The ratio to the denominator is at most so much.
    RatioAtMost(f64),
    /// The ratio to the denominator is at least so much.
    RatioAtLeast(f64),
}

/// Whether a budget was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Verdict {
    /// It was.
    #[serde(rename = "ok")]
    Ok,
    /// It was not.
    #[serde(rename = "MISSED")]
    Missed,
    /// There is none: the figure stands beside another.
    #[serde(rename = "-")]
    Beside,
}

/// What a figure is divided by.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Denominator {
    /// What was measured.
    pub(crate) what: String,
    /// Its runs, in the unit of the figure.
    pub(crate) value: Spread,
    /// Each run of the figure to the run of the denominator beside it.
    pub(crate) ratio: Spread,
}

/// One thing that was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Figure {
    /// What was measured.
    pub(crate) what: String,
    /// In what it is counted.
    pub(crate) unit: Unit,
    /// Its runs.
    pub(crate) value: Spread,
    /// What it is divided by.
    pub(crate) denominator: Option<Denominator>,
    /// What is allowed.
    pub(crate) budget: Option<Budget>,
    /// Whether it was kept.
    pub(crate) verdict: Verdict,
}

impl Figure {
    /// A figure of some runs.
    ///
    /// # Errors
    /// There were no runs, or one is not a number.
    pub(crate) fn of(what: impl Into<String>, unit: Unit, runs: &[f64]) -> anyhow::Result<Self> {
        let what = what.into();
        let Some(value) = Spread::of(runs) else { anyhow::bail!("{what}: no figure in {runs:?}") };
        Ok(Self { what, unit, value, denominator: None, budget: None, verdict: Verdict::Beside })
    }

    /// A figure of some runs, each divided by the run of another thing beside it.
    ///
    /// # Errors
    /// There were no runs, or one has no ratio.
    pub(crate) fn beside(
        what: impl Into<String>,
        unit: Unit,
        runs: &[f64],
        denominator: impl Into<String>,
        others: &[f64],
    ) -> anyhow::Result<Self> {
        let mut figure = Self::of(what, unit, runs)?;
        let what = denominator.into();
        let (Some(value), Some(ratio)) = (Spread::of(others), Spread::of_ratios(runs, others))
        else {
            anyhow::bail!("{}: no ratio to {what} in {runs:?} and {others:?}", figure.what)
        };
        figure.denominator = Some(Denominator { what, value, ratio });
        Ok(figure)
    }

    /// Judges it: by the median, but where the figure itself is limited to what everything counts as, by the largest.
    #[must_use]
    pub(crate) fn judged(mut self, budget: Budget) -> Self {
        let ratio = self.denominator.as_ref().map(|denominator| denominator.ratio.median);
        let kept = match budget {
            // The budget of memory is one for each process.
            Budget::AtMost(limit) if self.unit == Unit::Megabytes => self.value.max <= limit,
            Budget::AtMost(limit) => self.value.median <= limit,
            Budget::RatioAtMost(limit) => ratio.is_some_and(|ratio| ratio <= limit),
            Budget::RatioAtLeast(limit) => ratio.is_some_and(|ratio| ratio >= limit),
        };
        self.budget = Some(budget);
        self.verdict = if kept { Verdict::Ok } else { Verdict::Missed };
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(unit: Unit, runs: &[f64], others: &[f64], budget: Budget) -> Verdict {
        let figure = Figure::beside("a", unit, runs, "b", others).expect("figures");
        assert_eq!(figure.verdict, Verdict::Beside);
        figure.judged(budget).verdict
    }

    #[test]
    fn a_time_and_a_ratio_are_judged_by_their_medians() {
        let (slow, quick) = ([30.0, 20.0, 90.0], [10.0, 10.0, 10.0]);
        let ms = Unit::Milliseconds;
        assert_eq!(verdict(ms, &slow, &quick, Budget::AtMost(30.0)), Verdict::Ok);
        assert_eq!(verdict(ms, &slow, &quick, Budget::AtMost(29.9)), Verdict::Missed);
        assert_eq!(verdict(ms, &slow, &quick, Budget::RatioAtMost(3.0)), Verdict::Ok);
        assert_eq!(verdict(ms, &slow, &quick, Budget::RatioAtMost(2.9)), Verdict::Missed);
        assert_eq!(verdict(ms, &slow, &quick, Budget::RatioAtLeast(3.0)), Verdict::Ok);
        assert_eq!(verdict(ms, &slow, &quick, Budget::RatioAtLeast(3.1)), Verdict::Missed);
    }

    #[test]
    fn memory_is_judged_by_the_largest() {
        let figure = Figure::of("a", Unit::Megabytes, &[1.0, 1.0, 5.0]).expect("figures");
        assert_eq!(figure.clone().judged(Budget::AtMost(4.0)).verdict, Verdict::Missed);
        assert_eq!(figure.judged(Budget::AtMost(5.0)).verdict, Verdict::Ok);
    }

    #[test]
    fn a_ratio_without_a_denominator_is_not_kept() {
        let figure = Figure::of("a", Unit::Milliseconds, &[1.0]).expect("figures");
        assert_eq!(figure.judged(Budget::RatioAtMost(2.0)).verdict, Verdict::Missed);
    }

    #[test]
    fn what_was_not_measured_is_no_figure() {
        assert!(Figure::of("a", Unit::Milliseconds, &[]).is_err());
        assert!(Figure::beside("a", Unit::Milliseconds, &[1.0], "b", &[0.0]).is_err());
    }
}
