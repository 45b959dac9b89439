//! What every Vault keeps, the fake and the real: a suite to run against each.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use neco_base::Secret;
use neco_schema::Severity;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use serde_json::{Value, json};

use crate::{
    AuthMethod, CertificateRequest, Client, Engine, Issued, Role, RootCa, State, Unsealed, Vault,
    VaultError, unseal, wait_for_leader, wait_until_answering, wait_until_unsealed,
};

/// A cluster under test, whose servers run and have no key yet.
#[async_trait]
pub trait Bench: Send + Sync {
    /// A client of a server, without a token.
    fn client(&self, server: usize) -> Client;

    /// Stops a server.
    async fn stop(&self, server: usize);

    /// Starts a server that was stopped, where it was before.
    async fn start(&self, server: usize);

    /// Takes from a standby everybody who could lead, it included.
    async fn isolate(&self, server: usize);

    /// Whether audit devices can be made over HTTP.
    fn audits_over_http(&self) -> bool;

    /// How long what must not come is waited for.
    fn briefly(&self) -> Duration;
}

/// How long anything may take.
const SOON: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DECADE: Duration = Duration::from_secs(87_600 * 3600);
const CENTURY: Duration = Duration::from_secs(876_000 * 3600);
const CA: Engine = Engine::Pki { default_lease: DECADE, max_lease: CENTURY };

/// Runs every clause on a cluster of its own with so many servers; panics at the first that is broken.
pub async fn holds<B: Bench>(new: impl AsyncFn(usize) -> B) {
    a_new_server_says_that_it_has_no_key(&new(1).await).await;
    a_key_is_given_once_and_not_shown(&new(1).await).await;
    a_sealed_server_takes_its_own_key_alone(&new(1).await).await;
    a_server_that_restarts_is_sealed_until_it_is_unsealed(&new(1).await).await;
    whoever_waits_is_told_what_was_in_the_way(&new(1).await).await;
    a_ca_made_in_one_place_issues_in_another(&new(1).await).await;
    certificates_are_what_their_role_says(&new(1).await).await;
    records_are_read_as_they_were_written(&new(1).await).await;
    what_is_there_already_stays(&new(1).await).await;
    a_user_may_what_the_policies_say_until_the_token_is_revoked(&new(1).await).await;
    a_leader_that_steps_down_alone_leads_again(&new(1).await).await;
    everybody_names_the_same_leader(&new(3).await).await;
    what_is_written_through_a_standby_is_known_to_the_leader(&new(3).await).await;
    a_leader_that_steps_down_is_followed_by_another(&new(3).await).await;
    a_leader_that_is_gone_is_not_believed(&new(3).await).await;
}

/// The key, and a client of the leader with the root token, of a cluster of so many servers that are all unsealed.
async fn ready(bench: &impl Bench, servers: usize) -> (Secret, Client) {
    let first = bench.client(0);
    wait_until_answering(&first, SOON).await.expect("the server runs");
    let given = first.initialise().await.expect("a key");
    for server in 0..servers {
        let client = bench.client(server);
        assert_eq!(
            unseal(&client, &given.unseal_key, SOON).await.expect("unsealed"),
            Unsealed::Now
        );
        // A server joins those that are there.
        wait_for_leader(&client, SOON).await.expect("a leader");
    }
    let leader = wait_for_leader(&first, SOON).await.expect("a leader");
    let root = first.at(&leader.address).expect("an address").with_token(given.root_token);
    (given.unseal_key, root)
}

async fn a_new_server_says_that_it_has_no_key(bench: &impl Bench) {
    let client = bench.client(0);
    let health = wait_until_answering(&client, SOON).await.expect("an answer");
    assert_eq!(health.state, State::Uninitialised);
    assert!(!health.version.is_empty());
    assert!(!client.is_initialised().await.expect("an answer"));
    let status = client.seal_status().await.expect("an answer");
    assert!(!status.initialised && status.sealed, "{status:?}");
    let error = client.leader().await.expect_err("no leader");
    assert!(matches!(error, VaultError::NotInitialised { .. }), "{error}");
}

async fn a_key_is_given_once_and_not_shown(bench: &impl Bench) {
    let client = bench.client(0);
    wait_until_answering(&client, SOON).await.expect("an answer");
    let given = client.initialise().await.expect("a key");
    let shown = format!("{given:?}");
    assert!(!shown.contains(given.unseal_key.reveal()), "{shown}");
    assert!(!shown.contains(given.root_token.reveal()), "{shown}");
    assert!(client.is_initialised().await.expect("an answer"));
    assert_eq!(client.health().await.expect("an answer").state, State::Sealed);
    let error = client.initialise().await.expect_err("once only");
    assert!(matches!(error, VaultError::AlreadyInitialised { .. }), "{error}");
    assert_eq!(error.severity(), Severity::AskAPerson);
}

async fn a_sealed_server_takes_its_own_key_alone(bench: &impl Bench) {
    let client = bench.client(0);
    wait_until_answering(&client, SOON).await.expect("an answer");
    let given = client.initialise().await.expect("a key");
    let key = given.unseal_key;
    let root = client.with_token(given.root_token);
    let error = root.mounts().await.expect_err("sealed");
    assert!(matches!(error, VaultError::Sealed { .. }), "{error}");
    assert_eq!(error.severity(), Severity::TryAgain);
    let other = Secret::from("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    for wrong in [&other, &Secret::from("no key at all")] {
        let error = unseal(&client, wrong, SOON).await.expect_err("not the key");
        assert!(matches!(error, VaultError::KeyRefused { .. }), "{error}");
        assert_eq!(error.severity(), Severity::AskAPerson);
        assert!(!error.to_string().contains(wrong.reveal()), "{error}");
    }
    assert_eq!(unseal(&client, &key, SOON).await.expect("unsealed"), Unsealed::Now);
    assert!(!client.seal_status().await.expect("an answer").sealed);
    assert_eq!(unseal(&client, &key, SOON).await.expect("unsealed"), Unsealed::Already);
    assert_eq!(unseal(&client, &other, SOON).await.expect("unsealed"), Unsealed::Already);
    let leader = wait_for_leader(&client, SOON).await.expect("a leader");
    assert!(leader.here);
    assert_eq!(client.health().await.expect("an answer").state, State::Active);
    root.seal().await.expect("sealed");
    assert_eq!(client.health().await.expect("an answer").state, State::Sealed);
}

async fn a_server_that_restarts_is_sealed_until_it_is_unsealed(bench: &impl Bench) {
    let (key, root) = ready(bench, 1).await;
    let client = bench.client(0);
    root.ensure_mount("secret", Engine::Kv).await.expect("mounted");
    root.kv_put("secret/kept", &json!({ "a": "b" })).await.expect("written");
    bench.stop(0).await;
    let error = client.health().await.expect_err("it does not run");
    assert_eq!(error.severity(), Severity::TryAgain, "{error}");
    bench.start(0).await;
    let health = wait_until_answering(&client, SOON).await.expect("an answer");
    assert_eq!(health.state, State::Sealed);
    let (waited, unsealed) =
        tokio::join!(wait_until_unsealed(&client, SOON), unseal(&client, &key, SOON));
    assert_eq!(unsealed.expect("unsealed"), Unsealed::Now);
    assert!(waited.expect("unsealed").state >= State::Standby);
    wait_for_leader(&client, SOON).await.expect("a leader");
    let kept: Option<Value> = root.kv_get("secret/kept").await.expect("an answer");
    assert_eq!(kept, Some(json!({ "a": "b" })));
}

async fn whoever_waits_is_told_what_was_in_the_way(bench: &impl Bench) {
    let client = bench.client(0);
    wait_until_answering(&client, SOON).await.expect("an answer");
    let key = Secret::from("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    let in_the_way = |error: VaultError| match error {
        VaultError::Deadline { last: Some(last), .. } => *last,
        other => panic!("{other}"),
    };
    let error = unseal(&client, &key, bench.briefly()).await.expect_err("there is no key");
    assert!(matches!(in_the_way(error), VaultError::NotInitialised { .. }));
    client.initialise().await.expect("a key");
    let error = wait_until_unsealed(&client, bench.briefly()).await.expect_err("sealed");
    assert!(matches!(in_the_way(error), VaultError::Sealed { .. }));
    let error = wait_for_leader(&client, bench.briefly()).await.expect_err("sealed");
    assert!(matches!(in_the_way(error), VaultError::Sealed { .. }));
    bench.stop(0).await;
    let error = wait_until_answering(&client, bench.briefly()).await.expect_err("it does not run");
    assert_eq!(in_the_way(error).severity(), Severity::TryAgain);
}

/// A CA at a mount, made there.
async fn ca(root: &Client, mount: &str, common_name: &str) -> Secret {
    root.ensure_mount(mount, CA).await.expect("mounted");
    let ca = RootCa { common_name: common_name.to_owned(), ttl: CENTURY };
    root.generate_root(mount, &ca).await.expect("a CA")
}

async fn role(root: &Client, mount: &str, client: bool, server: bool) {
    let role = Role { ttl: HOUR, max_ttl: DECADE, client, server };
    root.put_role(mount, "system", &role).await.expect("a role");
}

fn host() -> CertificateRequest {
    CertificateRequest {
        common_name: "boot-0".to_owned(),
        dns_names: vec!["localhost".to_owned()],
        ip_addresses: vec!["127.0.0.1".parse().expect("an address")],
        ttl: Some(DECADE),
        good_for_common_name: true,
    }
}

fn roots(issued: &Issued) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(issued.issuing_ca.as_bytes()).expect("a certificate");
    roots.add(ca).expect("a CA");
    Arc::new(roots)
}

fn leaf(issued: &Issued) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(issued.certificate.as_bytes()).expect("a certificate")
}

/// Whether a client would take the server that shows this certificate for `name`.
fn is_server(issued: &Issued, name: &'static str) -> bool {
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(issued), provider);
    let name = ServerName::try_from(name).expect("a name");
    let verifier = verifier.build().expect("a CA");
    verifier.verify_server_cert(&leaf(issued), &[], &name, &[], UnixTime::now()).is_ok()
}

/// Whether a server would take the client that shows this certificate.
fn is_client(issued: &Issued) -> bool {
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(issued), provider);
    let verifier = verifier.build().expect("a CA");
    verifier.verify_client_cert(&leaf(issued), &[], UnixTime::now()).is_ok()
}

/// Whether the key is that of the certificate.
fn is_whole(issued: &Issued) -> bool {
    let key = PrivateKeyDer::from_pem_slice(issued.private_key.reveal().as_bytes()).expect("a key");
    let provider = ring::default_provider();
    rustls::sign::CertifiedKey::from_der(vec![leaf(issued)], key, &provider).is_ok()
}

async fn a_ca_made_in_one_place_issues_in_another(bench: &impl Bench) {
    let (_, root) = ready(bench, 1).await;
    assert_eq!(root.ca_certificate("ca/none").await.expect("an answer"), None);
    let bundle = ca(&root, "ca/made", "server CA").await;
    root.ensure_mount("ca/server", CA).await.expect("mounted");
    assert_eq!(root.ca_certificate("ca/server").await.expect("an answer"), None);
    root.import_ca("ca/server", &bundle).await.expect("imported");
    root.import_ca("ca/server", &bundle).await.expect("imported again");
    role(&root, "ca/server", true, true).await;
    let issued = root.issue("ca/server", "system", &host()).await.expect("a certificate");
    let made = root.ca_certificate("ca/made").await.expect("an answer").expect("a certificate");
    assert_eq!(issued.issuing_ca.trim(), made.trim());
    assert!(is_whole(&issued) && is_client(&issued));
    assert!(["boot-0", "localhost", "127.0.0.1"].into_iter().all(|name| is_server(&issued, name)));
    assert!(!is_server(&issued, "boot-1"));
    assert!(!format!("{issued:?}").contains("PRIVATE KEY"));
}

async fn certificates_are_what_their_role_says(bench: &impl Bench) {
    let (_, root) = ready(bench, 1).await;
    ca(&root, "ca/server", "server CA").await;
    ca(&root, "ca/boot-etcd-client", "boot etcd client CA").await;
    let error = root.issue("ca/server", "system", &host()).await.expect_err("no such role");
    assert!(matches!(error, VaultError::Refused { .. }), "{error}");
    role(&root, "ca/server", false, true).await;
    role(&root, "ca/boot-etcd-client", true, false).await;
    let server = root.issue("ca/server", "system", &host()).await.expect("a certificate");
    assert!(is_server(&server, "boot-0") && !is_client(&server));
    let user = CertificateRequest { common_name: "vault".to_owned(), ..Default::default() };
    let user = root.issue("ca/boot-etcd-client", "system", &user).await.expect("a certificate");
    assert!(is_client(&user) && !is_server(&user, "vault"));
}

async fn records_are_read_as_they_were_written(bench: &impl Bench) {
    let (_, root) = ready(bench, 1).await;
    assert!(root.ensure_mount("secret", Engine::Kv).await.expect("mounted"));
    let read = async |path: &str| root.kv_get::<Value>(path).await.expect("an answer");
    assert_eq!(read("secret/bootstrap").await, None);
    root.kv_put("secret/bootstrap", &json!({ "ready": "go" })).await.expect("written");
    root.kv_put("secret/bootstrap_done/0", &json!({ "done": 1 })).await.expect("written");
    assert_eq!(read("secret/bootstrap").await, Some(json!({ "ready": "go" })));
    assert_eq!(read("secret/bootstrap_done/0").await, Some(json!({ "done": 1 })));
    root.kv_delete("secret/bootstrap").await.expect("removed");
    root.kv_delete("secret/bootstrap").await.expect("removed already");
    assert_eq!(read("secret/bootstrap").await, None);
    root.unmount("secret").await.expect("removed");
    root.unmount("secret").await.expect("removed already");
    assert!(root.ensure_mount("secret", Engine::Kv).await.expect("mounted"));
    assert_eq!(read("secret/bootstrap_done/0").await, None);
}

async fn what_is_there_already_stays(bench: &impl Bench) {
    let (_, root) = ready(bench, 1).await;
    for path in ["ca/server", "ca/boot-etcd-peer"] {
        assert!(root.ensure_mount(path, CA).await.expect("mounted"));
        assert!(!root.ensure_mount(path, CA).await.expect("mounted"));
        assert_eq!(root.mounts().await.expect("mounts")[path].kind, "pki");
    }
    let error = root.ensure_mount("ca/server", Engine::Kv).await.expect_err("another kind");
    assert!(matches!(error, VaultError::Conflict { .. }), "{error}");
    assert!(root.ensure_auth_method(AuthMethod::AppRole).await.expect("enabled"));
    assert!(!root.ensure_auth_method(AuthMethod::AppRole).await.expect("enabled"));
    assert_eq!(root.policy("admin").await.expect("an answer"), None);
    let policy = "path \"secret/*\" { capabilities = [\"read\"] }";
    root.put_policy("admin", policy).await.expect("written");
    assert_eq!(root.policy("admin").await.expect("an answer").as_deref(), Some(policy));
    let audit = root.ensure_audit_file("stdout", "stdout").await;
    if bench.audits_over_http() {
        assert!(audit.expect("enabled"));
        assert!(!root.ensure_audit_file("stdout", "stdout").await.expect("enabled"));
    } else {
        let error = audit.expect_err("refused");
        assert!(matches!(error, VaultError::Refused { status: 400, .. }), "{error}");
    }
}

async fn a_user_may_what_the_policies_say_until_the_token_is_revoked(bench: &impl Bench) {
    let (_, root) = ready(bench, 1).await;
    root.ensure_mount("secret", Engine::Kv).await.expect("mounted");
    root.kv_put("secret/open", &json!({ "a": "b" })).await.expect("written");
    let policy = "path \"secret/open\" { capabilities = [\"read\"] }";
    root.put_policy("reader", policy).await.expect("written");
    root.ensure_auth_method(AuthMethod::UserPass).await.expect("enabled");
    let password = Secret::from("hunter2");
    root.put_user("alice", &password, &["reader"]).await.expect("written");

    let nobody = bench.client(0);
    let error = nobody.mounts().await.expect_err("no token");
    assert!(matches!(error, VaultError::Forbidden { token_sent: false, .. }), "{error}");
    for (user, password) in [("alice", &Secret::from("hunter3")), ("bob", &password)] {
        let error = nobody.login(user, password).await.expect_err("refused");
        assert!(matches!(error, VaultError::LoginRefused { .. }), "{error}");
        assert!(!error.to_string().contains("hunter"), "{error}");
    }
    assert!(nobody.login("alice/../root", &password).await.is_err());

    let alice = nobody.with_token(nobody.login("alice", &password).await.expect("a token"));
    assert!(alice.kv_get::<Value>("secret/open").await.expect("an answer").is_some());
    for error in [
        alice.kv_put("secret/open", &json!({ "a": "c" })).await.expect_err("read only"),
        alice.kv_get::<Value>("secret/closed").await.expect_err("not hers"),
        alice.step_down().await.expect_err("not hers"),
    ] {
        assert!(matches!(error, VaultError::Forbidden { token_sent: true, .. }), "{error}");
        assert_eq!(error.severity(), Severity::AskAPerson);
    }
    alice.revoke_self().await.expect("revoked");
    let error = alice.kv_get::<Value>("secret/open").await.expect_err("revoked");
    assert!(matches!(error, VaultError::Forbidden { .. }), "{error}");
}

async fn a_leader_that_steps_down_alone_leads_again(bench: &impl Bench) {
    let (_, root) = ready(bench, 1).await;
    root.step_down().await.expect("it stepped down");
    assert!(wait_for_leader(&root, SOON).await.expect("a leader").here);
}

async fn everybody_names_the_same_leader(bench: &impl Bench) {
    let (_, root) = ready(bench, 3).await;
    let mut here = 0;
    for server in 0..3 {
        let leader = wait_for_leader(&bench.client(server), SOON).await.expect("a leader");
        assert_eq!(leader.address.origin(), root.address().origin());
        here += usize::from(leader.here);
    }
    assert_eq!(here, 1, "one leads");
}

/// The standbys of a cluster of three.
async fn standbys(bench: &impl Bench) -> Vec<usize> {
    let mut found = Vec::new();
    for server in 0..3 {
        let health = bench.client(server).health().await.expect("an answer");
        if health.state == State::Standby {
            found.push(server);
        }
    }
    found
}

async fn what_is_written_through_a_standby_is_known_to_the_leader(bench: &impl Bench) {
    let (_, root) = ready(bench, 3).await;
    let standby = *standbys(bench).await.first().expect("a standby");
    let client = bench.client(standby);
    let through = root.at(client.address()).expect("an address");
    through.put_policy("ca-admin", "path \"ca/*\" {}").await.expect("written");
    // What was written is read where it is certain to be known.
    assert!(root.policy("ca-admin").await.expect("an answer").is_some());
}

async fn a_leader_that_steps_down_is_followed_by_another(bench: &impl Bench) {
    let (_, root) = ready(bench, 3).await;
    let standby = *standbys(bench).await.first().expect("a standby");
    root.step_down().await.expect("it stepped down");
    let leader = wait_for_leader(&bench.client(standby), SOON).await.expect("a leader");
    let root = root.at(&leader.address).expect("an address");
    root.ensure_mount("secret", Engine::Kv).await.expect("mounted by the leader");
}

async fn a_leader_that_is_gone_is_not_believed(bench: &impl Bench) {
    let (key, _) = ready(bench, 3).await;
    let standby = *standbys(bench).await.first().expect("a standby");
    let client = bench.client(standby);
    bench.isolate(standby).await;
    match wait_for_leader(&client, bench.briefly()).await {
        Err(VaultError::Deadline { last: Some(last), .. }) => {
            assert!(matches!(*last, VaultError::NoLeader { .. }), "{last}");
        }
        other => panic!("{other:?}"),
    }
    for server in (0..3).filter(|server| *server != standby) {
        bench.start(server).await;
        assert_eq!(
            unseal(&bench.client(server), &key, SOON).await.expect("unsealed"),
            Unsealed::Now
        );
    }
    wait_for_leader(&client, SOON).await.expect("a leader");
}
