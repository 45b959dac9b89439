//! The figures as a table for people, and as one object for programs.

use serde::Serialize;

use crate::figure::{Budget, Figure, Unit, Verdict};
use crate::spread::Spread;

/// Everything that was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Report {
    /// The form of this object.
    format: u32,
    outcome: &'static str,
    /// How many processors this machine has for us.
    processors: usize,
    figures: Vec<Figure>,
    /// How many budgets were missed.
    missed: usize,
}

impl Report {
    /// Of figures that were measured on this machine.
    pub(crate) fn new(figures: Vec<Figure>, processors: usize) -> Self {
        let missed = figures.iter().filter(|figure| figure.verdict == Verdict::Missed).count();
        Self { format: 1, outcome: "measured", processors, figures, missed }
    }

    /// One line.
    ///
    /// # Errors
    /// None that is known: it is plain data.
    pub(crate) fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }

    /// A table; medians, with the smallest and the largest run behind them.
    pub(crate) fn table(&self) -> String {
        let head = ["", "median", "denominator", "median", "ratio", "budget", ""];
        let mut rows = vec![head.map(str::to_owned)];
        rows.extend(self.figures.iter().map(row));
        let mut text = aligned(&rows);
        let processors = self.processors;
        text.push_str(&format!(
            "\nmedians of so many runs, with the smallest and the largest; on {processors} processors\n"
        ));
        match self.missed {
            0 => text.push_str("every budget is kept\n"),
            1 => text.push_str("1 budget is MISSED\n"),
            missed => text.push_str(&format!("{missed} budgets are MISSED\n")),
        }
        text
    }
}

fn row(figure: &Figure) -> [String; 7] {
    let unit = figure.unit.name();
    let value = format!("{} {unit}, {} runs", spread(&figure.value), figure.value.runs);
    let [what, other, ratio] = match &figure.denominator {
        Some(by) => [by.what.clone(), format!("{} {unit}", spread(&by.value)), spread(&by.ratio)],
        None => Default::default(),
    };
    let budget = figure.budget.map_or_else(String::new, |budget| budget_text(budget, figure.unit));
    let verdict = match figure.verdict {
        Verdict::Ok => "ok",
        Verdict::Missed => "MISSED",
        Verdict::Beside => "",
    };
    [figure.what.clone(), value, what, other, ratio, budget, verdict.to_owned()]
}

fn budget_text(budget: Budget, unit: Unit) -> String {
    match budget {
        Budget::AtMost(limit) => format!("≤ {} {}", number(limit), unit.name()),
        Budget::RatioAtMost(limit) => format!("ratio ≤ {}", number(limit)),
        Budget::RatioAtLeast(limit) => format!("ratio ≥ {}", number(limit)),
    }
}

fn spread(spread: &Spread) -> String {
    format!("{} ({}–{})", number(spread.median), number(spread.min), number(spread.max))
}

/// Three digits that say something.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        large if large >= 99.95 => 0,
        medium if medium >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn report() -> Report {
        let barrier = Figure::beside("a", Unit::Milliseconds, &[300.0], "b", &[100.0]);
        let memory = Figure::of("c", Unit::Megabytes, &[3.0, 4.0]);
        let figures = vec![
            barrier.expect("figures").judged(Budget::RatioAtMost(2.0)),
            memory.expect("figures").judged(Budget::AtMost(4.0)),
            Figure::of("d", Unit::Megabytes, &[9.876]).expect("figures"),
        ];
        Report::new(figures, 2)
    }

    #[test]
    fn the_object_has_the_promised_fields() {
        let line = report().json().expect("plain data");
        assert!(!line.contains('\n'));
        let spread = |median: f64, min: f64, max: f64, runs: usize| json!({ "median": median, "min": min, "max": max, "runs": runs });
        let expected = json!({
            "format": 1,
            "outcome": "measured",
            "processors": 2,
            "figures": [
                {
                    "what": "a", "unit": "ms", "value": spread(300.0, 300.0, 300.0, 1),
                    "denominator": {
                        "what": "b",
                        "value": spread(100.0, 100.0, 100.0, 1),
                        "ratio": spread(3.0, 3.0, 3.0, 1),
                    },
                    "budget": { "ratio_at_most": 2.0 }, "verdict": "MISSED",
                },
                {
                    "what": "c", "unit": "MB", "value": spread(3.5, 3.0, 4.0, 2),
                    "denominator": null, "budget": { "at_most": 4.0 }, "verdict": "ok",
                },
                {
                    "what": "d", "unit": "MB", "value": spread(9.876, 9.876, 9.876, 1),
                    "denominator": null, "budget": null, "verdict": "-",
                },
            ],
            "missed": 1,
        });
        assert_eq!(serde_json::from_str::<Value>(&line).expect("JSON"), expected);
    }

    #[test]
    fn the_table_names_budgets_and_what_missed_them() {
        let table = report().table();
        let line = |what: &str| {
            let found = table.lines().find(|line| line.starts_with(what));
            found.unwrap_or_else(|| panic!("no {what} in\n{table}")).to_owned()
        };
        assert!(line("a ").ends_with("3.00 (3.00–3.00)  ratio ≤ 2.00  MISSED"), "{table}");
        assert!(line("c ").contains("3.50 (3.00–4.00) MB, 2 runs"), "{table}");
        assert!(line("c ").contains("≤ 4.00 MB"), "{table}");
        assert!(table.ends_with("1 budget is MISSED\n"), "{table}");
    }

    #[test]
    fn numbers_have_three_digits() {
        let shown = [0.5, 9.99, 9.999, 12.34, 99.96, 1234.5].map(number);
        assert_eq!(shown, ["0.50", "9.99", "10.0", "12.3", "100", "1234"]);
    }
}
