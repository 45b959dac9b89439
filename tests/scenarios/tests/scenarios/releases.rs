//! The release itself is bad.

use neco_plan::outcome;
use neco_playground::outcome_of;
use neco_scenarios::{Scenario, all_settled};
use neco_schema::Outcome;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_whose_worker_dies_at_start_stops_at_the_first_server_and_the_next_heals_it() {
    let scenario = Scenario::begin().await;
    let packages = scenario.packages().clone();
    let (first, bad) = (packages.first().clone(), packages.update().clone());
    let healing = packages.healing().expect("a third package").clone();
    let package = packages.bad(&bad).expect("a bad package");
    scenario.publish(package).await.expect("published");
    let view = all_settled(&scenario, &bad).await;
    let request = view.current().expect("a request");
    assert_eq!(outcome(&view, request), Outcome::Aborted);
    let status = view.status_of(request, scenario.server(0).lrn()).expect("an abort");
    let origin = status.value.origin.clone().expect("an origin");
    assert_eq!((origin.lrn, origin.step), (scenario.server(0).lrn(), 1), "{origin:?}");
    for server in scenario.servers() {
        assert_eq!(server.version_on_disk().as_deref(), Some(first.as_str()));
        for unit in ["vault.service", "serf.service"] {
            assert!(scenario.done_to(server, unit).is_empty(), "no step was begun");
        }
    }
    let bad = request.clone();
    scenario.publish_sound(&healing).await;
    let view = scenario.completed(&healing).await;
    assert_eq!(outcome_of(&view, &bad), Some(Outcome::Aborted), "recorded as what it was");
    scenario.verdict(&healing).await;
}
