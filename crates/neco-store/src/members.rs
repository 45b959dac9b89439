//! Who belongs to the cluster, and how that is changed.

use async_trait::async_trait;

use crate::StoreError;

/// The members of a cluster. How they are, [`crate::Store::health`] tells.
///
/// Every call ends within a bound of its own. All of them may be made again: what is so already is no error, or is told by
/// an error of its own.
#[async_trait]
pub trait Members: Send + Sync + 'static {
    /// All members, by name and then by identity. A member that was cut off may know an older list.
    ///
    /// # Errors
    /// Whatever keeps the store from answering.
    async fn members(&self) -> Result<Vec<Member>, StoreError>;

    /// Adds the member that others will reach at `peer_url`: as a learner, which has no vote, unless the servers are too
    /// old to know learners (before 3.4).
    ///
    /// # Errors
    /// [`StoreError::MemberExists`] if there is one with this address; [`StoreError::NotNow`] while the cluster is not
    /// well enough; whatever keeps the store from answering, and then it may have happened.
    async fn add(&self, peer_url: &str) -> Result<Added, StoreError>;

    /// Gives a learner its vote, if it has caught up. One that has its vote already keeps it.
    ///
    /// # Errors
    /// [`StoreError::MemberGone`]; [`StoreError::NotNow`] while the cluster is not well enough; whatever keeps the store
    /// from answering, and then it may have happened.
    async fn promote(&self, id: u64) -> Result<Promoted, StoreError>;

    /// Takes a member out. One that is gone already is fine.
    ///
    /// # Errors
    /// [`StoreError::NotNow`] if what would remain is not well enough; whatever keeps the store from answering, and then
    /// it may have happened.
    async fn remove(&self, id: u64) -> Result<(), StoreError>;
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its identity.
    pub id: u64,
    /// Its name; empty for one that was added and never started.
    pub name: String,
    /// Where the other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty for one that never started.
    pub client_urls: Vec<String>,
    /// Whether it is a learner, which has no vote.
    pub is_learner: bool,
}

/// A member that was added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// Its identity.
    pub id: u64,
    /// All members, this one without a name included: what it is to be started with.
    pub members: Vec<Member>,
}

/// What became of a learner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promoted {
    /// It has its vote.
    Done,
    /// It has not caught up yet.
    NotYet,
}

/// By name and then by identity.
pub(crate) fn sorted(mut members: Vec<Member>) -> Vec<Member> {
    members.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
    members
}
