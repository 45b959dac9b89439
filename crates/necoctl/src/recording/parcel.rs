//! Packs the record of a session and sends it away.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use jiff::Zoned;
use neco_http::{Url, shown};
use tokio::process::Command;

use crate::words::go_duration;

/// How long the other side may take to accept a connection.
const CONNECTED_WITHIN: Duration = Duration::from_secs(5);

/// When a session was, and whose.
#[derive(Clone, Debug)]
pub struct About {
    /// When it began.
    pub start: Zoned,
    /// The server.
    pub host: String,
    /// The process that attended it.
    pub pid: u32,
    /// How long it was.
    pub duration: Duration,
    /// Who.
    pub user: String,
}

/// The beginning of the names of folders and files.
pub fn stem(start: &Zoned) -> String {
    format!("session-log-{}", start.strftime("%Y%m%dT%H%M%S"))
}

impl About {
    /// What its record is called.
    pub fn file_name(&self) -> String {
        let word = |text: &str| -> String {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            text.chars().map(|c| if plain(c) { c } else { '_' }).collect()
        };
        let duration = go_duration(Duration::from_secs(self.duration.as_secs()));
        let (stem, host, user) = (stem(&self.start), word(&self.host), word(&self.user));
        format!("{stem}-{host}-{}-{duration}-{user}.tar.gz", self.pid)
    }
}

/// Packs those of `members` that there are into a file called `name` beside them.
///
/// # Errors
/// There is none, or tar cannot pack them.
pub async fn pack(folder: &Path, members: &[&str], name: &str) -> anyhow::Result<PathBuf> {
    let there: Vec<_> = members.iter().filter(|name| folder.join(name).exists()).collect();
    anyhow::ensure!(!there.is_empty(), "there is no record in {}", folder.display());
    let file = folder.join(name);
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(folder).arg("-czf").arg(&file).arg("--").args(there);
    let output = tar.output().await.context("starting tar")?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "tar: {}: {}", output.status, said.trim());
    Ok(file)
}

/// Puts `file` below `address` by its own name.
///
/// # Errors
/// It does not arrive within the time, or is not accepted.
pub async fn send(file: &Path, address: &Url, within: Duration) -> anyhow::Result<Url> {
    let name = file.file_name().and_then(|name| name.to_str()).context("a file without a name")?;
    let mut to = address.clone();
    to.path_segments_mut()
        .map_err(|()| anyhow::anyhow!("{} has no path", shown(address)))?
        .pop_if_empty()
        .push(name);
    // It lies in the data centre: proxies of the environment are for the world outside.
    let client = neco_http::client(&to, None)?.no_proxy();
    let client = client.connect_timeout(CONNECTED_WITHIN).timeout(within).build()?;
    let body = tokio::fs::File::open(file).await.context("opening the record")?;
    let length = body.metadata().await?.len();
    let answer = client
        .put(to.clone())
        .header("content-length", length)
        .header("content-type", "application/gzip")
        .body(body)
        .send()
        .await
        .map_err(reqwest_cause)
        .with_context(|| format!("sending it to {}", shown(&to)))?;
    let status = answer.status();
    anyhow::ensure!(status.is_success(), "{} answers {status}", shown(&to));
    Ok(to)
}

/// The innermost cause: the outer ones say the address again.
fn reqwest_cause(error: impl std::error::Error) -> anyhow::Error {
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    anyhow::anyhow!("{cause}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_called_as_the_original_calls_it() {
        let about = About {
            start: "2026-11-21T08:05:09[UTC]".parse().expect("a time"),
            host: "stage0-boot-1".to_owned(),
            pid: 4711,
            duration: Duration::from_millis(65_999),
            user: "alice".to_owned(),
        };
        let name = "session-log-20261121T080509-stage0-boot-1-4711-1m5s-alice.tar.gz";
        assert_eq!(about.file_name(), name);
        let odd = About { user: "../al ice".to_owned(), host: "a/b".to_owned(), ..about };
        assert!(
            odd.file_name().ends_with("-a_b-4711-1m5s-.._al_ice.tar.gz"),
            "{}",
            odd.file_name()
        );
    }
}
