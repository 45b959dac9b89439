//! What every registry gives to [`Registries`]: a suite to run against each.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, TryStreamExt as _};
use neco_base::Backoff;
use neco_schema::Severity;
use serde_json::json;

use crate::testing::{Changing, Content, Cutter, Kind, TestImage, TestLayer, index};
use crate::{Archive, Digest, ImageName, Options, Registries, RegistryError, Repository};

/// A registry under test. Repositories that nothing was put into do not exist yet.
#[async_trait]
pub trait Bench: Sync {
    /// The host where it lets everybody in.
    fn open(&self) -> String;

    /// The host where it lets in [`USER`] with [`PASSWORD`] alone, and has the same.
    fn closed(&self) -> String;

    /// Puts a blob into a repository.
    async fn put_blob(&self, repository: &str, content: Bytes);

    /// Puts a manifest of this kind into a repository, by a tag or by its digest.
    async fn put_manifest(&self, repository: &str, reference: &str, kind: &str, text: Bytes);
}

/// The user of the closed registry.
pub const USER: &str = "neco";

/// The user's password.
pub const PASSWORD: &str = "~~~???>>>hunter2";

/// Runs every clause; panics at the first that is broken.
pub async fn holds<B: Bench>(bench: &B) {
    all_tags_are_told_in_one_order(bench).await;
    what_is_not_there_is_told(bench).await;
    a_name_leads_to_the_image_for_our_machines(bench).await;
    an_archive_has_the_length_that_was_told_and_the_same_bytes_each_time(bench).await;
    a_digest_names_the_same_image_after_its_tag_has_moved(bench).await;
    a_blob_is_given_by_its_digest(bench).await;
    a_connection_that_breaks_goes_on_where_it_broke(bench).await;
    a_login_is_wanted_where_the_door_is_closed(bench).await;
}

/// Settings under which nothing takes long.
pub fn impatient() -> Options {
    Options {
        request_timeout: Duration::from_secs(10),
        stall: Duration::from_secs(10),
        backoff: Backoff::new(Duration::from_millis(5), Duration::from_millis(20)),
        ..Options::default()
    }
}

fn client() -> Registries {
    Registries::new(impatient()).expect("settings")
}

fn repository(host: &str, path: &str) -> Repository {
    format!("{host}/{path}").parse().expect("a name")
}

fn named(host: &str, path: &str, tag: &str) -> ImageName {
    repository(host, path).tagged(tag).expect("a tag")
}

async fn push(bench: &impl Bench, path: &str, reference: &str, image: &TestImage) {
    for blob in image.blobs() {
        bench.put_blob(path, blob.bytes()).await;
    }
    bench.put_manifest(path, reference, image.kind().manifest(), image.manifest()).await;
}

/// A small image that differs from others by `seed`.
fn small(kind: Kind, seed: u64) -> TestImage {
    TestImage::new(kind, vec![TestLayer::plain(Content::made(seed, 3000))])
}

/// The bytes of an archive, which are as many as it said.
async fn bytes_of(archive: Archive) -> Bytes {
    let length = archive.length();
    let stream = archive.into_stream();
    let sum = stream.sum();
    assert_eq!(sum.get(), None, "nobody can know it yet");
    let parts = stream.try_fold(BytesMut::new(), |mut whole, bytes| async move {
        whole.extend_from_slice(&bytes);
        Ok(whole)
    });
    let whole = parts.await.unwrap_or_else(|error| panic!("{error}")).freeze();
    assert_eq!(whole.len() as u64, length);
    assert_eq!(sum.get(), Some(Digest::of(&whole)));
    whole
}

/// The files of an archive.
fn files_of(archive: &Bytes) -> Vec<(String, Bytes)> {
    let mut archive = tar::Archive::new(&archive[..]);
    let entries = archive.entries().expect("a tar file").map(|entry| {
        let mut entry = entry.expect("an entry");
        let header = entry.header();
        let owner = (header.uid().expect("a user"), header.gid().expect("a group"));
        let time = header.mtime().expect("a time");
        assert_eq!((owner, time, header.mode().expect("a mode")), ((0, 0), 0, 0o444));
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("content");
        (entry.path().expect("a path").display().to_string(), content.into())
    });
    entries.collect()
}

async fn all_tags_are_told_in_one_order(bench: &impl Bench) {
    let path = "contract/tags";
    let tags = ["1.0.0", "1.0.1", "1.1.0", "2.0.0", "2.0.0-rc.1", "latest", "sha_1"];
    for tag in tags {
        push(bench, path, tag, &small(Kind::Docker, 1)).await;
    }
    for tags_per_page in [1, 3, 7, 1000] {
        let client = Registries::new(Options { tags_per_page, ..impatient() }).expect("settings");
        let found = client.tags(&repository(&bench.open(), path)).await.expect("tags");
        assert_eq!(found, tags, "{tags_per_page} at once");
    }
}

async fn what_is_not_there_is_told(bench: &impl Bench) {
    push(bench, "contract/there", "1", &small(Kind::Docker, 2)).await;
    let host = bench.open();
    let error = client().tags(&repository(&host, "contract/nowhere")).await.expect_err("none");
    assert!(matches!(error, RegistryError::NoRepository { .. }), "{error}");
    assert_eq!(error.severity(), Severity::AskAPerson);
    for missing in [
        named(&host, "contract/nowhere", "1"),
        named(&host, "contract/there", "2"),
        repository(&host, "contract/there").with_digest(Digest::of(b"another")),
    ] {
        let error = client().image(&missing).await.expect_err("none");
        assert!(matches!(&error, RegistryError::NoImage { image } if *image == missing), "{error}");
        assert_eq!(error.severity(), Severity::AskAPerson);
    }
}

async fn a_name_leads_to_the_image_for_our_machines(bench: &impl Bench) {
    let path = "contract/index";
    let host = bench.open();
    for (number, kind) in [Kind::Docker, Kind::Oci].into_iter().enumerate() {
        let ours = small(kind, 3);
        let layers = || vec![TestLayer::plain(Content::made(4, 2000))];
        let other = TestImage::for_platform(kind, "linux", "arm64", layers());
        for image in [&ours, &other] {
            let digest = Digest::of(&image.manifest()).to_string();
            push(bench, path, &digest, image).await;
        }
        let both = index(kind, &[("linux", "arm64", &other), ("linux", "amd64", &ours)]);
        let tag = format!("both-{number}");
        bench.put_manifest(path, &tag, kind.index(), both).await;
        let image = client().image(&named(&host, path, &tag)).await.expect("an image");
        assert_eq!((image.id(), image.manifest()), (ours.id(), Digest::of(&ours.manifest())));
        files_of(&bytes_of(image.archive(image.name()).expect("an archive")).await);

        let one = index(kind, &[("linux", "arm64", &other)]);
        let tag = format!("other-{number}");
        bench.put_manifest(path, &tag, kind.index(), one).await;
        for name in [
            named(&host, path, &tag),
            repository(&host, path).with_digest(Digest::of(&other.manifest())),
        ] {
            let error = client().image(&name).await.expect_err("another machine's");
            let found = matches!(&error, RegistryError::OtherPlatform { found, .. } if found == "linux/arm64");
            assert!(found, "{error}");
        }
    }
}

async fn an_archive_has_the_length_that_was_told_and_the_same_bytes_each_time(bench: &impl Bench) {
    let path = "contract/archive";
    let host = bench.open();
    for kind in [Kind::Docker, Kind::Oci] {
        let (twice, block) = (Content::made(5, 100_000), Content::made(6, 1024));
        let layers = vec![
            TestLayer::gzip(twice.clone()),
            TestLayer::plain(block.clone()),
            TestLayer::gzip(twice.clone()),
        ];
        let pushed = TestImage::new(kind, layers);
        push(bench, path, "1", &pushed).await;
        let image = client().image(&named(&host, path, "1")).await.expect("an image");
        let name: ImageName = "ghcr.io/cybozu/etcd:3.5.15.1".parse().expect("a name");
        let archive = || image.archive(&name).expect("an archive");
        let whole = bytes_of(archive()).await;
        assert_eq!(bytes_of(archive()).await, whole);
        let (first, second) =
            (format!("{}.tar.gz", twice.digest().hex()), format!("{}.tar", block.digest().hex()));
        let configuration = format!("{}.json", pushed.id().hex());
        let manifest = json!([{
            "Config": configuration,
            "RepoTags": ["ghcr.io/cybozu/etcd:3.5.15.1"],
            "Layers": [first, second, first],
        }]);
        let files = files_of(&whole);
        let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, [configuration.as_str(), &first, &second, "manifest.json"]);
        assert_eq!(Digest::of(&files[0].1), pushed.id());
        assert_eq!(files[1].1, twice.bytes());
        assert_eq!(files[2].1, block.bytes());
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&files[3].1).ok(), Some(manifest));
    }
}

async fn a_digest_names_the_same_image_after_its_tag_has_moved(bench: &impl Bench) {
    let path = "contract/moved";
    let name = named(&bench.open(), path, "1");
    let old = small(Kind::Docker, 7);
    push(bench, path, "1", &old).await;
    let client = client();
    let image = client.image(&name).await.expect("an image");
    push(bench, path, "1", &small(Kind::Docker, 8)).await;
    assert_ne!(client.image(&name).await.expect("an image").id(), old.id());
    let same = client.image(&name.repository().with_digest(image.manifest())).await;
    assert_eq!(same.expect("an image").id(), old.id());
    bytes_of(image.archive(&name).expect("an archive")).await;
}

async fn a_blob_is_given_by_its_digest(bench: &impl Bench) {
    let path = "contract/blobs";
    let content = Content::made(9, 200_000);
    bench.put_blob(path, content.bytes()).await;
    let repository = repository(&bench.open(), path);
    let read = async |digest, size| {
        let parts: Vec<_> =
            client().blob(&repository, digest, size).expect("a host").collect().await;
        parts.into_iter().collect::<Result<Vec<Bytes>, _>>().map(|parts| parts.concat())
    };
    let whole = read(content.digest(), content.size()).await.expect("bytes");
    assert_eq!(whole, content.bytes());
    let error = read(Digest::of(b"another"), 7).await.expect_err("none");
    assert!(matches!(error, RegistryError::NoBlob { .. }), "{error}");
    let error = read(content.digest(), content.size() + 1).await.expect_err("another size");
    assert!(matches!(error, RegistryError::WrongSize { .. }), "{error}");
    assert_eq!(read(Digest::of(b""), 0).await.expect("nothing"), b"");
}

async fn a_connection_that_breaks_goes_on_where_it_broke(bench: &impl Bench) {
    let path = "contract/broken";
    let layer = Content::made(10, 3_000_000);
    push(bench, path, "1", &TestImage::new(Kind::Oci, vec![TestLayer::gzip(layer)])).await;
    let straight = client().image(&named(&bench.open(), path, "1")).await.expect("an image");
    let name: ImageName = "ghcr.io/cybozu/etcd:1".parse().expect("a name");
    let whole = bytes_of(straight.archive(&name).expect("an archive")).await;
    let cutter = Cutter::before(&bench.open()).await.expect("a port");
    let image = client().image(&named(cutter.host(), path, "1")).await.expect("an image");
    cutter.cut(&[1_000_000, 100, 1_000_000, 0, 500_000]);
    let broken = bytes_of(image.archive(&name).expect("an archive")).await;
    assert_eq!(cutter.left(), 0, "every cut was made");
    assert_eq!(broken, whole);
}

async fn a_login_is_wanted_where_the_door_is_closed(bench: &impl Bench) {
    let path = "contract/closed";
    push(bench, path, "1", &small(Kind::Docker, 11)).await;
    let name = named(&bench.closed(), path, "1");
    let logins = Changing::default();
    let options = Options { credentials: Arc::new(logins.clone()), ..impatient() };
    // One client throughout: what it was refused once says nothing about the next login.
    let client = Registries::new(options).expect("settings");
    let refused = async |with_login: bool| {
        let image = client.image(&name).await.map(drop);
        let tags = client.tags(name.repository()).await.map(drop);
        for error in [image.expect_err("refused"), tags.expect_err("refused")] {
            match &error {
                RegistryError::Unauthorized { login_sent, registry, .. } => {
                    assert_eq!(
                        (*login_sent, registry.as_str()),
                        (with_login, bench.closed().as_str())
                    );
                }
                other => panic!("{other}"),
            }
            let told = error.to_string();
            assert!(told.contains("docker login") && !told.contains("wrong"), "{told}");
            assert_eq!(error.severity(), Severity::AskAPerson);
        }
    };
    refused(false).await;
    logins.set(USER, "wrong");
    refused(true).await;
    logins.set(USER, PASSWORD);
    let image = client.image(&name).await.expect("let in");
    bytes_of(image.archive(&name).expect("an archive")).await;
    assert_eq!(client.tags(name.repository()).await.expect("let in"), ["1"]);
    let open = client.image(&named(&bench.open(), path, "1")).await.expect("open to all");
    assert_eq!(open.id(), image.id());
}
