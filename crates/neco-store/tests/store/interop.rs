//! Our elections and Go's, which the server itself runs for its election service, are one.

use std::sync::Arc;
use std::time::Duration;

use crate::common::Etcd;
use etcd_client::{Client, LeaderKey, ResignOptions};
use neco_store::{Election, Session, Store};
use neco_testkit::store::{Rig, all, eventually};
use tokio::task::JoinHandle;

const NAME: &str = "/neco/leader/updater/";

/// A campaign of Go's.
fn stand(url: String, value: &'static str) -> JoinHandle<(Client, LeaderKey)> {
    tokio::spawn(async move {
        let mut client = Client::connect([url], None).await.expect("a client");
        let lease = client.lease_grant(60, None).await.expect("a lease").id();
        let won = client.campaign(NAME, value, lease).await.expect("it is won in the end");
        (client, won.leader().expect("a key").clone())
    })
}

async fn until_candidates(rig: &Rig, count: usize) {
    eventually("the number of candidates", async || {
        (rig.read(&[all("leader/updater//")]).await.kvs.len() == count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn candidates_of_both_kinds_lead_in_turn() {
    let etcd = Etcd::start().await;
    let rig = etcd.rig("/neco/").await;
    let store: Arc<dyn Store> = rig.store.clone();
    let election = Election::new(store.clone(), "updater");
    let url = etcd.server.client_url();
    let mut observer = Client::connect([&url], None).await.expect("a client");
    let session = async || Session::open(store.clone(), Duration::from_secs(60)).await;

    let first = stand(url.clone(), "go-0");
    until_candidates(&rig, 1).await;
    // The answer begins with the first leader.
    let mut observed = observer.observe(NAME).await.expect("a stream");
    let ours = session().await.expect("a lease");
    let campaign = election.campaign(&ours, "rust-1");
    tokio::pin!(campaign);
    tokio::select! {
        biased;
        _ = &mut campaign => panic!("the other one leads"),
        () = until_candidates(&rig, 2) => {}
    }
    let third = stand(url.clone(), "go-2");
    until_candidates(&rig, 3).await;

    let value = async || election.leader().await.ok().flatten().map(|leader| leader.value);
    let mut see = async |expected: &str| {
        assert_eq!(value().await, Some(expected.as_bytes().to_vec()));
        let seen = observed.message().await.expect("observed").expect("a leader");
        assert_eq!(seen.kv().expect("a key").value(), expected.as_bytes());
    };
    let (mut client, key) = first.await.expect("it leads");
    see("go-0").await;
    client.resign(Some(ResignOptions::new().with_leader(key))).await.expect("resigned");
    let leadership = campaign.await.expect("it leads");
    see("rust-1").await;
    assert!(!third.is_finished());
    election.resign(&leadership).await.expect("resigned");
    let (_client, _key) = third.await.expect("it leads");
    see("go-2").await;
}
