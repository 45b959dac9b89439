//! Everything that the program asks, and the file that it changes.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use neco_registry::testing::FakeRegistry;
use neco_releases::mirror::faults::Faults;
use neco_releases::mirror::{Mirror, ServeOptions, serve};
use tempfile::TempDir;

/// Longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(120);

/// A token as GitHub gives them.
pub(crate) const TOKEN: &str = "ghp_0123456789";

/// The servers and the file.
pub(crate) struct World {
    dir: TempDir,
    pub(crate) registry: FakeRegistry,
    pub(crate) github: Mirror,
    pub(crate) github_faults: Faults,
    pub(crate) channel: Channel,
}

/// What has come of the program.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl World {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(dir.path().join("mirror")).expect("created");
        let github_faults = Faults::default();
        let options =
            ServeOptions { faults: Some(github_faults.clone()), ..ServeOptions::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let github = serve(dir.path().join("mirror"), listener, options).expect("a mirror");
        let registry = FakeRegistry::start().await.expect("a registry");
        Self { dir, registry, github, github_faults, channel: Channel::start().await }
    }

    /// The folder of all files.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Gives a repository of the registry these tags.
    pub(crate) fn tags(&self, repository: &str, tags: &[&str]) {
        for tag in tags {
            let text = Bytes::from(format!("{{\"is\":\"{tag}\"}}"));
            self.registry.put_manifest(repository, tag, "application/json", text);
        }
    }

    /// Publishes a release with this file; later ones are newer. `more` are fields of its description.
    pub(crate) fn release(&self, tag: &str, hour: u32, more: &str, file: Option<(&str, &str)>) {
        let folder = self.path().join("mirror").join(tag);
        std::fs::create_dir_all(&folder).expect("created");
        if let Some((name, content)) = file {
            std::fs::write(folder.join(name), content).expect("written");
        }
        let described = format!("{{\"published_at\":\"2026-11-21T{hour:02}:00:00Z\"{more}}}");
        std::fs::write(folder.join("release.json"), described).expect("written");
    }

    /// Writes a file into the folder.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        std::fs::write(&path, text).expect("written");
        path
    }

    /// Writes the file with the pins; `REGISTRY` stands for the registry.
    pub(crate) fn pin(&self, text: &str) -> String {
        let text = text.replace("REGISTRY", self.registry.host());
        self.write("artifacts.toml", &text);
        text
    }

    /// What the file with the pins says now.
    pub(crate) fn pinned(&self) -> String {
        std::fs::read_to_string(self.path().join("artifacts.toml")).expect("read")
    }

    /// Runs the program with `words` more on its command line.
    pub(crate) async fn run(&self, words: &[&str]) -> Ended {
        self.run_with(words, &[]).await
    }

    /// The same with these variables.
    pub(crate) async fn run_with(&self, words: &[&str], variables: &[(&str, &str)]) -> Ended {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_neco-bump"));
        command.env_clear().env("HOME", self.path()).current_dir(self.path());
        command.args(["--file", "artifacts.toml"]);
        command.args(["--github-api", self.github.api_url().as_str()]);
        if !words.iter().any(|word| word.starts_with("--os-image-feed")) {
            command.args(["--os-image-feed", &format!("{}/releases-json", self.channel.url())]);
        }
        command.args(words).envs(variables.iter().copied());
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(DEADLINE, command.output()).await;
        let output = output.expect("it ends").expect("it starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        let ended = Ended {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        };
        for told in [&ended.stdout, &ended.stderr] {
            assert!(!told.contains(TOKEN), "{told}");
        }
        ended
    }
}

impl Ended {
    /// The lines on standard error, of which there is one for each trouble.
    pub(crate) fn troubles(&self) -> Vec<&str> {
        self.stderr.lines().collect()
    }
}

/// A server of channel lists, which can be asked as a proxy too.
#[derive(Clone)]
pub(crate) struct Channel {
    address: String,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    /// What is answered next; the last one again and again.
    answers: Vec<(u16, String, String)>,
    asked: Vec<String>,
}

impl Channel {
    /// Serves a list with nothing newer than `4152.2.1`.
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let inner = Arc::new(Mutex::new(Inner { answers: Vec::new(), asked: Vec::new() }));
        let channel = Self { address, inner };
        channel.lists(&["4152.2.1"]);
        let router = Router::new().fallback(answer).with_state(channel.clone());
        tokio::spawn(async move {
            // It ends with the runtime.
            let _ = axum::serve(listener, router).await;
        });
        channel
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on it has these versions, and the double of one.
    pub(crate) fn lists(&self, versions: &[&str]) {
        let entries = versions.iter().chain(&["current"]);
        let entries: Vec<_> =
            entries.map(|v| format!("\"{v}\":{{\"channel\":\"stable\"}}")).collect();
        self.answers(&[(200, "application/json", &format!("{{{}}}", entries.join(",")))]);
    }

    /// From now on it answers so: status, kind (of a redirect: where to), and body.
    pub(crate) fn answers(&self, answers: &[(u16, &str, &str)]) {
        let owned = answers
            .iter()
            .map(|(status, kind, body)| (*status, (*kind).to_owned(), (*body).to_owned()));
        self.lock().answers = owned.collect();
    }

    /// The addresses that it was asked for, as they stood in the requests.
    pub(crate) fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().asked)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(State(channel): State<Channel>, request: Request) -> Response {
    let mut inner = channel.lock();
    inner.asked.push(request.uri().to_string());
    let (status, kind, body) =
        if inner.answers.len() > 1 { inner.answers.remove(0) } else { inner.answers[0].clone() };
    let status = StatusCode::from_u16(status).expect("a status");
    let mut headers = HeaderMap::new();
    let name = if status.is_redirection() { LOCATION } else { CONTENT_TYPE };
    headers.insert(name, kind.parse().expect("a header"));
    (status, headers, body).into_response()
}
