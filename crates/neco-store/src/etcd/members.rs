//! The members of a real cluster.

use async_trait::async_trait;
use etcd_client::{Error, MemberAddOptions};

use super::endpoints::Asked;
use super::repeat::Repeat;
use super::{EtcdStore, health};
use crate::StoreError;
use crate::members::{Added, Member, Members, Promoted, sorted};

/// What etcd says of a learner that has not caught up.
const BEHIND: &str = "which is in sync with leader";
/// What it says of a member that has its vote.
const NO_LEARNER: &str = "can only promote a learner member";
/// What it says of a member that is not there.
const NOT_FOUND: &str = "member not found";

/// Whether the server has said this.
fn said(error: &Error, words: &str) -> bool {
    matches!(error, Error::GRpcStatus(status) if status.message().contains(words))
}

#[async_trait]
impl Members for EtcdStore {
    async fn members(&self) -> Result<Vec<Member>, StoreError> {
        let answer = self.endpoints.call(Repeat::Always, Asked::default(), |client| async move {
            client.cluster_client().member_list().await
        });
        let list = answer.await.map_err(|(error, _)| error)?.value;
        Ok(sorted(list.members().iter().map(member).collect()))
    }

    async fn add(&self, peer_url: &str) -> Result<Added, StoreError> {
        // A second member of the same address is refused: nothing happens twice.
        let answer = self.endpoints.call(Repeat::Always, Asked::default(), |client| async move {
            let options = MemberAddOptions::new().with_is_learner();
            client.cluster_client().member_add([peer_url.to_owned()], Some(options)).await
        });
        match answer.await {
            Ok(answer) => {
                let id = answer.value.member().map_or(0, etcd_client::Member::id);
                let members = answer.value.member_list().iter().map(member).collect();
                Ok(Added { id, members: sorted(members) })
            }
            Err((error, _)) => Err(error),
        }
    }

    async fn promote(&self, id: u64) -> Result<Promoted, StoreError> {
        // A follower of etcd 3.4, and of later ones in which it is not mended, forwards this without saying who asks: where
        // authentication is on, the leader refuses, and the follower asks again as fast as it can (etcd issue 20757).
        if let Ok(health) = health::ask(&self.endpoints).await {
            let leader = health.members.into_iter().find(|member| member.is_leader);
            for url in leader.iter().flat_map(|leader| &leader.client_urls) {
                self.endpoints.begin_with(url);
            }
        }
        let answer = self.endpoints.call(Repeat::Always, Asked::default(), |client| async move {
            match client.cluster_client().member_promote(id).await {
                Ok(_) => Ok(Promoted::Done),
                // The longer words begin with the shorter ones.
                Err(error) if said(&error, BEHIND) => Ok(Promoted::NotYet),
                Err(error) if said(&error, NO_LEARNER) => Ok(Promoted::Done),
                Err(error) => Err(error),
            }
        });
        answer.await.map(|answer| answer.value).map_err(|(error, _)| error)
    }

    async fn remove(&self, id: u64) -> Result<(), StoreError> {
        let answer = self.endpoints.call(Repeat::Always, Asked::default(), |client| async move {
            match client.cluster_client().member_remove(id).await {
                Err(error) if !said(&error, NOT_FOUND) => Err(error),
                _ => Ok(()),
            }
        });
        answer.await.map(|answer| answer.value).map_err(|(error, _)| error)
    }
}

fn member(found: &etcd_client::Member) -> Member {
    Member {
        id: found.id(),
        name: found.name().to_owned(),
        peer_urls: found.peer_urls().to_vec(),
        client_urls: found.client_urls().to_vec(),
        is_learner: found.is_learner(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Severity;

    #[test]
    fn what_may_pass_is_tried_again() {
        let not_now = StoreError::NotNow { endpoint: String::new(), reason: String::new() };
        for error in [not_now, StoreError::MemberExists, StoreError::MemberGone] {
            assert_eq!(error.severity(), Severity::TryAgain, "{error}");
        }
    }
}
