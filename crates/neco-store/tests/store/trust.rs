//! Certificates, users, passwords, and how their errors read.

use std::fs;
use std::time::Duration;

use crate::common::{Etcd, Members};
use etcd_client::{
    Certificate, Client, ConnectOptions, Identity, Permission, PermissionType, TlsOptions,
};
use neco_base::Secret;
use neco_etcd::{MemberConfig, ServerTls};
use neco_schema::Revision;
use neco_store::{
    Committed, EtcdStore, Members as _, Options, Promoted, Severity, Store, StoreError, WatchEvent,
};
use neco_testkit::store::{all, next_event, put};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    fn ca(&self) -> Vec<u8> {
        self.0.pem().into_bytes()
    }

    /// A certificate and its key, for either side.
    fn issue(&self) -> (Vec<u8>, Vec<u8>) {
        self.issue_for(&["127.0.0.1", "localhost"], 1975..4096)
    }

    /// One for these names that is valid from the first day of one year to that of another.
    fn issue_for(&self, names: &[&str], years: std::ops::Range<i32>) -> (Vec<u8>, Vec<u8>) {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.not_before = date_time_ymd(years.start, 1, 1);
        params.not_after = date_time_ymd(years.end, 1, 1);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let cert = params.signed_by(&key, &self.0).expect("a certificate");
        (cert.pem().into_bytes(), key.serialize_pem().into_bytes())
    }
}

async fn error_of(options: Options) -> StoreError {
    let options = Options { deadline: Duration::from_secs(5), ..options };
    let store = EtcdStore::connect(options).await.expect("the options are usable");
    store.ping().await.expect_err("it cannot work")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_certificates_open_the_door() {
    let authority = Authority::new("ours");
    let dir = tempfile::tempdir().expect("a directory");
    let etcd = guarded(&authority, dir.path()).await;
    let (cert, key) = authority.issue();
    let right = Options {
        ca: Some(authority.ca()),
        cert: Some(cert),
        key: Some(Secret::new(key)),
        ..Options::new([etcd.server.client_url()])
    };

    let store = EtcdStore::connect(right.clone()).await.expect("usable");
    let done = store.commit(&put("a", "1")).await.expect("an answer");
    assert!(matches!(done, Committed::Done(_)));
    let health = store.health().await.expect("an answer");
    assert!(health.quorum, "{health:?}");
    let mut watch = store.watch(&[all("")], Revision(2)).await.expect("a watch");
    assert!(matches!(next_event(&mut *watch).await, WatchEvent::Changed(_)));

    let told = |error: StoreError, words: &str| {
        assert!(matches!(error, StoreError::Tls { .. }), "{error:?}");
        assert_eq!(error.severity(), Severity::AskAPerson);
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.to_string().contains(&etcd.server.client_url()), "{error}");
    };
    let without = Options { cert: None, key: None, ..right.clone() };
    told(error_of(without).await, "may require a client certificate");

    let stranger = Authority::new("a stranger");
    let wrong_ca = Options { ca: Some(stranger.ca()), ..right.clone() };
    told(error_of(wrong_ca).await, "tls-ca-file");
    told(error_of(Options { ca: None, ..right.clone() }).await, "tls-ca-file");

    let (cert, key) = stranger.issue();
    let wrong_cert = Options { cert: Some(cert), key: Some(Secret::new(key)), ..right.clone() };
    told(error_of(wrong_cert).await, "not accept the client certificate");

    let nonsense = Options { cert: Some(b"-----BEGIN CERTIFICATE-----".to_vec()), ..right };
    let error = EtcdStore::connect(nonsense).await.expect_err("no certificate");
    assert!(matches!(error, StoreError::Options { .. }), "{error:?}");
}

/// A server that asks for client certificates, and where its own lies: it is read for every connection.
async fn guarded(authority: &Authority, dir: &std::path::Path) -> Etcd {
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.join(name);
        fs::write(&path, bytes).expect("written");
        path
    };
    let (cert, key) = authority.issue();
    let tls = ServerTls {
        cert: file("server.crt", &cert),
        key: file("server.key", &key),
        trusted_ca: Some(file("ca.crt", &authority.ca())),
        client_cert_auth: true,
    };
    Etcd::start_with(MemberConfig::default().tls(tls)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_that_are_not_valid_now_or_here_are_told_from_silence() {
    let authority = Authority::new("ours");
    let dir = tempfile::tempdir().expect("a directory");
    let etcd = guarded(&authority, dir.path()).await;
    let url = etcd.server.client_url();
    let with = |(cert, key): (Vec<u8>, Vec<u8>)| Options {
        ca: Some(authority.ca()),
        cert: Some(cert),
        key: Some(Secret::new(key)),
        ..Options::new([url.clone()])
    };
    let told = |error: StoreError, words: &str| {
        let text = error.to_string();
        assert!(matches!(error, StoreError::Tls { .. }), "{error:?}");
        assert!(text.contains(words) && text.contains(&url), "{text}");
    };
    let names = ["127.0.0.1", "localhost"];
    for years in [1975..1976, 4095..4096] {
        let error = error_of(with(authority.issue_for(&names, years))).await;
        told(error, "accept the client certificate: check tls-cert-file and tls-key-file");
    }
    for (names, years, words) in [
        (&names[..], 1975..1976, "expired"),
        (&names[..], 4095..4096, "not valid yet"),
        (&["elsewhere.example"][..], 1975..4096, "not valid for name"),
    ] {
        let (cert, key) = authority.issue_for(names, years);
        fs::write(dir.path().join("server.crt"), cert).expect("written");
        fs::write(dir.path().join("server.key"), key).expect("written");
        let error = error_of(with(authority.issue())).await;
        told(error.clone(), words);
        told(error, "check the server's certificate");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wrong_scheme_is_told_with_the_right_one() {
    let authority = Authority::new("ours");
    let dir = tempfile::tempdir().expect("a directory");
    let guarded = guarded(&authority, dir.path()).await;
    let plain = Etcd::start_with(MemberConfig::default()).await;
    let swapped = |url: String, from: &str, to: &str| url.replacen(from, to, 1);
    for (url, words) in [
        (swapped(guarded.server.client_url(), "https://", "http://"), "write https://"),
        (swapped(plain.server.client_url(), "http://", "https://"), "write http://"),
    ] {
        let error = error_of(Options::new([url.clone()])).await;
        let text = error.to_string();
        assert!(matches!(error, StoreError::Tls { .. }), "{error:?}");
        assert!(text.contains(words) && text.contains(&url), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_kept_out_comes_in_once_its_options_are_mended() {
    let authority = Authority::new("ours");
    let dir = tempfile::tempdir().expect("a directory");
    let etcd = guarded(&authority, dir.path()).await;
    let (cert, key) = authority.issue();
    let right = Options {
        ca: Some(authority.ca()),
        cert: Some(cert),
        key: Some(Secret::new(key)),
        deadline: Duration::from_secs(5),
        ..Options::new([etcd.server.client_url()])
    };
    let stranger = Authority::new("a stranger");
    let (cert, key) = stranger.issue();
    let wrong_cert = Options { cert: Some(cert), key: Some(Secret::new(key)), ..right.clone() };
    let wrong_ca = Options { ca: Some(stranger.ca()), ..right.clone() };
    let present = std::sync::Arc::new(std::sync::Mutex::new(None));
    for wrong in [wrong_cert, wrong_ca] {
        *present.lock().expect("whole") = Some(wrong.clone());
        let asked = present.clone();
        let renew = std::sync::Arc::new(move || {
            asked.lock().expect("whole").clone().ok_or_else(|| "half written".to_owned())
        });
        let store = EtcdStore::connect_renewing(wrong, renew).await.expect("usable");
        let error = store.ping().await.expect_err("not let in");
        assert_eq!(error.severity(), Severity::AskAPerson, "{error}");
        // What cannot be read, or not be used, changes nothing.
        let nonsense = Options { cert: Some(b"nonsense".to_vec()), ..right.clone() };
        for useless in [None, Some(nonsense)] {
            *present.lock().expect("whole") = useless;
            // Longer than the pause between two readings.
            tokio::time::sleep(Duration::from_millis(1_100)).await;
            let still = store.ping().await.expect_err("not let in");
            assert_eq!(still.severity(), Severity::AskAPerson, "{still}");
        }
        *present.lock().expect("whole") = Some(right.clone());
        let mut tries = 0;
        while let Err(error) = store.ping().await {
            tries += 1;
            assert!(tries < 100, "{error}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// A member after another is replaced, and the configuration follows: whoever knew the first ones alone finds the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_are_read_again_when_nobody_answers_any_more() {
    let mut old = Etcd::start().await;
    let new = Etcd::start().await;
    let of = |etcd: &Etcd| Options {
        timeout: Duration::from_secs(1),
        deadline: Duration::from_secs(5),
        ..Options::new([etcd.server.client_url()])
    };
    let present = std::sync::Arc::new(std::sync::Mutex::new(of(&old)));
    let asked = present.clone();
    let renew = std::sync::Arc::new(move || Ok(asked.lock().expect("whole").clone()));
    let store = EtcdStore::connect_renewing(of(&old), renew).await.expect("usable");
    let (first, _) = store.ping().await.expect("an answer");
    *present.lock().expect("whole") = of(&new);
    let (still, _) = store.ping().await.expect("an answer");
    assert_eq!(still, first, "who answers is not left");
    old.server.kill().await.expect("it ends");
    let moved = async {
        loop {
            match store.ping().await {
                Ok((cluster, _)) => return cluster,
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    };
    let moved = tokio::time::timeout(Duration::from_secs(20), moved).await.expect("in time");
    assert_ne!(moved, first);
    assert!(store.health().await.expect("an answer").all_healthy());
}

/// Users `root` and `neco`, the latter with a role for `/neco/`, and authentication on.
async fn enable_auth(url: &str, options: Option<ConnectOptions>) {
    let mut client = Client::connect([url], options).await.expect("a client");
    client.user_add("root", "root-password", None).await.expect("added");
    client.user_grant_role("root", "root").await.expect("granted");
    client.role_add("neco").await.expect("added");
    let permission = Permission::new(PermissionType::Readwrite, "/neco/").with_prefix();
    client.role_grant_permission("neco", permission).await.expect("granted");
    client.user_add("neco", "secret", None).await.expect("added");
    client.user_grant_role("neco", "neco").await.expect("granted");
    client.auth_enable().await.expect("enabled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_came_with_a_certificate_before_authentication_was_on_logs_in_when_it_is() {
    let authority = Authority::new("ours");
    let dir = tempfile::tempdir().expect("a directory");
    let etcd = guarded(&authority, dir.path()).await;
    let url = etcd.server.client_url();
    let (cert, key) = authority.issue();
    let tls = TlsOptions::new()
        .ca_certificate(Certificate::from_pem(authority.ca()))
        .identity(Identity::from_pem(&cert, &key));
    let right = Options {
        ca: Some(authority.ca()),
        cert: Some(cert),
        key: Some(Secret::new(key)),
        user: Some("neco".to_owned()),
        password: Some(Secret::from("secret")),
        ..Options::new([url.clone()])
    };
    let store = EtcdStore::connect(right).await.expect("usable");
    store.commit(&put("a", "0")).await.expect("an answer");
    enable_auth(&url, Some(ConnectOptions::new().with_tls(tls))).await;
    let done = store.commit(&put("a", "1")).await;
    assert!(matches!(done, Ok(Committed::Done(_))), "{done:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_and_passwords_open_the_door() {
    let etcd =
        Etcd::start_with(MemberConfig::default().auth_token_ttl(Duration::from_secs(1))).await;
    let url = etcd.server.client_url();
    let anonymous = Options::new([url.clone()]);
    let right = Options {
        user: Some("neco".to_owned()),
        password: Some(Secret::from("secret")),
        ..anonymous.clone()
    };
    // Whoever has a password may come before authentication is on, and stays when it is.
    let store = EtcdStore::connect(right.clone()).await.expect("usable");
    store.commit(&put("a", "0")).await.expect("an answer");
    enable_auth(&url, None).await;
    let Ok(Committed::Done(first)) = store.commit(&put("a", "1")).await else { panic!("done") };
    let mut watch = store.watch(&[all("")], Revision(first.0 + 1)).await.expect("a watch");

    let error = error_of(Options { password: Some(Secret::from("guess")), ..right.clone() }).await;
    assert!(matches!(error, StoreError::Unauthenticated { .. }), "{error:?}");
    assert_eq!(error.severity(), Severity::AskAPerson);
    let text = error.to_string();
    assert!(text.contains("wrong user name or password") && text.contains("\"neco\""), "{text}");
    assert!(!text.contains("guess"), "{text}");

    let error = error_of(anonymous).await;
    assert!(matches!(error, StoreError::Unauthenticated { user: None, .. }), "{error:?}");

    let elsewhere =
        EtcdStore::connect(Options { prefix: "/vault/".to_owned(), ..right.clone() }).await;
    let elsewhere = elsewhere.expect("usable");
    let error = elsewhere.commit(&put("a", "")).await.expect_err("not ours");
    assert!(matches!(error, StoreError::PermissionDenied { .. }), "{error:?}");
    let mut denied = elsewhere.watch(&[all("")], Revision(1)).await.expect("opened");
    let error = denied.next().await.expect_err("not ours");
    assert!(matches!(error, StoreError::PermissionDenied { .. }), "{error:?}");

    // A client that does not log in again shows when a token that is not used has run out.
    let plain = ConnectOptions::new().with_user("neco", "secret");
    let mut witness = Client::connect([&url], Some(plain)).await.expect("logged in");
    let mut idle = Duration::from_secs(2);
    while witness.get("/neco/a", None).await.is_ok() {
        assert!(idle < Duration::from_secs(30), "the token does not run out");
        tokio::time::sleep(idle).await;
        idle += Duration::from_secs(1);
    }
    // A watch is denied permission with such a token, where a call is told to log in.
    let mut late = store.watch(&[all("")], first).await.expect("a watch");
    assert!(matches!(next_event(&mut *late).await, WatchEvent::Changed(_)));
    let Ok(Committed::Done(second)) = store.commit(&put("a", "2")).await else { panic!("done") };
    for watch in [&mut watch, &mut late] {
        let WatchEvent::Changed(changes) = next_event(&mut **watch).await else {
            panic!("a change");
        };
        assert_eq!(changes[0].revision, second);
    }
}

/// A follower asks the leader without saying who asked it, again and again as fast as it can (etcd issue 20757).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_itself_is_asked_for_the_vote_of_a_learner() {
    let members = Members::start(3).await;
    let urls = members.cluster.endpoints();
    enable_auth(&urls[0], None).await;
    let options = Options {
        user: Some("root".to_owned()),
        password: Some(Secret::from("root-password")),
        ..Options::new(urls.clone())
    };
    // Its address is nobody's: it never starts.
    let store = EtcdStore::connect(options.clone()).await.expect("usable");
    let adding = async {
        loop {
            match store.add("http://127.0.0.1:4").await {
                Ok(added) => return added,
                // The members have just found one another.
                Err(error) => assert!(matches!(error, StoreError::NotNow { .. }), "{error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let added = tokio::time::timeout(Duration::from_secs(60), adding).await.expect("in time");
    // Each begins with any of the three.
    for _ in 0..8 {
        let store = EtcdStore::connect(options.clone()).await.expect("usable");
        let early = store.promote(added.id).await;
        assert!(matches!(early, Ok(Promoted::NotYet)), "{early:?}");
    }
    for index in 0..members.cluster.len() {
        let log = members.cluster.member(index).log_tail();
        let asked = log.iter().find(|line| line.contains("user name is empty"));
        assert_eq!(asked, None, "etcd-{index} was asked by a follower");
    }
}
