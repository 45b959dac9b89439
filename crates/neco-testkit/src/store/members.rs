//! What every cluster does when its members are changed.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use neco_schema::Severity;
use neco_store::{
    Added, ClusterHealth, Member, MemberHealth, Members, Promoted, Store, StoreError,
};

use super::{Boxed, WITHIN};

/// How often something that may come is asked for.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// A cluster to be tested, all of whose members run and vote.
#[derive(Clone)]
pub struct MembersRig {
    /// Its store.
    pub store: Arc<dyn Store>,
    /// The same, for its members.
    pub members: Arc<dyn Members>,
    /// An address for one more member.
    pub free_url: String,
    /// Starts the member that was added at that address, under this name.
    pub start: Arc<dyn Fn(&'static str, Added) -> Boxed<()> + Send + Sync>,
    /// Kills a member, by its name.
    pub stop: Arc<dyn Fn(String) -> Boxed<()> + Send + Sync>,
}

/// A named case, with how many members it begins.
type Case = (&'static str, usize, fn(MembersRig) -> Pin<Box<dyn Future<Output = ()>>>);

/// Runs every case on a cluster of its own, of as many members as it asks for, and panics naming those that failed.
///
/// # Panics
/// If a case fails.
pub async fn contract(make: impl AsyncFn(usize) -> MembersRig) {
    let cases: [Case; 5] = [
        ("a_member_joins_as_a_learner_and_gets_its_vote_once_it_has_caught_up", 3, |rig| {
            Box::pin(joins(rig))
        }),
        ("a_learner_that_never_started_costs_nothing_and_is_taken_out", 3, |rig| {
            Box::pin(never_starts(rig))
        }),
        ("who_is_dead_is_taken_out_and_nobody_else_is_meanwhile", 3, |rig| Box::pin(dead(rig))),
        ("who_runs_is_taken_out_of_two", 2, |rig| Box::pin(of_two(rig))),
        ("the_last_one_stays", 1, |rig| Box::pin(last(rig))),
    ];
    let mut failed = Vec::new();
    for (name, count, case) in cases {
        let rig = make(count).await;
        println!("{name}");
        let local = tokio::task::LocalSet::new();
        if local.run_until(async { tokio::task::spawn_local(case(rig)).await }).await.is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "{} of {} cases failed: {failed:?}", failed.len(), cases.len());
}

impl MembersRig {
    async fn list(&self) -> Vec<Member> {
        self.members.members().await.expect("the members")
    }

    /// Waits until whoever is asked says so: a member may hear of a change a little later.
    async fn lists(&self, expected: &[Member]) {
        let same = async {
            while self.list().await != expected {
                tokio::time::sleep(ASK_EVERY).await;
            }
        };
        let same = tokio::time::timeout(WITHIN, same).await;
        same.unwrap_or_else(|_| panic!("not in time: the members are {expected:?}"));
    }

    async fn health(&self) -> ClusterHealth {
        self.store.health().await.expect("an answer")
    }

    /// Calls until the cluster is well enough: connections that are young do not count for etcd.
    async fn patiently<T>(
        &self,
        what: &str,
        mut call: impl AsyncFnMut() -> Result<T, StoreError>,
    ) -> T {
        let done = async {
            loop {
                match call().await {
                    Ok(done) => return done,
                    Err(error) => {
                        assert_eq!(error.severity(), Severity::TryAgain, "{what}: {error}");
                        assert!(!matches!(error, StoreError::MemberExists), "{what}: {error}");
                    }
                }
                tokio::time::sleep(ASK_EVERY).await;
            }
        };
        let done = tokio::time::timeout(WITHIN * 2, done).await;
        done.unwrap_or_else(|_| panic!("not in time: {what}"))
    }

    async fn add(&self) -> Added {
        self.patiently("adding", async || self.members.add(&self.free_url).await).await
    }

    async fn remove(&self, id: u64) {
        self.patiently("removing", async || self.members.remove(id).await).await;
    }

    async fn until(&self, what: &str, mut holds: impl FnMut(&ClusterHealth) -> bool) {
        let holds = async {
            while !self.store.health().await.is_ok_and(|health| holds(&health)) {
                tokio::time::sleep(ASK_EVERY).await;
            }
        };
        let held = tokio::time::timeout(WITHIN, holds).await;
        held.unwrap_or_else(|_| panic!("not in time: {what}"));
    }
}

async fn joins(rig: MembersRig) {
    let before = rig.list().await;
    assert!(before.iter().all(|member| !member.name.is_empty() && !member.is_learner));
    let added = rig.add().await;
    rig.lists(&added.members).await;
    assert_eq!(added.members.len(), before.len() + 1);
    let new = added.members.iter().find(|member| member.id == added.id).expect("it is there");
    assert!(new.name.is_empty() && new.client_urls.is_empty() && new.is_learner, "{new:?}");
    assert_eq!(new.peer_urls, std::slice::from_ref(&rig.free_url));
    let again = rig.members.add(&rig.free_url).await;
    assert!(matches!(again, Err(StoreError::MemberExists)), "{again:?}");
    let early = rig.members.promote(added.id).await;
    assert!(matches!(early, Ok(Promoted::NotYet)), "{early:?}");

    (rig.start)("newcomer", added.clone()).await;
    let promoted = async || match rig.members.promote(added.id).await? {
        Promoted::Done => Ok(()),
        Promoted::NotYet => {
            Err(StoreError::NotNow { endpoint: String::new(), reason: "not yet".to_owned() })
        }
    };
    rig.patiently("promoting", promoted).await;
    let again = rig.members.promote(added.id).await;
    assert!(matches!(again, Ok(Promoted::Done)), "{again:?}");
    rig.until("all healthy", |health| health.quorum && health.all_healthy()).await;
    let votes = |member: &MemberHealth| member.name == "newcomer" && !member.is_learner;
    rig.until("it is seen with its vote", |health| health.members.iter().any(votes)).await;

    rig.remove(added.id).await;
    rig.lists(&before).await;
    rig.members.remove(added.id).await.expect("gone already is fine");
    let gone = rig.members.promote(added.id).await;
    assert!(matches!(gone, Err(StoreError::MemberGone)), "{gone:?}");
}

async fn never_starts(rig: MembersRig) {
    let before = rig.list().await;
    let added = rig.add().await;
    // Whoever is asked may hear of it a little later.
    rig.until("it is seen, without a vote", |health| {
        let ill = |member: &&MemberHealth| !member.healthy;
        let ill: Vec<_> = health.members.iter().filter(ill).collect();
        let new = |member: &&MemberHealth| member.is_learner && member.name.is_empty();
        health.quorum && health.members.len() == 4 && ill.len() == 1 && ill.iter().all(new)
    })
    .await;
    rig.remove(added.id).await;
    rig.lists(&before).await;
    // What went wrong once can be begun anew.
    let second = rig.add().await;
    assert_ne!(second.id, added.id);
}

async fn dead(rig: MembersRig) {
    let list = rig.list().await;
    (rig.stop)(list[2].name.clone()).await;
    rig.until("it is missed", |health| {
        health.quorum && health.members.iter().filter(|member| !member.healthy).count() == 1
    })
    .await;
    // Who runs is needed.
    let refused = rig.members.remove(list[1].id).await.expect_err("quorum would be lost");
    assert!(matches!(refused, StoreError::NotNow { .. }), "{refused:?}");
    let refused = rig.members.add(&rig.free_url).await.expect_err("one is dead");
    assert!(matches!(refused, StoreError::NotNow { .. }), "{refused:?}");
    rig.remove(list[2].id).await;
    rig.lists(&list[..2]).await;
    rig.until("all healthy", |health| health.quorum && health.all_healthy()).await;
}

async fn of_two(rig: MembersRig) {
    let list = rig.list().await;
    let health = rig.health().await;
    let led = |member: &&Member| {
        health.members.iter().any(|other| other.id == member.id && other.is_leader)
    };
    let leader = list.iter().find(led).expect("a leader");
    rig.remove(leader.id).await;
    rig.until("the other one goes on", |health| health.quorum && health.all_healthy()).await;
    let rest: Vec<Member> = list.iter().filter(|other| other.id != leader.id).cloned().collect();
    rig.lists(&rest).await;
}

async fn last(rig: MembersRig) {
    let list = rig.list().await;
    let refused = rig.members.remove(list[0].id).await.expect_err("nobody would be left");
    assert!(matches!(refused, StoreError::NotNow { .. }), "{refused:?}");
    assert_eq!(rig.list().await, list);
}
