//! What can go wrong with a registry, and what becomes of it.

mod common;

use std::time::{Duration, Instant};

use common::{PATH, SIZE, Site, read, read_whole};
use futures::StreamExt as _;
use neco_registry::testing::{Content, Fault, Kind, Scope, TestImage, TestLayer};
use neco_registry::{Options, Registries, RegistryError};
use neco_schema::Severity;

fn status(status: u16) -> Fault {
    Fault::Status(status, vec![])
}

#[tokio::test]
async fn trouble_that_passes_is_not_seen() {
    let site = Site::new().await;
    let faults = site.registry.faults();
    faults.next(Scope::Tags, 2, status(503));
    faults.next(Scope::Manifests, 1, status(500));
    faults.next(Scope::Manifests, 1, Fault::Reset(10));
    faults.next(Scope::Manifests, 1, status(408));
    faults.next(Scope::Blobs, 1, status(502));
    faults.next(Scope::Blobs, 1, Fault::Reset(0));
    assert_eq!(site.client().tags(site.name().repository()).await.expect("tags"), ["1"]);
    let archive = site.archive().await;
    faults.next(Scope::Blobs, 2, status(500));
    faults.next(Scope::Blobs, 1, Fault::Reset(SIZE / 3));
    faults.next(Scope::Blobs, 2, status(503));
    let broken = read_whole(archive).await;
    assert_eq!(broken, read_whole(site.archive().await).await);
}

#[tokio::test]
async fn a_broken_blob_goes_on_where_it_broke() {
    let site = Site::new().await;
    let faults = site.registry.faults();
    let archive = site.archive().await;
    faults.take_asked();
    faults.next(Scope::Blobs, 1, Fault::Reset(300_000));
    faults.next(Scope::Blobs, 1, Fault::Reset(200_000));
    read_whole(archive).await;
    let asked = faults.take_asked();
    let first = |number: usize| {
        let range: &str = asked[number].range.as_deref()?;
        range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<u64>().ok()
    };
    assert_eq!((asked.len(), first(0)), (3, None));
    let (second, third) = (first(1).expect("a range"), first(2).expect("a range"));
    assert!(second > 0 && second <= 300_000, "{second}");
    assert!(third > second && third <= second + 200_000, "{third}");
    assert_eq!((asked[1].status, asked[2].status), (206, 206));
}

#[tokio::test]
async fn whoever_does_not_know_ranges_sends_all_of_it_again() {
    let site = Site::new().await;
    let whole = read_whole(site.archive().await).await;
    let archive = site.archive().await;
    site.registry.faults().next(Scope::Blobs, 1, Fault::Reset(300_000));
    site.registry.faults().next(Scope::Blobs, 1, Fault::IgnoreRange);
    assert_eq!(read_whole(archive).await, whole);
}

#[tokio::test]
async fn trouble_that_stays_is_told_after_so_many_tries_and_is_over_when_it_is() {
    let site = Site::new().await;
    let faults = site.registry.faults();
    let attempts = site.options().attempts as usize;
    faults.always(Scope::Manifests, status(500));
    let error = site.client().image(&site.name()).await.expect_err("trouble");
    assert!(matches!(error, RegistryError::Server { status: 500, .. }), "{error}");
    assert_eq!((error.severity(), faults.take_asked().len()), (Severity::TryAgain, attempts));
    faults.clear();
    let archive = site.archive().await;
    faults.take_asked();
    // Bytes that come begin the count anew; that there is no end to it is what the deadline is for.
    faults.next(Scope::Blobs, 1, Fault::Reset(100_000));
    faults.always(Scope::Blobs, Fault::Reset(0));
    let (came, error) = read(archive).await;
    assert!(came.len() < 110_000, "{}", came.len());
    assert_eq!(error.expect("trouble").severity(), Severity::TryAgain);
    assert_eq!(faults.take_asked().len(), attempts);
    faults.clear();
    read_whole(site.archive().await).await;
}

#[tokio::test]
async fn a_refusal_is_heard_once() {
    let site = Site::new().await;
    let faults = site.registry.faults();
    for refusal in [400, 403, 404, 405, 410] {
        faults.next(Scope::Manifests, 1, status(refusal));
        let error = site.client().image(&site.name()).await.expect_err("refused");
        assert_eq!(error.severity(), Severity::AskAPerson, "{error}");
        assert_eq!(faults.take_asked().len(), 1, "{refusal}");
    }
    let forbidden = |error| matches!(error, RegistryError::Forbidden { .. });
    faults.next(Scope::Tags, 1, status(403));
    assert!(forbidden(site.client().tags(site.name().repository()).await.expect_err("refused")));
}

#[tokio::test]
async fn a_registry_is_left_alone_as_long_as_it_wants_to_be() {
    let site = Site::new().await;
    let faults = site.registry.faults();
    let alone = |seconds: &str| Fault::Status(429, vec![("retry-after", seconds.to_owned())]);
    faults.next(Scope::Manifests, 1, alone("1"));
    let begun = Instant::now();
    let archive = site.archive().await;
    faults.next(Scope::Blobs, 1, alone("1"));
    read_whole(archive).await;
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    faults.take_asked();
    faults.next(Scope::Manifests, 1, alone("3600"));
    let error = site.client().image(&site.name()).await.expect_err("limited");
    let hour = Some(Duration::from_secs(3600));
    assert!(
        matches!(&error, RegistryError::RateLimited { after, .. } if *after == hour),
        "{error}"
    );
    assert_eq!((error.severity(), faults.take_asked().len()), (Severity::TryAgain, 1));
}

#[tokio::test]
async fn a_wrong_digest_ends_the_stream_before_the_end_of_the_archive() {
    let site = Site::new().await;
    let archive = site.archive().await;
    let length = archive.length();
    site.registry.faults().always(Scope::Blobs, Fault::Corrupt);
    let (came, error) = read(archive).await;
    let error = error.expect("found out");
    assert!(matches!(error, RegistryError::WrongDigest { .. }), "{error}");
    assert_eq!(error.severity(), Severity::AskAPerson);
    assert!((came.len() as u64) < length - 1024, "{} of {length}", came.len());
    let manifest = b"manifest.json";
    assert!(!came.windows(manifest.len()).any(|window| window == manifest), "no layer is named");
    // The configuration is found out before there is an archive at all.
    let error = site.client().image(&site.name()).await.expect_err("found out");
    assert!(matches!(error, RegistryError::WrongDigest { .. }), "{error}");
    site.registry.faults().clear();
    site.registry.faults().always(Scope::Manifests, Fault::Corrupt);
    let error = site.client().image(&site.name()).await.expect_err("found out");
    assert!(matches!(error, RegistryError::WrongDigest { .. }), "{error}");
}

#[tokio::test]
async fn a_silent_registry_is_not_waited_for_without_end() {
    let site = Site::new().await;
    let short = Duration::from_millis(200);
    let options = Options { request_timeout: short, stall: short, attempts: 2, ..site.options() };
    let client = Registries::new(options).expect("settings");
    let faults = site.registry.faults();
    faults.always(Scope::Manifests, Fault::Silent);
    let begun = Instant::now();
    let error = client.image(&site.name()).await.expect_err("silence");
    assert!(matches!(error, RegistryError::Silent { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    faults.clear();
    faults.always(Scope::Manifests, Fault::Stall(5));
    let error = client.image(&site.name()).await.expect_err("silence");
    assert!(matches!(error, RegistryError::Silent { .. }), "{error}");
    faults.clear();
    let image = site.image().await;
    let whole = read_whole(image.archive(&site.name()).expect("an archive")).await;
    let image = client.image(&site.name()).await.expect("an image");
    faults.next(Scope::Blobs, 1, Fault::Stall(200_000));
    let resumed = read_whole(image.archive(&site.name()).expect("an archive")).await;
    assert_eq!(resumed, whole, "what hangs in the middle is asked for again");
    faults.always(Scope::Blobs, Fault::Silent);
    let (_, error) = read(image.archive(&site.name()).expect("an archive")).await;
    assert!(matches!(error, Some(RegistryError::Silent { .. })), "{error:?}");
}

#[tokio::test]
async fn an_archive_that_takes_too_long_is_given_up() {
    let site = Site::new().await;
    let total = Duration::from_millis(300);
    let client = Registries::new(Options { total, ..site.options() }).expect("settings");
    let image = client.image(&site.name()).await.expect("an image");
    site.registry.faults().always(Scope::Blobs, Fault::Slow(Duration::from_millis(100)));
    let late = |error: &RegistryError| matches!(error, RegistryError::TimedOut { after, .. } if *after == total);
    let (_, error) = read(image.archive(&site.name()).expect("an archive")).await;
    assert!(error.as_ref().is_some_and(late), "{error:?}");
    let layer = &image.layers()[0];
    let blob = client.blob(site.name().repository(), layer.digest, layer.size).expect("a host");
    let items: Vec<_> = blob.collect().await;
    let last = items.last().expect("an error");
    assert!(last.as_ref().err().is_some_and(late), "{last:?}");
}

#[tokio::test]
async fn bodies_that_are_not_what_was_asked_for_are_refused() {
    let site = Site::new().await;
    let faults = site.registry.faults();
    for scope in [Scope::Manifests, Scope::Blobs] {
        faults.always(scope, Fault::Html);
        let error = site.client().image(&site.name()).await.expect_err("a page");
        assert!(matches!(error, RegistryError::WrongContent { .. }), "{error}");
        faults.clear();
    }
    let archive = site.archive().await;
    faults.always(Scope::Blobs, Fault::Longer);
    let (_, error) = read(archive).await;
    let found = SIZE + 1;
    let told = |error: &RegistryError| matches!(error, RegistryError::WrongSize { expected: SIZE, found: there, .. } if *there == found);
    assert!(error.as_ref().is_some_and(told), "{error:?}");
    faults.clear();
    let repository = site.name().repository().clone();
    for (tag, text, expected) in [
        ("list", "[]", "no manifest"),
        ("cut", "{\"schemaVersion\": 2, \"mediaTy", "no manifest"),
        ("empty", "{}", "kind"),
    ] {
        site.registry.put_manifest(PATH, tag, "application/json", text.into());
        let name = repository.tagged(tag).expect("a tag");
        let error = site.client().image(&name).await.expect_err(tag);
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.severity(), Severity::AskAPerson);
    }
    site.registry.put_manifest(PATH, "large", Kind::Oci.manifest(), vec![b' '; 5 << 20].into());
    let name = repository.tagged("large").expect("a tag");
    let error = site.client().image(&name).await.expect_err("too large");
    assert!(matches!(error, RegistryError::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn an_image_that_no_archive_can_be_made_of_is_refused_before_its_first_byte() {
    let site = Site::new().await;
    let repository = site.name().repository().clone();
    let image = || TestImage::new(Kind::Oci, vec![TestLayer::gzip(Content::made(2, 1000))]);
    let edited = |from: &str, to: &str| {
        let manifest = String::from_utf8(image().manifest().to_vec()).expect("text");
        assert!(manifest.contains(from), "{manifest}");
        manifest.replace(from, to)
    };
    for (text, why) in [
        (edited("tar+gzip", "tar+zstd"), "Docker 20.10 cannot load"),
        (edited("layer.v1.tar+gzip", "layer.nondistributable.v1.tar+gzip"), "nondistributable"),
        (edited("image.config", "empty"), "configuration of kind"),
        (
            edited("\"schemaVersion\":2", "\"schemaVersion\":1")
                .replace("vnd.oci.image.manifest.v1+json", "x"),
            "version 1",
        ),
        (edited("sha256:", "sha512:"), "manifest"),
        (edited("\"size\":1000", "\"size\":18446744073709551615"), "larger than any archive"),
    ] {
        site.registry.push(PATH, "whole", &image());
        let kind = Kind::Oci.manifest();
        site.registry.put_manifest(PATH, "odd", kind, text.into());
        site.asked();
        let name = repository.tagged("odd").expect("a tag");
        let opened = site.client().image(&name).await;
        let error = opened.and_then(|image| image.archive(&name).map(drop)).expect_err(why);
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(error.severity(), Severity::AskAPerson);
    }
    let odd = image()
        .with_configuration(r#"{"os":"linux","architecture":"amd64","rootfs":{"diff_ids":[]}}"#);
    site.registry.push(PATH, "layers", &odd);
    let name = repository.tagged("layers").expect("a tag");
    let error = site.client().image(&name).await.expect_err("other layers").to_string();
    assert!(error.contains("configuration for 0 layers, but 1"), "{error}");
}

#[tokio::test]
async fn a_part_that_was_lost_is_told() {
    let site = Site::new().await;
    let archive = site.archive().await;
    site.registry.lose(PATH, Content::made(1, SIZE).digest());
    let (_, error) = read(archive).await;
    assert!(matches!(error, Some(RegistryError::NoBlob { .. })), "{error:?}");
    site.registry.lose(PATH, site.pushed.id());
    let error = site.client().image(&site.name()).await.expect_err("lost");
    assert!(matches!(error, RegistryError::NoBlob { .. }), "{error}");
}

#[tokio::test]
async fn a_registry_that_is_not_there_may_come_back() {
    let site = Site::new().await;
    let name = site.name();
    let Site { registry, .. } = site;
    let client = Registries::new(neco_registry::contract::impatient()).expect("settings");
    drop(registry);
    let error = client.image(&name).await.expect_err("away");
    assert!(matches!(error, RegistryError::Transport { .. }), "{error}");
    assert_eq!(error.severity(), Severity::TryAgain);
}
