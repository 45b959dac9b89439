//! No etcd, no configuration.

use neco_plan::invariants::Fact;
use neco_scenarios::{Scenario, daemons, lines, necoctl, processes, restarted};

/// How often one thing may be said of one outage: by the loop, and by what runs beside it.
const SAID: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn daemons_stay_up_without_etcd_and_without_a_configuration_and_go_on() {
    let scenario = Scenario::begin().await;
    let first = scenario.packages().first().clone();
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

    // The configuration of the third is lost, spoilt, and spoilt in several places at once.
    let victim = scenario.server(2);
    let file = victim.root().join("etc/neco/config.yml");
    let good = std::fs::read(&file).expect("a configuration");
    std::fs::remove_file(&file).expect("it was there");
    let waiting = restarted(victim).await;
    let name = file.display().to_string();
    scenario.logged(victim, "neco-worker", &[&name, "does not exist", "endpoints: ["]).await;
    std::fs::write(&file, "endpoints: [\n").expect("room");
    scenario.logged(victim, "neco-worker", &[&format!("{name}:"), "correct the YAML"]).await;
    std::fs::write(&file, "endpoints: 5\ntimeout: soon\nrelease: {unsigned: maybe}\n")
        .expect("room");
    for words in [
        ["3 problems", "configuration"],
        ["endpoints", &name],
        ["timeout", &name],
        ["release.unsigned", &name],
    ] {
        scenario.logged(victim, "neco-worker", &words).await;
    }
    assert_eq!(processes(victim), waiting, "it waits for the right one");
    assert_eq!(victim.version_on_disk().as_deref(), Some(first.as_str()));
    let said = lines(victim, "neco-worker", &["does not exist"]);
    assert_eq!(said.len(), 1, "{said:#?}");
    // The command line ends with the same report, and with what the design says of a failure.
    let report = necoctl(victim, &["status"]).await.ended(1).err;
    for key in ["3 problems", "endpoints", "timeout", "release.unsigned"] {
        assert!(report.contains(key), "{report}");
    }
    std::fs::write(&file, good).expect("room");
    scenario.completed(&version).await;

    // Those that went through the outage did not end for it; what they said of it, they said once each.
    for (server, processes) in [(scenario.server(0), ran), (scenario.server(1), started)] {
        for daemon in ["neco-worker", "neco-updater"] {
            let said = lines(server, daemon, &etcd);
            assert!(said.len() <= SAID, "boot-{}: {said:#?}", server.lrn());
            assert!(!lines(server, daemon, &["etcd answers again"]).is_empty());
        }
        let ends: Vec<_> = daemons(server).flat_map(|daemon| daemon.state().exits).collect();
        for process in processes {
            let end = ends.iter().find(|exited| exited.pid == process).expect("replaced");
            let planned = matches!(end.status.code(), Some(0 | 3)) || end.status.code().is_none();
            assert!(planned, "process {process} gave up: {}", end.status);
        }
    }
    scenario.verdict(&version).await;
}
