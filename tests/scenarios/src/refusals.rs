//! The end of a request that the first server cannot carry out.

use neco_playground::has_settled;
use neco_schema::{NecoVersion, UpdateRequest};

use crate::{Scenario, lines};

/// How often one refusal may be said: by whoever found it, and by the status that is posted.
const SAID: usize = 2;

/// Waits for the end of a request for `version` that the first server aborts, and checks that it says why, with all of
/// `words` on one line, and that every server has on its disk what it had.
///
/// # Panics
/// Something of that is not so.
pub async fn aborted(scenario: &Scenario, version: &NecoVersion, words: &[&str]) -> UpdateRequest {
    let view = scenario
        .until(&format!("the end of {version}"), |view| {
            let request = view.current().filter(|request| request.version == *version);
            // Who is at rest says so a moment later.
            let at_rest = view.alive.values().all(|alive| alive.value.busy.is_empty());
            request.is_some_and(|request| request.stop && has_settled(view, request)) && at_rest
        })
        .await;
    let first = scenario.server(0);
    let request = view.current().expect("a request").clone();
    let status = view.status_of(&request, first.lrn()).expect("an abort");
    let origin = status.value.origin.as_ref().expect("an origin");
    assert!(origin.lrn == first.lrn() && origin.step == 1, "{origin:?}");
    assert!(words.iter().all(|word| origin.cause.contains(word)), "{words:?}: {origin:?}");
    assert!(!origin.cause.contains('\n'), "{origin:?}");
    scenario.logged(first, "neco-worker", words).await;
    // Whoever installs says what failed, and where to it goes back.
    let said: Vec<_> = lines(first, "neco-worker", words);
    let by_the_worker = said
        .iter()
        .filter(|line| !line.contains(": going back to ") && !line.contains(": not installed"));
    assert!(by_the_worker.count() <= SAID, "{version}: said again and again: {said:#?}");
    for server in scenario.servers() {
        let installed = scenario.packages().first();
        assert_eq!(server.version_on_disk().as_deref(), Some(installed.as_str()), "{version}");
    }
    request
}
