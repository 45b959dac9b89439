//! What holds for every agent, the stand-in and the real one, seen through the client.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use neco_base::Secret;
use neco_schema::Severity;

use crate::{Member, Options, Serf, SerfClient, SerfError, Status};

/// How long a change may take until an agent sees it: a real one finds out by itself who has failed.
const SEEN_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A cluster of one agent that is asked, and others that come and go.
#[async_trait]
pub trait Bench: Send {
    /// Where the agent is asked, `HOST:PORT`.
    fn rpc(&self) -> String;
    /// The name of the agent.
    fn name(&self) -> String;
    /// Its address among the members.
    fn address(&self) -> IpAddr;
    /// Has it ask whoever comes for a key from now on. It may be restarted for that.
    async fn require(&mut self, auth_key: &str);
    /// A member of this name joins, with these tags.
    async fn join(&mut self, name: &str, tags: &[(&str, &str)]);
    /// A member says good-bye.
    async fn leave(&mut self, name: &str);
    /// A member ceases to answer.
    async fn fail(&mut self, name: &str);
    /// Stops the agent; nothing listens there then.
    async fn stop(&mut self);
    /// Starts it again at the same place.
    async fn start(&mut self);
}

/// The whole contract, on one bench.
///
/// # Panics
/// Something does not hold.
pub async fn holds(mut bench: impl Bench) {
    let client = SerfClient::new(Options::new(bench.rpc()));
    the_agent_is_a_member_itself(&bench, &client).await;
    tags_are_set_and_deleted_and_others_stay(&bench, &client).await;
    others_come_and_go(&mut bench, &client).await;
    an_agent_that_was_away_is_asked_again(&mut bench, &client).await;
    a_key_is_asked_for(&mut bench, &client).await;
}

async fn the_agent_is_a_member_itself(bench: &impl Bench, client: &SerfClient) {
    let members = client.members().await.expect("members");
    assert_eq!(members.len(), 1, "{members:?}");
    let own = &members[0];
    assert_eq!((own.name.clone(), own.address), (bench.name(), Some(bench.address())));
    assert_eq!(own.status, Status::Alive);
    assert_ne!(own.port, 0);
}

async fn tags_are_set_and_deleted_and_others_stay(bench: &impl Bench, client: &SerfClient) {
    let set = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    // Longer than the shortest form of a text, and with an empty value, which is not the same as none.
    let long = "unit.service,".repeat(20);
    client
        .set_tags(&set(&[("version", "1"), ("systemd-units-failed", ""), ("serial", &long)]), &[])
        .await
        .expect("set");
    let own = member(client, &bench.name()).await.expect("the agent");
    assert_eq!(own.tag("version"), Some("1"));
    assert_eq!(own.tag("systemd-units-failed"), Some(""));
    assert_eq!(own.tag("serial"), Some(&*long));
    client
        .set_tags(&set(&[("version", "2")]), &["systemd-units-failed".to_owned()])
        .await
        .expect("changed");
    let own = member(client, &bench.name()).await.expect("the agent");
    assert_eq!((own.tag("version"), own.tag("systemd-units-failed")), (Some("2"), None));
    assert_eq!(own.tag("serial"), Some(&*long), "it was not named");

    let error = client.set_tags(&set(&[("much", &"x".repeat(600))]), &[]).await.unwrap_err();
    assert!(matches!(error, SerfError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("512"), "{error}");
    assert_eq!(error.severity(), Severity::AskAPerson);
    let same = member(client, &bench.name()).await.expect("the agent");
    assert_eq!(same.tags, own.tags, "a refusal changes nothing");
}

async fn others_come_and_go(bench: &mut impl Bench, client: &SerfClient) {
    bench.join("other-1", &[("boot-server", "false")]).await;
    bench.join("other-2", &[]).await;
    for name in ["other-1", "other-2"] {
        until_it_is(client, name, Status::Alive).await;
    }
    let other = member(client, "other-1").await.expect("a member");
    assert_eq!(other.tag("boot-server"), Some("false"));
    bench.leave("other-1").await;
    until_it_is(client, "other-1", Status::Left).await;
    bench.fail("other-2").await;
    until_it_is(client, "other-2", Status::Failed).await;
    let own = member(client, &bench.name()).await.expect("the agent");
    assert_eq!(own.status, Status::Alive);
}

async fn an_agent_that_was_away_is_asked_again(bench: &mut impl Bench, client: &SerfClient) {
    bench.stop().await;
    let error = client.members().await.expect_err("nothing listens");
    assert!(matches!(error, SerfError::Transport { .. }), "{error}");
    assert!(error.to_string().contains(&bench.rpc()), "{error}");
    assert_eq!(error.severity(), Severity::TryAgain);
    bench.start().await;
    until_it_is(client, &bench.name(), Status::Alive).await;
}

async fn a_key_is_asked_for(bench: &mut impl Bench, client: &SerfClient) {
    bench.require("sesame").await;
    let with = |key: &str| {
        let mut options = Options::new(bench.rpc());
        options.auth_key = Some(Secret::from(key));
        SerfClient::new(options)
    };
    let right = with("sesame");
    until_it_is(&right, &bench.name(), Status::Alive).await;
    for (wrong, words) in [
        (client.clone(), "Authentication required"),
        (with("another"), "Invalid authentication token"),
    ] {
        let error = wrong.members().await.expect_err("refused");
        let text = error.to_string();
        assert!(text.contains(words) && text.contains("rpc_auth"), "{text}");
        assert!(!text.contains("sesame") && !text.contains("another"), "{text}");
        assert_eq!(error.severity(), Severity::AskAPerson);
    }
}

async fn member(client: &SerfClient, name: &str) -> Option<Member> {
    let members = client.members().await.ok()?;
    members.into_iter().find(|member| member.name == name)
}

async fn until_it_is(client: &SerfClient, name: &str, status: Status) {
    let seen = async {
        loop {
            if member(client, name).await.is_some_and(|member| member.status == status) {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    if tokio::time::timeout(SEEN_WITHIN, seen).await.is_err() {
        let members = client.members().await;
        panic!("{name} is not {status} within {SEEN_WITHIN:?}: {members:?}");
    }
}
