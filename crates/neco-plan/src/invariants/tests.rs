//! Every invariant is put to the test by a log that breaks it and by one that does not.

mod authority;
mod barrier;
mod feed;
mod installed;
mod installs;
mod liveness;
mod log;
mod record;
mod stops;
mod whole;

use super::{InvariantId, Needs};

#[test]
fn the_page_lists_every_invariant_by_its_name_and_says_what_is_not_evaluated() {
    let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/invariants.md"));
    for invariant in InvariantId::all() {
        let begin = format!("| {invariant} | {} | ", invariant.name());
        let line = page.lines().find(|line| line.starts_with(&begin));
        let line = line.unwrap_or_else(|| panic!("no line for {begin}"));
        let says_not_yet = line.contains("| not yet: ");
        assert_eq!(says_not_yet, !invariant.is_evaluated(), "{line}");
    }
    for (needs, what) in [(Needs::Facts, "facts of a harness"), (Needs::Journals, "a journal")] {
        let of_it = InvariantId::all().filter(|invariant| invariant.needs() == needs);
        let of_it: Vec<_> = of_it.map(|invariant| invariant.to_string()).collect();
        let says = format!("Without {what}: {}.", of_it.join(", "));
        assert!(page.contains(&says), "the page does not say: {says}");
    }
}
