//! A transaction happens, and the connection breaks before its answer arrives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::{Etcd, connect};
use neco_schema::{Compare, CompareTarget, Op, Range, Txn};
use neco_store::{Committed, EtcdStore, Store, StoreError};
use neco_testkit::store::{eventually, one, op_put, put};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Passes connections on to etcd. Once armed, it holds back what the server says, and breaks the
/// connection when told that the deed is done; then it passes everything on again.
struct Proxy {
    url: String,
    armed: Arc<AtomicBool>,
    cut: Arc<tokio::sync::Notify>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    async fn start(server: &str) -> Self {
        let server = server.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let armed = Arc::new(AtomicBool::new(false));
        let cut = Arc::new(tokio::sync::Notify::new());
        let mut tasks = JoinSet::new();
        tasks.spawn({
            let (armed, cut) = (armed.clone(), cut.clone());
            async move {
                let mut connections = JoinSet::new();
                while let Ok((client, _)) = listener.accept().await {
                    let server = TcpStream::connect(&server).await.expect("etcd listens");
                    connections.spawn(pass(client, server, armed.clone(), cut.clone()));
                }
            }
        });
        Self { url, armed, cut, _tasks: tasks }
    }
}

async fn pass(
    client: TcpStream,
    server: TcpStream,
    armed: Arc<AtomicBool>,
    cut: Arc<tokio::sync::Notify>,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = tokio::io::copy(&mut from_client, &mut to_server);
    let down = async {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
            if armed.load(Ordering::SeqCst) {
                cut.notified().await;
                armed.store(false, Ordering::SeqCst);
                return;
            }
            if to_client.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        biased;
        () = down => {}
        _ = up => {}
    }
}

/// Commits through the proxy, whose connection breaks once the transaction has happened.
async fn commit_and_cut(
    proxy: &Proxy,
    store: &EtcdStore,
    direct: &EtcdStore,
    txn: Txn,
) -> Result<Committed, StoreError> {
    store.ping().await.expect("an answer");
    let before = direct.read(&[], None).await.expect("an answer").revision;
    proxy.armed.store(true, Ordering::SeqCst);
    let deed = async {
        eventually("the transaction", async || {
            let now = direct.read(&[], None).await.ok()?;
            (now.revision > before).then_some(())
        })
        .await;
        proxy.cut.notify_one();
    };
    tokio::join!(store.commit(&txn), deed).0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_whose_answer_is_lost_happens_once() {
    let etcd = Etcd::start().await;
    let direct = etcd.store("/neco/").await;
    let proxy = Proxy::start(&etcd.server.client_url()).await;
    // Two endpoints, so that there would be another one to try at once.
    let twin = proxy.url.replace("127.0.0.1", "localhost");
    let store = connect([proxy.url.clone(), twin], "/neco/").await;
    let commit = async |txn| commit_and_cut(&proxy, &store, &direct, txn).await;
    let get =
        async |key: &str| direct.read(&[one(key)], None).await.expect("an answer").kvs.remove(key);
    let guard = |key: &str, target| Compare { key: key.to_owned(), target };

    // Without a guard nobody can tell, and it is not sent again.
    let error = commit(put("bare", "1")).await.expect_err("the answer is lost");
    assert!(matches!(error, StoreError::Unknown { .. }), "{error:?}");
    assert!(error.to_string().contains(&proxy.url), "{error}");
    assert_eq!(get("bare").await.map(|kv| kv.version), Some(1));

    // A guard that the deed itself ends allows a second try, which is refused; the store tells why.
    let first = get("bare").await.expect("written").mod_revision;
    let unchanged = guard("bare", CompareTarget::ModRevision(first));
    let done = commit(put("bare", "2").then(op_put("other", "x")).when(unchanged.clone())).await;
    let written = get("bare").await.expect("written");
    assert_eq!(done.expect("it is told apart"), Committed::Done(written.mod_revision));
    assert_eq!((written.version, written.value.as_slice()), (2, &b"2"[..]));

    // So does absence, without a second try.
    let absent = guard("turn", CompareTarget::Absent);
    let done = commit(put("turn", "mine").when(absent)).await.expect("it is told apart");
    assert_eq!(done, Committed::Done(get("turn").await.expect("written").mod_revision));

    // A deletion leaves nothing to read: it may have been anybody's.
    let created = get("turn").await.expect("written").create_revision;
    let same = guard("turn", CompareTarget::CreateRevision(created));
    let delete = Txn::default().when(same).then(Op::Delete(Range::Key("turn".to_owned())));
    let error = commit(delete).await.expect_err("nobody can tell");
    assert!(matches!(error, StoreError::Unknown { .. }), "{error:?}");
    assert_eq!(get("turn").await, None);

    // What is not in doubt is not taken for done.
    let stale = put("bare", "3").when(unchanged);
    assert_eq!(store.commit(&stale).await.expect("an answer"), Committed::Refused);
}
