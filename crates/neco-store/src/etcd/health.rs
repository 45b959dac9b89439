//! How the members are, each asked on a client of its own.

use std::sync::Arc;

use etcd_client::{Client, Error, Member, StatusResponse};
use futures::future::join_all;
use tokio::time::timeout;

use super::endpoints::{Asked, Endpoint, Endpoints};
use super::verdict::{Peer, Trouble, Verdict, judge};
use super::wire::head;
use crate::{ClusterHealth, MemberHealth, StoreError};

/// Asks any endpoint for the members, then every member for its status. None of this needs a quorum.
pub(super) async fn ask(endpoints: &Arc<Endpoints>) -> Result<ClusterHealth, StoreError> {
    let (cluster_id, members) = list(endpoints).await?;
    let asked = members.iter().map(|member| status(endpoints, member));
    let mut members: Vec<MemberHealth> = join_all(asked).await;
    members.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
    let voters = members.iter().filter(|member| !member.is_learner).count();
    let healthy = members.iter().filter(|member| !member.is_learner && member.healthy).count();
    Ok(ClusterHealth { cluster_id, quorum: healthy > voters / 2, members })
}

/// The members, as any endpoint that answers knows them.
async fn list(endpoints: &Endpoints) -> Result<(u64, Vec<Member>), StoreError> {
    let urls = endpoints.urls();
    let one = |url: String| async move {
        let asked = ask_one(endpoints, &url, |client| async move {
            client.cluster_client().member_list().await
        });
        asked.await.map(|list| (head(list.header()).0, list.members().to_vec()))
    };
    let mut last = None;
    for result in join_all(urls.into_iter().map(one)).await {
        match result {
            Ok(found) => return Ok(found),
            Err(Verdict::Final(error) | Verdict::LogIn(error)) => return Err(error),
            Err(Verdict::Again(trouble)) => last = Some(trouble),
        }
    }
    let (reason, source) = last.map(|trouble| (trouble.reason, trouble.source)).unwrap_or_default();
    Err(StoreError::Unreachable {
        endpoints: endpoints.urls(),
        within: endpoints.options().timeout,
        reason,
        source: source.map(|source| source as crate::Cause),
    })
}

async fn status(endpoints: &Endpoints, member: &Member) -> MemberHealth {
    let mut health = MemberHealth {
        id: member.id(),
        name: member.name().to_owned(),
        peer_urls: member.peer_urls().to_vec(),
        client_urls: member.client_urls().to_vec(),
        healthy: false,
        is_leader: false,
        is_learner: member.is_learner(),
        trouble: "has never started".to_owned(),
    };
    for url in member.client_urls() {
        let asked =
            ask_one(
                endpoints,
                url,
                |client| async move { client.maintenance_client().status().await },
            );
        match asked.await {
            Ok(status) if head_member(&status) != Some(member.id()) => {
                health.trouble = format!("{url} is another member");
            }
            Ok(status) => {
                health.is_leader = status.leader() == member.id();
                health.trouble = match status.errors() {
                    _ if status.leader() == 0 => "knows no leader".to_owned(),
                    errors => errors.join(", "),
                };
                health.healthy = health.trouble.is_empty();
                return health;
            }
            Err(Verdict::Final(error) | Verdict::LogIn(error)) => {
                health.trouble = error.to_string()
            }
            Err(Verdict::Again(trouble)) => health.trouble = trouble.reason,
        }
    }
    health
}

fn head_member(status: &StatusResponse) -> Option<u64> {
    status.header().map(|header| header.member_id())
}

/// One bounded try on a client that also talks to members without a leader.
async fn ask_one<T, F, Fut>(endpoints: &Endpoints, url: &str, run: F) -> Result<T, Verdict>
where
    F: FnOnce(Client) -> Fut,
    Fut: Future<Output = Result<T, Error>>,
{
    let endpoint = Endpoint::new(url);
    let options = endpoints.options();
    let limit = options.timeout;
    let asked = async { run(endpoint.client(&options, false).await?).await };
    match timeout(limit, asked).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(judge(error, Peer::of(url, &options), Asked::default())),
        Err(_) => Err(Verdict::Again(Trouble::timed_out(url, limit))),
    }
}
