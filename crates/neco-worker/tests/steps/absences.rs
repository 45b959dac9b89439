//! Docker or the releases of packages go away: whoever needs them waits, says so and hears that its request ends; what can go
//! on without them goes on.

use neco_releases::ReleaseError;
use neco_schema::Condition;
use neco_schema::journal::Entry;
use neco_worker::DebError;

use crate::bad_input::IMAGE;
use crate::cluster::{Cluster, SERF, VAULT, change_serf, change_vault};

impl Cluster {
    /// Docker of a server goes away, or comes back.
    fn docker(&self, lrn: u32, there: bool) {
        let mut away = self.faults.no_docker.lock().unwrap();
        if there {
            away.remove(&lrn)
        } else {
            away.insert(lrn)
        };
    }

    /// What a server says in etcd that it does.
    fn does(&self, lrn: u32) -> String {
        let view = self.view();
        let said = view.progress.get(&neco_schema::Lrn::new(lrn));
        said.map(|said| said.value.doing.clone()).unwrap_or_default()
    }
}

/// Two servers whose serf changes; that of server 1 waits, while it holds the turn of nobody, for a Docker that is away.
async fn waiting_for_docker() -> (Cluster, neco_schema::UpdateRequest) {
    let mut cluster = Cluster::of(2).await;
    cluster.update().await;
    cluster.upgrade("2026.11.21-1", change_serf).await;
    cluster.take_order(SERF);
    // Everything before it is done with Docker there.
    cluster.server(1).hold("step serf");
    let request = cluster.request().await;
    let serf = cluster.step("serf");
    cluster
        .until("1 is about to change serf", async || {
            cluster.stands(1, &request) == Some((serf, Condition::Running))
        })
        .await;
    cluster.docker(1, false);
    cluster.server(1).let_go("step serf");
    let told = async || {
        cluster.does(1)
            == "waiting: Docker does not answer at /run/docker.sock: its socket is not there"
            && cluster.server(1).waits_for().contains("Docker does not answer")
    };
    cluster.until("it says what it waits for", told).await;
    (cluster, request)
}

#[tokio::test(start_paused = true)]
async fn a_docker_that_is_away_is_waited_for_as_long_as_it_takes_and_aborts_nothing() {
    let (cluster, request) = waiting_for_docker().await;
    tokio::time::sleep(std::time::Duration::from_secs(1800)).await;
    let serf = cluster.step("serf");
    assert_eq!(cluster.stands(1, &request), Some((serf, Condition::Running)));
    cluster.docker(1, true);
    cluster.completed(&request).await;
    assert_eq!(cluster.server(1).attempts(&request, serf), [1]);
    assert!(!cluster.server(1).waits_for().contains("Docker"), "it is over");
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_docker_hears_that_the_request_ends() {
    let (cluster, request) = waiting_for_docker().await;
    cluster.stop_request(&request).await;
    cluster.ended(&request, Condition::NotRunning).await;
    assert!(cluster.server(1).is_active(VAULT).await && cluster.server(1).is_active(SERF).await);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_images_of_a_docker_that_is_away_hears_that_the_request_ends() {
    let mut cluster = Cluster::of(2).await;
    cluster.update().await;
    cluster.upgrade("2026.11.21-1", change_serf).await;
    cluster.server(1).hold("step fetch-images");
    let request = cluster.request().await;
    let fetch = cluster.step("fetch-images");
    cluster
        .until("1 is about to ask for images", async || {
            cluster.stands(1, &request) == Some((fetch, Condition::Running))
        })
        .await;
    cluster.docker(1, false);
    cluster.server(1).let_go("step fetch-images");
    cluster
        .until("it says what it waits for", async || cluster.does(1).contains("Docker does not"))
        .await;
    cluster.stop_request(&request).await;
    cluster.ended(&request, Condition::NotRunning).await;
    cluster.verdict().await;
}

/// A server whose Docker went away while Vault is down everywhere and about to start.
async fn within_the_outage() -> (Cluster, neco_schema::UpdateRequest) {
    let mut cluster = Cluster::of(2).await;
    cluster.update().await;
    cluster.upgrade("2026.11.21-1", change_vault).await;
    cluster.take_order(VAULT);
    cluster.server(1).hold("step vault");
    let request = cluster.request().await;
    let apply = cluster.step("vault");
    cluster
        .until("1 is about to start Vault", async || {
            cluster.stands(1, &request) == Some((apply, Condition::Running))
                && cluster.server(0).is_active(VAULT).await
        })
        .await;
    cluster.docker(1, false);
    cluster.server(1).let_go("step vault");
    cluster
        .until("it says what it waits for", async || cluster.does(1).contains("Docker does not"))
        .await;
    (cluster, request)
}

#[tokio::test(start_paused = true)]
async fn an_outage_waits_for_docker_and_comes_to_its_end() {
    let (cluster, request) = within_the_outage().await;
    tokio::time::sleep(std::time::Duration::from_secs(1800)).await;
    assert!(!cluster.server(1).is_active(VAULT).await);
    cluster.docker(1, true);
    cluster.completed(&request).await;
    assert!(cluster.server(1).is_active(VAULT).await && cluster.server(1).is_enabled(VAULT).await);
    cluster.verdict().await;
}

/// systemd takes the unit, and starts it again and again until Docker is back.
#[tokio::test(start_paused = true)]
async fn a_restoration_starts_what_is_desired_though_docker_is_away() {
    let (cluster, request) = within_the_outage().await;
    cluster.stop_request(&request).await;
    cluster.ended(&request, Condition::NotRunning).await;
    assert!(cluster.server(1).is_active(VAULT).await && cluster.server(1).is_enabled(VAULT).await);
    let config = std::fs::read_to_string(cluster.server(1).path("/etc/vault/config.hcl")).unwrap();
    assert!(config.contains("30d"), "never the old beside the new: {config}");
    let closed = |entry: &Entry| matches!(entry, Entry::GroupClosed { request: id, .. } if *id == request.id());
    assert!(cluster.server(1).entries().iter().any(closed));
    cluster.verdict().await;
}

/// What is wrong with the releases of packages, for a request whose step `etcdpasswd` wants one.
async fn without_releases(
    count: u32,
    trouble: fn() -> DebError,
) -> (Cluster, neco_schema::UpdateRequest) {
    let mut cluster = Cluster::of(count).await;
    *cluster.faults.unreleased.lock().unwrap() = Some(trouble);
    let request = cluster.request().await;
    (cluster, request)
}

fn limited() -> DebError {
    let (url, until) = ("https://api.github.com/x".to_owned(), "2026-11-22T12:00:00Z");
    ReleaseError::RateLimited { url, until: until.parse().unwrap() }.into()
}

fn full() -> DebError {
    let (path, source) = ("/var/cache/neco/x.deb".into(), std::io::ErrorKind::StorageFull.into());
    ReleaseError::Io { action: "writing", path, source }.into()
}

fn is_awaited(doing: &str) -> bool {
    doing.starts_with("fetching package etcdpasswd ") && doing.contains("waiting to try again")
}

#[tokio::test(start_paused = true)]
async fn a_release_that_is_out_of_reach_is_waited_for_and_aborts_nothing() {
    let (cluster, request) = without_releases(2, limited).await;
    let waits = |lrn| is_awaited(&cluster.does(lrn));
    cluster.until("both wait for it", async || waits(0) && waits(1)).await;
    tokio::time::sleep(std::time::Duration::from_secs(1800)).await;
    assert!(waits(0) && cluster.does(0).contains("limits the rate"), "{}", cluster.does(0));
    *cluster.faults.unreleased.lock().unwrap() = None;
    cluster.completed(&request).await;
    let step = cluster.step("etcdpasswd");
    assert_eq!(cluster.server(1).attempts(&request, step), [1]);
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_release_hears_that_the_request_ends() {
    let (cluster, request) = without_releases(1, limited).await;
    let waits = async || is_awaited(&cluster.does(0));
    cluster.until("it waits for it", waits).await;
    cluster.stop_request(&request).await;
    cluster.ended(&request, Condition::NotRunning).await;
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_has_no_room_for_a_package_is_waited_for() {
    let (cluster, request) = without_releases(1, full).await;
    let told = async || {
        let unfit = cluster.server(0).unfit(&cluster.view());
        unfit.iter().any(|why| why.contains("package etcdpasswd") && why.contains("free space"))
    };
    cluster.until("it says what the disk refuses", told).await;
    *cluster.faults.unreleased.lock().unwrap() = None;
    cluster.completed(&request).await;
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_has_no_room_for_an_image_is_waited_for() {
    let mut cluster = Cluster::of(1).await;
    let pull = format!("pull {IMAGE}");
    let words = "write /var/lib/docker/tmp/x: no space left on device";
    cluster.server(0).containers().faults().fail(&pull, words).unwrap();
    let request = cluster.request().await;
    let told = async || {
        let unfit = cluster.server(0).unfit(&cluster.view());
        unfit.iter().any(|why| why.contains("no space left") && why.contains("free space"))
    };
    cluster.until("it says what the disk refuses", told).await;
    tokio::time::sleep(std::time::Duration::from_secs(1800)).await;
    cluster.server(0).containers().faults().clear(&pull).unwrap();
    cluster.completed(&request).await;
    cluster.verdict().await;
}

#[tokio::test(start_paused = true)]
async fn a_release_that_is_not_there_aborts() {
    let missing = || DebError::Wrong("cybozu-go/etcdpasswd has no release v1".to_owned());
    let (cluster, request) = without_releases(1, missing).await;
    cluster.ended(&request, Condition::Abort).await;
    let origin = cluster.status(0).unwrap().origin.unwrap();
    assert!(origin.cause.contains("has no release v1"), "{origin:?}");
    cluster.verdict().await;
}
