//! Who is let in, and to whom that is said.

mod common;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use common::{Site, read_whole};
use neco_registry::testing::{Door, Fault, Scope};
use neco_registry::{Credentials, Login, Options, Registries, RegistryError, Url};
use neco_schema::Severity;

fn neco() -> (String, String) {
    ("neco".to_owned(), "hunter2".to_owned())
}

#[tokio::test]
async fn tokens_are_given_to_everybody_where_the_registry_says_so() {
    let site = Site::new().await;
    site.registry.set_door(Door::Bearer(None));
    read_whole(site.archive().await).await;
    assert_eq!(site.client().tags(site.name().repository()).await.expect("let in"), ["1"]);
}

#[tokio::test]
async fn one_token_serves_until_it_ends_and_is_renewed_in_mid_stream() {
    let site = Site::new().await;
    site.registry.set_door(Door::Bearer(Some(neco())));
    site.logins.set("neco", "hunter2");
    let archive = site.archive().await;
    let tokens =
        |asked: Vec<String>| asked.iter().filter(|asked| asked.starts_with("token?")).count();
    assert_eq!(tokens(site.asked()), 1);
    site.registry.expire_tokens();
    site.registry.faults().next(Scope::Blobs, 2, Fault::Reset(200_000));
    read_whole(archive).await;
    assert_eq!(tokens(site.asked()), 1);
}

#[tokio::test]
async fn a_login_that_changes_counts_at_once() {
    let site = Site::new().await;
    let (client, name) = (site.client(), site.name());
    for door in [Door::Basic as fn(String, String) -> Door, |user, password| {
        Door::Bearer(Some((user, password)))
    }] {
        for password in ["old", "new"] {
            site.registry.set_door(door("neco".to_owned(), password.to_owned()));
            let error = client.image(&name).await.expect_err("the login of before");
            assert!(matches!(error, RegistryError::Unauthorized { .. }), "{error}");
            site.logins.set("neco", password);
            client.image(&name).await.expect("let in");
        }
        site.logins.clear();
    }
}

#[tokio::test]
async fn a_login_is_for_its_registry_alone() {
    let site = Site::new().await;
    let elsewhere = site.registry.beside(Door::Open).await.expect("a port");
    let to = || Fault::RedirectTo(format!("http://{}", elsewhere.host()));
    for door in [Door::Basic("neco".to_owned(), "hunter2".to_owned()), Door::Bearer(Some(neco()))] {
        site.registry.set_door(door);
        site.logins.set("neco", "hunter2");
        let archive = site.archive().await;
        site.registry.faults().next(Scope::Blobs, 1, to());
        read_whole(archive).await;
        let asked = elsewhere.faults().take_asked();
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].authorization, None);
    }
    // Whoever else wants a login gets none, even if it is the one who could.
    elsewhere.set_door(Door::Basic("neco".to_owned(), "hunter2".to_owned()));
    site.registry.faults().always(Scope::Manifests, to());
    let error = site.client().image(&site.name()).await.expect_err("no login");
    assert!(matches!(error, RegistryError::Status { status: 401, .. }), "{error}");
    assert!(elsewhere.faults().take_asked().iter().all(|asked| asked.authorization.is_none()));
}

#[tokio::test]
async fn no_login_is_sent_where_anybody_on_the_way_can_read_it() {
    let site = Site::new().await;
    site.registry.set_door(Door::Bearer(Some(neco())));
    site.logins.set("neco", "hunter2");
    for realm in ["http://192.0.2.1/token", "ftp://192.0.2.1/token", "token"] {
        site.registry.set_realm(realm);
        let error = site.client().image(&site.name()).await.expect_err("refused");
        assert!(matches!(error, RegistryError::Challenge { .. }), "{error}");
        assert_eq!(error.severity(), Severity::AskAPerson);
    }
}

#[tokio::test]
async fn trouble_of_who_makes_tokens_is_told_as_that() {
    let site = Site::new().await;
    site.registry.set_door(Door::Bearer(None));
    let faults = site.registry.faults();
    faults.next(Scope::Tokens, 1, Fault::Status(503, vec![]));
    site.image().await;
    faults.always(Scope::Tokens, Fault::Status(500, vec![]));
    let error = site.client().image(&site.name()).await.expect_err("trouble");
    assert!(
        matches!(&error, RegistryError::Server { url, .. } if url.ends_with("/token")),
        "{error}"
    );
    faults.clear();
    faults.always(Scope::Tokens, Fault::Status(403, vec![]));
    let error = site.client().image(&site.name()).await.expect_err("refused");
    assert!(matches!(error, RegistryError::Unauthorized { status: 403, .. }), "{error}");
    faults.clear();
    faults.always(Scope::Tokens, Fault::Html);
    let error = site.client().image(&site.name()).await.expect_err("no token");
    assert!(matches!(error, RegistryError::Malformed { .. }), "{error}");
}

#[tokio::test]
async fn whoever_makes_tokens_and_falls_silent_is_given_up() {
    let site = Site::new().await;
    site.registry.set_door(Door::Bearer(None));
    let short = Duration::from_millis(200);
    let options = Options { request_timeout: short, attempts: 2, ..site.options() };
    let client = Registries::new(options).expect("settings");
    for fault in [Fault::Silent, Fault::Stall(5)] {
        site.registry.faults().clear();
        site.registry.faults().always(Scope::Tokens, fault.clone());
        let name = site.name();
        let answer = tokio::time::timeout(Duration::from_secs(20), client.image(&name)).await;
        let error = answer.expect("it is given up").expect_err("silence");
        assert!(
            matches!(&error, RegistryError::Silent { url, .. } if url.ends_with("/token")),
            "{fault:?}: {error}"
        );
    }
}

/// Logins that cannot be read.
struct Damaged;

#[async_trait]
impl Credentials for Damaged {
    async fn login(&self, _: &str) -> Result<Option<Login>, String> {
        Err("/root/.docker/config.json is not what docker login writes".to_owned())
    }

    fn remedy(&self, _: &str) -> String {
        String::new()
    }
}

#[tokio::test]
async fn logins_that_cannot_be_read_are_told_where_one_is_wanted() {
    let site = Site::new().await;
    let options = Options { credentials: Arc::new(Damaged), ..site.options() };
    let client = Registries::new(options).expect("settings");
    client.image(&site.name()).await.expect("nobody asks");
    site.registry.set_door(Door::Basic("neco".to_owned(), "hunter2".to_owned()));
    let error = client.image(&site.name()).await.expect_err("one is wanted");
    let told = error.to_string();
    assert!(told.contains("config.json") && told.contains(site.registry.host()), "{told}");
    assert_eq!(error.severity(), Severity::AskAPerson);
}

#[tokio::test]
async fn nothing_that_can_be_printed_holds_a_secret() {
    let site = Site::new().await;
    site.registry.set_door(Door::Bearer(Some(neco())));
    site.logins.set("neco", "hunter3");
    let proxy: Url = "http://user:hunter3@192.0.2.1:3128".parse().expect("a URL");
    let options = Options { proxy: Some(proxy), ..site.options() };
    let client = Registries::new(options.clone()).expect("settings");
    let error = client.image(&site.name()).await.expect_err("another password");
    site.logins.set("neco", "hunter2");
    let image = client.image(&site.name()).await.expect("let in");
    let printed = format!("{options:?} {client:?} {error} {error:?} {image:?}");
    assert!(!printed.contains("hunter") && !printed.contains("token-"), "{printed}");
}

#[test]
fn settings_that_cannot_work_are_refused_with_their_name() {
    let proxy: Url = "mailto:somebody".parse().expect("a URL");
    let error = Registries::new(Options { proxy: Some(proxy), ..Options::default() });
    assert!(error.expect_err("refused").to_string().starts_with("proxy: "));
    let authorities = b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n".to_vec();
    let error = Registries::new(Options { authorities, ..Options::default() });
    assert!(error.expect_err("refused").to_string().starts_with("authorities: "));
}
