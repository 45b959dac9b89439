//! What a unit runs with that somebody else than Neco has started: systemd after a crash or a boot, a person by hand.

use std::time::{Duration, UNIX_EPOCH};

use neco_components::Recipe;
use neco_systemd::{UnitName, Units};
use neco_worker::{RecipeSteps, Steps as _};

use crate::cluster::{Cluster, SERF, edit};
use crate::etcd::{self, ETCD, InMemory};

const UNIT: &str = "/etc/systemd/system/serf.service";
const CONFIG: &str = "/etc/serf/serf.json";
const ETCD_UNIT: &str = "/etc/systemd/system/etcd-container.service";

fn name(unit: &str) -> UnitName {
    unit.parse().unwrap()
}

/// One server on which everything runs as it should.
async fn settled() -> Cluster {
    let mut cluster = Cluster::of(1).await;
    etcd::certify(&cluster);
    let _member = InMemory::of(&cluster, 0..1);
    cluster.update().await;
    assert!(cluster.server(0).is_active(SERF).await && cluster.server(0).is_active(ETCD).await);
    cluster
}

/// Waits until all that they are started with is older than whatever is written now.
fn all_grows_old(cluster: &Cluster) {
    for file in [UNIT, CONFIG, ETCD_UNIT, etcd::CONFIG] {
        grows_old(cluster, file);
    }
}

fn starts(cluster: &Cluster, unit: &str) -> usize {
    cluster.server(0).count(&format!("start {unit}"))
}

/// Waits until nobody can take a file for one that is written now. Files have their times from the machine, whatever the
/// time of the test is.
fn grows_old(cluster: &Cluster, path: &str) {
    let written = cluster.server(0).path(path).metadata().unwrap().modified().unwrap();
    let old = || written.elapsed().is_ok_and(|age| age > Duration::from_millis(100));
    let began = UNIX_EPOCH.elapsed().unwrap();
    while !old() {
        assert!(UNIX_EPOCH.elapsed().unwrap() < began + Duration::from_secs(60), "{written:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Somebody else starts the unit anew.
async fn starts_anew(cluster: &Cluster, unit: &str) {
    cluster.server(0).units().restart(&name(unit)).await.unwrap();
}

/// The unit starts while other words are in its file, which then holds the old ones again: as when a member crashes after
/// its file was written, and the update is taken back.
async fn runs_with_what_was_taken_back(unit: &str, file: &str) -> Cluster {
    let mut cluster = settled().await;
    let path = cluster.server(0).path(file);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}# another one\n")).unwrap();
    cluster.server(0).units().daemon_reload().await.unwrap();
    grows_old(&cluster, file);
    starts_anew(&cluster, unit).await;
    std::fs::write(&path, text).unwrap();
    cluster.server(0).units().daemon_reload().await.unwrap();
    let before = starts(&cluster, unit);
    cluster.update().await;
    assert_eq!(starts(&cluster, unit), before + 1, "{:?}", cluster.server(0).effects());
    cluster
}

#[tokio::test(start_paused = true)]
async fn what_a_program_was_started_with_and_is_no_more_there_is_left_by_a_restart() {
    let mut cluster = runs_with_what_was_taken_back(SERF, UNIT).await;
    let before = starts(&cluster, SERF);
    cluster.update().await;
    assert_eq!(starts(&cluster, SERF), before, "once");
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_member_of_etcd_that_took_up_a_withdrawn_change_is_restarted_too() {
    let mut cluster = runs_with_what_was_taken_back(ETCD, ETCD_UNIT).await;
    let before = starts(&cluster, ETCD);
    cluster.update().await;
    assert_eq!(starts(&cluster, ETCD), before, "once");
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn who_was_started_again_with_what_has_long_been_there_goes_on() {
    let mut cluster = settled().await;
    all_grows_old(&cluster);
    for unit in [SERF, ETCD] {
        starts_anew(&cluster, unit).await;
    }
    let before = cluster.server(0).effects();
    cluster.update().await;
    assert_eq!(cluster.server(0).effects(), before);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_boot_is_no_reason_to_restart_what_it_has_started() {
    let mut cluster = settled().await;
    all_grows_old(&cluster);
    cluster.servers[0].reboot().await;
    let before = [SERF, ETCD].map(|unit| starts(&cluster, unit));
    cluster.start(0);
    cluster.update().await;
    assert_eq!([SERF, ETCD].map(|unit| starts(&cluster, unit)), before);
    for unit in [SERF, ETCD] {
        assert_eq!(cluster.server(0).count(&format!("stop {unit}")), 0, "{unit}");
    }
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_systemd_started_by_an_older_definition_is_restarted() {
    let mut cluster = settled().await;
    let path = cluster.server(0).path(UNIT);
    let text = std::fs::read_to_string(&path).unwrap();
    // The worker dies between the writing of a file and the word to systemd.
    std::fs::write(&path, format!("{text}# another one\n")).unwrap();
    cluster.server(0).units().daemon_reload().await.unwrap();
    std::fs::write(&path, text).unwrap();
    grows_old(&cluster, UNIT);
    starts_anew(&cluster, SERF).await;
    let before = starts(&cluster, SERF);
    cluster.update().await;
    assert_eq!(starts(&cluster, SERF), before + 1, "{:?}", cluster.server(0).effects());
    cluster.verdict().await;
}

/// Somebody else has started the units, and a package is about to be installed.
async fn looks_before_a_package_comes(cluster: &Cluster) {
    let recipe = Recipe::load(cluster.server(0).path("/usr/share/neco")).unwrap();
    let steps = RecipeSteps::new(recipe, cluster.server(0).host()).unwrap();
    let request = cluster.view().current().unwrap().clone();
    steps.note_runs(&request).await;
}

#[tokio::test(start_paused = true)]
async fn files_that_a_package_brings_anew_as_they_were_restart_nobody_after_a_boot() {
    const UNIT: &str = "node-exporter.service";
    let files = [
        (
            "/lib/systemd/system/node-exporter.service",
            "[Service]\nExecStart=/bin/true\n[Install]\n",
        ),
        ("/usr/sbin/node_exporter", "a program"),
    ];
    let bring = |cluster: &Cluster| {
        for (path, text) in files {
            let path = cluster.server(0).path(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            // As dpkg does: another file of that name.
            let _ = std::fs::remove_file(&path);
            std::fs::write(path, text).unwrap();
        }
    };
    let mut cluster = Cluster::of(1).await;
    bring(&cluster);
    cluster.update().await;
    for (path, _) in files {
        grows_old(&cluster, path);
    }
    cluster.servers[0].reboot().await;
    cluster.start(0);
    looks_before_a_package_comes(&cluster).await;
    bring(&cluster);
    cluster.server(0).units().daemon_reload().await.unwrap();
    let before = starts(&cluster, UNIT);
    cluster.update().await;
    assert_eq!(starts(&cluster, UNIT), before);
    // Its unit is part of what it runs with.
    let unit = cluster.server(0).path(files[0].0);
    std::fs::write(unit, "[Service]\nExecStart=/bin/false\n[Install]\n").unwrap();
    cluster.server(0).units().daemon_reload().await.unwrap();
    cluster.update().await;
    assert_eq!(starts(&cluster, UNIT), before + 1);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_unit_of_the_site_in_the_place_of_a_package_s_is_not_restarted_after_a_boot() {
    const UNIT: &str = "node-exporter.service";
    let mut cluster = Cluster::of(1).await;
    for (path, text) in [
        (
            "/etc/systemd/system/node-exporter.service",
            "[Service]\nExecStart=/bin/true\n[Install]\n",
        ),
        ("/usr/sbin/node_exporter", "a program"),
    ] {
        let path = cluster.server(0).path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    cluster.update().await;
    grows_old(&cluster, "/usr/sbin/node_exporter");
    cluster.servers[0].reboot().await;
    let before = starts(&cluster, UNIT);
    cluster.start(0);
    cluster.update().await;
    assert_eq!(starts(&cluster, UNIT), before);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn other_members_in_its_configuration_restart_no_etcd_whoever_started_it() {
    let mut cluster = settled().await;
    all_grows_old(&cluster);
    starts_anew(&cluster, ETCD).await;
    let before = starts(&cluster, ETCD);
    cluster
        .upgrade("2026.11.21-1", |folder| {
            let template = "templates/etcd.conf.yml.j2";
            edit(folder, template, "initial-cluster-token: ", "initial-cluster-token: another-");
        })
        .await;
    let config = || std::fs::read_to_string(cluster.server(0).path(etcd::CONFIG)).unwrap();
    let old = config();
    cluster.update().await;
    assert_ne!(std::fs::read_to_string(cluster.server(0).path(etcd::CONFIG)).unwrap(), old);
    assert_eq!(starts(&cluster, ETCD), before);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn another_mode_restarts_nobody_whoever_started_it() {
    let mut cluster = settled().await;
    all_grows_old(&cluster);
    starts_anew(&cluster, SERF).await;
    let before = starts(&cluster, SERF);
    cluster
        .upgrade("2026.11.21-1", |folder| {
            edit(folder, "components/serf.toml", "mode = \"0644\"", "mode = \"0640\"");
        })
        .await;
    // The file gets its mode in the first of them.
    for _ in 0..2 {
        cluster.update().await;
        assert_eq!(starts(&cluster, SERF), before);
    }
    cluster.verdict().await;
}
