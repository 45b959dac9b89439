//! What an audit came to, as JSON and as text.

use std::collections::BTreeMap;
use std::path::Path;

use neco_plan::View;
use neco_plan::invariants::{InvariantId, Needs, Report, Tally, Violation};
use neco_schema::{Lrn, Revision};
use serde::Serialize;

use super::history::Extent;
use super::journals::Journals;
use crate::words::one_line;

/// What an audit came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditReport {
    /// The version of this form.
    pub format: u32,
    /// Whether everything that was put to the test holds, on evidence that can be trusted.
    pub holds: bool,
    /// How many revisions were looked at.
    pub changes: u64,
    /// The history that they are from.
    pub history: History,
    /// The journals that were read.
    pub journals: Vec<JournalReport>,
    /// Boot servers whose journals were not read.
    pub without_journal: Vec<Lrn>,
    /// The journal of this server, if it may not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forbidden: Option<Forbidden>,
    /// What did not hold, oldest first.
    pub violations: Vec<Broken>,
    /// Why the evidence cannot be trusted.
    pub faults: Vec<String>,
    /// What was put to the test and held.
    pub holding: Vec<Invariant>,
    /// What was not put to the test.
    pub untested: Vec<Untested>,
}

/// A part of the history of etcd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct History {
    /// The revision that it begins with; what came before is compacted. Absent if it is whole.
    pub compacted_before: Option<i64>,
    /// The revision that it ends with.
    pub to: i64,
    /// The revision of etcd at that time, if it is a later one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silent_until: Option<i64>,
}

/// A journal that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JournalReport {
    /// Whose.
    pub lrn: Lrn,
    /// From where.
    pub dir: String,
    /// How many of its lines were judged.
    pub judged: u64,
    /// How many were not: they are older than the history, or of an etcd that is gone.
    pub unjudged: u64,
    /// What is worth knowing of it.
    pub notes: Vec<String>,
}

/// A journal that whoever asks may not read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Forbidden {
    /// Whose.
    pub lrn: Lrn,
    /// Where it lies.
    pub dir: String,
}

/// An invariant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Invariant {
    /// Its number, such as `7` or `L1`.
    pub id: String,
    /// Its name.
    pub name: &'static str,
}

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// Which.
    #[serde(flatten)]
    pub invariant: Invariant,
    /// The revision at which it shows.
    pub revision: i64,
    /// What happened.
    pub what: String,
    /// The keys that show it.
    pub keys: Vec<String>,
}

/// An invariant that was not put to the test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Untested {
    /// Which.
    #[serde(flatten)]
    pub invariant: Invariant,
    /// Why.
    pub why: Why,
}

/// Why an invariant was not put to the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// Nothing happened that could have broken it.
    NothingHappened,
    /// It shows in journals, and none was judged.
    NoJournal,
    /// It shows in what only a test knows.
    TestsOnly,
    /// No log shows it.
    NotEvaluated,
}

impl Why {
    const ALL: [Self; 4] =
        [Self::NothingHappened, Self::NoJournal, Self::TestsOnly, Self::NotEvaluated];

    fn of(invariant: InvariantId, has_journals: bool) -> Self {
        match invariant.needs() {
            Needs::Changes => Self::NothingHappened,
            Needs::Journals if has_journals => Self::NothingHappened,
            Needs::Journals => Self::NoJournal,
            Needs::Facts => Self::TestsOnly,
            Needs::More => Self::NotEvaluated,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::NothingHappened => "nothing happened that could break it",
            Self::NoJournal => "it shows in journals, and none was judged",
            Self::TestsOnly => "it shows in what only tests know",
            Self::NotEvaluated => "no record shows it; docs/invariants.md says why",
        }
    }
}

impl Invariant {
    fn of(invariant: InvariantId) -> Self {
        Self { id: invariant.to_string(), name: invariant.name() }
    }
}

impl Broken {
    fn of(violation: &Violation) -> Self {
        Self {
            invariant: Invariant::of(violation.invariant),
            revision: violation.revision.0,
            what: one_line(&violation.what),
            keys: violation.keys.iter().map(|key| one_line(key)).collect(),
        }
    }

    fn text(&self) -> String {
        let Self { invariant: Invariant { id, name }, revision, what, keys } = self;
        let keys = if keys.is_empty() { String::new() } else { format!(" [{}]", keys.join(", ")) };
        format!("invariant {id} ({name}) does not hold: revision {revision}: {what}{keys}")
    }
}

impl AuditReport {
    /// What `report` says of a history of this extent, of these journals, and of the cluster that `view` shows.
    pub fn new(
        report: &Report,
        extent: Extent,
        journals: &Journals,
        tallies: &BTreeMap<Lrn, Tally>,
        view: &View,
    ) -> Self {
        let shown = |dir: &Path| one_line(&dir.display().to_string());
        let Journals { read: journals, forbidden } = journals;
        let tally = |lrn: Lrn| tallies.get(&lrn).copied().unwrap_or_default();
        let has_journals = tallies.values().any(|tally| tally.judged > 0);
        let mut faults: Vec<String> =
            journals.iter().filter_map(|journal| journal.fault.clone()).collect();
        faults.extend(report.log_faults.iter().map(|fault| one_line(fault)));
        let is_broken =
            |id: &InvariantId| report.violations.iter().any(|found| found.invariant == *id);
        let untested = InvariantId::all()
            .filter(|id| !report.holding.contains(id) && !is_broken(id))
            .map(|id| Untested { invariant: Invariant::of(id), why: Why::of(id, has_journals) });
        let servers = view.registered.iter().copied();
        Self {
            format: 1,
            holds: report.violations.is_empty() && faults.is_empty(),
            changes: report.changes,
            history: History {
                compacted_before: extent.from.map(|revision| revision.0),
                to: extent.to.0,
                silent_until: (extent.present > extent.to).then_some(extent.present.0),
            },
            journals: journals
                .iter()
                .map(|journal| JournalReport {
                    lrn: journal.lrn,
                    dir: shown(&journal.dir),
                    judged: tally(journal.lrn).judged,
                    unjudged: tally(journal.lrn).unjudged,
                    notes: journal.notes.clone(),
                })
                .collect(),
            without_journal: servers
                .filter(|lrn| journals.iter().all(|journal| journal.lrn != *lrn))
                .collect(),
            forbidden: forbidden
                .as_ref()
                .map(|(lrn, dir)| Forbidden { lrn: *lrn, dir: shown(dir) }),
            violations: report.violations.iter().map(Broken::of).collect(),
            faults,
            holding: report.holding.iter().map(|id| Invariant::of(*id)).collect(),
            untested: untested.collect(),
        }
    }

    /// As text; ends in a line feed.
    pub fn text(&self) -> String {
        let mut lines: Vec<String> = self.violations.iter().map(Broken::text).collect();
        lines.extend(self.faults.iter().map(|fault| format!("the evidence has a fault: {fault}")));
        let changes = counted(self.changes, "change");
        lines.push(match self.violations.len() {
            0 if self.holds => format!("{} invariants hold over {changes}", self.holding.len()),
            0 => format!(
                "{} invariants hold over {changes}, but the evidence has a fault",
                self.holding.len()
            ),
            broken => {
                let (findings, held) = (counted(broken as u64, "finding"), self.holding.len());
                format!("{findings}; {held} other invariants hold over {changes}")
            }
        });
        for why in Why::ALL {
            let of_it = self.untested.iter().filter(|untested| untested.why == why);
            let ids: Vec<&str> = of_it.map(|untested| untested.invariant.id.as_str()).collect();
            if !ids.is_empty() {
                lines.push(format!("  not tested  {} ({})", ids.join(" "), why.words()));
            }
        }
        let History { compacted_before, to, silent_until } = &self.history;
        let after = match silent_until {
            Some(present) => format!("; nothing was heard after it, and etcd is at {present}"),
            None => String::new(),
        };
        lines.push(match compacted_before {
            Some(from) => {
                format!(
                    "  history     from revision {from} to {to}{after}; what came before is compacted"
                )
            }
            None if silent_until.is_some() => format!("  history     to revision {to}{after}"),
            None => format!("  history     whole, to revision {to}"),
        });
        for journal in &self.journals {
            let JournalReport { lrn, judged, unjudged, notes, .. } = journal;
            let judged = counted(*judged, "line");
            let older = if *unjudged == 0 {
                String::new()
            } else {
                format!(", {unjudged} older ones are known and not judged")
            };
            lines.push(format!("  journal     of boot server {lrn}: {judged}{older}"));
            lines.extend(notes.iter().map(|note| format!("              {note}")));
        }
        if let Some(Forbidden { lrn, dir }) = &self.forbidden {
            lines.push(format!(
                "  not read    the journal of boot server {lrn}, this one: you may not read {dir}; root may"
            ));
        }
        let is_forbidden = |lrn: &Lrn| self.forbidden.as_ref().is_some_and(|own| own.lrn == *lrn);
        let others = self.without_journal.iter().filter(|lrn| !is_forbidden(lrn));
        let others: Vec<_> = others.map(ToString::to_string).collect();
        if !others.is_empty() {
            let whose = match others.len() {
                1 => "the journal of boot server",
                _ => "the journals of boot servers",
            };
            lines.push(format!(
                "  not read    {whose} {}: --journal LRN=DIR reads copies",
                others.join(", ")
            ));
        }
        lines.join("\n") + "\n"
    }

    /// Whether there was anything to look at.
    pub fn is_empty(&self) -> bool {
        self.changes == 0 && self.holds
    }
}

fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("{count} {what}") } else { format!("{count} {what}s") }
}

/// What is said when nothing has changed.
pub fn nothing(extent: Extent) -> String {
    match extent.from {
        Some(Revision(from)) => {
            format!("nothing has changed since revision {from}, before which etcd is compacted")
        }
        None => "etcd holds no history of Neco".to_owned(),
    }
}
