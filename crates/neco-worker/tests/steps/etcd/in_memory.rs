//! The store in memory as an etcd whose members run where units do.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use neco_store::{Added, ClusterHealth, Member, Members, MemoryStore, Promoted, Store, StoreError};
use neco_systemd::UnitError;

use super::peer_url;
use crate::cluster::Cluster;
use crate::drivers::RunsEtcd;

/// Members that run while the units of their servers do.
pub(crate) struct InMemory {
    store: MemoryStore,
    /// Servers whose etcd starts and does not come up.
    asleep: Mutex<BTreeSet<u32>>,
    /// What was done to members, in order.
    done: Mutex<Vec<String>>,
    /// The next change happens, and nobody hears of it.
    silent: AtomicBool,
    /// It is older than learners: whoever is added has a vote at once.
    old: AtomicBool,
    incident: Mutex<Option<Incident>>,
}

/// Something that happens once, when somebody asks how the members are and it is the time for it.
pub(crate) struct Incident {
    pub(crate) is_due: Box<dyn Fn() -> bool + Send>,
    pub(crate) what: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl InMemory {
    /// The etcd of `cluster` has the members of these servers, all running.
    pub(crate) fn of(cluster: &Cluster, lrns: impl IntoIterator<Item = u32>) -> Arc<Self> {
        let named = lrns.into_iter().map(|lrn| (format!("boot-{lrn}"), peer_url(lrn)));
        let named: Vec<_> = named.collect();
        cluster.store.set_members(named.iter().map(|(name, url)| (&**name, &**url)));
        let etcd = Arc::new(Self {
            store: cluster.store.clone(),
            asleep: Mutex::default(),
            done: Mutex::default(),
            silent: AtomicBool::new(false),
            old: AtomicBool::new(false),
            incident: Mutex::default(),
        });
        *cluster.faults.runs_etcd.lock().unwrap() = Some(etcd.clone());
        etcd
    }

    /// From now on the etcd of this server starts and does not come up; or it does again.
    pub(crate) fn sleeps(&self, lrn: u32, asleep: bool) {
        let mut sleepers = self.asleep.lock().unwrap();
        if asleep {
            sleepers.insert(lrn);
        } else if sleepers.remove(&lrn) {
            self.store.start_member(&peer_url(lrn), &format!("boot-{lrn}"));
        }
    }

    /// The next change happens, and is not answered.
    pub(crate) fn falls_silent(&self) {
        self.silent.store(true, Ordering::SeqCst);
    }

    /// It is an etcd that knows no learners, as before 3.4: of who is added it is not said that it is to be one.
    pub(crate) fn knows_no_learners(&self) {
        self.old.store(true, Ordering::SeqCst);
    }

    /// Adds a member that votes and was never started. All others run.
    async fn add_voter(&self, peer_url: &str) -> Result<Added, StoreError> {
        let before = self.store.members().await?;
        let all = before.iter().map(|member| (member.name.as_str(), member.peer_urls[0].as_str()));
        self.store.set_members(all.chain([("", peer_url)]));
        self.store.stop_member("");
        let members = self.store.members().await?;
        let added = members.iter().find(|member| member.peer_urls[0] == peer_url);
        let id = added.map_or(0, |member| member.id);
        Ok(Added { id, members })
    }

    /// This happens while somebody asks how the members are.
    pub(crate) fn awaits(&self, incident: Incident) {
        *self.incident.lock().unwrap() = Some(incident);
    }

    /// Whether what was to happen has happened.
    pub(crate) fn has_happened(&self) -> bool {
        self.incident.lock().unwrap().is_none()
    }

    /// The names of those that vote, and of those that do not.
    pub(crate) async fn names(&self) -> (Vec<String>, Vec<String>) {
        let health = Store::health(&self.store).await.unwrap();
        let (learners, voters): (Vec<_>, Vec<_>) =
            health.members.into_iter().partition(|member| member.is_learner);
        let names = |members: Vec<neco_store::MemberHealth>| {
            members.into_iter().map(|member| member.name).collect()
        };
        (names(voters), names(learners))
    }

    /// What was done to members, in order.
    pub(crate) fn done(&self) -> Vec<String> {
        self.done.lock().unwrap().clone()
    }

    async fn note<T>(
        &self,
        what: String,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let done = call.await?;
        self.done.lock().unwrap().push(what);
        if self.silent.swap(false, Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        Ok(done)
    }

    async fn name(&self, id: u64) -> String {
        let members = Members::members(&self.store).await.unwrap_or_default();
        let member = members.into_iter().find(|member| member.id == id);
        member.map_or_else(String::new, |member| match member.name.as_str() {
            "" => member.peer_urls[0].clone(),
            name => name.to_owned(),
        })
    }
}

#[async_trait]
impl Members for InMemory {
    async fn members(&self) -> Result<Vec<Member>, StoreError> {
        self.store.members().await
    }

    async fn add(&self, peer_url: &str) -> Result<Added, StoreError> {
        let what = format!("add {peer_url}");
        if self.old.load(Ordering::SeqCst) {
            return self.note(what, self.add_voter(peer_url)).await;
        }
        self.note(what, self.store.add(peer_url)).await
    }

    async fn promote(&self, id: u64) -> Result<Promoted, StoreError> {
        let name = self.name(id).await;
        self.note(format!("promote {name}"), self.store.promote(id)).await
    }

    async fn remove(&self, id: u64) -> Result<(), StoreError> {
        let name = self.name(id).await;
        self.note(format!("remove {name}"), self.store.remove(id)).await
    }
}

#[async_trait]
impl RunsEtcd for InMemory {
    async fn health(&self) -> Result<ClusterHealth, StoreError> {
        let due = self.incident.lock().unwrap().take_if(|incident| (incident.is_due)());
        if let Some(incident) = due {
            incident.what.await;
        }
        Store::health(&self.store).await
    }

    async fn started(&self, lrn: u32) -> Result<(), UnitError> {
        if !self.asleep.lock().unwrap().contains(&lrn) {
            self.store.start_member(&peer_url(lrn), &format!("boot-{lrn}"));
        }
        Ok(())
    }

    async fn stopped(&self, lrn: u32) {
        self.store.stop_member(&format!("boot-{lrn}"));
    }
}
