//! How fast an image of 1 GiB comes from a registry into sabakan, and what that takes of memory; beside `curl` that pipes
//! the same bytes from the same registry to the same sabakan.
//!
//! Registry and sabakan are stand-ins in a process of their own: what grows is the one who carries.

mod serve;
mod upload;

use std::process::Stdio;
use std::time::Instant;

use anyhow::Context;
use neco_etcd::{Cluster, ClusterOptions};
use neco_playground::SiteError;
use neco_process::exit::Failure;
use tokio::process::Command;
use tokio::time::timeout;

pub(crate) use serve::serve;
pub(crate) use upload::upload;

use crate::figure::{Budget, Figure, Unit};
use crate::image::serve::Served;
use crate::image::upload::Uploaded;
use crate::part::Process;
use crate::proc_status::megabytes;
use crate::workbench::{LONG, failure};

/// How often each of both is done; the order alternates.
const RUNS: usize = 5;

/// How large the only layer of the image is.
const SIZE: u64 = 1 << 30;

/// The design's budget, in MB.
const GROWTH: f64 = 32.0;

/// Measures both, side by side.
pub(crate) async fn measure() -> Result<Vec<Figure>, Failure> {
    let etcd = Cluster::start(1, ClusterOptions::default()).await;
    let etcd = etcd.map_err(|error| failure(SiteError::from(error)))?;
    let dir = tempfile::Builder::new().prefix("neco-bench-").tempdir()?;
    let size = SIZE.to_string();
    let mut servers = Process::start([
        "serve-image".as_ref(),
        "--size".as_ref(),
        size.as_ref(),
        "--directory".as_ref(),
        dir.path().as_os_str(),
    ])?;
    let served: Served = serde_json::from_str(&servers.line().await?).context("the servers")?;
    let endpoint = etcd.endpoints().first().cloned().context("etcd has no endpoint")?;
    let (mut ours, mut theirs, mut growth) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..RUNS {
        for turn in [run % 2, (run + 1) % 2] {
            // The same bytes under another name: what is there already would not be sent.
            let asset = format!("bench-{run}-{turn}.img");
            if turn == 0 {
                let (rate, grown) = carry(&served, &endpoint, &asset).await?;
                ours.push(rate);
                growth.push(grown);
            } else {
                theirs.push(pipe(&served, &asset).await?);
            }
        }
    }
    servers.end().await?;
    let what = "an image of 1 GiB from a registry into sabakan";
    Ok(vec![
        Figure::beside(what, Unit::MegabytesPerSecond, &ours, "`curl | curl -T -`", &theirs)?,
        Figure::of("growth of RssAnon meanwhile", Unit::Megabytes, &growth)?
            .judged(Budget::AtMost(GROWTH)),
    ])
}

/// As a worker does it; how fast that was, and by how much its memory grew.
async fn carry(served: &Served, etcd: &str, asset: &str) -> anyhow::Result<(f64, f64)> {
    let words = ["upload-image", "--etcd", etcd, "--image", &served.image];
    let words = words.into_iter().chain(["--sabakan", &served.sabakan, "--asset", asset]);
    let (uploaded, grown): (Uploaded, f64) = Process::start(words)?.run().await?;
    anyhow::ensure!(uploaded.size > SIZE, "the archive has {} bytes", uploaded.size);
    Ok((megabytes(uploaded.size) / uploaded.seconds, grown))
}

/// By the tools of the system; how fast that was.
async fn pipe(served: &Served, asset: &str) -> anyhow::Result<f64> {
    const PIPE: &str = "curl -q --noproxy '*' -sSf \"$1\" | curl -q --noproxy '*' -sSf -T - -H 'Transfer-Encoding:' \
                        -H \"Content-Length: $3\" -H 'Content-Type: application/x-tar' \"$2\"";
    let to = format!("{}api/v1/assets/{asset}", served.sabakan);
    let mut command = Command::new("sh");
    command.args(["-c", PIPE, "sh", &served.layer, &to, &SIZE.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let began = Instant::now();
    let output = timeout(LONG, command.output()).await.context("curl hangs")??;
    let seconds = began.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    anyhow::ensure!(output.status.success(), "curl: {} {said}", output.status);
    Ok(megabytes(SIZE) / seconds)
}
