//! Whole updates without faults.

use neco_runtime::Call;
use neco_schema::Condition;
use neco_schema::journal::{Entry, Phase};
use neco_systemd::Units as _;

use crate::cluster::{Cluster, SERF, TIMER, VAULT, change_serf};

#[tokio::test(start_paused = true)]
async fn a_first_update_brings_everything_up_on_all_servers() {
    let mut cluster = Cluster::of(3).await;
    cluster.update().await;
    for server in &cluster.servers {
        for unit in [VAULT, SERF, TIMER] {
            assert!(server.is_active(unit).await && server.is_enabled(unit).await, "{unit}");
            assert_eq!(server.count(&format!("start {unit}")), 1, "{:?}", server.effects());
        }
        let config = std::fs::read_to_string(server.path("/etc/vault/config.hcl")).unwrap();
        assert!(config.contains("https://10.69.0.3:2379,https://10.69.0.195:2379"), "{config}");
        let calls = server.containers().calls().unwrap();
        let pulled = calls.iter().filter(|call| matches!(call.effect, Call::Pull { .. })).count();
        assert_eq!(pulled, 6, "every image once: {calls:?}");
        let ran: Vec<&str> = calls
            .iter()
            .filter_map(|call| match &call.effect {
                Call::Run { spec } => Some(spec.image.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(ran.len(), 3, "Vault, serf and sabakan have client programs: {ran:?}");
    }
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_changes_nothing_restarts_nothing_and_writes_no_file() {
    let mut cluster = Cluster::of(3).await;
    cluster.update().await;
    let before: Vec<_> =
        cluster.servers.iter().map(|server| (server.effects(), server.files())).collect();
    let request = cluster.update().await;
    for (server, (effects, files)) in cluster.servers.iter().zip(&before) {
        assert_eq!(server.effects(), *effects);
        assert_eq!(server.files(), *files);
        assert_eq!(server.attempts(&request, 1), [1]);
        let entries = server.entries();
        let begun = entries.iter().filter_map(|entry| match entry {
            Entry::Effect { what, phase: Phase::Begin, .. } => Some(what),
            _ => None,
        });
        let pulls = begun.filter(|what| what.starts_with("pull ")).count();
        assert_eq!(pulls, 6, "of the first update alone");
    }
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn one_server_alone_is_a_cluster_too() {
    let mut cluster = Cluster::of(1).await;
    cluster.update().await;
    assert_eq!(cluster.server(0).count("start vault.service"), 1);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn what_runs_with_something_older_is_restarted_once() {
    let mut cluster = Cluster::of(2).await;
    cluster.update().await;
    cluster.upgrade("2026.11.21-1", change_serf).await;
    cluster.update().await;
    cluster.update().await;
    for server in &cluster.servers {
        assert_eq!(
            (server.count("start serf.service"), server.count("stop serf.service")),
            (2, 1),
            "{:?}",
            server.effects()
        );
        assert_eq!(server.count("stop vault.service"), 0, "it changes nowhere");
    }
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_pause_holds_between_steps() {
    let mut cluster = Cluster::of(2).await;
    let image = "pull ghcr.io/cybozu/serf:0.10.1.7";
    cluster.server(0).containers().faults().hold(image).unwrap();
    let request = cluster.request().await;
    cluster.until("step 1 runs", async || cluster.server(0).begun(image) == 1).await;
    cluster.pause(true).await;
    cluster.server(0).containers().faults().clear(image).unwrap();
    cluster
        .until("both rest, paused", async || {
            cluster.servers.iter().all(|server| server.waits_for().contains("paused by somebody"))
        })
        .await;
    for server in &cluster.servers {
        // The step that ran came to its end; the next did not begin.
        assert_eq!(server.attempts(&request, 1), [1]);
        assert!(server.attempts(&request, 2).is_empty());
    }
    assert_eq!(cluster.stands(0, &request), Some((1, Condition::Running)));
    cluster.pause(false).await;
    cluster.completed(&request).await;
    cluster.verdict().await;
}

/// The decisions in the journal of a server, with the keys that were seen.
fn decisions(cluster: &Cluster, lrn: u32) -> Vec<(String, Vec<String>)> {
    let decision = |entry: Entry| match entry {
        Entry::Decision { decided, keys, .. } => Some((decided, keys)),
        _ => None,
    };
    cluster.server(lrn).entries().into_iter().filter_map(decision).collect()
}

#[tokio::test(start_paused = true)]
async fn every_decision_stands_in_the_journal_with_the_keys_it_saw() {
    let mut cluster = Cluster::of(2).await;
    cluster
        .until("it rests", async || cluster.server(0).waits_for().contains("nothing is requested"))
        .await;
    cluster.pause(true).await;
    let request = cluster.request().await;
    cluster.until("it is paused", async || cluster.server(0).waits_for().contains("paused")).await;
    cluster.pause(false).await;
    cluster.completed(&request).await;
    let decisions = decisions(&cluster, 0);
    for (words, keys) in [
        ("row 6 rest: nothing is requested", &[][..]),
        ("row 13 rest: paused by somebody", &["control/pause@", "status/current@"]),
        ("row 16 publish-plan", &["status/current@"]),
        ("row 17 run step 1, attempt 1", &["plan/0@", "plan/1@", "status/bootservers/1@"]),
        ("row 18 post step 18, completed", &["plan/0@", "status/bootservers/0@"]),
        ("row 8 rest: completed", &["status/bootservers/0@"]),
    ] {
        let found = decisions.iter().find(|(decided, _)| decided.starts_with(words));
        let Some((_, seen)) = found else { panic!("{words}: {decisions:#?}") };
        for key in keys {
            assert!(seen.iter().any(|seen| seen.starts_with(key)), "{words}, {key}: {seen:?}");
        }
    }
    // Said once, however often it is looked at: per step a barrier, its run and a status.
    assert!(decisions.len() <= 18 * 4 + 12, "{}: {decisions:#?}", decisions.len());
    cluster.verdict().await;
}

/// Whoever has nothing to do asks etcd little: one look and one write for the status of a step, and what steps look at
/// that wait for others.
#[tokio::test(start_paused = true)]
async fn a_step_without_work_costs_one_look_and_one_write() {
    let mut cluster = Cluster::of(3).await;
    cluster.update().await;
    let before: Vec<u64> = cluster.servers.iter().map(|server| server.calls()).collect();
    cluster.update().await;
    let steps = u64::from(cluster.step("final-sync"));
    // What is recorded of five images and a package, and what machines are told of settings.
    let read = 7;
    for (server, before) in cluster.servers.iter().zip(before) {
        let asked = server.calls() - before;
        assert!(
            asked <= 3 * steps + read,
            "server {} asked etcd {asked} times in {steps} steps",
            server.lrn
        );
    }
    cluster.verdict().await;
}

/// Releases of the original before its service had a timer for it. Neco removes nothing that it did not bring.
#[tokio::test(start_paused = true)]
async fn a_timer_that_an_older_release_has_left_is_left_alone() {
    const OLD: &str = "sabakan-state-setter.timer";
    const SERVICE: &str = "sabakan-state-setter.service";
    let mut cluster = Cluster::of(2).await;
    let text = "[Timer]\nOnCalendar=minutely\n[Install]\nWantedBy=timers.target\n";
    let service = "[Service]\nExecStart=/x\n[Install]\nWantedBy=multi-user.target\n";
    for server in &cluster.servers {
        for (folder, unit, text) in
            [("/etc/systemd/system", OLD, text), ("/usr/lib/systemd/system", SERVICE, service)]
        {
            let path = server.path(folder).join(unit);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let timer = OLD.parse().unwrap();
        server.units().enable(&timer).await.unwrap();
        server.units().start(&timer).await.unwrap();
    }
    let before: Vec<_> = cluster.servers.iter().map(|server| server.effects().len()).collect();
    cluster.update().await;
    cluster.upgrade("2026.11.21-1", |_| {}).await;
    cluster.update().await;
    for (server, before) in cluster.servers.iter().zip(before) {
        let effects = server.effects().split_off(before);
        assert!(effects.contains(&format!("start {SERVICE}")), "{effects:?}");
        assert!(effects.iter().all(|effect| !effect.contains(OLD)), "{effects:?}");
        assert!(server.is_active(OLD).await && server.is_enabled(OLD).await);
        let there = std::fs::read_to_string(server.path("/etc/systemd/system").join(OLD)).unwrap();
        assert_eq!(there, text);
    }
    cluster.verdict().await;
}
