//! The members of a store in memory: a model of the rules by which etcd changes them.

use crate::members::{Added, Member, Promoted, sorted};
use crate::{ClusterHealth, MemberHealth, StoreError};

/// What the errors of the model name as the endpoint.
pub(crate) const ENDPOINT: &str = "memory://";

/// How many learners etcd takes at a time, unless told otherwise.
const LEARNERS: usize = 1;

/// Who belongs to the cluster, and who of them runs.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    all: Vec<(Member, bool)>,
    next: u64,
}

impl Default for Model {
    fn default() -> Self {
        Self::of([("memory", ENDPOINT)])
    }
}

impl Model {
    /// Voters by name and address, all running.
    pub(crate) fn of<'a>(voters: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut model = Self { all: Vec::new(), next: 1 };
        for (name, peer_url) in voters {
            let member = model.new_member(peer_url, false);
            model.all.push((member, false));
            model.start(peer_url, name);
        }
        model
    }

    fn new_member(&mut self, peer_url: &str, is_learner: bool) -> Member {
        let id = self.next;
        self.next += 1;
        let peer_urls = vec![peer_url.to_owned()];
        Member { id, name: String::new(), peer_urls, client_urls: Vec::new(), is_learner }
    }

    /// The member at this address begins to run; says whether there is one.
    pub(crate) fn start(&mut self, peer_url: &str, name: &str) -> bool {
        let found = self.all.iter_mut().find(|(member, _)| member.peer_urls[0] == peer_url);
        let Some((member, runs)) = found else { return false };
        name.clone_into(&mut member.name);
        member.client_urls = vec![peer_url.to_owned()];
        *runs = true;
        true
    }

    /// The member of this name does not run any more.
    pub(crate) fn stop(&mut self, name: &str) {
        for (member, runs) in &mut self.all {
            *runs &= member.name != name;
        }
    }

    fn voters(&self) -> impl Iterator<Item = &(Member, bool)> {
        self.all.iter().filter(|(member, _)| !member.is_learner)
    }

    fn running_voters(&self) -> usize {
        self.voters().filter(|(_, runs)| *runs).count()
    }

    /// Whether a majority of the voters runs.
    pub(crate) fn quorum(&self) -> bool {
        self.running_voters() > self.voters().count() / 2
    }

    pub(crate) fn list(&self) -> Vec<Member> {
        sorted(self.all.iter().map(|(member, _)| member.clone()).collect())
    }

    pub(crate) fn health(&self, cluster_id: u64) -> ClusterHealth {
        let leader = self.voters().find(|(_, runs)| *runs && self.quorum());
        let leader = leader.map(|(member, _)| member.id);
        let runs = |id| self.all.iter().any(|(member, runs)| member.id == id && *runs);
        let member = |member: Member| {
            let healthy = leader.is_some() && runs(member.id);
            let trouble = match (healthy, member.name.is_empty()) {
                (true, _) => "",
                (false, true) => "has never started",
                (false, false) if runs(member.id) => "knows no leader",
                (false, false) => "stopped by order of the test",
            };
            MemberHealth {
                id: member.id,
                is_leader: leader == Some(member.id),
                is_learner: member.is_learner,
                name: member.name,
                peer_urls: member.peer_urls,
                client_urls: member.client_urls,
                healthy,
                trouble: trouble.to_owned(),
            }
        };
        let members = self.list().into_iter().map(member).collect();
        ClusterHealth { cluster_id, members, quorum: self.quorum() }
    }

    pub(crate) fn add(&mut self, peer_url: &str) -> Result<Added, StoreError> {
        if self.all.iter().any(|(member, _)| member.peer_urls.iter().any(|url| url == peer_url)) {
            return Err(StoreError::MemberExists);
        }
        if self.all.len() - self.voters().count() >= LEARNERS {
            return Err(not_now("too many learner members in cluster"));
        }
        if self.running_voters() < self.voters().count() {
            return Err(not_now("unhealthy cluster"));
        }
        let member = self.new_member(peer_url, true);
        let id = member.id;
        self.all.push((member, false));
        Ok(Added { id, members: self.list() })
    }

    pub(crate) fn promote(&mut self, id: u64) -> Result<Promoted, StoreError> {
        let Some((member, runs)) = self.all.iter_mut().find(|(member, _)| member.id == id) else {
            return Err(StoreError::MemberGone);
        };
        if member.is_learner && !*runs {
            return Ok(Promoted::NotYet);
        }
        member.is_learner = false;
        Ok(Promoted::Done)
    }

    pub(crate) fn remove(&mut self, id: u64) -> Result<(), StoreError> {
        let Some(at) = self.all.iter().position(|(member, _)| member.id == id) else {
            return Ok(());
        };
        let (member, runs) = &self.all[at];
        if !member.is_learner {
            let others = self.voters().count() - 1;
            let started = |(other, _): &&(Member, bool)| other.id != id && !other.name.is_empty();
            if self.voters().filter(started).count() < others / 2 + 1 {
                return Err(not_now("re-configuration failed due to not enough started members"));
            }
            if *runs && self.running_voters() - 1 < others / 2 + 1 {
                return Err(not_now("unhealthy cluster"));
            }
        }
        self.all.remove(at);
        Ok(())
    }
}

fn not_now(reason: &str) -> StoreError {
    StoreError::NotNow { endpoint: ENDPOINT.to_owned(), reason: format!("etcdserver: {reason}") }
}
