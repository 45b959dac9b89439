//! The client against a mirror, in good weather and bad.

mod common;

use std::time::Duration;

use common::{Site, TOKEN, impatient, message, newest, serve_dir};
use neco_releases::mirror::NewRelease;
use neco_releases::mirror::faults::{Fault, Scope};
use neco_releases::{GithubClient, Options, ReleaseError, ReleaseSource};
use neco_schema::Environment::{Dev, None as NoEnv, Prod, Staging, Test};
use neco_schema::Severity;

const PUBLISHED: &str = r#"{"published_at":"2022-01-01T00:00:00Z"}"#;
const PRERELEASE: &str = r#"{"prerelease":true,"published_at":"2022-01-01T00:00:00Z"}"#;
const DRAFT: &str = r#"{"draft":true,"published_at":"2022-01-01T00:00:00Z"}"#;

// reference/neco-cd-core.md §12.3, the GitHub fixture, over HTTP.
async fn fixture() -> Site {
    let site = Site::new().await;
    site.folder("release-2022.07.07-0707", DRAFT);
    site.folder("test-2022.06.06-0606", PRERELEASE);
    site.folder("test-2022.08.08-0808", DRAFT);
    site.folder("release-2022.03.03-0303", PUBLISHED);
    site.folder("release-2022.04.04-0404", PRERELEASE);
    site.folder("release-2022.01.01-0101", PUBLISHED);
    site.folder("release-nonsense", PUBLISHED);
    site.folder("v1.2.3", PUBLISHED);
    site
}

#[tokio::test]
async fn each_environment_follows_its_releases() {
    let site = fixture().await;
    let client = site.client();
    assert_eq!(newest(&client, Prod).await.as_deref(), Some("2022.03.03-0303"));
    assert_eq!(newest(&client, Staging).await.as_deref(), Some("2022.04.04-0404"));
    assert_eq!(newest(&client, Dev).await.as_deref(), Some("2022.06.06-0606"));
    assert_eq!(newest(&client, Test).await, None);
    site.folder("release-9999.12.31-99999", PRERELEASE);
    assert_eq!(newest(&client, Test).await.as_deref(), Some("9999.12.31-99999"));
}

#[tokio::test]
async fn the_environment_none_asks_nobody() {
    let site = fixture().await;
    assert_eq!(newest(&site.client(), NoEnv).await, None);
    assert_eq!(site.faults.take_asked(), []);
}

#[tokio::test]
async fn a_repository_without_releases_has_no_newest() {
    let site = Site::new().await;
    for env in [Prod, Staging, Dev, Test] {
        assert_eq!(newest(&site.client(), env).await, None, "{env}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_asked_for_again_when_the_list_has_changed() {
    let site = Site::new().await;
    for env in [Prod, Test] {
        let client = site.client();
        assert_eq!(newest(&client, env).await, None);
        site.faults.take_asked();
        for poll in 0..3 {
            assert_eq!(newest(&client, env).await, None);
            let asked = site.faults.take_asked();
            let status: Vec<_> = asked.iter().map(|asked| asked.status).collect();
            assert_eq!(status, [304], "{env}: poll {poll} costs nothing");
        }
        let version = if env == Prod { "2022.01.01-1" } else { "9999.12.31-1" };
        site.folder(&format!("release-{version}"), PUBLISHED);
        let found = newest(&client, env).await;
        assert!(found.is_some() || env == Test, "{env}");
        std::fs::remove_dir_all(site.path().join(format!("release-{version}"))).expect("there");
    }
    // What changes on a later page alone is seen after a while.
    let client = GithubClient::new(Options { recheck: Duration::ZERO, ..site.options() });
    let client = client.expect("a client");
    for _ in 0..2 {
        newest(&client, Prod).await;
        let asked = site.faults.take_asked();
        assert!(asked.iter().any(|asked| asked.status == 404), "{asked:?}");
    }
}

#[tokio::test]
async fn a_release_is_found_by_version_unless_it_is_withdrawn() {
    let site = fixture().await;
    let client = site.client();
    let version = "2022.04.04-0404".parse().expect("a version");
    let found = client.by_version(Staging, &version).await.expect("an answer").expect("a release");
    assert_eq!((found.tag.as_str(), found.prerelease), ("release-2022.04.04-0404", true));
    assert_eq!(client.by_version(Dev, &version).await.expect("an answer"), None);
    let draft = "2022.07.07-0707".parse().expect("a version");
    assert_eq!(client.by_version(Prod, &draft).await.expect("an answer"), None);
}

#[tokio::test]
async fn all_pages_are_followed_and_a_poll_without_news_costs_one_free_request() {
    let site = Site::new().await;
    for build in 1..=230 {
        // Only the last page has one of `test-`.
        let prefix = if build == 1 { "test" } else { "release" };
        let json =
            format!(r#"{{"published_at":"2022-01-01T{:02}:{:02}:00Z"}}"#, build / 60, build % 60);
        site.folder(&format!("{prefix}-2022.01.01-{build}"), &json);
    }
    let client = site.client();
    assert_eq!(newest(&client, Staging).await.as_deref(), Some("2022.01.01-230"));
    assert_eq!(newest(&client, Dev).await.as_deref(), Some("2022.01.01-1"));
    assert_eq!(client.list_newest(10).await.expect("a list").len(), 230);
    assert_eq!(client.list_newest(2).await.expect("a list").len(), 200);

    let before = client.stats();
    site.faults.take_asked();
    assert_eq!(newest(&client, Staging).await.as_deref(), Some("2022.01.01-230"));
    let asked = site.faults.take_asked();
    assert_eq!(asked.iter().map(|a| (a.conditional, a.status)).collect::<Vec<_>>(), [(true, 304)]);
    let after = client.stats();
    assert_eq!((after.answers - before.answers, after.unchanged - before.unchanged), (1, 1));

    site.folder("release-2022.01.02-231", r#"{"published_at":"2022-01-02T00:00:00Z"}"#);
    assert_eq!(newest(&client, Staging).await.as_deref(), Some("2022.01.02-231"));
}

#[tokio::test]
async fn a_poll_for_production_is_free_too() {
    let site = fixture().await;
    let client = site.client();
    for (poll, status) in [200, 304, 304].into_iter().enumerate() {
        assert_eq!(newest(&client, Prod).await.as_deref(), Some("2022.03.03-0303"));
        let asked = site.faults.take_asked();
        assert_eq!(asked.iter().map(|a| a.status).collect::<Vec<_>>(), [status], "poll {poll}");
    }
}

#[tokio::test]
async fn the_list_is_read_whole_again_after_a_while() {
    let site = fixture().await;
    let options = Options { recheck: Duration::ZERO, ..site.options() };
    let client = GithubClient::new(options).expect("a client");
    for build in 1..=120 {
        site.folder(&format!("release-2021.01.01-{build}"), PUBLISHED);
    }
    newest(&client, Staging).await;
    site.faults.take_asked();
    newest(&client, Staging).await;
    assert_eq!(site.faults.take_asked().len(), 2, "both pages");
}

#[tokio::test]
async fn the_token_goes_along_but_not_to_another_host() {
    let site = fixture().await;
    let (elsewhere, other) = serve_dir(&site.path()).await;
    let bearer = Some(format!("Bearer {TOKEN}"));
    site.faults.next(Scope::Api, 1, Fault::RedirectTo(other.api_url().to_string()));
    assert_eq!(newest(&site.client(), Prod).await.as_deref(), Some("2022.03.03-0303"));
    let (here, there) = (site.faults.take_asked(), elsewhere.take_asked());
    assert_eq!(here.iter().map(|a| &a.authorization).collect::<Vec<_>>(), [&bearer]);
    assert_eq!(there.iter().map(|a| &a.authorization).collect::<Vec<_>>(), [&None]);

    // And back home, where the other host chose to: without the token.
    site.faults.next(Scope::Api, 1, Fault::RedirectTo(other.api_url().to_string()));
    elsewhere.next(Scope::Api, 1, Fault::RedirectTo(format!("{}x", site.mirror.api_url())));
    let _ = site.client().latest().await;
    assert_eq!(elsewhere.take_asked()[0].authorization, None);
    let sent: Vec<_> = site.faults.take_asked().into_iter().map(|a| a.authorization).collect();
    assert_eq!(sent[..2], [bearer.clone(), None], "{sent:?}");

    // A redirect that stays at home is one of its own.
    site.faults.next(Scope::Api, 1, Fault::RedirectTo(format!("{}x", site.mirror.api_url())));
    let _ = site.client().latest().await;
    let sent: Vec<_> = site.faults.take_asked().into_iter().map(|a| a.authorization).collect();
    assert_eq!(sent[..2], [bearer.clone(), bearer], "{sent:?}");
}

#[tokio::test]
async fn redirects_end_somewhere() {
    let site = fixture().await;
    for (fault, says) in [(Fault::RedirectLoop, "in a loop"), (Fault::RedirectOn, "more than 5")] {
        site.faults.clear();
        site.faults.take_asked();
        site.faults.always(Scope::All, fault);
        let error = site.client().latest().await.expect_err("no end");
        assert!(message(&error).contains(says), "{error}");
        assert_eq!(error.severity(), Severity::AskAPerson);
        assert!(site.faults.take_asked().len() <= 6);
    }
    site.faults.clear();
    let headers = vec![("location", "ftp://host/".to_owned())];
    site.faults.always(Scope::All, Fault::Status(302, headers, String::new()));
    let error = site.client().latest().await.expect_err("no http");
    assert!(message(&error).contains("\"ftp\""), "{error}");
}

#[tokio::test]
async fn a_rate_limit_is_respected_without_asking_again() {
    let site = fixture().await;
    let client = site.client();
    site.faults.next(Scope::Api, 1, Fault::RateLimit { reset_in: Duration::from_secs(600) });
    let mut said = Vec::new();
    for attempt in 0..2 {
        let error = client.latest().await.expect_err("limited");
        let ReleaseError::RateLimited { until, .. } = &error else { panic!("{error:?}") };
        let wait = until.get().duration_since(jiff::Timestamp::now());
        assert!((0..=601).contains(&wait.as_secs()), "{attempt}: {wait:?}");
        assert_eq!(error.severity(), Severity::TryAgain);
        said.push(message(&error));
    }
    // Another question meanwhile is answered by the same news.
    said.push(message(&client.by_tag("release-1.0.0").await.expect_err("limited")));
    said.dedup();
    assert_eq!(said.len(), 1, "{said:#?}");
    assert_eq!(site.faults.take_asked().len(), 1);
    assert_eq!(client.stats().remaining, Some(0));
}

#[tokio::test]
async fn rate_limits_are_understood_in_each_form() {
    let words = r#"{"message":"You have exceeded a secondary rate limit"}"#.to_owned();
    for (fault, most) in [
        (Fault::Status(429, vec![("retry-after", "7".to_owned())], String::new()), 7),
        (Fault::Status(403, vec![("retry-after", "7".to_owned())], String::new()), 7),
        (Fault::Status(429, vec![], String::new()), 60),
        (Fault::Status(403, vec![], words), 60),
        (Fault::RateLimit { reset_in: Duration::from_secs(1_000_000) }, 7200),
    ] {
        let site = fixture().await;
        site.faults.always(Scope::Api, fault.clone());
        let error = site.client().latest().await.expect_err("limited");
        let ReleaseError::RateLimited { until, .. } = &error else {
            panic!("{fault:?}: {error:?}")
        };
        let wait = until.get().duration_since(jiff::Timestamp::now()).as_secs();
        assert!((most - 60..=most + 1).contains(&wait), "{fault:?}: {wait}");
    }
}

#[tokio::test]
async fn a_limit_that_has_ended_lets_requests_pass() {
    let site = fixture().await;
    let client = site.client();
    let headers = vec![("retry-after", "0".to_owned())];
    site.faults.next(Scope::Api, 1, Fault::Status(429, headers, String::new()));
    assert!(matches!(client.latest().await, Err(ReleaseError::RateLimited { .. })));
    assert_eq!(newest(&client, Prod).await.as_deref(), Some("2022.03.03-0303"));
}

#[tokio::test]
async fn refusals_name_the_url_and_the_remedy() {
    let site = fixture().await;
    let mut anonymous = site.options();
    anonymous.token = None;
    let anonymous = GithubClient::new(anonymous).expect("a client");
    let known = site.client();
    for (status, client, says, severity) in [
        (401, &known, "the GitHub token was refused", Severity::AskAPerson),
        (401, &anonymous, "a GitHub token is needed", Severity::AskAPerson),
        (403, &known, "may not read this repository", Severity::AskAPerson),
        (403, &anonymous, "access needs a GitHub token", Severity::AskAPerson),
        (404, &known, "there is no such repository", Severity::AskAPerson),
        (407, &known, "check release.api_url and proxy", Severity::AskAPerson),
        (500, &known, "the server has trouble", Severity::TryAgain),
        (503, &known, "the server has trouble", Severity::TryAgain),
    ] {
        site.faults.clear();
        site.faults.always(Scope::All, Fault::Status(status, vec![], "{}".to_owned()));
        for env in [Prod, Staging] {
            let error = client.newest(env).await.expect_err("refused");
            let text = message(&error);
            assert!(text.contains(says) && text.contains("/repos/cybozu-go/neco/"), "{text}");
            assert!(text.contains(&status.to_string()), "{text}");
            assert_eq!(error.severity(), severity, "{text}");
        }
    }
}

#[tokio::test]
async fn trouble_that_passes_is_ridden_out_within_a_call() {
    let site = fixture().await;
    for fault in [Fault::Status(502, vec![], String::new()), Fault::Truncate(10)] {
        site.faults.take_asked();
        site.faults.next(Scope::Api, 2, fault);
        assert_eq!(newest(&site.client(), Prod).await.as_deref(), Some("2022.03.03-0303"));
        assert_eq!(site.faults.take_asked().len(), 3);
    }
    site.faults.next(Scope::Api, 3, Fault::Status(502, vec![], String::new()));
    assert!(matches!(site.client().latest().await, Err(ReleaseError::Server { .. })));
}

#[tokio::test]
async fn anything_but_json_about_releases_is_named_as_what_it_is() {
    let site = fixture().await;
    let json = |body: &str| Fault::Status(200, vec![], body.to_owned());
    for (fault, says) in [
        (Fault::Html, "answered text/html; charset=utf-8 instead of JSON"),
        (json("<html>"), "answered HTML instead of JSON"),
        (json(r#"{"tag_name":"release-1"#), "does not describe releases"),
        (json(r#"{"message":"hello"}"#), "does not describe releases"),
        (json("[1]"), "does not describe releases"),
        (json(""), "does not describe releases"),
    ] {
        site.faults.clear();
        site.faults.always(Scope::All, fault);
        for env in [Prod, Staging] {
            let error = site.client().newest(env).await.expect_err("no JSON");
            assert!(message(&error).contains(says), "{error}");
            assert_eq!(error.severity(), Severity::AskAPerson);
        }
    }
}

#[tokio::test]
async fn endless_and_silent_answers_are_given_up() {
    let site = fixture().await;
    site.faults.always(Scope::All, Fault::Endless);
    let error = site.client().latest().await.expect_err("endless");
    assert!(matches!(error, ReleaseError::TooLarge { .. }), "{error:?}");
    message(&error);
    // It is no word about the release that was asked for: a worker waits for better days.
    let version = "2022.03.03-0303".parse().expect("a version");
    let error = site.client().by_version(Prod, &version).await.expect_err("endless");
    assert!(!error.is_about_the_release(), "{error}");

    site.faults.clear();
    site.faults.always(Scope::All, Fault::Stall(5));
    let options =
        Options { request_timeout: Duration::from_millis(200), attempts: 2, ..site.options() };
    let client = GithubClient::new(options).expect("a client");
    let error = client.latest().await.expect_err("silent");
    assert!(matches!(error, ReleaseError::Silent { .. }), "{error:?}");
    assert_eq!(error.severity(), Severity::TryAgain);
    message(&error);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_asked_again_later() {
    let site = fixture().await;
    let client = site.client();
    site.mirror.stop().await;
    let error = client.latest().await.expect_err("nobody");
    assert!(matches!(error, ReleaseError::Transport { .. }), "{error:?}");
    assert_eq!(error.severity(), Severity::TryAgain);
    message(&error);
}

#[tokio::test]
async fn what_the_list_shows_is_asked_for_again_though_it_was_not_found() {
    let site = fixture().await;
    let client = site.client();
    let gone = || Fault::Status(404, vec![], String::new());
    site.faults.next(Scope::Api, 1, gone());
    assert_eq!(newest(&client, Prod).await, None);
    assert_eq!(newest(&client, Prod).await.as_deref(), Some("2022.03.03-0303"));
    site.faults.next(Scope::Api, 1, gone());
    let tag = "release-2022.03.03-0303";
    assert_eq!(client.by_tag(tag).await.expect("an answer"), None);
    assert!(client.by_tag(tag).await.expect("an answer").is_some());
}

#[tokio::test]
async fn the_latest_that_is_no_release_of_ours_is_passed_over() {
    let site = fixture().await;
    for (body, why) in [
        (r#"{"tag_name":"v9.9.9"}"#, "no Neco release"),
        (r#"{"tag_name":"release-nonsense"}"#, "no Neco release"),
        (r#"{"tag_name":"test-2022.09.09-0909"}"#, "no Neco release"),
        (r#"{"tag_name":"release-2022.09.09-0909","draft":true}"#, "is a draft"),
        (r#"{"tag_name":"release-2022.09.09-0909","prerelease":true}"#, "as a pre-release"),
    ] {
        site.faults.clear();
        site.faults.always(Scope::All, Fault::Status(200, vec![], body.to_owned()));
        let client = site.client();
        assert_eq!(newest(&client, Prod).await, None, "{body}");
        let remark = client.remark().expect("a remark");
        let told = remark.contains(why) && remark.contains("/releases: the latest release");
        assert!(told && remark.contains("mark a release like release-"), "{remark}");
        // What is odd no longer is no longer said.
        site.faults.clear();
        assert!(newest(&client, Prod).await.is_some());
        assert_eq!(client.remark(), None);
    }
}

#[tokio::test]
async fn an_answer_about_another_release_than_the_one_asked_for_does_not_count() {
    let site = fixture().await;
    let body = r#"{"tag_name":"release-2022.04.04-0404"}"#.to_owned();
    site.faults.next(Scope::Api, 1, Fault::Status(200, vec![], body));
    let version = "2022.03.03-0303".parse().expect("a version");
    assert_eq!(site.client().by_version(Prod, &version).await.expect("an answer"), None);
}

#[tokio::test]
async fn a_next_page_on_another_host_is_not_followed() {
    let site = fixture().await;
    let headers = vec![("link", "<https://elsewhere.invalid/?page=2>; rel=\"next\"".to_owned())];
    site.faults.always(Scope::All, Fault::Status(200, headers, "[]".to_owned()));
    let error = site.client().newest(Staging).await.expect_err("another host");
    assert!(message(&error).contains("another host"), "{error}");
}

#[tokio::test]
async fn a_proxy_carries_the_requests_and_sees_no_token() {
    let site = fixture().await;
    let options = Options {
        api_url: "http://github.invalid/".parse().expect("a URL"),
        proxy: Some(site.mirror.api_url()),
        token: site.options().token,
        ..impatient()
    };
    let client = GithubClient::new(options).expect("a client");
    assert_eq!(newest(&client, Prod).await.as_deref(), Some("2022.03.03-0303"));
    let asked = site.faults.take_asked();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].uri.starts_with("http://github.invalid/repos/"), "{asked:?}");
    assert_eq!(asked[0].authorization, None);
}

#[tokio::test]
async fn an_asset_carries_what_a_request_needs() {
    let site = Site::new().await;
    let content = site.publish("release-2022.01.01-1", 1000, NewRelease::default());
    let client = site.client();
    let release = client.newest(Prod).await.expect("an answer").expect("a release");
    let package = client.resolve(&release, "neco").await.expect("resolved");
    assert_eq!((package.file.as_str(), package.size), ("neco_2022.01.01-1_amd64.deb", 1000));
    assert_eq!(package.sha256.len(), 64);
    assert_eq!(content.len(), 1000);
    let error = client.resolve(&release, "etcdpasswd").await.expect_err("no such package");
    assert!(message(&error).contains("etcdpasswd_*.deb"), "{error}");
}
