//! Records in etcd that nobody can read.

use neco_playground::{HELD_UNIT, Held};
use neco_scenarios::{LONG, Scenario, has_done, leads_alone, lines, others_come_back};

/// A key that Neco does not know, beside its own.
const STRAYS: [&str; 3] = ["stray/thing", "info/bootservers/one", "status/bootservers/2/more"];
/// What a person does about any of them.
const REMEDY: &str = "put a right value there or delete the key";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_named_left_alone_and_got_over() {
    let scenario = Scenario::begin().await;
    let leader = scenario.server(0);
    leads_alone(&scenario, leader).await;
    let processes = scenario.processes();

    // Keys that mean nothing.
    for key in STRAYS {
        scenario.write(key, "left by somebody").await;
    }
    for key in &STRAYS[1..] {
        scenario.logged(leader, "neco-updater", &[&format!("key {key}:"), REMEDY]).await;
    }
    // The known release is the leader's own record: it writes it again.
    scenario.write("info/neco-release", "newest").await;
    scenario.logged(leader, "neco-updater", &["key info/neco-release:", REMEDY]).await;
    let first = scenario.packages().first().clone();
    scenario.until("the known release again", |view| view.release.as_ref() == Some(&first)).await;

    // The request: with it unreadable nobody begins anything, whatever is released.
    let request = scenario.value("status/current").await.expect("a request");
    let cut_off = request.split_at(request.len() / 2).0.to_owned();
    scenario.write("status/current", &cut_off).await;
    let version = scenario.publish_update().await;
    for server in scenario.servers() {
        scenario.logged(server, "neco-worker", &["key status/current:", REMEDY]).await;
    }
    scenario.logged(leader, "neco-updater", &["key status/current:", REMEDY]).await;
    scenario.until("the release", |view| view.release.as_ref() == Some(&version)).await;
    assert_eq!(scenario.value("status/current").await.as_deref(), Some(&*cut_off), "left alone");
    for server in scenario.servers() {
        assert_eq!(server.version_on_disk().as_deref(), Some(first.as_str()));
    }
    assert_eq!(scenario.processes(), processes, "nobody ended for it");
    others_come_back(&scenario, leader).await;
    let held = Held::next_start_of(scenario.server(1), HELD_UNIT).expect("room");
    scenario.write("status/current", &request).await;

    // A status in mid-update: whoever sees it begins nothing more, and whoever it belongs to does not write over it.
    let step = held.reached(&scenario, &version, LONG, |_| {}).await.expect("a stopped service");
    let status = scenario.value("status/bootservers/1").await.expect("a status");
    let asked = scenario.view().await.expect("an answer").current().expect("a request").clone();
    let processes = scenario.processes();
    scenario.write("status/bootservers/1", "{\"version\": ").await;
    for server in scenario.servers() {
        scenario.logged(server, "neco-worker", &["key status/bootservers/1:", REMEDY]).await;
    }
    held.release().expect("room");
    scenario
        .until_true("the end of the held step", async || has_done(scenario.server(1), &asked, step))
        .await;
    let left = scenario.value("status/bootservers/1").await;
    assert_eq!(left.as_deref(), Some("{\"version\": "), "left alone");
    assert_eq!(scenario.processes(), processes, "nobody ended for it");
    scenario.write("status/bootservers/1", &status).await;
    scenario.completed(&version).await;

    // Where nothing is decided from, only the leader looks, now and then.
    let told = async || {
        let mut updaters = scenario.updaters();
        updaters
            .any(|server| !lines(server, "neco-updater", &["key stray/thing:", REMEDY]).is_empty())
    };
    scenario.until_true("a word about stray/thing", told).await;
    for key in STRAYS {
        assert_eq!(scenario.value(key).await.as_deref(), Some("left by somebody"));
    }
    // Each process says each of them once.
    for server in scenario.servers() {
        let starts = server.worker().state().runs.len();
        for key in ["status/current", "status/bootservers/1", "info/bootservers/one"] {
            let said = lines(server, "neco-worker", &[&format!("key {key}:"), REMEDY]);
            assert!((1..=starts).contains(&said.len()), "boot-{}: {said:#?}", server.lrn());
        }
    }
    scenario.verdict(&version).await;
}
