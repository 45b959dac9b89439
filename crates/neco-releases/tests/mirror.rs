//! The mirror as any HTTP client sees it, and the directory behind it.

mod common;

use common::{Site, package};
use neco_releases::mirror::{
    MirrorError, NewRelease, ServeOptions, add, list, publish, remove, serve, sign, withdraw,
};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Response, StatusCode};
use serde_json::Value;
use sha2::{Digest, Sha256};

const TAG: &str = "release-2022.01.01-1";
const DEB: &str = "neco_2022.01.01-1_amd64.deb";

async fn get(site: &Site, path: &str, headers: &[(&str, &str)]) -> Response {
    let url = site.mirror.api_url().join(path).expect("a URL");
    get_url(url.as_str(), headers).await
}

async fn get_url(url: &str, headers: &[(&str, &str)]) -> Response {
    // The library installs the provider of cryptography with its first client.
    let _ = neco_releases::GithubClient::new(neco_releases::Options::new("o", "r"));
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| {
            let name: HeaderName = name.parse().expect("a name");
            (name, HeaderValue::from_str(value).expect("a value"))
        })
        .collect();
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    client.get(url).headers(headers).send().await.expect("an answer")
}

async fn json(site: &Site, path: &str) -> Value {
    let response = get(site, path, &[]).await;
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    response.json().await.expect("JSON")
}

fn header(response: &Response, name: &str) -> String {
    let value = response.headers().get(name).unwrap_or_else(|| panic!("no {name}"));
    value.to_str().expect("text").to_owned()
}

fn hex(content: &[u8]) -> String {
    neco_base::hex(&Sha256::digest(content))
}

async fn one_release() -> (Site, Vec<u8>) {
    let site = Site::new().await;
    let content = site.publish(TAG, 1000, NewRelease::default());
    (site, content)
}

#[tokio::test]
async fn a_release_is_described_as_github_does() {
    let (site, content) = one_release().await;
    let release = json(&site, &format!("repos/o/r/releases/tags/{TAG}")).await;
    assert_eq!(release["tag_name"], TAG);
    assert_eq!((&release["draft"], &release["prerelease"]), (&false.into(), &false.into()));
    assert!(release["published_at"].is_string() && release["id"].is_u64());
    let asset = &release["assets"][0];
    assert_eq!(
        (&asset["name"], &asset["size"], &asset["state"]),
        (&DEB.into(), &1000.into(), &"uploaded".into())
    );
    assert_eq!(asset["digest"], format!("sha256:{}", hex(&content)));
    assert_eq!(release["assets"].as_array().map(Vec::len), Some(1), "release.json is no asset");

    // The same by each way.
    assert_eq!(json(&site, "repos/o/r/releases/latest").await, release);
    assert_eq!(json(&site, "repos/o/r/releases").await[0], release);
    assert_eq!(json(&site, &format!("repos/o/r/releases/{}", release["id"])).await, release);
    let url = asset["url"].as_str().expect("a URL");
    assert_eq!(&get_url(url, &[]).await.json::<Value>().await.expect("JSON"), asset);
    let octets = [("accept", "application/octet-stream")];
    assert!(get_url(url, &octets).await.bytes().await.expect("a body") == content[..]);
    let url = asset["browser_download_url"].as_str().expect("a URL");
    assert!(get_url(url, &[]).await.bytes().await.expect("a body") == content[..]);
}

#[tokio::test]
async fn pages_are_linked_both_ways() {
    let site = Site::new().await;
    for build in 1..=7 {
        site.folder(&format!("release-2022.01.01-{build}"), "{}");
    }
    let page = |page: u32| {
        let site = &site;
        async move {
            let response =
                get(site, &format!("repos/o/r/releases?per_page=3&page={page}"), &[]).await;
            let link = response.headers().get("link").map(|_| header(&response, "link"));
            let releases: Vec<Value> = response.json().await.expect("JSON");
            (releases.len(), link.unwrap_or_default())
        }
    };
    let base = format!("{}repos/o/r/releases?per_page=3&page=", site.mirror.api_url());
    let link = |page: u32, rel: &str| format!("<{base}{page}>; rel=\"{rel}\"");
    let (length, links) = page(1).await;
    assert_eq!((length, links), (3, [link(2, "next"), link(3, "last")].join(", ")));
    let (length, links) = page(2).await;
    let all = [link(1, "prev"), link(3, "next"), link(3, "last"), link(1, "first")];
    assert_eq!((length, links), (3, all.join(", ")));
    let (length, links) = page(3).await;
    assert_eq!((length, links), (1, [link(2, "prev"), link(1, "first")].join(", ")));
    assert_eq!(page(4).await.0, 0);
    assert!(get(&site, "repos/o/r/releases", &[]).await.headers().get("link").is_none());
}

#[tokio::test]
async fn what_the_client_has_is_not_sent_again() {
    let (site, _) = one_release().await;
    let asset = format!("o/r/releases/download/{TAG}/{DEB}");
    for path in ["repos/o/r/releases", "repos/o/r/releases/latest", &asset] {
        let first = get(&site, path, &[]).await;
        let etag = header(&first, "etag");
        let again = get(&site, path, &[("if-none-match", &etag)]).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{path}");
        assert_eq!(header(&again, "etag"), etag);
        let other = get(&site, path, &[("if-none-match", "\"other\"")]).await;
        assert_eq!(other.status(), StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn parts_of_a_file_are_sent_as_long_as_it_is_the_same() {
    let (site, content) = one_release().await;
    let path = format!("o/r/releases/download/{TAG}/{DEB}");
    let etag = header(&get(&site, &path, &[]).await, "etag");
    assert_eq!(etag, format!("\"{}\"", hex(&content)));

    let part = get(&site, &path, &[("range", "bytes=990-"), ("if-range", &etag)]).await;
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(header(&part, "content-range"), "bytes 990-999/1000");
    assert_eq!(header(&part, "content-length"), "10");
    assert!(part.bytes().await.expect("a body") == content[990..]);

    let other = get(&site, &path, &[("range", "bytes=990-"), ("if-range", "\"old\"")]).await;
    assert_eq!(other.status(), StatusCode::OK);
    assert!(other.bytes().await.expect("a body") == content[..]);

    let beyond = get(&site, &path, &[("range", "bytes=1000-")]).await;
    assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(header(&beyond, "content-range"), "bytes */1000");
}

#[tokio::test]
async fn what_is_not_there_is_not_found_and_nothing_outside_is() {
    let (site, _) = one_release().await;
    std::fs::write(site.dir.path().join("secret"), "s").expect("written");
    for path in [
        "repos/o/r/releases/tags/release-1.0.0",
        "repos/o/r/releases/assets/1",
        "repos/o/r/releases/assets/x",
        "repos/o/r/releases/1",
        "repos/o/r",
        "",
        "o/r/releases/download/release-1.0.0/a.deb",
        "o/r/releases/download/release-2022.01.01-1/release.json",
        "o/r/releases/download/..%2F/secret",
        "o/r/releases/download/%2E%2E/secret",
        "o/r/releases/download/release-2022.01.01-1/..%2F..%2F..%2Fsecret",
    ] {
        let response = get(&site, path, &[]).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
        assert_eq!(response.json::<Value>().await.expect("JSON")["message"], "Not Found");
    }
}

#[tokio::test]
async fn the_directory_is_the_only_state() {
    let (site, _) = one_release().await;
    let digest = |release: &Value| release["assets"][0]["digest"].as_str().map(str::to_owned);
    let before = digest(&json(&site, "repos/o/r/releases/latest").await);
    // Replaced by hand, with the same size.
    let other = package(1000, "other");
    std::fs::write(site.path().join("new"), &other).expect("written");
    std::fs::rename(site.path().join("new"), site.path().join(TAG).join(DEB)).expect("renamed");
    let after = digest(&json(&site, "repos/o/r/releases/latest").await);
    assert_ne!(before, after);
    assert_eq!(after, Some(format!("sha256:{}", hex(&other))));
    // A folder that appears by hand, without release.json, is a release.
    std::fs::create_dir(site.path().join("release-2022.01.02-2")).expect("created");
    assert_eq!(json(&site, "repos/o/r/releases/latest").await["tag_name"], "release-2022.01.02-2");
}

#[tokio::test]
async fn a_broken_release_json_keeps_a_release_back_and_the_others_offered() {
    let (site, _) = one_release().await;
    site.folder("release-2022.01.02-2", "{ half");
    assert_eq!(json(&site, "repos/o/r/releases/latest").await["tag_name"], TAG);
    let listed = list(&site.path()).expect("a list");
    let broken = listed.iter().find(|release| release.tag == "release-2022.01.02-2");
    let problem = broken.and_then(|release| release.problem.clone()).expect("a problem");
    assert!(problem.contains("release.json"), "{problem}");
}

#[tokio::test]
async fn a_file_that_cannot_be_read_keeps_its_release_back_and_the_others_offered() {
    let (site, _) = one_release().await;
    site.folder("release-2022.02.02-2", "{}");
    let folder = site.path().join("release-2022.02.02-2");
    let link = folder.join("neco_2022.02.02-2_amd64.deb");
    std::os::unix::fs::symlink("nowhere", &link).expect("a link");
    let offered = json(&site, "repos/o/r/releases").await;
    assert_eq!(offered.as_array().map(Vec::len), Some(1), "{offered}");
    let listed = list(&site.path()).expect("readable");
    let broken = listed.iter().find(|release| release.tag.ends_with("02-2")).expect("listed");
    let problem = broken.problem.as_deref().expect("a problem");
    assert!(broken.draft && problem.contains("neco_2022.02.02-2_amd64.deb"), "{problem}");
}

#[tokio::test]
async fn a_directory_that_is_gone_is_the_servers_trouble() {
    let (site, _) = one_release().await;
    std::fs::remove_dir_all(site.path()).expect("removed");
    let response = get(&site, "repos/o/r/releases", &[]).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn the_latest_is_the_greatest_version_that_production_may_run() {
    let site = Site::new().await;
    let at = |time: &str| NewRelease {
        published_at: Some(time.parse().expect("a time")),
        ..NewRelease::default()
    };
    // Published out of order.
    site.publish("release-2022.01.03-3", 100, at("2022-01-03T00:00:00Z"));
    site.publish("release-2022.01.02-2", 100, at("2022-01-09T00:00:00Z"));
    site.publish("test-2022.01.09-9", 100, at("2022-01-09T00:00:00Z"));
    let prerelease = NewRelease { prerelease: true, ..at("2022-01-08T00:00:00Z") };
    site.publish("release-2022.01.08-8", 100, prerelease);
    let draft = NewRelease { draft: true, ..at("2022-01-07T00:00:00Z") };
    site.publish("release-2022.01.07-7", 100, draft);
    assert_eq!(json(&site, "repos/o/r/releases/latest").await["tag_name"], "release-2022.01.03-3");
    let tags: Vec<_> = list(&site.path()).expect("a list").into_iter().map(|r| r.tag).collect();
    let newest_first = [
        "test-2022.01.09-9",
        "release-2022.01.02-2",
        "release-2022.01.08-8",
        "release-2022.01.07-7",
        "release-2022.01.03-3",
    ];
    assert_eq!(tags, newest_first);
}

#[tokio::test]
async fn a_withdrawn_release_is_not_offered_until_it_is_published_again() {
    let (site, _) = one_release().await;
    let offered = || async {
        let by_tag = get(&site, &format!("repos/o/r/releases/tags/{TAG}"), &[]).await.status();
        let file = get(&site, &format!("o/r/releases/download/{TAG}/{DEB}"), &[]).await.status();
        let listed = json(&site, "repos/o/r/releases").await.as_array().map(Vec::len);
        (by_tag, file, listed)
    };
    let before = list(&site.path()).expect("a list");
    assert_eq!(offered().await, (StatusCode::OK, StatusCode::OK, Some(1)));
    assert!(withdraw(&site.path(), TAG).expect("withdrawn").draft);
    assert_eq!(offered().await, (StatusCode::NOT_FOUND, StatusCode::NOT_FOUND, Some(0)));
    publish(&site.path(), TAG).expect("published");
    assert_eq!(offered().await, (StatusCode::OK, StatusCode::OK, Some(1)));
    assert_eq!(list(&site.path()).expect("a list"), before, "nothing else changed");
    remove(&site.path(), TAG).expect("removed");
    assert_eq!(offered().await.2, Some(0));
    assert_eq!(std::fs::read_dir(site.path()).expect("there").count(), 0, "nothing is left");
    assert!(matches!(withdraw(&site.path(), TAG), Err(MirrorError::Missing { .. })));
    assert!(matches!(remove(&site.path(), "../x"), Err(MirrorError::Tag { .. })));
}

#[test]
fn what_cannot_be_a_release_is_not_added() {
    let dir = tempfile::tempdir().expect("a directory");
    let mirror = dir.path().join("mirror");
    let write = |name: &str, content: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).expect("written");
        path
    };
    let add_as = |path: &std::path::Path, tag: Option<&str>| {
        add(&mirror, path, &NewRelease { tag: tag.map(str::to_owned), ..NewRelease::default() })
            .map(|release| release.tag)
    };
    let deb = write(DEB, &package(100, "a"));
    for name in
        ["neco.deb", "neco_latest_amd64.deb", "other_1.0.0_amd64.deb", "neco_1.0.0_arm64.deb"]
    {
        let error = add_as(&write(name, &package(100, "a")), None).expect_err(name);
        assert!(matches!(error, MirrorError::Name { .. }), "{error}");
    }
    let error =
        add_as(&write("neco_1.0.0_amd64.deb", b"<html>no package"), None).expect_err("html");
    assert!(matches!(error, MirrorError::NotAPackage { .. }), "{error}");
    let error = add_as(&write("neco_1.0.1_amd64.deb", b""), None).expect_err("empty");
    assert!(matches!(error, MirrorError::NotAPackage { .. }), "{error}");
    let error = add_as(&dir.path().join("neco_1.0.2_amd64.deb"), None).expect_err("missing");
    assert!(matches!(error, MirrorError::Io { .. }), "{error}");
    let error = add_as(&deb, Some("release-2022.01.01-2")).expect_err("another version");
    assert!(matches!(error, MirrorError::OtherVersion { .. }), "{error}");
    for tag in ["2022.01.01-1", "release-", "../release-2022.01.01-1", ".release"] {
        let error = add_as(&deb, Some(tag)).expect_err(tag);
        assert!(matches!(error, MirrorError::Tag { .. }), "{error}");
    }
    let signature = write(&format!("{DEB}.minisig"), b"untrusted comment: x\nAA\ntrusted comment: package=neco version=2021.01.01-1 arch=amd64\nAA\n");
    let error = add_as(&deb, None).expect_err("a signature of another version");
    assert!(matches!(error, MirrorError::OtherSignature { .. }), "{error}");
    std::fs::remove_file(signature).expect("removed");
    assert!(!mirror.exists(), "nothing was begun");

    assert_eq!(add_as(&deb, None).expect("added"), TAG);
    assert!(matches!(add_as(&deb, None), Err(MirrorError::Exists { .. })));
    assert_eq!(add_as(&deb, Some("test-2022.01.01-1")).expect("added"), "test-2022.01.01-1");
    let mut left: Vec<_> = std::fs::read_dir(&mirror)
        .expect("there")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    left.sort();
    assert_eq!(left, [TAG, "test-2022.01.01-1"], "nothing half done is left");
}

#[tokio::test]
async fn signatures_travel_with_their_package() {
    let site = Site::new().await;
    let deb = site.dir.path().join(DEB);
    std::fs::write(&deb, package(100, "a")).expect("written");
    let version = "2022.01.01-1".parse().expect("a version");
    for name in ["a", "b"] {
        let (secret, public) =
            (site.dir.path().join(name), site.dir.path().join(format!("{name}.pub")));
        sign::generate_key(&secret, &public, &sign::Protection::Unencrypted).expect("a key");
        let key = sign::SigningKey::load(&secret, None).expect("a key");
        sign::sign(&deb, &key, &version).expect("signed");
    }
    assert!(add(&site.path(), &deb, &NewRelease::default()).expect("added").is_signed());
    use neco_releases::ReleaseSource as _;
    let client = site.client();
    let release = client.newest(neco_schema::Environment::Prod).await.expect("an answer");
    let release = release.expect("a release");
    let signatures = release.signatures(DEB);
    assert_eq!(signatures.iter().map(|s| s.key_id.is_some()).collect::<Vec<_>>(), [false, true]);
    for signature in signatures {
        let text = client.read(signature.asset, 4096).await.expect("read");
        assert!(text.starts_with(b"untrusted comment: "));
    }
}

#[tokio::test]
async fn urls_follow_what_the_mirror_is_called() {
    let (site, _) = one_release().await;
    let called = get(&site, "repos/o/r/releases/latest", &[("host", "mirror.example:8080")]).await;
    let url = called.json::<Value>().await.expect("JSON")["url"].clone();
    assert!(
        url.as_str().is_some_and(|url| url.starts_with("http://mirror.example:8080/repos/o/r/"))
    );
    let strange = get(&site, "repos/o/r/releases/latest", &[("host", "a<b>")]).await;
    if strange.status() == StatusCode::OK {
        let url = strange.json::<Value>().await.expect("JSON")["url"].clone();
        assert!(url.as_str().is_some_and(|url| url.starts_with("http://127.0.0.1:")), "{url}");
    }

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base_url = Some("https://releases.example/neco/".parse().expect("a URL"));
    let options = ServeOptions { base_url, ..ServeOptions::default() };
    let mirror = serve(site.path(), listener, options).expect("a mirror");
    let response = get_url(&format!("{}repos/o/r/releases/latest", mirror.api_url()), &[]).await;
    let url = response.json::<Value>().await.expect("JSON")["url"].clone();
    assert!(
        url.as_str().is_some_and(|url| url.starts_with("https://releases.example/neco/repos/"))
    );
}

#[tokio::test]
async fn a_mirror_that_is_stopped_or_dropped_gives_its_port_back() {
    for stop in [true, false] {
        let site = Site::new().await;
        let address = site.mirror.address();
        if stop {
            site.mirror.stop().await;
        } else {
            drop(site.mirror);
        }
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while tokio::net::TcpListener::bind(address).await.is_err() {
            assert!(std::time::Instant::now() < deadline, "{address} is still taken");
            tokio::task::yield_now().await;
        }
    }
}
