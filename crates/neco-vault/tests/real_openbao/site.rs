//! Real servers on loopback.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use neco_http::Url;
use neco_vault::contract::Bench;
use neco_vault::{Client, Options};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// Where the program is.
const PROGRAM: &str = "NECO_OPENBAO";

/// A cluster of real servers, and everything that they keep. They end with it.
pub(crate) struct Site {
    dir: TempDir,
    ca: String,
    ports: Vec<u16>,
    servers: Mutex<Vec<Option<Child>>>,
}

impl Site {
    /// Starts so many servers that find one another.
    pub(crate) async fn start(servers: usize) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        // Two for each: the API, and what the servers tell one another.
        let free: Vec<TcpListener> =
            (0..2 * servers).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
        let ports = free.iter().map(|port| port.local_addr().expect("an address").port()).collect();
        let mut site = Self { dir, ca: String::new(), ports, servers: Mutex::new(Vec::new()) };
        site.make_certificates();
        drop(free);
        for server in 0..servers {
            site.configure(server, servers);
            let child = site.run(server);
            site.servers.get_mut().expect("no panic").push(Some(child));
        }
        site
    }

    /// Where a server is.
    pub(crate) fn address(&self, server: usize) -> Url {
        self.api(server).parse().expect("an address makes a URL")
    }

    /// What the servers' certificates end in.
    pub(crate) fn ca_certificate(&self) -> &str {
        &self.ca
    }

    fn api(&self, server: usize) -> String {
        format!("https://127.0.0.1:{}", self.ports[2 * server])
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn make_certificates(&mut self) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        self.ca = params.self_signed(&key).expect("a CA").pem();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &issuer).expect("a certificate").pem();
        for (name, text) in [
            ("ca.crt", &self.ca),
            ("server.crt", &certificate),
            ("server.key", &key.serialize_pem()),
        ] {
            std::fs::write(self.path(name), text).expect("written");
        }
    }

    fn configure(&self, server: usize, servers: usize) {
        let at = self.dir.path().display();
        let data = self.path(&format!("data-{server}"));
        std::fs::create_dir(&data).expect("a directory");
        let mut text = format!(
            "storage \"raft\" {{\n path = \"{}\"\n node_id = \"{server}\"\n performance_multiplier = 1\n",
            data.display()
        );
        for other in (0..servers).filter(|other| *other != server) {
            let api = self.api(other);
            let _ = writeln!(
                text,
                " retry_join {{\n leader_api_addr = \"{api}\"\n leader_ca_cert_file = \"{at}/ca.crt\"\n }}"
            );
        }
        let (api, cluster) = (self.ports[2 * server], self.ports[2 * server + 1]);
        let _ = write!(
            text,
            "}}\nlistener \"tcp\" {{\n address = \"127.0.0.1:{api}\"\n cluster_address = \"127.0.0.1:{cluster}\"\n \
             tls_cert_file = \"{at}/server.crt\"\n tls_key_file = \"{at}/server.key\"\n}}\n\
             api_addr = \"https://127.0.0.1:{api}\"\ncluster_addr = \"https://127.0.0.1:{cluster}\"\n"
        );
        std::fs::write(self.path(&format!("{server}.hcl")), text).expect("written");
    }

    fn run(&self, server: usize) -> Child {
        let program = std::env::var_os(PROGRAM)
            .unwrap_or_else(|| panic!("{PROGRAM} names the program of OpenBao"));
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path(&format!("{server}.log")))
            .expect("a log");
        Command::new(program)
            .arg("server")
            .arg(format!("-config={}", self.path(&format!("{server}.hcl")).display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("the program of OpenBao")
    }

    async fn kill(&self, server: usize) {
        let child = self.servers.lock().expect("no panic")[server].take();
        child.expect("it runs").kill().await.expect("killed");
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for server in 0..self.ports.len() / 2 {
                let log = std::fs::read_to_string(self.path(&format!("{server}.log")));
                let log = log.unwrap_or_default();
                let lines: Vec<_> = log.lines().rev().take(20).collect();
                eprintln!("server {server}, newest first:\n{}", lines.join("\n"));
            }
        }
    }
}

#[async_trait]
impl Bench for Site {
    fn client(&self, server: usize) -> Client {
        let options = Options::new(self.address(server)).trusting(self.ca.as_str());
        Client::new(options).expect("a client")
    }

    async fn stop(&self, server: usize) {
        self.kill(server).await;
    }

    async fn start(&self, server: usize) {
        let child = self.run(server);
        self.servers.lock().expect("no panic")[server] = Some(child);
    }

    /// One of three has no majority.
    async fn isolate(&self, server: usize) {
        for other in (0..3).filter(|other| *other != server) {
            self.kill(other).await;
        }
    }

    fn audits_over_http(&self) -> bool {
        false
    }

    fn briefly(&self) -> Duration {
        Duration::from_secs(5)
    }
}
