//! The pages a daemon serves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use neco_process::listener::{Listener, Pages, Readiness};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(60);

struct Daemon {
    listener: Listener,
    readiness: watch::Sender<Readiness>,
    status: watch::Sender<Value>,
    updates: Counter,
}

impl Daemon {
    fn start(address: &str) -> Self {
        let mut registry = Registry::default();
        let updates = Counter::default();
        registry.register("neco_updates", "Updates that ended", updates.clone());
        let (readiness, ready) = watch::channel(Readiness::Waiting("etcd".to_owned()));
        let (status, shown) = watch::channel(Value::Null);
        let pages = Pages { metrics: Arc::new(registry), readiness: ready, status: shown };
        Self { listener: Listener::start(address, pages), readiness, status, updates }
    }

    async fn address(&self) -> SocketAddr {
        let mut bound = self.listener.bound();
        let bound = timeout(DEADLINE, bound.wait_for(Option::is_some)).await.unwrap().unwrap();
        bound.unwrap()
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address().await).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(DEADLINE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

#[tokio::test]
async fn pages_show_the_present() {
    let daemon = Daemon::start("127.0.0.1:0");
    assert_eq!(daemon.get("/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(daemon.get("/readyz").await, (503, "waiting for etcd\n".to_owned()));
    daemon.readiness.send_replace(Readiness::Ready);
    assert_eq!(daemon.get("/readyz").await, (200, "ready\n".to_owned()));
    daemon.status.send_replace(json!({"step": 3}));
    assert_eq!(daemon.get("/status.json").await, (200, r#"{"step":3}"#.to_owned()));
    daemon.updates.inc();
    let (code, metrics) = daemon.get("/metrics").await;
    assert_eq!(code, 200);
    assert!(
        metrics.contains("\nneco_updates_total 1\n") && metrics.ends_with("# EOF\n"),
        "{metrics}"
    );
    assert_eq!(daemon.get("/elsewhere").await.0, 404);
}

#[tokio::test]
async fn a_port_in_use_is_tried_again_until_it_is_free() {
    let holder = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = holder.local_addr().unwrap();
    let daemon = Daemon::start(&address.to_string());
    let early = timeout(Duration::from_millis(200), daemon.address()).await;
    assert!(early.is_err(), "bound to a port in use: {early:?}");
    drop(holder);
    assert_eq!(daemon.address().await, address);
    assert_eq!(daemon.get("/healthz").await.0, 200);
}

#[tokio::test]
async fn it_is_closed_when_it_is_dropped() {
    let daemon = Daemon::start("127.0.0.1:0");
    let address = daemon.address().await;
    drop(daemon.listener);
    let closed = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, closed).await.unwrap();
}
