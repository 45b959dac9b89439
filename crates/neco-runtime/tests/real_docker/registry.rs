//! A registry on the loopback: Debian's docker-registry, filled over its HTTP API.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::image::{Image, MANIFEST, digest};
use crate::tools::{output, until};

/// The user of a closed registry.
pub(crate) const USER: &str = "neco";

/// The user's password: in the form in which clients commonly send it, Docker cannot read it.
pub(crate) const PASSWORD: &str = "~~~???>>>hunter2";

/// The password as bcrypt keeps it.
const HASH: &str = "$2y$04$abcdefghijklmnopqrstuuc9vhxCtEbm8e.dtVR5NR8zM.vXAK/06";

/// A registry, until it is dropped.
pub(crate) struct Registry {
    dir: tempfile::TempDir,
    port: u16,
    process: Option<Child>,
}

impl Registry {
    /// One that lets everybody in.
    pub(crate) fn open() -> Self {
        Self::new("")
    }

    /// One that lets in [`USER`] alone. It has what `other` has.
    pub(crate) fn closed(other: &Self) -> Self {
        let registry = Self::new("auth: { htpasswd: { realm: neco, path: users } }\n");
        let data = registry.dir.path().join("data");
        let _ = fs::remove_dir(&data);
        std::os::unix::fs::symlink(other.dir.path().join("data"), data).expect("linked");
        registry
    }

    fn new(auth: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let port = port.expect("a free port").port();
        let at = dir.path().display();
        let auth = auth.replace("users", &format!("{at}/users"));
        let settings = format!(
            "version: 0.1\nlog: {{ level: error }}\n{auth}storage: {{ filesystem: {{ rootdirectory: {at}/data }} }}\n\
             http: {{ addr: 127.0.0.1:{port} }}\n"
        );
        fs::write(dir.path().join("config.yml"), settings).expect("written");
        fs::write(dir.path().join("users"), format!("{USER}:{HASH}\n")).expect("written");
        fs::create_dir(dir.path().join("data")).expect("made");
        let mut registry = Self { dir, port, process: None };
        registry.start();
        registry
    }

    pub(crate) fn start(&mut self) {
        if self.process.is_some() {
            return;
        }
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(self.dir.path().join("config.yml"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(command.spawn().expect("docker-registry"));
        until("the registry answers", || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Lets it hang with all its connections, or go on.
    pub(crate) fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("it runs");
        let pid = Pid::from_raw(process.id().try_into().expect("an id"));
        kill(pid, signal).expect("signalled");
    }

    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Puts an image into it.
    pub(crate) fn push(&self, image: &Image, name: &str, tag: &str, dir: &Path) {
        let at = format!("http://{}/v2/{name}", self.host());
        let file = dir.join("part");
        let put = |bytes: &[u8], kind: &str, to: &str| {
            fs::write(&file, bytes).expect("written");
            let (kind, file) = (format!("Content-Type: {kind}"), format!("@{}", file.display()));
            let words = ["-sS", "-f", "-X", "PUT", "-H", &kind, "--data-binary", &file, to];
            output("curl", &words);
        };
        for part in image.layers.iter().chain([&image.configuration]) {
            let uploads = format!("{at}/blobs/uploads/");
            let words =
                ["-sS", "-f", "-X", "POST", "-o", "/dev/null", "-w", "%header{location}", &uploads];
            let place = output("curl", &words);
            let mark = if place.contains('?') { '&' } else { '?' };
            let to = format!("{place}{mark}digest={}", digest(part));
            put(part, "application/octet-stream", &to);
        }
        put(&image.manifest, MANIFEST, &format!("{at}/manifests/{tag}"));
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}
