//! What a journal says about what is installed, also where a person has installed it.

use neco_schema::journal::{Effect, Entry, IntentEnd, IntentId};
use neco_schema::{Lrn, UpdateRequest};

use super::log::*;
use crate::JournalState;
use crate::invariants::InvariantId::Safety;
use crate::invariants::{Fact, Installs, Report};

fn closed(end: IntentEnd) -> Entry {
    Entry::IntentClosed { intent: IntentId("i".to_owned()), end }
}

fn found(text: &str) -> Option<Fact> {
    Some(Fact::Found { lrn: B, version: Some(version(text)) })
}

fn unknown() -> Option<Fact> {
    Some(Fact::Found { lrn: B, version: None })
}

fn way_back() -> Option<Fact> {
    Some(Fact::Installed { lrn: B, version: version("0.9.0"), sha256: None, way_back: true })
}

/// What is told after each of these entries.
fn told(entries: impl IntoIterator<Item = Entry>) -> Vec<Option<Fact>> {
    let mut installs = Installs::default();
    entries.into_iter().map(|entry| installs.take(B, &entry)).collect()
}

/// An earlier request for the version that is requested now, of which only journals tell.
fn earlier() -> UpdateRequest {
    request("1.0.0", 1)
}

/// B has written `before` when both are asked for 1.0.0 and complete it.
fn after(before: impl IntoIterator<Item = Entry>) -> Report {
    let one = request("1.0.0", 2);
    let mut log = Log::with_request(rules(), &one);
    before.into_iter().for_each(|entry| log.line(B, entry));
    log.both_go_on(&one, 1..=3);
    log.both_complete(&one);
    log.fed_from(None).0
}

#[test]
fn the_end_of_an_installation_tells_what_is_installed() {
    let opened = || install(&earlier(), "1.0.0", package('a'));
    let sha256 = Some(package('a').sha256);
    let new = Some(Fact::Installed { lrn: B, version: version("1.0.0"), sha256, way_back: false });
    let good = [opened(), started("1.0.0"), closed(IntentEnd::Completed), started("1.0.0")];
    assert_eq!(told(good), [found("0.9.0"), None, new.clone(), None]);
    // The way back: the new worker comes up and is not ready, the old one comes up again.
    let bad = [opened(), started("1.0.0"), started("0.9.0"), intent_failed(), started("0.9.0")];
    assert_eq!(told(bad), [found("0.9.0"), None, None, way_back(), None]);
    // It came to no end, or nobody knows whether it did.
    let worse = [opened(), started("1.0.0"), intent_failed(), started("1.0.0")];
    assert_eq!(told(worse), [found("0.9.0"), None, unknown(), found("1.0.0")]);
    assert_eq!(told([opened(), intent_failed()]), [found("0.9.0"), unknown()]);
    // Nothing was begun, and a person came before it.
    let dropped = [opened(), started("1.0.1"), closed(IntentEnd::Dropped)];
    assert_eq!(told(dropped), [found("0.9.0"), None, found("1.0.1")]);
    assert_eq!(told([opened(), closed(IntentEnd::Dropped)]), [found("0.9.0"), None]);
    // Of an installation that was begun before the journal's oldest entry.
    let state = JournalState::fold([&opened()]);
    assert_eq!(told([state.checkpoint(), closed(IntentEnd::Completed)]), [None, new]);
    // A journal that begins anew has lost what came before: when its first worker started, nobody can tell.
    let mark = Entry::Mark(neco_schema::journal::Mark::default());
    assert_eq!(told([started("1.0.0"), mark, started("1.0.1")]), [None, None, found("1.0.1")]);
    // Of other intents nothing follows.
    let restart = Effect::Restart { unit: "u".to_owned(), digest: None };
    let other = [intent(&earlier().id(), restart), closed(IntentEnd::Completed)];
    assert_eq!(told(other), [None, None]);
}

#[test]
fn a_package_installed_by_hand_after_a_failure_is_the_one_that_is_completed() {
    let failed = [
        started("0.9.0"),
        install(&earlier(), "1.0.0", package('a')),
        started("1.0.0"),
        started("0.9.0"),
        intent_failed(),
    ];
    // dpkg -i, and recover --retry: nothing is left to install.
    let report = after(failed.clone().into_iter().chain([started("1.0.0")]));
    assert!(report.violations.is_empty(), "{report}");
    assert!(report.holding.contains(&Safety(14)), "{report}");
    // Without it the old one is installed. Its process cannot do the work of the new one either.
    let report = after(failed);
    let what: Vec<_> = report.violations.iter().map(|found| found.what.as_str()).collect();
    assert!(what.contains(&"boot server 1 completes 1.0.0 and has 0.9.0 installed"), "{report}");
}

#[test]
fn what_a_failed_way_back_leaves_is_not_known() {
    let report = after([
        started("0.9.0"),
        install(&earlier(), "1.0.0", package('a')),
        started("1.0.0"),
        intent_failed(),
    ]);
    assert!(report.violations.is_empty(), "{report}");
}

#[test]
fn a_downgrade_by_hand_is_no_way_back_unasked() {
    let newer = || {
        let other = request("1.1.0", 1);
        [install(&other, "1.1.0", package('b')), started("1.1.0"), closed(IntentEnd::Completed)]
    };
    let again = || {
        [install(&earlier(), "1.0.0", package('a')), started("1.0.0"), closed(IntentEnd::Completed)]
    };
    // The worker was restarted with it, or only found it when it was to install.
    for shown in [vec![started("0.9.0")], vec![]] {
        let report = after(newer().into_iter().chain(shown).chain(again()));
        assert!(report.violations.is_empty(), "{report}");
        assert!(report.holding.contains(&Safety(27)), "{report}");
    }
    let mut log = Log::new(rules());
    let installed = |text: &str| Fact::Installed {
        lrn: Lrn::new(1),
        version: version(text),
        sha256: None,
        way_back: false,
    };
    // What no person has done is judged as before.
    log.auditor.fact(installed("1.1.0"));
    log.auditor.fact(installed("1.0.0"));
    log.breaks(Safety(27));
}
