//! The client against real agents, which these tests start and stop on loopback. `NECO_SERF` names the program, which
//! Debian's package `serf` has:
//!
//! ```console
//! $ NECO_SERF=/usr/bin/serf cargo test -p neco-serf --test real_serf -- --ignored
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use neco_serf::contract::{self, Bench};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// How long an agent may take to listen.
const SOON: Duration = Duration::from_secs(60);

#[tokio::test]
#[ignore = "needs serf, which NECO_SERF names; `cargo xtask test --all` runs it"]
async fn a_real_agent_keeps_the_contract() {
    contract::holds(Site::start().await).await;
}

/// A cluster on loopback. The agents are killed when it is dropped.
struct Site {
    dir: TempDir,
    agent: Agent,
    others: BTreeMap<String, Agent>,
}

struct Agent {
    name: String,
    gossip: SocketAddr,
    rpc: SocketAddr,
    auth_key: Option<String>,
    child: Option<Child>,
}

impl Agent {
    fn new(name: &str) -> Self {
        let (gossip, rpc) = (free_place(), free_place());
        Self { name: name.to_owned(), gossip, rpc, auth_key: None, child: None }
    }

    /// Starts it and waits until it listens.
    async fn start(&mut self, dir: &TempDir, join: Option<SocketAddr>, tags: &[(&str, &str)]) {
        let tags: BTreeMap<_, _> = tags.iter().copied().collect();
        // Keys stand in the file, not on the command line.
        let config = format!(
            r#"{{"node_name": {:?}, "bind": "{}", "rpc_addr": "{}", "profile": "local", "tags": {tags:?},
                "rpc_auth": {:?}, "start_join": [{}], "disable_coordinates": true}}"#,
            self.name,
            self.gossip,
            self.rpc,
            self.auth_key.as_deref().unwrap_or_default(),
            join.map(|place| format!("\"{place}\"")).unwrap_or_default(),
        );
        let file = dir.path().join(format!("{}.json", self.name));
        std::fs::write(&file, config).expect("a file");
        let log = std::fs::File::create(dir.path().join(format!("{}.log", self.name)));
        let child = Command::new(serf())
            .arg("agent")
            .arg("-config-file")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.expect("a file"))
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        self.child = Some(child.expect("NECO_SERF names a program"));
        let listens = async {
            while TcpStream::connect(self.rpc).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(SOON, listens).await.is_err() {
            let log = std::fs::read_to_string(dir.path().join(format!("{}.log", self.name)));
            panic!("{} does not listen: {}", self.name, log.unwrap_or_default());
        }
    }

    async fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().await.expect("it was ours");
    }
}

impl Site {
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut agent = Agent::new("boot-0");
        agent.start(&dir, None, &[]).await;
        Self { dir, agent, others: BTreeMap::new() }
    }
}

#[async_trait]
impl Bench for Site {
    fn rpc(&self) -> String {
        self.agent.rpc.to_string()
    }

    fn name(&self) -> String {
        self.agent.name.clone()
    }

    fn address(&self) -> IpAddr {
        self.agent.gossip.ip()
    }

    async fn require(&mut self, auth_key: &str) {
        self.agent.kill().await;
        self.agent.auth_key = Some(auth_key.to_owned());
        self.start().await;
    }

    async fn join(&mut self, name: &str, tags: &[(&str, &str)]) {
        let mut other = Agent::new(name);
        other.start(&self.dir, Some(self.agent.gossip), tags).await;
        self.others.insert(name.to_owned(), other);
    }

    async fn leave(&mut self, name: &str) {
        let mut other = self.others.remove(name).expect("it has joined");
        let address = format!("-rpc-addr={}", other.rpc);
        let left = Command::new(serf()).args(["leave", &address]).stdout(Stdio::null()).status();
        let left = tokio::time::timeout(SOON, left).await.expect("in time").expect("started");
        assert!(left.success(), "serf leave: {left}");
        let mut child = other.child.take().expect("it runs");
        tokio::time::timeout(SOON, child.wait()).await.expect("in time").expect("it ends");
    }

    async fn fail(&mut self, name: &str) {
        self.others.remove(name).expect("it has joined").kill().await;
    }

    async fn stop(&mut self) {
        self.agent.kill().await;
    }

    async fn start(&mut self) {
        self.agent.start(&self.dir, None, &[]).await;
    }
}

fn serf() -> PathBuf {
    std::env::var_os("NECO_SERF").expect("NECO_SERF names the program").into()
}

/// A place where neither TCP nor UDP is taken.
fn free_place() -> SocketAddr {
    for _ in 0..100 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let place = listener.local_addr().expect("an address");
        if UdpSocket::bind(place).is_ok() {
            return place;
        }
    }
    panic!("no port is free for TCP and UDP");
}
