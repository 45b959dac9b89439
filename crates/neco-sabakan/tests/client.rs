//! The client in trouble: what it repeats, what it gives up, and how it says so.

mod common;

use std::io::Cursor;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use common::{Stage, certificate, quick};
use neco_sabakan::contract::ipam;
use neco_sabakan::fake::{Fault, Rule, ServeOptions};
use neco_sabakan::{
    AssetName, AssetUpload, Content, ContentDigest, DhcpConfig, Ensure, Ensured, Health,
    IgnitionId, IgnitionTemplate, IgnitionVersion, ImageId, Limits, MachineQuery, Options, Role,
    Sabakan, SabakanClient, SabakanError, Serial, wait_until_it_answers,
};
use neco_schema::Severity;
use tokio::io::AsyncWriteExt as _;

const ASSETS: &str = "/api/v1/assets";

fn name(text: &str) -> AssetName {
    AssetName::new(text).expect("a name")
}

fn upload(text: &'static [u8]) -> AssetUpload {
    AssetUpload::new(Content::bytes(text))
}

fn unknown_digest(text: &'static [u8]) -> AssetUpload {
    let length = text.len() as u64;
    AssetUpload::new(Content::opener(length, move || async move { Ok(Cursor::new(text)) }))
}

fn ensure() -> Ensure {
    Ensure { between: quick().between, ..Ensure::default() }
}

async fn put(stage: &Stage, upload: &AssetUpload) -> Result<String, SabakanError> {
    let uploaded = stage.client.upload_asset(&name("a"), upload, &|_| {}).await?;
    Ok(uploaded.id)
}

#[tokio::test]
async fn a_question_is_repeated_over_trouble_that_passes_and_no_other() {
    let stage = Stage::new().await;
    for (fault, times, severity) in [
        (Fault::internal(), 3, Severity::TryAgain),
        (Fault::LoseAnswer, 3, Severity::TryAgain),
        (Fault::CutAnswer(1), 3, Severity::TryAgain),
        (Fault::forbidden(), 1, Severity::AskAPerson),
        (Fault::conflict(), 1, Severity::AskAPerson),
        (Fault::Html, 1, Severity::AskAPerson),
        (Fault::Status(302, String::new()), 1, Severity::AskAPerson),
    ] {
        stage.fake.faults().set(vec![Rule::always("GET", ASSETS, fault.clone())]);
        let error = stage.client.assets().await.expect_err("trouble");
        assert_eq!(error.severity(), severity, "{fault:?}: {error}");
        assert_eq!(stage.calls().len(), times, "{fault:?}");
        if times > 1 {
            stage.fake.faults().set(vec![Rule::once("GET", ASSETS, fault)]);
            stage.client.assets().await.expect("the second time");
            assert_eq!(stage.calls().len(), 2);
        }
    }
}

#[tokio::test]
async fn settings_whose_answer_was_lost_are_set_again() {
    let stage = Stage::new().await;
    stage.fake.faults().add(Rule::once("PUT", "/api/v1/config/dhcp", Fault::LoseAnswer));
    let config = DhcpConfig { lease_minutes: 60, gateway_offset: 1, ..Default::default() };
    stage.client.set_dhcp(&config).await.expect("set");
    let bodies: Vec<_> = stage.fake.log().take().into_iter().map(|asked| asked.sha256).collect();
    assert!(bodies.len() == 2 && bodies[0].is_some() && bodies[0] == bodies[1], "{bodies:?}");
}

#[tokio::test]
async fn a_server_that_is_silent_is_given_up_within_the_limit() {
    let limits = Limits { answer: Duration::from_millis(50), tries: 2, ..quick() };
    let stage = Stage::with(ServeOptions::default(), limits).await;
    stage.fake.faults().add(Rule::always("GET", "/", Fault::Stall));
    let error = stage.client.images().await.expect_err("silent");
    assert!(matches!(error, SabakanError::TimedOut { .. }), "{error}");
    assert_eq!(stage.calls().len(), 2);
}

#[tokio::test]
async fn an_upload_that_stands_still_is_given_up_within_the_limit() {
    let limits = Limits { silence: Duration::from_millis(100), ..quick() };
    let stage = Stage::with(ServeOptions::default(), limits.clone()).await;
    stage.fake.faults().add(Rule::once("PUT", ASSETS, Fault::Stall));
    let error = put(&stage, &upload(b"x")).await.expect_err("silent");
    assert!(matches!(error, SabakanError::Silent { .. }), "{error}");
    // What is to be uploaded may stand still too.
    let (mut sender, receiver) = tokio::io::duplex(64);
    sender.write_all(b"begun").await.expect("room");
    let error = put(&stage, &AssetUpload::new(Content::reader(9, receiver))).await;
    assert!(matches!(error, Err(SabakanError::Silent { .. })), "{error:?}");

    let limits = Limits { upload: Duration::from_millis(100), ..quick() };
    let stage = Stage::with(ServeOptions::default(), limits).await;
    let (mut sender, receiver) = tokio::io::duplex(64);
    let drip = async {
        let mut pace = tokio::time::interval(Duration::from_millis(5));
        while sender.write_all(b"x").await.is_ok() {
            pace.tick().await;
        }
    };
    let content = AssetUpload::new(Content::reader(1 << 20, receiver));
    let (error, ()) = tokio::join!(put(&stage, &content), drip);
    assert!(matches!(error, Err(SabakanError::TimedOut { .. })), "{error:?}");
}

#[tokio::test]
async fn what_changed_on_the_way_is_noticed_with_and_without_a_known_digest() {
    let stage = Stage::new().await;
    stage.fake.faults().add(Rule::always("PUT", ASSETS, Fault::CorruptRequest));
    let error = put(&stage, &upload(b"content")).await.expect_err("refused by sabakan");
    assert!(matches!(error, SabakanError::Server { status: 500, .. }), "{error}");
    let error = put(&stage, &unknown_digest(b"content")).await.expect_err("noticed by us");
    assert!(matches!(&error, SabakanError::WrongDigest { .. }), "{error}");
    assert!(error.to_string().contains(ContentDigest::of(b"content").as_str()), "{error}");
    let there = stage.client.asset(&name("a")).await.expect("an answer");
    assert_eq!(there, None, "nobody takes it for what was sent");
    // And mended by another try.
    stage.fake.faults().set(vec![Rule::once("PUT", ASSETS, Fault::CorruptRequest)]);
    let (a, known) = (name("a"), upload(b"content"));
    let ensured = ensure().asset(&stage.client, &a, &known, &|_| {}).await;
    assert_eq!(ensured.expect("there"), Ensured::Uploaded);
    let meta = stage.client.asset(&a).await.expect("an answer").expect("an asset");
    assert_eq!(meta.sha256, ContentDigest::of(b"content"));
}

#[tokio::test]
async fn an_upload_goes_with_length_type_digest_and_user() {
    let stage = Stage::new().await;
    let sent = upload(b"content").content_type("text/plain");
    put(&stage, &sent).await.expect("uploaded");
    put(&stage, &unknown_digest(b"content")).await.expect("uploaded");
    let asked = stage.fake.log().take();
    assert_eq!(asked.len(), 3, "the second one is proven by what lies there: {asked:#?}");
    assert_eq!(asked[0].content_type.as_deref(), Some("text/plain"));
    for put in &asked[..2] {
        assert_eq!(put.call(), "PUT /api/v1/assets/a");
        assert_eq!((put.content_length, put.size), (Some(7), 7));
        assert_eq!(put.sha256, Some(ContentDigest::of(b"content")));
        assert_eq!(put.user.as_deref(), Some("tester"));
    }
    assert_eq!(asked[2].call(), "GET /api/v1/assets/a/meta");
}

#[tokio::test]
async fn content_that_is_there_is_not_sent_again() {
    let stage = Stage::new().await;
    let (a, known) = (name("a"), upload(b"content"));
    for _ in 0..2 {
        ensure().asset(&stage.client, &a, &known, &|_| {}).await.expect("there");
    }
    assert_eq!(
        stage.calls(),
        ["GET /api/v1/assets/a/meta", "PUT /api/v1/assets/a", "GET /api/v1/assets/a/meta"]
    );
}

#[tokio::test]
async fn an_upload_is_tried_again_from_its_beginning_where_that_can_be() {
    let stage = Stage::new().await;
    let a = name("a");
    let opened = Arc::new(AtomicU32::new(0));
    let counted = opened.clone();
    let content = Content::opener(300_000, move || {
        counted.fetch_add(1, Ordering::SeqCst);
        async { Ok(Cursor::new(vec![1; 300_000])) }
    });
    let faults = [
        Fault::ResetRequest(100_000),
        Fault::ResetRequest(0),
        Fault::full_disk(),
        Fault::conflict(),
    ];
    let rules = faults.into_iter().map(|fault| Rule::once("PUT", ASSETS, fault));
    stage.fake.faults().set(rules.collect());
    let repeatable = AssetUpload::new(content);
    let ensured = ensure().asset(&stage.client, &a, &repeatable, &|_| {}).await;
    assert_eq!(ensured.expect("there"), Ensured::Uploaded);
    assert_eq!(opened.load(Ordering::SeqCst), 5);
    let puts = stage.fake.log().take().into_iter().filter(|asked| asked.method == "PUT");
    let statuses: Vec<_> = puts.map(|put| put.status).collect();
    assert_eq!(&statuses[2..], [Some(500), Some(409), Some(201)]);

    // What can be read once is sent once.
    stage.fake.faults().add(Rule::once("PUT", ASSETS, Fault::full_disk()));
    let once = AssetUpload::new(Content::reader(1, Cursor::new(b"x")));
    let error = ensure().asset(&stage.client, &a, &once, &|_| {}).await.expect_err("trouble");
    assert!(error.to_string().contains("no space left on device"), "{error}");

    // And what is forbidden is not tried again.
    stage.fake.log().take();
    stage.fake.faults().add(Rule::always("PUT", ASSETS, Fault::forbidden()));
    let error = ensure().asset(&stage.client, &a, &repeatable, &|_| {}).await;
    assert!(matches!(error, Err(SabakanError::Forbidden { .. })), "{error:?}");
    assert_eq!(stage.calls().len(), 2);
}

#[tokio::test]
async fn an_image_whose_answer_was_lost_is_there() {
    let stage = Stage::new().await;
    stage.fake.faults().add(Rule::once("PUT", "/api/v1/images", Fault::LoseAnswer));
    let id = ImageId::new("1.0").expect("an id");
    let (kernel, initrd) = (Content::bytes(*b"k"), Content::bytes(*b"i"));
    let ensured = ensure().image(&stage.client, &id, &kernel, &initrd, &|_| {}).await;
    assert_eq!(ensured.expect("there"), Ensured::Present);
    let index = "GET /api/v1/images/coreos";
    assert_eq!(stage.calls(), [index, "PUT /api/v1/images/coreos/1.0", index]);
}

#[tokio::test]
async fn a_template_is_sent_once_even_if_its_answer_was_lost() {
    let stage = Stage::new().await;
    stage.client.set_ipam(&ipam()).await.expect("set");
    stage.fake.log().take();
    let (role, id) = (Role::new("cs").expect("a role"), IgnitionId::new("1.0").expect("an id"));
    let template = IgnitionTemplate {
        version: IgnitionVersion::V2_2,
        template: serde_json::Map::new(),
        meta: serde_json::Map::new(),
    };
    stage.fake.faults().add(Rule::once("PUT", "/api/v1/ignitions", Fault::LoseAnswer));
    let lost = stage.client.upload_ignition(&role, &id, &template).await.expect_err("lost");
    assert_eq!(lost.severity(), Severity::TryAgain, "{lost}");
    assert_eq!(stage.calls(), ["PUT /api/v1/ignitions/cs/1.0"]);
    let ensured = ensure().ignition(&stage.client, &role, &id, &template).await;
    assert_eq!(ensured.expect("there"), Ensured::Present);

    // Somebody else is quicker between the look and the upload.
    let other = IgnitionId::new("2.0").expect("an id");
    stage.fake.faults().add(Rule::once("PUT", "/api/v1/ignitions", Fault::conflict()));
    let ensured = ensure().ignition(&stage.client, &role, &other, &template).await;
    assert_eq!(ensured.expect("there"), Ensured::Present);
}

#[tokio::test]
async fn large_uploads_pass_through_memory_in_pieces() {
    let stage = Stage::new().await;
    // More than may be held: what is read is counted against what was sent.
    const LENGTH: u64 = 256 << 20;
    let zeros = Content::opener(LENGTH, || async {
        Ok(tokio::io::AsyncReadExt::take(tokio::io::repeat(0), LENGTH))
    });
    let before = resident();
    let peak = Arc::new(AtomicU32::new(0));
    let seen = peak.clone();
    let progress = move |_| {
        seen.fetch_max(resident().saturating_sub(before), Ordering::SeqCst);
    };
    let upload = AssetUpload::new(zeros.clone());
    stage.client.upload_asset(&name("a"), &upload, &progress).await.expect("uploaded");
    let id = ImageId::new("1.0").expect("an id");
    stage.client.upload_image(&id, &zeros, &zeros, &progress).await.expect("uploaded");
    // The stand-in in the same process takes eight of them.
    let peak = peak.load(Ordering::SeqCst);
    assert!(peak < 32, "it grew by {peak} MB");
}

/// Anonymous memory of this process, in megabytes.
fn resident() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a line");
    let kilobytes = line.trim().trim_end_matches(" kB").trim().parse::<u32>().expect("a number");
    kilobytes / 1024
}

/// Go's server answers a body that it will not read, says that it will say no more, and waits before it closes.
#[tokio::test]
async fn a_refusal_in_the_middle_of_an_upload_is_heard() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let (heard, until_heard) = tokio::sync::oneshot::channel::<()>();
    let server = async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let body = r#"{"status":409,"error":"conflicted"}"#;
        let answer = format!(
            "HTTP/1.1 409 Conflict\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        let mut head = vec![0; 1024];
        tokio::io::AsyncReadExt::read(&mut stream, &mut head).await.expect("a head");
        stream.write_all(answer.as_bytes()).await.expect("written");
        stream.shutdown().await.expect("shut down");
        let _ = until_heard.await;
    };
    let client = async move {
        let options = Options::new(url.parse().expect("a URL"), "tester").limits(quick());
        let client = SabakanClient::new(&options).expect("a client");
        let large = AssetUpload::new(Content::bytes(vec![0; 64 << 20]));
        let error = client.upload_asset(&name("a"), &large, &|_| {}).await.expect_err("refused");
        drop(heard);
        error
    };
    let (error, ()) = tokio::join!(client, server);
    assert!(error.is_conflict(), "{error:?}");
}

#[tokio::test]
async fn health_is_told_apart_from_trouble() {
    let stage = Stage::new().await;
    stage.fake.set_healthy(false);
    assert_eq!(stage.client.health().await.expect("an answer"), Health::Unhealthy);
    stage.fake.faults().add(Rule::once("GET", "/health", Fault::internal()));
    let error = stage.client.health().await.expect_err("trouble");
    assert!(matches!(error, SabakanError::Server { .. }), "{error}");
    stage.fake.faults().add(Rule::once("GET", "/health", Fault::Html));
    let error = stage.client.health().await.expect_err("something else");
    assert!(matches!(error, SabakanError::Malformed { .. }), "{error}");
}

#[tokio::test]
async fn any_answer_is_one_and_its_absence_is_noticed_in_time() {
    let stage = Stage::new().await;
    stage.fake.faults().add(Rule::once("GET", "/", Fault::internal()));
    wait_until_it_answers(&stage.client, Duration::from_secs(10)).await.expect("an answer");
    // One that is not there yet when it is first looked for.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let http = free.local_addr().expect("an address");
    drop(free);
    let url = format!("http://{http}/").parse().expect("a URL");
    let client = SabakanClient::new(&Options::new(url, "tester")).expect("a client");
    let absent = wait_until_it_answers(&client, Duration::from_millis(300)).await;
    let error = absent.expect_err("nobody");
    assert!(matches!(error, SabakanError::Transport { .. }), "{error}");
    assert_eq!(error.severity(), Severity::TryAgain);
    let later = async {
        let _ = client.answers().await;
        stage::start(http).await
    };
    let (found, _fake) =
        tokio::join!(wait_until_it_answers(&client, Duration::from_secs(30)), later);
    found.expect("an answer");
}

mod stage {
    use std::net::SocketAddr;

    use neco_sabakan::fake::{FakeSabakan, ServeOptions};

    pub(crate) async fn start(http: SocketAddr) -> FakeSabakan {
        let options = ServeOptions { http, ..Default::default() };
        FakeSabakan::start(options).await.expect("a stand-in")
    }
}

#[tokio::test]
async fn disk_keys_are_asked_for_under_a_certificate_that_is_known() {
    let stage = Stage::new().await;
    let https = stage.fake.https_url().expect("an address");
    let serial = Serial::new("x").expect("a serial");
    let stranger = Options::new(stage.fake.url(), "tester").https(https, certificate().0);
    let client = SabakanClient::new(&stranger).expect("a client");
    let error = client.delete_crypts(&serial).await.expect_err("not trusted");
    assert!(matches!(error, SabakanError::Certificate { .. }), "{error}");
    assert_eq!(error.severity(), Severity::AskAPerson);
    let without = Options::new(stage.fake.url(), "tester");
    let client = SabakanClient::new(&without).expect("a client");
    let error = client.delete_crypts(&serial).await.expect_err("not configured");
    assert!(error.to_string().starts_with("sabakan.https: "), "{error}");
    assert!(stage.fake.log().take().is_empty());
}

#[tokio::test]
async fn changes_from_elsewhere_are_forbidden_with_a_hint() {
    let allowed = vec![Ipv4Addr::new(10, 69, 0, 3).into()];
    let options = ServeOptions { allowed, ..Default::default() };
    let stage = Stage::with(options, quick()).await;
    let large = AssetUpload::new(Content::bytes(vec![0; 3 << 20]));
    let error = put(&stage, &large).await.expect_err("forbidden");
    assert!(matches!(error, SabakanError::Forbidden { .. }), "{error}");
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
    let error = stage.client.set_dhcp(&DhcpConfig::default()).await.expect_err("forbidden");
    assert!(matches!(error, SabakanError::Forbidden { .. }), "{error}");
    // Everybody may look, and change by GraphQL (external-apis §9.1).
    stage.client.assets().await.expect("names");
    assert!(stage.client.machines(&MachineQuery::default()).await.expect("none").is_empty());
}
