//! Nothing goes wrong.

use neco_scenarios::{Scenario, TURN_UNIT, add_turn_unit, once};
use neco_schema::{Condition, Outcome};

use crate::audit::notices_every_plant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_reaches_all_boot_servers() {
    let scenario = Scenario::begin().await;
    let from = scenario.recorded().await;
    // Restarted by the last step, one server at a time.
    add_turn_unit(&scenario).await;
    let version = scenario.publish_update().await;
    let view = scenario.completed(&version).await;

    let requests = scenario.requests(from).await;
    assert_eq!(requests.len(), 1, "one request, written once: {requests:?}");
    for server in scenario.servers() {
        let posted = scenario.posted(server, from).await;
        let steps: Vec<(u32, Condition)> =
            posted.iter().map(|status| (status.step, status.cond)).collect();
        let last = posted.last().map_or(0, |status| status.step);
        let mut expected: Vec<_> = (1..=last).map(|step| (step, Condition::Running)).collect();
        expected.push((last, Condition::Complete));
        assert_eq!(steps, expected, "boot-{}: each step is posted once", server.lrn());
        for unit in ["vault.service", "serf.service"] {
            assert_eq!(scenario.done_to(server, unit), once(unit));
        }
        assert!(scenario.done_to(server, "setup-serf-tags.timer").len() <= 2);
    }
    for server in scenario.servers() {
        let words = ["start", "stop", "start"].map(|word| format!("{word} {TURN_UNIT}"));
        assert_eq!(scenario.done_to(server, TURN_UNIT), words, "boot-{}", server.lrn());
    }
    let outcomes: Vec<Outcome> =
        view.history.values().flatten().map(|record| record.outcome).collect();
    assert_eq!(outcomes, [Outcome::Completed; 2]);
    notices_every_plant(&scenario.recording(Some(&version)).await, &version);
    scenario.verdict(&version).await;
}
