//! What an operator is told before an update.

use std::collections::BTreeSet;

use neco_scenarios::{Scenario, necoctl, says};
use neco_systemd::UnitEffect;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_planned_is_what_the_update_then_does() {
    let scenario = Scenario::begin().await;
    let next = scenario.packages().update().clone();
    let operator = scenario.server(0);
    necoctl(operator, &["pause", "--reason", "looking first"]).await.ended(0);
    scenario.publish_sound(&next).await;
    // Its package is installed nowhere yet.
    let to = ["plan", "--to", next.as_str()];
    let human = necoctl(operator, &to).await.ended(0).out;
    let outage = "vault.service on all servers from step 3 to 4";
    says(
        &human,
        &[
            outage,
            "vault.service is restarted",
            "-    ghcr.io/cybozu/vault:",
            "+    ghcr.io/cybozu/vault:",
        ],
    );
    let told = necoctl(operator, &[&to[..], &["--output", "json"]].concat()).await.ended(0);
    let report: Value = serde_json::from_str(&told.out).expect("a report");
    assert_eq!(report["recipes"].as_array().map(Vec::len), Some(1), "{report}");
    let before: Vec<usize> = scenario
        .servers()
        .iter()
        .map(|server| server.units().effects().expect("a log of units").len())
        .collect();
    necoctl(operator, &["resume"]).await.ended(0);
    scenario.completed(&next).await;
    for ((server, answer), before) in
        scenario.servers().iter().zip(report["servers"].as_array().expect("servers")).zip(before)
    {
        let steps = answer["answer"]["steps"].as_array().expect("steps").iter();
        let planned: BTreeSet<String> = steps
            .flat_map(|step| step["changes"].as_array().into_iter().flatten())
            .filter(|change| change["kind"] == "unit" && change["what"] == "is restarted")
            .filter_map(|change| change["subject"].as_str().map(str::to_owned))
            .collect();
        let effects = server.units().effects().expect("a log of units");
        let started: BTreeSet<String> = effects[before..]
            .iter()
            .filter_map(|entry| match &entry.effect {
                UnitEffect::Start { unit, .. } | UnitEffect::Restart { unit, .. } => {
                    Some(unit.as_str().to_owned())
                }
                _ => None,
            })
            .collect();
        assert_eq!(started, planned, "boot server {}", server.lrn());
    }
    let after = necoctl(operator, &["plan"]).await.ended(0).out;
    assert!(!after.contains("    unit"), "{after}");
    scenario.verdict(&next).await;
}
