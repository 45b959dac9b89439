//! Whether hardware is well, by its metrics (neco-daemons §3.4, rows 7 to 9). Pure.

use std::collections::BTreeSet;

use crate::exposition::{Metrics, Sample};
use crate::list::Check;

/// The only value that means well; 1 is a warning, 2 critical, -1 unknown.
const WELL: f64 = 0.0;

/// The families that checks look at.
pub fn wanted(checks: &[Check]) -> BTreeSet<&str> {
    checks.iter().map(|check| check.metric.as_str()).collect()
}

/// What is not well, in words: the first of the checks that does not hold. Without checks all is well.
pub fn ailment(checks: &[Check], metrics: &Metrics) -> Option<String> {
    checks.iter().find_map(|check| check.ailment(metrics))
}

impl Check {
    fn ailment(&self, metrics: &Metrics) -> Option<String> {
        let Some(samples) = metrics.get(&self.metric) else {
            return Some(format!("there is no metric {}", self.metric));
        };
        let selected: Vec<_> = samples.iter().filter(|sample| self.selects(sample)).collect();
        if selected.is_empty() {
            return Some(format!("no sample of {}{} is there", self.metric, self.selection()));
        }
        let well = selected.iter().filter(|sample| sample.value == WELL).count();
        let needed = self.at_least.unwrap_or(selected.len());
        (well < needed).then(|| {
            let (metric, selection) = (&self.metric, self.selection());
            format!("{metric}{selection}: {well} of {} are well, {needed} must be", selected.len())
        })
    }

    fn selects(&self, sample: &Sample) -> bool {
        let has = |name: &String, fits: &dyn Fn(&str) -> bool| {
            sample.labels.get(name).is_some_and(|value| fits(value))
        };
        self.labels.iter().all(|(name, wanted)| has(name, &|value| value == wanted))
            && self
                .prefixes
                .iter()
                .all(|(name, wanted)| has(name, &|value| value.starts_with(wanted)))
    }

    /// What is selected, for people.
    fn selection(&self) -> String {
        let whole = self.labels.iter().map(|(name, value)| format!("{name}={value}"));
        let begun = self.prefixes.iter().map(|(name, value)| format!("{name}={value}*"));
        let all: Vec<_> = whole.chain(begun).collect();
        if all.is_empty() { String::new() } else { format!("{{{}}}", all.join(",")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: &str = "cpu{n=\"1\"} 0\ncpu{n=\"2\"} 1\n";
    const DISKS: &str = "disk{dev=\"HDD.0\",sys=\"S.1\"} 0\ndisk{dev=\"HDD.1\",sys=\"S.1\"} 2\n\
                         disk{dev=\"HDD.2\",sys=\"S.2\"} 0\ndisk{dev=\"SSD.0\",sys=\"S.1\"} -1\n\
                         disk{sys=\"S.9\"} 0\n";

    /// `metric`, then `a=b` for a label and `a^b` for a prefix, then `>=N`.
    fn check(text: &str) -> Check {
        let mut words = text.split_whitespace();
        let metric = words.next().expect("a metric").to_owned();
        let mut check = Check { metric, ..Check::default() };
        for word in words {
            if let Some(count) = word.strip_prefix(">=") {
                check.at_least = Some(count.parse().expect("a count"));
            } else if let Some((name, value)) = word.split_once('=') {
                check.labels.insert(name.to_owned(), value.to_owned());
            } else if let Some((name, value)) = word.split_once('^') {
                check.prefixes.insert(name.to_owned(), value.to_owned());
            }
        }
        check
    }

    #[test]
    fn every_way_in_which_samples_are_chosen_and_counted() {
        for (checks, metrics, expected) in [
            // No checks, no metrics, no samples.
            ("", "", ""),
            ("", BOTH, ""),
            ("cpu", "", "there is no metric cpu"),
            ("cpu", DISKS, "there is no metric cpu"),
            ("cpu n=3", BOTH, "no sample of cpu{n=3} is there"),
            ("cpu m=1", BOTH, "no sample of cpu{m=1} is there"),
            // All that are chosen must be well, unless it is said how many.
            ("cpu", BOTH, "cpu: 1 of 2 are well, 2 must be"),
            ("cpu n=1", BOTH, ""),
            ("cpu n=2", BOTH, "cpu{n=2}: 0 of 1 are well, 1 must be"),
            ("cpu >=1", BOTH, ""),
            ("cpu >=2", BOTH, "cpu: 1 of 2 are well, 2 must be"),
            ("cpu >=3", BOTH, "cpu: 1 of 2 are well, 3 must be"),
            ("cpu n=2 >=0", BOTH, ""),
            // By how a label begins; a label that is not there begins with nothing, not even with nothing.
            ("disk dev^HDD. >=2", DISKS, ""),
            ("disk dev^HDD.", DISKS, "disk{dev=HDD.*}: 2 of 3 are well, 3 must be"),
            ("disk dev^NVMe.", DISKS, "no sample of disk{dev=NVMe.*} is there"),
            ("disk dev^ >=3", DISKS, "disk{dev=*}: 2 of 4 are well, 3 must be"),
            // Both kinds together.
            ("disk sys=S.1 dev^HDD. >=1", DISKS, ""),
            ("disk sys=S.1 dev^HDD.", DISKS, "disk{sys=S.1,dev=HDD.*}: 1 of 2 are well, 2 must be"),
            ("disk sys=S.2 dev^HDD.", DISKS, ""),
            ("disk sys=S.3 dev^HDD.", DISKS, "no sample of disk{sys=S.3,dev=HDD.*} is there"),
            // Nothing but zero is well.
            ("disk dev=SSD.0", DISKS, "disk{dev=SSD.0}: 0 of 1 are well, 1 must be"),
            ("cpu", "cpu NaN\n", "cpu: 0 of 1 are well, 1 must be"),
            ("cpu", "cpu 0.0\n", ""),
            // The first of several that does not hold is told.
            ("cpu >=1;disk dev^HDD. >=3;no", &[BOTH, DISKS].concat(), "disk{dev=HDD.*}: 2 of 3"),
            ("cpu n=1;disk sys=S.2", &[BOTH, DISKS].concat(), ""),
        ] {
            let all: Vec<_> =
                checks.split(';').filter(|text| !text.is_empty()).map(check).collect();
            let metrics = crate::exposition::parse(metrics, &wanted(&all)).expect("metrics");
            let found = ailment(&all, &metrics).unwrap_or_default();
            let fits =
                if expected.is_empty() { found.is_empty() } else { found.starts_with(expected) };
            assert!(fits, "{checks}: {found:?} in the place of {expected:?}");
        }
    }
}
