//! The members of a cluster, real and in memory.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use neco_etcd::{ClusterState, MemberConfig, Server};
use neco_store::{Added, MemoryStore};
use neco_testkit::store::members::{MembersRig, contract};
use tokio::sync::Mutex;

use crate::common::Members;

/// Where nobody listens now.
fn free_url() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("http://{}", listener.local_addr().expect("bound"))
}

async fn real(count: usize) -> MembersRig {
    let cluster = Members::start(count).await;
    let store = cluster.store().await;
    let free_url = free_url();
    let (own_url, cluster) = (free_url.clone(), Arc::new(Mutex::new(cluster)));
    let started: Arc<Mutex<Vec<Server>>> = Arc::default();
    let start = move |name: &'static str, added: Added| {
        let (own_url, started) = (own_url.clone(), Arc::clone(&started));
        let all = added.members.into_iter().map(move |member| {
            let own = member.id == added.id;
            (if own { name.to_owned() } else { member.name }, member.peer_urls[0].clone())
        });
        let config = MemberConfig::new(name)
            .peer_url(own_url)
            .fsync(false)
            .initial_cluster(all, ClusterState::Existing);
        Box::pin(async move {
            // A learner is not ready for clients before it has its vote.
            let binary = neco_etcd::Binary::find().await.expect("a binary");
            let server = Server::launch(&binary, config).await.expect("it starts");
            started.lock().await.push(server);
        }) as neco_testkit::store::Boxed<()>
    };
    let stop = move |name: String| {
        let cluster = Arc::clone(&cluster);
        Box::pin(async move {
            let members = &mut cluster.lock().await.cluster;
            let index = (0..members.len()).find(|index| members.member(*index).name() == name);
            members.member_mut(index.expect("a member")).kill().await.expect("it ends");
        }) as neco_testkit::store::Boxed<()>
    };
    let (members, start, stop) = (Arc::new(store.clone()), Arc::new(start), Arc::new(stop));
    MembersRig { store: Arc::new(store), members, free_url, start, stop }
}

async fn memory(count: usize) -> MembersRig {
    let store = MemoryStore::default();
    let names = ["etcd-0", "etcd-1", "etcd-2"];
    store.set_members(names.iter().take(count).map(|name| (*name, *name)));
    let free_url = "http://127.0.0.1:4".to_owned();
    let (own_url, starting, stopping) = (free_url.clone(), store.clone(), store.clone());
    let start = move |name: &'static str, _added: Added| {
        assert!(starting.start_member(&own_url, name));
        Box::pin(std::future::ready(())) as neco_testkit::store::Boxed<()>
    };
    let stop = move |name: String| {
        stopping.stop_member(&name);
        Box::pin(std::future::ready(())) as neco_testkit::store::Boxed<()>
    };
    let (members, start, stop) = (Arc::new(store.clone()), Arc::new(start), Arc::new(stop));
    MembersRig { store: Arc::new(store), members, free_url, start, stop }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_members_come_and_go() {
    contract(real).await;
}

#[tokio::test(start_paused = true)]
async fn members_in_memory_come_and_go_like_real_ones() {
    contract(memory).await;
}

/// The model answers nobody once it has no quorum, as etcd does.
#[tokio::test(start_paused = true)]
async fn without_a_majority_nothing_is_changed() {
    for rig in [memory(3).await, memory(2).await] {
        (rig.stop)("etcd-0".to_owned()).await;
        (rig.stop)("etcd-1".to_owned()).await;
        let error = rig.members.add(&rig.free_url).await.expect_err("no quorum");
        assert_eq!(error.severity(), neco_store::Severity::TryAgain, "{error}");
        assert!(!rig.store.health().await.expect("an answer").quorum);
        let all = rig.members.members().await.expect("the members");
        rig.members.remove(all[0].id).await.expect_err("no quorum");
        assert!(
            tokio::time::timeout(Duration::from_secs(1), rig.store.read(&[], None))
                .await
                .is_ok_and(|read| read.is_err())
        );
    }
}
