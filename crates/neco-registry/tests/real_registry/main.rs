//! The client against a real registry, Debian's docker-registry, and what it streams against a real Docker. They bring their
//! images with them and need no network beyond the loopback. `cargo xtask dctest drivers-keep-their-contracts` brings the suite
//! to a machine and runs it there.
//!
//! `NECO_DOCKER_REGISTRY` says where the registry's program is, if it is not in the path.

mod registry;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use neco_registry::contract::{self, Bench, impatient};
use neco_registry::testing::{Content, Kind, TestImage, TestLayer};
use neco_registry::{Digest, ImageName, Packing, Registries};
use registry::Registry;

struct Site {
    open: Registry,
    closed: Registry,
}

impl Site {
    async fn new() -> Self {
        let open = Registry::open().await;
        let closed = Registry::closed(&open).await;
        Self { open, closed }
    }
}

#[async_trait]
impl Bench for Site {
    fn open(&self) -> String {
        self.open.host()
    }

    fn closed(&self) -> String {
        self.closed.host()
    }

    async fn put_blob(&self, repository: &str, content: Bytes) {
        self.open.put_blob(repository, content).await;
    }

    async fn put_manifest(&self, repository: &str, reference: &str, kind: &str, text: Bytes) {
        self.open.put_manifest(repository, reference, kind, text).await;
    }
}

#[tokio::test]
#[ignore = "needs docker-registry; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn the_real_registry_keeps_the_contract() {
    contract::holds(&Site::new().await).await;
}

/// What a program wrote to its standard output.
fn output(program: &str, words: &[&str]) -> String {
    let ended = Command::new(program).args(words).stdin(Stdio::null()).output();
    let ended = ended.unwrap_or_else(|error| panic!("{program}: {error}"));
    let told = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{program} {words:?}: {told}");
    String::from_utf8_lossy(&ended.stdout).trim().to_owned()
}

/// A layer with one file, packed in either way.
fn layer(dir: &Path, name: &str, packing: Packing) -> TestLayer {
    let tree = dir.join(name);
    std::fs::create_dir_all(&tree).expect("made");
    std::fs::write(tree.join(name), name.repeat(1000)).expect("written");
    let file = dir.join(format!("{name}.tar"));
    let (tree, to) = (tree.display().to_string(), file.display().to_string());
    output("tar", &["--owner=0", "--group=0", "--mtime=@0", "-cf", &to, "-C", &tree, "."]);
    let plain = TestLayer::plain(Content::of(std::fs::read(&file).expect("a layer")));
    if packing == Packing::Plain {
        return plain;
    }
    output("gzip", &["--no-name", "--force", &to]);
    let packed = std::fs::read(file.with_extension("tar.gz")).expect("a layer");
    TestLayer { packing, content: Content::of(packed), diff_id: plain.diff_id }
}

/// Takes images of this test away from Docker, and with them their layers, which it would not look at again.
fn forget(name: &str) {
    let _ = Command::new("docker").args(["image", "rm", "--force", name]).output();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker engine; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn docker_loads_what_is_streamed_and_keeps_its_id() {
    let site = Site::new().await;
    let dir = tempfile::tempdir().expect("a folder");
    let make = |name: &str, packing| layer(dir.path(), name, packing);
    let gzip = make("gzip", Packing::Gzip);
    let images = [
        ("plain", vec![make("plain", Packing::Plain)]),
        ("gzip", vec![gzip.clone()]),
        ("mixed", vec![make("above", Packing::Gzip), make("below", Packing::Plain)]),
        ("twice", vec![gzip.clone(), make("between", Packing::Plain), gzip]),
    ];
    let client = Registries::new(impatient()).expect("settings");
    for (tag, layers) in images {
        for kind in [Kind::Docker, Kind::Oci] {
            let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
            let pushed = TestImage::new(kind, layers.clone());
            for blob in pushed.blobs() {
                site.put_blob("load", blob.bytes()).await;
            }
            site.put_manifest("load", tag, kind.manifest(), pushed.manifest()).await;
            let name: ImageName = format!("{}/load:{tag}", site.open()).parse().expect("a name");
            let image = client.image(&name).await.unwrap_or_else(|error| panic!("{error}"));
            let named: ImageName = format!("neco.test/load:{tag}").parse().expect("a name");
            forget(&named.to_string());
            let mut docker = Command::new("docker");
            docker.arg("load").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut docker = docker.spawn().expect("docker");
            let mut stdin = docker.stdin.take().expect("piped");
            let mut stream = image.archive(&named).expect("an archive").into_stream();
            while let Some(bytes) = stream.next().await {
                stdin.write_all(&bytes.unwrap_or_else(|error| panic!("{error}"))).expect("taken");
            }
            drop(stdin);
            let told = docker.wait_with_output().expect("docker");
            let told = String::from_utf8_lossy(&[told.stdout, told.stderr].concat()).into_owned();
            assert!(told.contains(&format!("Loaded image: {named}")), "{tag}, {kind:?}: {told}");
            let looked = "{{.Id}}{{range .RootFS.Layers}} {{.}}{{end}}";
            let found =
                output("docker", &["image", "inspect", "--format", looked, &named.to_string()]);
            assert_eq!(found, format!("{} {}", pushed.id(), diff_ids.join(" ")), "{tag}, {kind:?}");
            forget(&named.to_string());
        }
    }
}

#[tokio::test]
#[ignore = "needs docker-registry; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn a_registry_that_hangs_is_not_waited_for_and_goes_on_when_it_does() {
    let site = Site::new().await;
    let pushed = TestImage::new(Kind::Docker, vec![TestLayer::plain(Content::made(1, 100_000))]);
    for blob in pushed.blobs() {
        site.put_blob("hangs", blob.bytes()).await;
    }
    site.put_manifest("hangs", "1", Kind::Docker.manifest(), pushed.manifest()).await;
    let name: ImageName = format!("{}/hangs:1", site.open()).parse().expect("a name");
    let mut options = impatient();
    options.request_timeout = Duration::from_millis(500);
    options.attempts = 2;
    let client = Registries::new(options).expect("settings");
    site.open.freeze();
    let error = client.image(&name).await.expect_err("silence");
    assert_eq!(error.severity(), neco_schema::Severity::TryAgain, "{error}");
    site.open.thaw();
    let client = Registries::new(impatient()).expect("settings");
    let image = client.image(&name).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(image.manifest(), Digest::of(&pushed.manifest()));
}
