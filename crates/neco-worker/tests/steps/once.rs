//! What one server does for the whole cluster.

use std::path::Path;

use neco_schema::{Condition, Key, Lrn, Op, Range, UpdateRequest};
use neco_store::{Store as _, StoreError};

use crate::cluster::{Cluster, Server, edit};
use crate::drivers::LEASES;

const PUBLISH: &str = "publish dhcp.json";

fn published(cluster: &Cluster) -> usize {
    cluster.servers.iter().map(|server| server.begun(PUBLISH)).sum()
}

fn change(folder: &Path) {
    edit(folder, "dhcp.json", "60", "90");
}

#[tokio::test(start_paused = true)]
async fn the_settings_are_published_by_one_of_three() {
    let mut cluster = Cluster::of(3).await;
    cluster.update().await;
    assert_eq!(published(&cluster), 1);
    let files =
        cluster.servers.iter().filter(|s| s.path("/var/lib/neco/published/dhcp.json").exists());
    assert_eq!(files.count(), 1);
    assert!(cluster.view().contents["dhcp.json"].value.success);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn they_are_published_again_only_for_another_version_or_other_settings() {
    let mut cluster = Cluster::of(3).await;
    cluster.update().await;
    cluster.update().await;
    assert_eq!(published(&cluster), 1, "nothing changed");
    let version = cluster.version.to_string();
    // The same version with other settings: a package that was built again.
    cluster.upgrade(&version, change).await;
    cluster.update().await;
    assert_eq!(published(&cluster), 2, "the settings changed");
    cluster.upgrade("2026.11.21-1", |_| {}).await;
    cluster.update().await;
    assert_eq!(published(&cluster), 3, "the version changed");
}

#[tokio::test(start_paused = true)]
async fn a_component_of_one_server_is_brought_and_recorded_there_alone() {
    let alone = |folder: &Path| {
        let name = "name = \"promtail\"\n";
        let one = format!("{name}scope = \"once-per-cluster\"\n");
        edit(folder, "components/promtail.toml", name, &one);
    };
    let mut cluster = Cluster::with(3, alone).await;
    cluster.update().await;
    let has = |server: &&Server| server.path("/etc/promtail/promtail.yaml").exists();
    let brought: Vec<u32> = cluster.servers.iter().filter(has).map(|server| server.lrn).collect();
    let [elected] = *brought else { panic!("it is on boot servers {brought:?}") };
    let record = |lrn| Key::InstalledContainer(Lrn::new(lrn), "promtail".to_owned());
    let ranges: Vec<Range> = (0..3).map(|lrn| Range::from(&record(lrn))).collect();
    let records = cluster.store.read(&ranges, None).await.unwrap().kvs;
    let written: Vec<&String> = records.keys().collect();
    assert_eq!(written, [&record(elected).to_string()]);
    cluster.verdict().await;
}

/// Brings all to where the settings cannot be published anywhere, and lets the request end.
async fn fails_everywhere(cluster: &mut Cluster) -> UpdateRequest {
    for server in &cluster.servers {
        // A folder stands in the way.
        std::fs::create_dir_all(server.path("/var/lib/neco/published/dhcp.json/x")).unwrap();
    }
    let request = cluster.request().await;
    cluster.ended(&request, Condition::Abort).await;
    request
}

#[tokio::test(start_paused = true)]
async fn who_fails_aborts_with_its_own_cause_and_the_others_copy_it() {
    for _ in 0..5 {
        let mut cluster = Cluster::of(3).await;
        fails_everywhere(&mut cluster).await;
        let failed: Vec<u32> =
            cluster.servers.iter().filter(|s| s.begun(PUBLISH) > 0).map(|s| s.lrn).collect();
        assert_eq!(failed.len(), 1, "one tries, the others wait for what it says");
        for server in &cluster.servers {
            let origin = cluster.status(server.lrn).unwrap().origin.unwrap();
            assert_eq!(origin.lrn.get(), failed[0], "{origin:?}");
            assert!(
                origin.cause.contains("writing /var/lib/neco/published/dhcp.json"),
                "{origin:?}"
            );
        }
        cluster.verdict().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_another_request_counts_as_if_it_had_not_been() {
    let mut cluster = Cluster::of(3).await;
    fails_everywhere(&mut cluster).await;
    assert!(!cluster.view().contents["dhcp.json"].value.success);
    for server in &cluster.servers {
        std::fs::remove_dir_all(server.path("/var/lib/neco/published/dhcp.json")).unwrap();
    }
    // What `recover` takes away, the record of the failure left.
    cluster.write(Op::delete_prefix("status/")).await;
    cluster.update().await;
    assert!(cluster.view().contents["dhcp.json"].value.success);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_record_that_etcd_did_not_take_is_written_again() {
    let mut cluster = Cluster::of(2).await;
    cluster.faults.unanswered.lock().unwrap().push("contents/dhcp".to_owned());
    cluster.update().await;
    assert!(cluster.view().contents["dhcp.json"].value.success);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_record_whose_answer_was_lost_is_found_and_the_work_not_done_again() {
    let mut cluster = Cluster::of(2).await;
    cluster.faults.answer_lost.lock().unwrap().push("contents/dhcp".to_owned());
    cluster.update().await;
    assert_eq!(published(&cluster), 1);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn an_elected_server_that_dies_is_followed_by_another() {
    let mut cluster = Cluster::of(2).await;
    // Whoever is elected cannot record what it has done, and dies over it.
    cluster.faults.unanswered.lock().unwrap().extend(vec!["contents/dhcp".to_owned(); 1000]);
    let request = cluster.request().await;
    cluster.until("one does the work", async || published(&cluster) > 0).await;
    let elected = cluster.servers.iter().position(|server| server.begun(PUBLISH) > 0).unwrap();
    cluster.servers[elected].crash().await;
    let (elected, other) = (elected as u32, 1 - elected as u32);
    let tried = cluster.server(other).begun(PUBLISH);
    cluster.faults.unanswered.lock().unwrap().clear();
    cluster
        .until("the other does it", async || {
            cluster.view().contents.get("dhcp.json").is_some_and(|contents| contents.value.success)
        })
        .await;
    assert!(cluster.server(other).begun(PUBLISH) > tried);
    let before = cluster.server(elected).begun(PUBLISH);
    cluster.start(elected);
    cluster.completed(&request).await;
    assert_eq!(cluster.server(elected).begun(PUBLISH), before, "it was done already");
    cluster.verdict().await;
}

/// Nobody is elected until somebody has seen to etcd: everybody says so, with what to do, for as long as it is so.
#[tokio::test(start_paused = true)]
async fn who_cannot_be_elected_says_why() {
    let endpoint = "https://10.69.0.3:2379".to_owned();
    let full = StoreError::NoSpace { endpoint: endpoint.clone() };
    let forbidden = StoreError::PermissionDenied { endpoint, user: Some("neco".to_owned()) };
    for (refused, error, remedy) in [
        (LEASES, full, "compact and defragment it, then disarm its alarm"),
        ("leader/worker/", forbidden, "grant the user a role for the prefix"),
    ] {
        let mut cluster = Cluster::of(2).await;
        cluster.until("both are alive", async || cluster.view().alive.len() == 2).await;
        *cluster.faults.refused.lock().unwrap() = Some((refused.to_owned(), error));
        let request = cluster.request().await;
        cluster
            .until("both say why", async || {
                let progress = cluster.view().progress;
                let says = |doing: &str| doing.contains("elected for ") && doing.contains(remedy);
                progress.len() == 2 && progress.values().all(|said| says(&said.value.doing))
            })
            .await;
        *cluster.faults.refused.lock().unwrap() = None;
        cluster.completed(&request).await;
        cluster.verdict().await;
    }
}

const TEMPLATE: &str = "publish cke-template";

/// A package that gives CKE this template.
fn with_template(folder: &Path) {
    let nodes = "nodes:\n- control_plane: false\n  labels: {cke.cybozu.com/role: cs}\n";
    std::fs::write(folder.join("cke-template.yml"), nodes).unwrap();
}

/// CKE comes to all servers, and is set up there.
fn set_up_cke(cluster: &Cluster) {
    for server in &cluster.servers {
        server.set_up("etc/cke/etcd.crt");
        server.set_up("etc/neco/sandbox-cke-images");
        std::fs::write(server.path("/etc/neco/sandbox-cke-images"), "").unwrap();
    }
}

fn templates(cluster: &Cluster) -> Vec<String> {
    let files = cluster.servers.iter().map(|server| server.path("/var/lib/neco/cke-template.yml"));
    files.filter_map(|path| std::fs::read_to_string(path).ok()).collect()
}

#[tokio::test(start_paused = true)]
async fn ckes_template_is_set_once_and_again_when_a_weight_changes() {
    let mut cluster = Cluster::with(3, with_template).await;
    cluster.update().await;
    assert_eq!(templates(&cluster), Vec::<String>::new(), "CKE is not set up yet");
    set_up_cke(&cluster);
    let set = |cluster: &Cluster| -> usize {
        cluster.servers.iter().map(|server| server.begun(TEMPLATE)).sum()
    };
    cluster.update().await;
    assert_eq!(set(&cluster), 1);
    let text = templates(&cluster).pop().expect("a template");
    assert!(text.contains("name: test") && !text.contains("weight"), "{text}");
    cluster.update().await;
    assert_eq!(set(&cluster), 1, "nothing changed");
    cluster.write(Op::put_bytes(&Key::CkeWeight, r#"{"cs": 18}"#)).await;
    cluster.update().await;
    assert_eq!(set(&cluster), 2);
    assert!(templates(&cluster).iter().any(|text| text.contains("18.000000")));
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn weights_that_are_none_abort_with_their_key() {
    let mut cluster = Cluster::with(1, with_template).await;
    set_up_cke(&cluster);
    cluster.write(Op::put_bytes(&Key::CkeWeight, "many")).await;
    let request = cluster.request().await;
    cluster.ended(&request, Condition::Abort).await;
    let message = cluster.status(0).expect("a status").message;
    assert!(message.contains("cke/weight is malformed"), "{message}");
    cluster.write(Op::put_bytes(&Key::CkeWeight, "{}")).await;
    cluster.update().await;
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn an_elected_server_that_is_told_to_end_has_not_failed_and_another_goes_on() {
    let mut cluster = Cluster::of(2).await;
    let archive = "archive ghcr.io/cybozu/bird:2.15.1.1";
    for server in &cluster.servers {
        server.units().faults().hold(archive).unwrap();
    }
    let request = cluster.request().await;
    let begun = |cluster: &Cluster, lrn| cluster.server(lrn).begun("publish sabakan");
    cluster.until("one begins", async || (0..2).any(|lrn| begun(&cluster, lrn) > 0)).await;
    let elected = u32::from(begun(&cluster, 1) > 0);
    cluster.servers[elected as usize].end().await;
    for server in &cluster.servers {
        server.units().faults().clear(archive).unwrap();
    }
    cluster
        .until("the other does it", async || {
            cluster.view().contents.get("sabakan").is_some_and(|contents| contents.value.success)
        })
        .await;
    assert_eq!(begun(&cluster, 1 - elected), 1);
    cluster.start(elected);
    cluster.completed(&request).await;
    cluster.verdict().await;
}
