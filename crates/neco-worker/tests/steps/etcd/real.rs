//! Real servers of etcd as the members: what is decided and done is what etcd accepts. The records of the update lie in
//! memory, so that a member that is restarted takes nothing away from the test.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use neco_etcd::{Binary, ClusterState, MemberConfig, Server};
use neco_schema::{Condition, UpdateRequest};
use neco_store::{
    Added, ClusterHealth, EtcdStore, Member, Members, Options, Promoted, Store, StoreError,
};
use neco_systemd::{Job, UnitError};
use tokio::sync::Mutex;

use super::{CONFIG, ETCD, certify, config, peer_url};
use crate::cluster::Cluster;
use crate::drivers::RunsEtcd;

/// How long a condition is waited for; real members take their time.
const WITHIN: Duration = Duration::from_secs(90);

/// Members that are real and run where the units of servers do. On their servers they have the addresses of the plan.
struct Real {
    store: EtcdStore,
    binary: Binary,
    /// Where the member of a server is reached really.
    urls: BTreeMap<u32, String>,
    roots: Vec<PathBuf>,
    running: Mutex<BTreeMap<u32, Server>>,
}

fn free_url() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

impl Real {
    /// The first `members` servers of `cluster`, and as many `others` as there are numbers after the last, are members.
    async fn of(cluster: &Cluster, members: u32, others: u32) -> Arc<Self> {
        let servers = u32::try_from(cluster.servers.len()).unwrap();
        let urls: BTreeMap<u32, String> =
            (0..servers + others).map(|lrn| (lrn, free_url())).collect();
        let first: Vec<u32> = (0..members).chain(servers..servers + others).collect();
        let named: Vec<(String, String)> =
            first.iter().map(|lrn| (format!("boot-{lrn}"), urls[lrn].clone())).collect();
        let binary = Binary::find().await.unwrap();
        let mut running = BTreeMap::new();
        for lrn in first {
            let data = match cluster.servers.get(lrn as usize) {
                Some(server) => server.path("/var/lib/etcd-container"),
                None => cluster.server(0).path(&format!("/var/lib/etcd-of-{lrn}")),
            };
            let member = MemberConfig::new(format!("boot-{lrn}"))
                .peer_url(&urls[&lrn])
                .data_dir(data)
                .fsync(false)
                .initial_cluster(named.clone(), ClusterState::New);
            running.insert(lrn, Server::launch(&binary, member).await.unwrap());
        }
        for server in running.values() {
            server.ready().await.unwrap();
        }
        let endpoints = running.values().map(Server::client_url);
        let store = EtcdStore::connect(Options::new(endpoints)).await.unwrap();
        let roots = cluster.servers.iter().map(|server| server.path("/")).collect();
        let etcd = Arc::new(Self { store, binary, urls, roots, running: Mutex::new(running) });
        *cluster.faults.runs_etcd.lock().unwrap() = Some(etcd.clone());
        etcd
    }

    fn real(&self, planned: &str) -> String {
        let found = self.urls.iter().find(|(lrn, _)| peer_url(**lrn) == planned);
        found.map_or_else(|| planned.to_owned(), |(_, url)| url.clone())
    }

    fn planned(&self, urls: &mut [String]) {
        for url in urls {
            if let Some((lrn, _)) = self.urls.iter().find(|(_, real)| *real == url) {
                *url = peer_url(*lrn);
            }
        }
    }

    fn all_planned(&self, mut members: Vec<Member>) -> Vec<Member> {
        members.iter_mut().for_each(|member| self.planned(&mut member.peer_urls));
        members
    }

    /// Kills the member of a server, which nobody starts again.
    async fn kill(&self, lrn: u32) {
        self.running.lock().await.get_mut(&lrn).unwrap().kill().await.unwrap();
    }

    /// The names of those that vote, and how many do not.
    async fn names(&self) -> (Vec<String>, usize) {
        let Ok(mut members) = Members::members(&self.store).await else {
            return Default::default();
        };
        members.sort_by(|a, b| a.name.cmp(&b.name));
        let learners = members.iter().filter(|member| member.is_learner).count();
        let voters = members.into_iter().filter(|member| !member.is_learner);
        (voters.map(|member| member.name).collect(), learners)
    }

    async fn are(&self, lrns: &[u32]) -> bool {
        let names: Vec<String> = lrns.iter().map(|lrn| format!("boot-{lrn}")).collect();
        self.names().await == (names, 0)
    }

    /// How often the member of a server was started, as the number of its process tells.
    async fn pid(&self, lrn: u32) -> u32 {
        self.running.lock().await[&lrn].pid()
    }
}

#[async_trait]
impl Members for Real {
    async fn members(&self) -> Result<Vec<Member>, StoreError> {
        Ok(self.all_planned(self.store.members().await?))
    }

    async fn add(&self, peer_url: &str) -> Result<Added, StoreError> {
        let added = self.store.add(&self.real(peer_url)).await?;
        Ok(Added { members: self.all_planned(added.members), ..added })
    }

    async fn promote(&self, id: u64) -> Result<Promoted, StoreError> {
        self.store.promote(id).await
    }

    async fn remove(&self, id: u64) -> Result<(), StoreError> {
        self.store.remove(id).await
    }
}

#[async_trait]
impl RunsEtcd for Real {
    async fn health(&self) -> Result<ClusterHealth, StoreError> {
        let mut health = Store::health(&self.store).await?;
        health.members.iter_mut().for_each(|member| self.planned(&mut member.peer_urls));
        Ok(health)
    }

    async fn started(&self, lrn: u32) -> Result<(), UnitError> {
        let failed = |error: neco_etcd::Error| UnitError::JobFailed {
            unit: ETCD.parse().unwrap(),
            job: Job::Start,
            result: error.to_string(),
        };
        let mut running = self.running.lock().await;
        let server = &self.roots[lrn as usize];
        let text = std::fs::read_to_string(server.join(CONFIG.trim_start_matches('/'))).unwrap();
        let is_new = text.lines().any(|line| line == "initial-cluster-state: new");
        // One that has data goes by them.
        if let Some(member) = running.get_mut(&lrn)
            && is_new
        {
            return member.relaunch().await.map_err(failed);
        }
        let line = text.lines().find_map(|line| line.strip_prefix("initial-cluster: ")).unwrap();
        let named = line.split(',').map(|member| {
            let (name, url) = member.split_once('=').unwrap();
            (name.to_owned(), self.real(url))
        });
        let member = MemberConfig::new(format!("boot-{lrn}"))
            .peer_url(&self.urls[&lrn])
            .data_dir(server.join("var/lib/etcd-container"))
            .fsync(false)
            .initial_cluster(named, ClusterState::Existing);
        running.insert(lrn, Server::launch(&self.binary, member).await.map_err(failed)?);
        Ok(())
    }

    async fn stopped(&self, lrn: u32) {
        if let Some(member) = self.running.lock().await.get_mut(&lrn) {
            member.stop().await.unwrap();
        }
    }
}

async fn until(cluster: &Cluster, what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    if tokio::time::timeout(WITHIN, waited).await.is_err() {
        let progress: Vec<_> =
            cluster.view().progress.values().map(|progress| progress.value.doing.clone()).collect();
        panic!("not within {WITHIN:?}: {what}\n{progress:#?}\n{:#?}", cluster.order());
    }
}

async fn ended(cluster: &Cluster, request: &UpdateRequest, cond: Condition) {
    until(cluster, "all have ended", async || {
        cluster.servers.iter().all(|server| {
            cluster.stands(server.lrn, request).is_some_and(|(_, now)| {
                now == cond || (cond == Condition::Abort && now == Condition::Complete)
            })
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fourth_server_becomes_a_member_and_changes_of_the_first_list_restart_nobody() {
    let mut cluster = Cluster::of(4).await;
    certify(&cluster);
    let etcd = Real::of(&cluster, 3, 0).await;
    let request = cluster.request().await;
    ended(&cluster, &request, Condition::Complete).await;
    assert!(etcd.are(&[0, 1, 2, 3]).await, "{:?}", etcd.names().await);
    let told = config(cluster.server(3), "initial-cluster");
    assert!(told.contains(&"initial-cluster-state: existing".to_owned()), "{told:?}");
    let mut pids = Vec::new();
    for lrn in 0..4 {
        pids.push(etcd.pid(lrn).await);
    }
    let request = cluster.request().await;
    ended(&cluster, &request, Condition::Complete).await;
    for (lrn, pid) in (0..4).zip(pids) {
        assert_eq!(etcd.pid(lrn).await, pid, "boot-{lrn} was restarted");
    }
    let told = config(cluster.server(3), "initial-cluster-state");
    assert_eq!(told, ["initial-cluster-state: new"], "the file is as the template says");
    // With data it does not matter what the file says.
    etcd.started(3).await.unwrap();
    until(&cluster, "all healthy", async || {
        etcd.health().await.is_ok_and(|health| health.all_healthy() && health.members.len() == 4)
    })
    .await;
    cluster.verdict().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_addition_that_failed_is_undone_and_made_again() {
    let start = format!("start {ETCD}");
    let mut cluster = Cluster::of(4).await;
    certify(&cluster);
    let etcd = Real::of(&cluster, 3, 0).await;
    cluster.server(3).units().faults().fail(&start, "no such image").unwrap();
    let request = cluster.request().await;
    ended(&cluster, &request, Condition::Abort).await;
    until(&cluster, "it is out again", async || etcd.are(&[0, 1, 2]).await).await;
    cluster.server(3).units().faults().clear(&start).unwrap();
    // This time its worker dies after the addition, before the start.
    let enable = format!("enable {ETCD}");
    cluster.server(3).units().faults().hold(&enable).unwrap();
    let request = cluster.request().await;
    until(&cluster, "it is added", async || etcd.names().await.1 == 1).await;
    cluster.servers[3].crash().await;
    cluster.server(3).units().faults().clear(&enable).unwrap();
    cluster.start(3);
    ended(&cluster, &request, Condition::Complete).await;
    assert!(etcd.are(&[0, 1, 2, 3]).await, "{:?}", etcd.names().await);
    cluster.verdict().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_servers_that_have_left_go_and_nobody_does_who_is_needed() {
    // boot-2 and boot-3 have left; of the two that stay, one is dead.
    let mut cluster = Cluster::of(2).await;
    certify(&cluster);
    let etcd = Real::of(&cluster, 2, 2).await;
    let start = format!("start {ETCD}");
    etcd.kill(1).await;
    cluster.server(1).units().faults().hold(&start).unwrap();
    let request = cluster.request().await;
    // The leader goes last, if it is one of them. Whoever does not hold the turn says for whom it waits.
    until(&cluster, "one goes and the other is needed", async || {
        let says = cluster.view().progress.values().any(|progress| {
            let doing = &progress.value.doing;
            doing.contains("stays until") || doing.contains("boot server 1 holds the turn")
        });
        says && etcd.names().await.0.len() == 3
    })
    .await;
    let (names, _) = etcd.names().await;
    assert_eq!(names[..2], ["boot-0", "boot-1"], "{names:?}");
    cluster.server(1).units().faults().clear(&start).unwrap();
    ended(&cluster, &request, Condition::Complete).await;
    assert!(etcd.are(&[0, 1]).await, "{:?}", etcd.names().await);
    cluster.verdict().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_member_of_a_server_that_has_left_is_taken_out() {
    let mut cluster = Cluster::of(2).await;
    certify(&cluster);
    let etcd = Real::of(&cluster, 2, 1).await;
    etcd.kill(2).await;
    let request = cluster.request().await;
    ended(&cluster, &request, Condition::Complete).await;
    assert!(etcd.are(&[0, 1]).await, "{:?}", etcd.names().await);
    cluster.verdict().await;
}
