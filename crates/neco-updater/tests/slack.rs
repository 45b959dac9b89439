//! The webhook, reached as the settings say and by nobody else.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use neco_schema::{ConfigKey, Key, Op, RequestKind, Revision, Timestamp, Txn};
use neco_store::{MemoryStore, Store};
use neco_updater::{Notify, Slack, Told};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A server that writes down what it was asked and gives one answer to all.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
    _task: JoinSet<()>,
}

impl Server {
    async fn that_says(answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let heard = Arc::clone(&asked);
        let mut task = JoinSet::new();
        task.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                let mut buffer = [0; 4096];
                // The body is JSON, and ends with its last brackets.
                while !request.ends_with(b"]}") {
                    match stream.read(&mut buffer).await {
                        Ok(0) | Err(_) => break,
                        Ok(read) => request.extend(&buffer[..read]),
                    }
                }
                heard.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { address, asked, _task: task }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn ok() -> String {
    "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()
}

async fn set(store: &MemoryStore, key: ConfigKey, value: &str) -> Revision {
    let txn = Txn::default().then(Op::put_bytes(&Key::Config(key), value));
    store.commit(&txn).await.unwrap();
    store.read(&[], None).await.unwrap().revision
}

fn begun() -> Told {
    Told::Begun {
        version: "2026.11.21-40152".parse().unwrap(),
        servers: Vec::new(),
        kind: RequestKind::Release,
        at: Timestamp::from_unix(1),
    }
}

async fn send(store: &MemoryStore) -> Result<(), String> {
    let slack = Slack::new(Arc::new(store.clone()), "tokyo0".to_owned());
    let told = begun();
    let sent = tokio::time::timeout(Duration::from_secs(30), slack.send(&told));
    sent.await.expect("it has a limit of its own")
}

#[tokio::test]
async fn the_webhook_is_told_what_happened_and_nothing_of_where_from() {
    let (server, store) = (Server::that_says(ok()).await, MemoryStore::default());
    send(&store).await.expect("nobody wants any");
    set(&store, ConfigKey::Slack, &format!("http://{}/secret", server.address)).await;
    send(&store).await.expect("sent");
    let asked = server.asked();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].starts_with("POST /secret HTTP/1.1\r\n"), "{}", asked[0]);
    assert!(asked[0].contains("Update begins") && asked[0].contains("tokyo0"), "{}", asked[0]);
}

#[tokio::test]
async fn notices_are_wanted_from_when_the_webhook_was_set() {
    let store = MemoryStore::default();
    let slack = Slack::new(Arc::new(store.clone()), "tokyo0".to_owned());
    assert_eq!(slack.wanted_since().await, Ok(None));
    let set_at = set(&store, ConfigKey::Slack, "https://hooks.invalid/1").await;
    // A corrected address does not make what failed before unwanted.
    set(&store, ConfigKey::Slack, "https://hooks.invalid/2").await;
    assert_eq!(slack.wanted_since().await, Ok(Some(set_at)));
}

#[tokio::test]
async fn the_webhook_is_reached_through_the_proxy_of_the_settings() {
    let (proxy, store) = (Server::that_says(ok()).await, MemoryStore::default());
    set(&store, ConfigKey::Slack, "http://hooks.invalid/secret").await;
    set(&store, ConfigKey::Proxy, &format!("http://{}", proxy.address)).await;
    send(&store).await.expect("sent");
    let asked = proxy.asked();
    assert!(asked[0].starts_with("POST http://hooks.invalid/secret HTTP/1.1\r\n"), "{asked:?}");
    set(&store, ConfigKey::Proxy, "nonsense").await;
    let why = send(&store).await.expect_err("no proxy");
    assert!(why.starts_with("key config/proxy: ") && why.contains("necoctl config set"), "{why}");
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_the_address_not_told() {
    let elsewhere = Server::that_says(ok()).await;
    let answer = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://{}/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        elsewhere.address
    );
    let (server, store) = (Server::that_says(answer).await, MemoryStore::default());
    set(&store, ConfigKey::Slack, &format!("http://{}/secret", server.address)).await;
    let why = send(&store).await.expect_err("it was sent elsewhere");
    assert!(why.contains("307") && !why.contains("secret"), "{why}");
    assert_eq!((server.asked().len(), elsewhere.asked().len()), (1, 0));
}
