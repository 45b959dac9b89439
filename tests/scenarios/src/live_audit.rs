//! The audit that an operator can make: `necoctl audit` of the package, on what the site has left behind.

use std::collections::BTreeSet;
use std::io::Write as _;

use neco_playground::BootServer;
use neco_schema::{Lrn, Revision};
use serde_json::Value;

use crate::operator::{Told, necoctl};

/// What it puts to the test wherever an update has ended since the history began.
const ALWAYS: [&str; 11] = ["5", "7", "8", "9", "10", "13", "14", "20", "22", "41", "43"];

/// What it puts to the test as well if it sees how an update began.
const FROM_THE_BEGINNING: [&str; 9] = ["1", "3", "27", "28", "29", "30", "32", "33", "39"];

/// Where a server keeps its journal.
const JOURNAL: &str = "var/lib/neco/journal";

/// Runs it on the first of `servers`, with the journals of all as they lie on their disks.
pub async fn live_audit(servers: &[&BootServer], arguments: &[&str]) -> Told {
    let (first, others) = servers.split_first().expect("a server");
    let copies = others.iter().map(|server| {
        format!("--journal={}={}", server.lrn(), server.root().join(JOURNAL).display())
    });
    let copies: Vec<String> = copies.collect();
    let line = ["audit", "--timeout=60s"].into_iter();
    let line = line.chain(copies.iter().map(String::as_str)).chain(arguments.iter().copied());
    necoctl(first, &line.collect::<Vec<_>>()).await
}

/// What the test has done past all programs. `necoctl audit` does not know that, and may name it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meddling {
    /// The revisions that the test has written itself.
    pub(crate) by_hand: BTreeSet<Revision>,
    /// The servers whose journals it has damaged.
    pub(crate) damaged: BTreeSet<Lrn>,
}

impl Meddling {
    fn explains_violation(&self, found: &Value) -> bool {
        found["revision"].as_i64().is_some_and(|at| self.by_hand.contains(&Revision(at)))
    }

    fn explains_fault(&self, fault: &Value) -> bool {
        let fault = fault.as_str().unwrap_or_default();
        self.damaged.iter().any(|lrn| {
            fault.starts_with(&format!(
                "the journal of boot server {lrn} is damaged and was not judged: "
            ))
        })
    }
}

/// Sees that it passes but for what the test has done itself, and that it has looked at enough.
///
/// # Panics
/// It does not pass.
pub(crate) async fn passes(servers: &[&BootServer], meddling: &Meddling) {
    let told = live_audit(servers, &["--output=json"]).await;
    let report: Value = serde_json::from_str(&told.out)
        .unwrap_or_else(|error| panic!("necoctl audit: {error}: {}{}", told.out, told.err));
    let list = |name: &str| report[name].as_array().cloned().unwrap_or_default();
    let (theirs, ours): (Vec<_>, Vec<_>) =
        list("violations").into_iter().partition(|found| meddling.explains_violation(found));
    let (damage, faults): (Vec<_>, Vec<_>) =
        list("faults").into_iter().partition(|fault| meddling.explains_fault(fault));
    assert!(ours.is_empty() && faults.is_empty(), "necoctl audit: {ours:#?} {faults:#?}");
    let is_named = |id: &&&str| {
        let mut named = list("holding").into_iter().chain(theirs.iter().cloned());
        named.any(|entry| entry["id"] == **id)
    };
    let is_whole = report["history"]["compacted_before"].is_null();
    let more = FROM_THE_BEGINNING.iter().filter(|_| is_whole);
    let untested: Vec<_> = ALWAYS.iter().chain(more).filter(|id| !is_named(id)).collect();
    assert!(untested.is_empty(), "necoctl audit looked at too little: {untested:?} of {report:#}");

    let says = match (theirs.is_empty(), damage.is_empty()) {
        (true, true) => " invariants hold over ",
        (false, _) => " does not hold: ",
        (true, false) => "the evidence has a fault: ",
    };
    let sound = theirs.is_empty() && damage.is_empty();
    let told = live_audit(servers, &[]).await.ended(i32::from(!sound));
    let first = told.out.lines().next().unwrap_or_default();
    assert!(first.contains(says), "{}", told.out);
    let thread = std::thread::current();
    let (name, held) = (thread.name().unwrap_or("a scenario"), list("holding"));
    let held: Vec<_> = held.iter().filter_map(|entry| entry["id"].as_str()).collect();
    let _ = writeln!(std::io::stderr(), "{name}: necoctl audit: {first}; {}", held.join(" "));
}
