//! etcd with its generated configuration.

use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rcgen::generate_simple_self_signed;

const CONFIG: &str = include_str!("../golden/etcd/etcd.conf.yml");

/// How long etcd may take to say a line.
const SOON: Duration = Duration::from_secs(30);

/// An etcd that is killed at the end.
struct Etcd {
    child: Child,
    lines: mpsc::Receiver<String>,
    said: Vec<String>,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Etcd {
    /// Starts etcd with `config`, whose certificates, keys and data lie in `dir`.
    fn start(config: &str, dir: &Path) -> Self {
        let certified =
            generate_simple_self_signed(["10.69.0.3".to_owned()]).expect("a certificate");
        let (cert, key) = (dir.join("crt"), dir.join("key"));
        fs::write(&cert, certified.cert.pem()).expect("writable");
        fs::write(&key, certified.signing_key.serialize_pem()).expect("writable");
        let lines = config.lines().map(|line| match line.split_once(": ") {
            Some((field, path)) if path.ends_with(".crt") => {
                format!("{field}: {}\n", cert.display())
            }
            Some((field, path)) if path.ends_with(".key") => {
                format!("{field}: {}\n", key.display())
            }
            Some((field @ "data-dir", _)) => format!("{field}: {}\n", dir.join("data").display()),
            _ => format!("{line}\n"),
        });
        let file = dir.join("etcd.conf.yml");
        fs::write(&file, lines.collect::<String>()).expect("writable");
        let mut child = Command::new("etcd")
            .arg(format!("--config-file={}", file.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("etcd");
        let (sender, lines) = mpsc::channel();
        let stderr = child.stderr.take().expect("a pipe");
        std::thread::spawn(move || pass_on(stderr, &sender));
        Self { child, lines, said: Vec::new() }
    }

    /// Whether it says all of this, before it ends.
    fn says(&mut self, wanted: &[&str]) -> bool {
        let deadline = Instant::now() + SOON;
        let all =
            |said: &[String]| wanted.iter().all(|text| said.iter().any(|line| line.contains(text)));
        while !all(&self.said) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.said.push(line),
                Err(_) => return false,
            }
        }
        true
    }
}

fn pass_on(from: impl Read, to: &mpsc::Sender<String>) {
    for line in BufReader::new(from).lines().map_while(Result::ok) {
        if to.send(line).is_err() {
            return;
        }
    }
}

#[test]
#[ignore = "needs etcd and its ports; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
fn etcd_starts_with_its_configuration() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut etcd = Etcd::start(CONFIG, dir.path());
    let wanted = [
        "name = boot-0",
        "pprof is enabled",
        "advertise client URLs = https://10.69.0.3:2379",
        "[https://10.69.0.195:2380]",
        "[https://10.69.1.131:2380]",
        "enabled corruption checking with 3h0m0s interval",
        "listening for metrics on http://0.0.0.0:2381",
    ];
    assert!(etcd.says(&wanted), "{}", etcd.said.join("\n"));
    let both = |tls: &str| {
        let mut lines = etcd.said.iter().filter(|line| line.contains(tls));
        lines.any(|line| line.contains("client-cert-auth = true"))
    };
    assert!(both("peerTLS:") && both("ClientTLS:"), "{}", etcd.said.join("\n"));

    drop(etcd);
    let dir = tempfile::tempdir().expect("a folder");
    let unknown = CONFIG.replace("initial-cluster-state: new", "initial-cluster-state: old");
    let mut etcd = Etcd::start(&unknown, dir.path());
    assert!(etcd.says(&["unexpected clusterState"]), "{}", etcd.said.join("\n"));
}
