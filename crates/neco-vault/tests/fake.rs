//! The fake servers keep the contract; and what only they can be made to do.

use std::time::Duration;

use async_trait::async_trait;
use neco_base::{Backoff, Secret};
use neco_schema::Severity;
use neco_vault::contract::{self, Bench};
use neco_vault::{
    Client, Engine, FakeVault, Fault, Options, State, Unsealed, Vault, VaultError, unseal,
    wait_for_leader, wait_until_answering, wait_until_unsealed,
};

/// A client that does not wait long between tries.
fn client(vault: &FakeVault, server: usize) -> Client {
    let mut options = Options::new(vault.address(server));
    options.backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(2));
    Client::new(options).expect("a client")
}

/// A client that does not wait long for an answer either.
fn hasty(vault: &FakeVault, server: usize) -> Client {
    let mut options = Options::new(vault.address(server));
    options.request_timeout = Duration::from_millis(500);
    options.backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(2));
    Client::new(options).expect("a client")
}

struct OfFakes(FakeVault);

#[async_trait]
impl Bench for OfFakes {
    fn client(&self, server: usize) -> Client {
        client(&self.0, server)
    }

    async fn stop(&self, server: usize) {
        self.0.stop(server).await;
    }

    async fn start(&self, server: usize) {
        self.0.allow_elections(true);
        self.0.restart(server).await;
    }

    async fn isolate(&self, server: usize) {
        self.0.allow_elections(false);
        for other in (0..3).filter(|other| *other != server) {
            self.0.stop(other).await;
        }
    }

    fn audits_over_http(&self) -> bool {
        true
    }

    fn briefly(&self) -> Duration {
        Duration::from_millis(500)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fake_keeps_the_contract() {
    contract::holds(async |servers| OfFakes(FakeVault::start(servers).await)).await;
}

/// An unsealed server that leads, and its root's client.
async fn one() -> (FakeVault, Client) {
    let vault = FakeVault::start(1).await;
    let (key, root) = vault.initialise();
    vault.server(0).unseal(&key).await.expect("unsealed");
    let client = client(&vault, 0).with_token(root);
    (vault, client)
}

#[tokio::test]
async fn reads_are_tried_again_and_refusals_are_not() {
    let (vault, root) = one().await;
    vault.fail(0, "sys/mounts", [Fault::Status(500), Fault::Cut]);
    root.mounts().await.expect("mounts");
    vault.asked();
    for (status, tries) in [(400, 1), (403, 1), (404, 1), (429, 3), (500, 3), (503, 3)] {
        let faults = std::iter::repeat_n(Fault::Status(status), tries);
        vault.fail(0, "sys/mounts", faults);
        root.mounts().await.expect_err("refused");
        assert_eq!(vault.asked().len(), tries, "{status}");
    }
}

#[tokio::test]
async fn a_server_that_is_silent_is_not_waited_for() {
    let vault = FakeVault::start(1).await;
    vault.fail(0, "sys/seal-status", [Fault::Hang]);
    let error = hasty(&vault, 0).seal_status().await.expect_err("silence");
    assert!(matches!(error, VaultError::Silent { .. }), "{error}");
    assert_eq!(error.severity(), Severity::TryAgain);
}

#[tokio::test]
async fn what_does_something_is_sent_once() {
    let (vault, root) = one().await;
    vault.fail(0, "sys/step-down", [Fault::Cut]);
    let error = root.step_down().await.expect_err("unknown");
    assert_eq!(error.severity(), Severity::TryAgain);
    let sent = vault.asked().into_iter().filter(|asked| asked.path == "sys/step-down");
    assert_eq!(sent.count(), 1);
}

#[tokio::test]
async fn a_key_that_was_lost_on_its_way_asks_for_a_person() {
    for fault in [Fault::Cut, Fault::Hang, Fault::Status(500), Fault::Body("{}".to_owned())] {
        let vault = FakeVault::start(1).await;
        vault.fail(0, "sys/init", [fault.clone()]);
        let error = hasty(&vault, 0).initialise().await.expect_err("lost");
        assert!(matches!(error, VaultError::InitUnknown { .. }), "{fault:?}: {error}");
        assert_eq!(error.severity(), Severity::AskAPerson);
        assert_eq!(vault.asked().len(), 1, "{fault:?}");
    }
    let vault = FakeVault::start(1).await;
    vault.stop(0).await;
    let error = client(&vault, 0).initialise().await.expect_err("it does not run");
    assert_eq!(error.severity(), Severity::TryAgain, "{error}");
}

#[tokio::test]
async fn only_the_question_for_the_leader_is_kept_from_being_forwarded() {
    let vault = FakeVault::start(2).await;
    let (key, root) = vault.initialise();
    for server in 0..2 {
        vault.server(server).unseal(&key).await.expect("unsealed");
    }
    let standby = client(&vault, 1).with_token(root);
    assert!(!wait_for_leader(&standby, Duration::from_secs(10)).await.expect("a leader").here);
    standby.mounts().await.expect("mounts");
    for asked in vault.asked() {
        assert_eq!(asked.not_forwarded, asked.path == "sys/leader", "{asked:?}");
        assert_eq!(asked.with_token, asked.path == "sys/mounts", "{asked:?}");
    }
}

#[tokio::test]
async fn a_redirect_is_followed_once_and_not_to_everywhere() {
    let vault = FakeVault::start(2).await;
    let (key, root) = vault.initialise();
    for server in 0..2 {
        vault.server(server).unseal(&key).await.expect("unsealed");
    }
    let standby = client(&vault, 1).with_token(root);
    let leader = format!("{}v1/sys/mounts", vault.address(0));
    vault.fail(1, "sys/mounts", [Fault::Redirect(leader.clone())]);
    standby.mounts().await.expect("mounts");
    vault.asked();

    let elsewhere = "http://10.69.0.3:8200/v1/sys/mounts";
    for place in
        [elsewhere, "https://10.69.0.3:8200/v1/sys/mounts", "unix:/x", "http://u:p@localhost/"]
    {
        vault.fail(1, "sys/mounts", [Fault::Redirect(place.to_owned())]);
        let error = standby.mounts().await.expect_err("not followed");
        assert!(matches!(error, VaultError::Redirect { .. }), "{place}: {error}");
    }
    vault.fail(1, "sys/mounts", std::iter::repeat_n(Fault::Redirect(leader), 3));
    vault.fail(0, "sys/mounts", std::iter::repeat_n(Fault::Redirect(elsewhere.to_owned()), 3));
    let error = standby.mounts().await.expect_err("twice");
    assert!(matches!(error, VaultError::NoLeader { .. }), "{error}");
}

#[tokio::test]
async fn what_a_forgotten_leader_does_not_answer_is_no_success() {
    let vault = FakeVault::start(2).await;
    let (key, root) = vault.initialise();
    for server in 0..2 {
        vault.server(server).unseal(&key).await.expect("unsealed");
    }
    vault.allow_elections(false);
    vault.stop(0).await;
    let standby = client(&vault, 1).with_token(root);
    let error = standby.mounts().await.expect_err("neither data nor error");
    assert!(matches!(error, VaultError::Empty { .. }), "{error}");
    assert_eq!(error.severity(), Severity::TryAgain);
    for nothing in ["{}", r#"{"data":null}"#, " "] {
        vault.fail(1, "sys/mounts", std::iter::repeat_n(Fault::Body(nothing.to_owned()), 3));
        let error = standby.mounts().await.expect_err("no data");
        assert!(matches!(error, VaultError::Empty { .. }), "{nothing}: {error}");
    }
}

#[tokio::test]
async fn what_is_no_vault_is_told_from_one_in_trouble() {
    let (vault, root) = one().await;
    vault.fail(0, "sys/mounts", [Fault::Body("<html>".to_owned())]);
    let error = root.mounts().await.expect_err("a page");
    assert!(matches!(error, VaultError::Malformed { .. }), "{error}");
    vault.fail(0, "sys/mounts", [Fault::Body("x".repeat(2 << 20))]);
    let error = root.mounts().await.expect_err("too much");
    assert!(matches!(error, VaultError::TooLarge { .. }), "{error}");
    assert_eq!(error.severity(), Severity::AskAPerson);
    // A proxy's own 503 is not a sealed Vault.
    vault.fail(0, "sys/health", [Fault::Status(503)]);
    let error = root.health().await.expect_err("no health");
    assert!(matches!(error, VaultError::Server { status: 503, .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_joins_by_being_unsealed_is_waited_for() {
    let vault = FakeVault::start(1).await;
    let (key, _) = vault.initialise();
    vault.unseal_after_looks(3);
    let client = client(&vault, 0);
    let unsealed = unseal(&client, &key, Duration::from_secs(30)).await.expect("unsealed");
    assert_eq!(unsealed, Unsealed::Now);
    assert_eq!(client.health().await.expect("an answer").state, State::Active);
}

#[tokio::test(start_paused = true)]
async fn waits_end_at_their_deadline() {
    // Without HTTP, so that no time passes.
    let vault = FakeVault::start(1).await;
    let server = vault.server(0);
    let (key, _) = vault.initialise();
    vault.unseal_after_looks(u32::MAX);
    let within = Duration::from_secs(100);
    for wait in 0..4 {
        let began = tokio::time::Instant::now();
        let error = match wait {
            0 => wait_until_unsealed(&server, within).await.map(drop),
            1 => wait_for_leader(&server, within).await.map(drop),
            2 => unseal(&server, &key, within).await.map(drop),
            _ => {
                vault.stop(0).await;
                wait_until_answering(&server, within).await.map(drop)
            }
        };
        assert!(matches!(error, Err(VaultError::Deadline { .. })), "{wait}: {error:?}");
        let took = began.elapsed();
        assert!(took > within - Duration::from_secs(1) && took <= within, "{wait}: {took:?}");
    }
}

#[tokio::test]
async fn a_server_without_http_is_the_same_server() {
    let vault = FakeVault::start(2).await;
    let (first, second) = (vault.server(0), vault.server(1));
    assert_eq!(first.health().await.expect("an answer").state, State::Uninitialised);
    let (key, _) = vault.initialise();
    let error = first.leader().await.expect_err("sealed");
    assert!(matches!(error, VaultError::Sealed { .. }), "{error}");
    let wrong = unseal(&first, &Secret::from("wrong"), Duration::from_secs(1)).await;
    assert!(matches!(wrong, Err(VaultError::KeyRefused { .. })), "{wrong:?}");
    for server in [&first, &second] {
        unseal(server, &key, Duration::from_secs(1)).await.expect("unsealed");
    }
    for (here, there) in [(&first, client(&vault, 0)), (&second, client(&vault, 1))] {
        assert_eq!(here.health().await.expect("told"), there.health().await.expect("told"));
        assert_eq!(
            here.seal_status().await.expect("told"),
            there.seal_status().await.expect("told")
        );
        let (here, there) =
            (here.leader().await.expect("told"), there.leader().await.expect("told"));
        assert_eq!(here.here, there.here);
        assert_eq!(here.address.origin(), there.address.origin());
    }
    assert!(!first.leader().await.expect("told").address.as_str().is_empty());
    let mounted = client(&vault, 0).ensure_mount("secret", Engine::Kv).await;
    assert!(matches!(mounted, Err(VaultError::Forbidden { token_sent: false, .. })));
}
