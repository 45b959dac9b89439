//! What streaming an image costs: from a registry to an upload, beside `curl` that pipes the same bytes.
//!
//! ```console
//! $ cargo run --release -p neco-registry --example stream_image -- 1024
//! ```
//!
//! The registry and the server that takes the upload are a process of their own, so that what grows is the client.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::routing::put;
use futures::StreamExt as _;
use neco_registry::testing::{Content, FakeRegistry, Kind, TestImage, TestLayer};
use neco_registry::{ImageName, Options, Registries};

const SEED: u64 = 1;

fn main() {
    let mut words = std::env::args().skip(1);
    let first = words.next().unwrap_or_else(|| "1024".to_owned());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    match first.as_str() {
        "serve" => runtime
            .block_on(serve(words.next().and_then(|size| size.parse().ok()).expect("a size"))),
        size => runtime.block_on(measure(size.parse().expect("a number of MiB"))),
    }
}

/// Serves an image of one layer, and takes uploads; until standard input ends.
async fn serve(size: u64) {
    let registry = FakeRegistry::start().await.expect("a port");
    let layer = Content::made(SEED, size);
    let digest = layer.digest();
    registry.push("bench/image", "1", &TestImage::new(Kind::Oci, vec![TestLayer::gzip(layer)]));
    let router = Router::new().route("/asset", put(take));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let sink = listener.local_addr().expect("an address");
    println!("{} {digest} http://{sink}/asset", registry.host());
    std::io::stdout().flush().expect("said");
    let served = tokio::spawn(async move { axum::serve(listener, router).await });
    let ended =
        tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    let _ = ended.await;
    served.abort();
}

async fn take(body: Body) -> String {
    let mut body = body.into_data_stream();
    let mut came = 0;
    while let Some(Ok(piece)) = body.next().await {
        came += piece.len();
    }
    came.to_string()
}

/// The other process, until it is dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

async fn measure(mib: u64) {
    let size = mib << 20;
    let program = std::env::current_exe().expect("this program");
    let child = Command::new(program)
        .args(["serve", &size.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut server = Server(child.expect("started"));
    let mut said = String::new();
    BufReader::new(server.0.stdout.take().expect("piped")).read_line(&mut said).expect("said");
    let mut words = said.split_whitespace().map(str::to_owned);
    let mut word = || words.next().expect("a word");
    let (host, digest, sink) = (word(), word(), word());

    let client = Registries::new(Options::default()).expect("settings");
    let name: ImageName = format!("{host}/bench/image:1").parse().expect("a name");
    let image = client.image(&name).await.expect("an image");
    let archive = image.archive(&name).expect("an archive");
    let length = archive.length();
    let url: neco_registry::Url = sink.parse().expect("a URL");
    let http =
        neco_http::client(&url, None).and_then(reqwest::ClientBuilder::build).expect("a client");
    let before = rss_anon();
    let peak = tokio::spawn(async {
        let mut peak = 0;
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        loop {
            ticks.tick().await;
            peak = rss_anon().max(peak);
            PEAK.store(peak, std::sync::atomic::Ordering::Relaxed);
        }
    });
    let begun = Instant::now();
    let stream = archive.into_stream();
    let sum = stream.sum();
    let answer = http
        .put(url)
        .header(reqwest::header::CONTENT_LENGTH, length)
        .body(reqwest::Body::wrap_stream(stream))
        .send()
        .await
        .expect("sent");
    let came: u64 = answer.text().await.expect("an answer").parse().expect("a number");
    let took = begun.elapsed();
    peak.abort();
    assert_eq!(came, length);
    let peak = PEAK.load(std::sync::atomic::Ordering::Relaxed);
    println!("archive of {length} bytes, {}", sum.get().expect("the end"));
    println!("streamed    {:>7.0} ms  {:>5.0} MB/s", took.as_secs_f64() * 1e3, speed(length, took));
    println!(
        "RssAnon     {before} kB before, {peak} kB at most: growth {:.1} MB",
        (peak - before) as f64 / 1000.0
    );

    let pipe =
        format!("curl -sS http://{host}/v2/bench/image/blobs/{digest} | curl -sS -T - {sink}");
    let begun = Instant::now();
    let piped = Command::new("sh").args(["-c", &pipe]).output().expect("sh");
    let took = begun.elapsed();
    let came = String::from_utf8_lossy(&piped.stdout).trim().parse::<u64>().unwrap_or_default();
    println!("curl | curl {:>7.0} ms  {:>5.0} MB/s", took.as_secs_f64() * 1e3, speed(came, took));
}

static PEAK: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

fn speed(bytes: u64, took: Duration) -> f64 {
    bytes as f64 / took.as_secs_f64() / 1e6
}

/// The anonymous memory of this process in kB.
fn rss_anon() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
    line.split_whitespace().next().and_then(|kb| kb.parse().ok()).expect("a number")
}
