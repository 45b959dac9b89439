//! There is no etcd.

use neco_plan::invariants::Fact;
use neco_scenarios::{Scenario, daemons, ended_in_order, lines, necoctl, processes, restarted};

/// How often one process may say one thing of one outage: by the loop, and by what runs beside it.
const SAID: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn daemons_stay_up_without_etcd_and_go_on() {
    let scenario = Scenario::begin().await;
    let etcd = ["etcd does not answer at http://127.0.0.1:", "'endpoints'"];

    // etcd goes while they run, and is not there when some of them start.
    let ran = processes(scenario.server(0));
    let mut cluster = scenario.etcd().await;
    scenario.fact(Fact::Quorum { stands: false });
    cluster.stop().await.expect("stopped");
    let started = restarted(scenario.server(1)).await;
    for server in [scenario.server(0), scenario.server(1)] {
        for daemon in ["neco-worker", "neco-updater"] {
            scenario.logged(server, daemon, &etcd).await;
        }
    }
    // The command line tells what this server knows, and that it may be old.
    let told = necoctl(scenario.server(0), &["status", "--timeout=2s", "--output=json"]).await;
    let told = told.ended(2);
    let status: serde_json::Value = serde_json::from_str(&told.out).expect("JSON");
    assert_eq!(status["stale"], true, "{status}");
    assert!(status["reason"].as_str().is_some_and(|why| why.contains("etcd")), "{status}");
    for daemon in status["daemons"].as_array().expect("daemons") {
        assert_eq!(daemon["runs"], true, "{status}");
        let waiting_for = daemon["status"]["waiting_for"].as_str();
        assert!(waiting_for.is_some_and(|what| what.contains("etcd")), "{status}");
    }
    for verb in ["status", "why"] {
        let told = necoctl(scenario.server(0), &[verb, "--timeout=2s"]).await;
        let told = told.ended(2).out;
        assert!(told.starts_with("STALE: ") && told.contains("neco-worker"), "{told}");
    }
    let version = scenario.publish_update().await;
    cluster.restart().await.expect("started");
    scenario.fact(Fact::Quorum { stands: true });
    drop(cluster);

    scenario.completed(&version).await;

    // Those that went through the outage did not end for it; what they said of it, they said once each.
    for (server, processes) in [(scenario.server(0), ran), (scenario.server(1), started)] {
        for (name, daemon) in ["neco-worker", "neco-updater"].into_iter().zip(daemons(server)) {
            let (said, starts) = (lines(server, name, &etcd), daemon.state().runs.len());
            assert!(said.len() <= SAID * starts, "boot-{}: {said:#?}", server.lrn());
            assert!(!lines(server, name, &["etcd answers again"]).is_empty());
        }
        ended_in_order(server, &processes);
    }
    scenario.verdict(&version).await;
}
