//! What can be told without etcd: what the daemons on this server last knew.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use neco_plan::why::LeaderWord;
use neco_process::exit::{ExitCode, Failure};
use neco_process::ready::ReadyFile;
use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cli::Style;
use crate::session::Session;
use crate::words::one_line;

/// The daemons of a boot server.
const DAEMONS: [&str; 2] = ["neco-updater", "neco-worker"];

/// How long a daemon on this machine may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// The largest page that is read.
const LARGEST_PAGE: u64 = 1 << 20;

/// What the daemons on this server know; it may be old.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StaleReport {
    /// The version of this form.
    pub format: u32,
    /// Always true: this is not what etcd holds now.
    pub stale: bool,
    /// Why etcd was not asked.
    pub reason: String,
    /// The daemons.
    pub daemons: Vec<Daemon>,
}

/// A daemon on this server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Daemon {
    /// Its name.
    pub name: String,
    /// Whether it runs.
    pub runs: bool,
    /// Its version, where it says so.
    pub version: Option<String>,
    /// What its status page says.
    pub status: Option<Value>,
}

impl StaleReport {
    /// Asks the daemons below `root`.
    pub async fn gather(root: &Path, reason: String) -> Self {
        let mut daemons = Vec::new();
        for name in DAEMONS {
            daemons.push(Daemon::ask(root, name).await);
        }
        Self { format: 1, stale: true, reason, daemons }
    }

    /// If etcd could not be asked, tells what is known without it. Gives the failure back, which is still one.
    ///
    /// # Errors
    /// The output is closed.
    pub async fn tell(session: &mut Session<'_, '_>, failure: Failure) -> io::Result<Failure> {
        if failure.code != ExitCode::Unknown || session.io.style != Style::Ours {
            return Ok(failure);
        }
        let stale = Self::gather(&session.root, format!("{:#}", failure.error)).await;
        if session.io.is_json() {
            session.io.json(&stale)?;
        } else {
            write!(session.io.out, "{}", stale.text())?;
        }
        Ok(failure)
    }

    /// As text; ends in a line feed.
    pub fn text(&self) -> String {
        let mut text = format!("STALE: {}\n", self.reason);
        text.push_str("What the daemons on this server last knew:\n");
        for daemon in &self.daemons {
            let version = daemon.version.as_ref().map_or_else(String::new, |v| format!(" {v}"));
            let runs = if daemon.runs { "runs" } else { "does not run" };
            text.push_str(&format!("{}{version} {runs}\n", daemon.name));
            let Some(Value::Object(page)) = &daemon.status else { continue };
            for (name, value) in page {
                let value = match value {
                    Value::String(text) => one_line(text),
                    other => other.to_string(),
                };
                if !matches!(value.as_str(), "" | "null" | "[]") {
                    text.push_str(&format!("  {}: {value}\n", one_line(name)));
                }
            }
        }
        text
    }
}

impl Daemon {
    /// Asks one daemon below `root`.
    pub async fn ask(root: &Path, name: &str) -> Self {
        let short = name.strip_prefix("neco-").unwrap_or(name);
        let file = [name, short].iter().find_map(|name| {
            // One that cannot be read is as good as none: its daemon writes it anew.
            ReadyFile::read(&ReadyFile::path(root, name)).ok().flatten()
        });
        let Some(file) = file else {
            return Self { name: name.to_owned(), runs: false, version: None, status: None };
        };
        let runs = file.is_alive();
        let status = match file.listen.filter(|_| runs) {
            Some(address) => {
                tokio::time::timeout(ANSWER_WITHIN, page(address)).await.ok().flatten()
            }
            None => None,
        };
        Self { name: name.to_owned(), runs, version: Some(one_line(&file.version)), status }
    }
}

/// What the updater below `root` says about itself, if it leads.
pub async fn leader_word(root: &Path) -> Option<LeaderWord> {
    let page = Daemon::ask(root, "neco-updater").await.status?;
    let text = |name: &str| Some(one_line(page.get(name)?.as_str()?));
    let leads = page.get("leads")?.as_bool()?;
    let (release_trouble, waiting_for) = (text("release_trouble")?, text("waiting_for")?);
    leads.then_some(LeaderWord { release_trouble, waiting_for })
}

/// The status page of the listener at `address`.
async fn page(address: SocketAddr) -> Option<Value> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    // The older version of the protocol has no chunks: the body is what follows the head.
    let request = format!("GET /status.json HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.take(LARGEST_PAGE).read_to_end(&mut answer).await.ok()?;
    let answer = String::from_utf8(answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let ok = head.split(' ').nth(1)? == "200";
    if ok { serde_json::from_str(body).ok() } else { None }
}
