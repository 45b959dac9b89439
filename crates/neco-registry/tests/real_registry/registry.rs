//! A registry on the loopback: Debian's docker-registry, filled over its HTTP API.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use neco_registry::contract::USER;
use neco_registry::{Digest, Url};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::header::{CONTENT_TYPE, LOCATION};

/// The password of [`USER`] as bcrypt keeps it.
const HASH: &str = "$2y$04$abcdefghijklmnopqrstuuc9vhxCtEbm8e.dtVR5NR8zM.vXAK/06";

/// A registry, until it is dropped.
pub(crate) struct Registry {
    dir: tempfile::TempDir,
    port: u16,
    process: Child,
    http: reqwest::Client,
}

impl Registry {
    /// One that lets everybody in.
    pub(crate) async fn open() -> Self {
        Self::new("", None).await
    }

    /// One that lets in [`USER`] alone. It has what `other` has.
    pub(crate) async fn closed(other: &Self) -> Self {
        let auth = "auth: { htpasswd: { realm: neco, path: users } }\n";
        Self::new(auth, Some(other.dir.path().join("data"))).await
    }

    async fn new(auth: &str, data: Option<PathBuf>) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let port = port.expect("a free port").port();
        let data = data.unwrap_or_else(|| dir.path().join("data"));
        let auth = auth.replace("users", &dir.path().join("users").display().to_string());
        let settings = format!(
            "version: 0.1\nlog: {{ level: error }}\n{auth}storage: {{ filesystem: {{ rootdirectory: {} }} }}\n\
             http: {{ addr: 127.0.0.1:{port} }}\n",
            data.display()
        );
        let file = dir.path().join("config.yml");
        fs::write(&file, settings).expect("written");
        fs::write(dir.path().join("users"), format!("{USER}:{HASH}\n")).expect("written");
        let program = std::env::var_os("NECO_DOCKER_REGISTRY");
        let mut command = Command::new(program.unwrap_or_else(|| "docker-registry".into()));
        command.arg("serve").arg(file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("docker-registry");
        let base: Url = format!("http://127.0.0.1:{port}/v2/").parse().expect("a URL");
        let http = neco_http::client(&base, None).and_then(reqwest::ClientBuilder::build);
        let registry = Self { dir, port, process, http: http.expect("a client") };
        let deadline = Instant::now() + Duration::from_secs(30);
        while registry.http.get(base.clone()).send().await.is_err() {
            assert!(Instant::now() < deadline, "the registry does not answer");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        registry
    }

    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Lets it hang with all its connections.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.process.id().try_into().expect("an id"));
        kill(pid, signal).expect("signalled");
    }

    pub(crate) async fn put_blob(&self, repository: &str, content: Bytes) {
        let uploads = format!("http://{}/v2/{repository}/blobs/uploads/", self.host());
        let begun = self.http.post(uploads).send().await.expect("an answer");
        let place = begun.headers().get(LOCATION).and_then(|place| place.to_str().ok());
        let mut place: Url = place.expect("a place").parse().expect("a URL");
        place.query_pairs_mut().append_pair("digest", &Digest::of(&content).to_string());
        let put = self.http.put(place).body(content).send().await.expect("an answer");
        assert_eq!(put.status(), 201);
    }

    pub(crate) async fn put_manifest(
        &self,
        repository: &str,
        reference: &str,
        kind: &str,
        text: Bytes,
    ) {
        let at = format!("http://{}/v2/{repository}/manifests/{reference}", self.host());
        let put = self.http.put(at).header(CONTENT_TYPE, kind).body(text).send().await;
        let put = put.expect("an answer");
        let status = put.status();
        assert_eq!(status, 201, "{}", put.text().await.unwrap_or_default());
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
