//! What the auditor has found.

use std::collections::{BTreeMap, BTreeSet};

use neco_schema::Revision;

use super::InvariantId;

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Which.
    pub invariant: InvariantId,
    /// The revision at which it shows.
    pub revision: Revision,
    /// What happened.
    pub what: String,
    /// The keys that show it.
    pub keys: Vec<String>,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { invariant, revision, what, keys } = self;
        write!(f, "invariant {invariant} ({}) at revision {revision}: {what}", invariant.name())?;
        if keys.is_empty() { Ok(()) } else { write!(f, " [{}]", keys.join(", ")) }
    }
}

/// What an audit came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many revisions were looked at.
    pub changes: u64,
    /// The invariants that were put to the test and held.
    pub holding: Vec<InvariantId>,
    /// How often each evaluated invariant was put to the test; 0 means that nothing was said about it.
    pub exercised: BTreeMap<InvariantId, u64>,
    /// Those that did not hold, each finding once, oldest first.
    pub violations: Vec<Violation>,
    /// Why the log itself cannot be trusted: holes, facts that came too late.
    pub log_faults: Vec<String>,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let untested = self.exercised.values().filter(|times| **times == 0).count();
        write!(
            f,
            "{} changes: {} invariants held, {} were not put to the test, {} violations",
            self.changes,
            self.holding.len(),
            untested,
            self.violations.len()
        )?;
        self.log_faults.iter().try_for_each(|fault| write!(f, "\nlog: {fault}"))?;
        self.violations.iter().try_for_each(|violation| write!(f, "\n{violation}"))
    }
}

/// Collects findings.
#[derive(Clone, Debug, Default)]
pub(super) struct Verdicts {
    pub(super) exercised: BTreeMap<InvariantId, u64>,
    pub(super) violations: Vec<Violation>,
    pub(super) log_faults: Vec<String>,
    told: BTreeSet<(InvariantId, String)>,
}

impl Verdicts {
    /// Puts a safety invariant to the test: `wrong` says what does not hold, if anything.
    pub(super) fn safety(
        &mut self,
        number: u8,
        revision: Revision,
        keys: &[&str],
        wrong: Option<String>,
    ) {
        self.judge(InvariantId::Safety(number), revision, keys, wrong);
    }

    /// The same for a liveness invariant.
    pub(super) fn liveness(
        &mut self,
        number: u8,
        revision: Revision,
        keys: &[&str],
        wrong: Option<String>,
    ) {
        self.judge(InvariantId::Liveness(number), revision, keys, wrong);
    }

    fn judge(
        &mut self,
        invariant: InvariantId,
        revision: Revision,
        keys: &[&str],
        wrong: Option<String>,
    ) {
        *self.exercised.entry(invariant).or_default() += 1;
        let Some(what) = wrong else { return };
        if self.told.insert((invariant, what.clone())) {
            let keys = keys.iter().map(|key| (*key).to_owned()).collect();
            self.violations.push(Violation { invariant, revision, what, keys });
        }
    }

    pub(super) fn report(&self, changes: u64) -> Report {
        let violated: BTreeSet<InvariantId> =
            self.violations.iter().map(|violation| violation.invariant).collect();
        let exercised: BTreeMap<InvariantId, u64> = InvariantId::all()
            .filter(|invariant| invariant.is_evaluated())
            .map(|invariant| (invariant, self.exercised.get(&invariant).copied().unwrap_or(0)))
            .collect();
        let holding = exercised
            .iter()
            .filter(|(invariant, times)| **times > 0 && !violated.contains(invariant))
            .map(|(invariant, _)| *invariant)
            .collect();
        let mut violations = self.violations.clone();
        violations.sort_by_key(|violation| violation.revision);
        Report { changes, holding, exercised, violations, log_faults: self.log_faults.clone() }
    }
}
