//! A Docker that answers by a script.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use neco_runtime::{Docker, Limits};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Such as `GET /v1.41/info?x=y`.
    pub(crate) line: String,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

/// What Docker answers.
pub(crate) enum Reply {
    /// A status and a body at once.
    Now(u16, String),
    /// Lines of a stream, and how long each takes to come.
    Stream(Vec<(Duration, String)>),
    /// Nothing, and the connection stays open.
    Silence,
}

type Script = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

/// Listens at a socket of its own until it is dropped.
pub(crate) struct Engine {
    dir: tempfile::TempDir,
    requests: Arc<Mutex<Vec<Request>>>,
    script: Arc<Mutex<Script>>,
    listener: Option<tokio::task::JoinHandle<()>>,
}

impl Request {
    pub(crate) fn header(&self, wanted: &str) -> Option<&str> {
        let mut named = self.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        named.next().map(|(_, value)| value.as_str())
    }

    /// Whether it asks for this, whatever version it says.
    pub(crate) fn is(&self, method: &str, begin: &str) -> bool {
        let Some((said, path)) = self.line.split_once(' ') else { return false };
        let unversioned =
            path.strip_prefix("/v1.").and_then(|rest| rest.find('/').map(|at| &rest[at..]));
        said == method && unversioned.unwrap_or(path).starts_with(begin)
    }
}

impl Reply {
    pub(crate) fn error(status: u16, message: &str) -> Self {
        Self::Now(status, serde_json::json!({ "message": message }).to_string())
    }

    pub(crate) fn lines(lines: &[&str]) -> Self {
        Self::Stream(lines.iter().map(|line| (Duration::ZERO, (*line).to_owned())).collect())
    }
}

impl Engine {
    /// One of API version `version`.
    pub(crate) fn new(
        version: &str,
        script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let mut engine = Self {
            dir: tempfile::tempdir().expect("a folder"),
            requests: Arc::default(),
            script: Arc::new(Mutex::new(with_version(version, script))),
            listener: None,
        };
        engine.start();
        engine
    }

    /// Replaces it by another one.
    pub(crate) fn becomes(
        &self,
        version: &str,
        script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) {
        *self.script.lock().expect("no panic") = with_version(version, script);
    }

    /// Ends it; its socket stays, as with a Docker that crashed.
    pub(crate) fn stop(&mut self) {
        if let Some(listener) = self.listener.take() {
            listener.abort();
        }
    }

    pub(crate) fn start(&mut self) {
        let _ = std::fs::remove_file(self.socket());
        let listener = UnixListener::bind(self.socket()).expect("a socket");
        let (requests, script) = (Arc::clone(&self.requests), Arc::clone(&self.script));
        self.listener = Some(tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (requests, script) = (Arc::clone(&requests), Arc::clone(&script));
                open.spawn(async move {
                    let _ = serve(stream, &requests, &script).await;
                });
            }
        }));
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    pub(crate) fn docker(&self) -> Docker {
        Docker::at(self.socket()).with_limits(Limits {
            answer: Duration::from_secs(10),
            command: Duration::from_secs(10),
            stalled: Duration::from_secs(10),
            grace: Duration::ZERO,
        })
    }

    /// What it was asked so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no panic").clone()
    }
}

fn with_version(
    version: &str,
    script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> Script {
    let version = serde_json::json!({ "ApiVersion": version }).to_string();
    Arc::new(move |request| match request.is("GET", "/version") {
        true => Reply::Now(200, version.clone()),
        false => script(request),
    })
}

async fn serve(
    stream: UnixStream,
    requests: &Mutex<Vec<Request>>,
    script: &Mutex<Script>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let line = head.first().and_then(|line| line.strip_suffix(" HTTP/1.1")).unwrap_or_default();
    let headers = head.iter().skip(1).filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let mut request = Request { line: line.to_owned(), headers, body: String::new() };
    let length = request.header("content-length").and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await?;
    request.body = String::from_utf8_lossy(&body).into_owned();
    requests.lock().expect("no panic").push(request.clone());
    let script = Arc::clone(&script.lock().expect("no panic"));
    match script(&request) {
        Reply::Now(status, body) => {
            let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).await
        }
        Reply::Stream(lines) => {
            stream.write_all(b"HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n").await?;
            for (pause, line) in lines {
                tokio::time::sleep(pause).await;
                let chunk = format!("{:x}\r\n{line}\n\r\n", line.len() + 1);
                stream.write_all(chunk.as_bytes()).await?;
            }
            stream.write_all(b"0\r\n\r\n").await
        }
        Reply::Silence => stream.read_to_end(&mut Vec::new()).await.map(drop),
    }
}
