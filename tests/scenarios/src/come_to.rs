//! What a request has come to: on which server, how far, and whether anything was done twice.

use neco_plan::View;
use neco_playground::{BootServer, has_settled};
use neco_schema::{Condition, NecoVersion, Revision, UpdateRequest};

use crate::Scenario;

/// The service that every update stops on all servers, and then starts on all.
pub const GROUPED_UNIT: &str = "vault.service";
/// The service that every update restarts on one server after another.
pub const UNIT_IN_TURN: &str = neco_playground::HELD_UNIT;

/// An image that only the update brings; it is pulled in step 1.
pub const IMAGE: &str = "pull ghcr.io/cybozu/vault:1.18.1.2";

/// The request, if it is one for `version`.
#[must_use]
pub fn request_of<'v>(view: &'v View, version: &NecoVersion) -> Option<&'v UpdateRequest> {
    view.current().filter(|request| request.version == *version)
}

/// Waits for a request for a version that goes on and is none of `earlier`.
///
/// # Panics
/// None comes.
pub async fn request_for(
    scenario: &Scenario,
    version: &NecoVersion,
    earlier: &[&UpdateRequest],
) -> UpdateRequest {
    let mut found = None;
    scenario
        .until(&format!("a request for {version}"), |view| {
            let current = request_of(view, version);
            let another = |request: &&UpdateRequest| {
                !request.stop && earlier.iter().all(|other| other.id() != request.id())
            };
            found = current.filter(another).cloned();
            found.is_some()
        })
        .await;
    found.expect("just seen")
}

/// What a server has posted for a request.
#[must_use]
pub fn posted(
    view: &View,
    request: &UpdateRequest,
    server: &BootServer,
) -> Option<(u32, Condition)> {
    let status = view.status_of(request, server.lrn())?;
    Some((status.value.step, status.value.cond))
}

/// Waits until all of `servers` have settled in a request that was stopped.
///
/// # Panics
/// They do not.
pub async fn settled(scenario: &Scenario, request: &UpdateRequest, servers: &[&BootServer]) {
    scenario
        .until("the end of a stopped request", |view| {
            servers.iter().all(|server| {
                posted(view, request, server).is_some_and(|(_, cond)| cond == Condition::NotRunning)
            })
        })
        .await;
}

/// Waits until the request for a version is stopped, and every member has settled, aborted or completed.
///
/// # Panics
/// They do not.
pub async fn all_settled(scenario: &Scenario, version: &NecoVersion) -> View {
    scenario
        .until(&format!("all members settled in the request for {version}"), |view| {
            request_of(view, version)
                .is_some_and(|request| request.stop && has_settled(view, request))
        })
        .await
}

/// What a restart leaves in the log of units.
#[must_use]
pub fn once(unit: &str) -> [String; 2] {
    ["stop", "start"].map(|job| format!("{job} {unit}"))
}

/// Checks that since `from` every server has posted each step once, and restarted every service once.
///
/// # Panics
/// One did not.
pub async fn nothing_was_done_twice(scenario: &Scenario, from: Revision, steps: u32) {
    for server in scenario.servers() {
        let lrn = server.lrn();
        let posted = scenario.posted(server, from).await;
        let posted: Vec<_> = posted.iter().map(|status| (status.step, status.cond)).collect();
        let mut expected: Vec<_> = (1..=steps).map(|step| (step, Condition::Running)).collect();
        expected.push((steps, Condition::Complete));
        assert_eq!(posted, expected, "boot-{lrn}: each step is posted once");
        for unit in [GROUPED_UNIT, UNIT_IN_TURN] {
            assert_eq!(scenario.done_to(server, unit), once(unit), "boot-{lrn}");
        }
    }
}

/// Waits until nobody hears of a server any more.
///
/// # Panics
/// Somebody still does.
pub async fn given_up(scenario: &Scenario, server: &BootServer) -> View {
    scenario.until("the end of a lease", |view| !view.alive.contains_key(&server.lrn())).await
}
