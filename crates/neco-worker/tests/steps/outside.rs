//! The proxy by which registries and the web are asked, and files of the web that change while they are read.
//!
//! Sockets are waited for in real time.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use neco_components::ListedImage;
use neco_sabakan::Sabakan;
use neco_schema::{ConfigKey, Key, Op};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::task::AbortOnDropHandle;

use crate::services::{CKE_IMAGE, Centre};

/// Names that no resolver knows: who asks for them by no proxy gets nothing.
const REGISTRY: &str = "registry.invalid";
const KERNEL: &str = "http://web.invalid/kernel";

/// A certificate for [`REGISTRY`], which is its own authority.
struct Certificate {
    der: CertificateDer<'static>,
    pem: String,
    key: Vec<u8>,
}

fn certificate() -> &'static Certificate {
    static MADE: OnceLock<Certificate> = OnceLock::new();
    MADE.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed([REGISTRY.to_owned()]).unwrap();
        let key = made.signing_key.serialize_der();
        Certificate { der: made.cert.der().clone(), pem: made.cert.pem(), key }
    })
}

/// Whom servers believe that they are [`REGISTRY`].
pub(crate) fn authority() -> Vec<u8> {
    certificate().pem.clone().into_bytes()
}

/// Serves each connection until it is dropped.
async fn serve<F>(
    serve: impl Fn(BufReader<TcpStream>, String) -> F + Send + 'static,
) -> (SocketAddr, AbortOnDropHandle<()>)
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(Mutex::new(serve));
    let task = tokio::spawn(async move {
        let mut all = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let serve = Arc::clone(&serve);
            all.spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    if stream.read_line(&mut head).await.unwrap_or_default() == 0 {
                        return;
                    }
                }
                let asked = head.lines().next().unwrap_or_default().to_owned();
                let served = serve.lock().unwrap()(stream, asked);
                // Clients come and go.
                let _ = served.await;
            });
        }
    });
    (address, AbortOnDropHandle::new(task))
}

fn answer(body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

/// A proxy as a data centre has it: tunnels lead to [`REGISTRY`], and what is asked for in the open is answered.
struct Proxy {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
    _task: AbortOnDropHandle<()>,
}

impl Proxy {
    /// One behind which the registry at `host` is [`REGISTRY`].
    async fn before(host: &str) -> Self {
        let Certificate { der, key, .. } = certificate();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![der.clone()], PrivateKeyDer::try_from(key.clone()).unwrap())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (seen, host) = (Arc::clone(&asked), host.to_owned());
        let (address, _task) = serve(move |mut stream, asked| {
            let (acceptor, host) = (acceptor.clone(), host.clone());
            seen.lock().unwrap().push(asked.clone());
            async move {
                if !asked.starts_with("CONNECT ") {
                    return stream.write_all(answer("kernel").as_bytes()).await;
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
                let mut near = acceptor.accept(stream).await?;
                let mut far = TcpStream::connect(host).await?;
                copy_bidirectional(&mut near, &mut far).await.map(drop)
            }
        })
        .await;
        Self { url: format!("http://{address}"), asked, _task }
    }

    fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

impl Centre {
    async fn set_proxy(&self, url: &str) {
        self.cluster.write(Op::put_bytes(&Key::Config(ConfigKey::Proxy), url)).await;
    }
}

#[tokio::test]
async fn registries_and_the_web_are_asked_by_the_proxy_and_one_that_is_wrong_is_set_right() {
    let mut centre = Centre::of(2).await;
    let proxy = Proxy::before(centre.registry.host()).await;
    let listed = format!("{REGISTRY}/{CKE_IMAGE}:0.4");
    *centre.cke.images.lock().unwrap() = ListedImage::list(&listed).unwrap();
    *centre.missing.lock().unwrap() = Some(KERNEL.to_owned());
    // Nobody listens there.
    centre.set_proxy("http://127.0.0.1:1").await;
    let what = ["uploading image ", REGISTRY, "proxy"];
    centre.aborts_at("cke-contents", &what).await;
    assert_eq!(proxy.take_asked(), Vec::<String>::new());
    centre.set_proxy(&proxy.url).await;
    centre.recovers().await;
    let asked = proxy.take_asked();
    let (tunnel, kernel) =
        (format!("CONNECT {REGISTRY}:443 HTTP/1.1"), format!("GET {KERNEL} HTTP/1.1"));
    for wanted in [&tunnel, &kernel] {
        assert!(asked.contains(wanted), "{asked:#?} has no {wanted:?}");
    }
    // Registry and sabakan of this machine are not its business.
    let other = asked.iter().find(|asked| **asked != tunnel && **asked != kernel);
    assert_eq!(other, None);
    assert_eq!(centre.client.images().await.unwrap().len(), 1);
    centre.cluster.verdict().await;
}

/// A file that has one byte more each time it is asked for, so many times.
async fn growing(times: Arc<AtomicUsize>) -> (String, AbortOnDropHandle<()>) {
    let length = AtomicUsize::new(1000);
    let (address, task) = serve(move |mut stream, _| {
        let grows = times
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |times| times.checked_sub(1))
            .is_ok();
        let now = length.fetch_add(usize::from(grows), Ordering::SeqCst);
        async move { stream.write_all(answer(&"k".repeat(now)).as_bytes()).await }
    })
    .await;
    (format!("http://{address}/kernel"), task)
}

#[tokio::test]
async fn a_kernel_that_changes_while_it_is_uploaded_is_told_and_nothing_of_it_is_kept() {
    let mut centre = Centre::of(2).await;
    let times = Arc::new(AtomicUsize::new(usize::MAX));
    let (url, _task) = growing(Arc::clone(&times)).await;
    *centre.missing.lock().unwrap() = Some(url.clone());
    let what = ["uploading OS image 4152.2.1", &url, " bytes, and has ", " now"];
    centre.aborts_at("sabakan-contents", &what).await;
    assert_eq!(centre.client.images().await.unwrap(), [], "nothing half uploaded");
    times.store(0, Ordering::SeqCst);
    centre.recovers().await;
    assert_eq!(centre.client.images().await.unwrap().len(), 1);
    centre.cluster.verdict().await;
}

/// No patience brings back what was taken away.
#[tokio::test]
async fn a_kernel_that_is_gone_when_it_is_to_be_uploaded_aborts_at_once() {
    let mut centre = Centre::of(1).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let (address, _task) = serve(move |mut stream, _| {
        // Kernel and initrd are asked for how long they are, and are there; the kernel is then gone once.
        let gone = count.fetch_add(1, Ordering::SeqCst) == 2;
        async move {
            let none = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let answer = if gone { none.to_owned() } else { answer("kernel") };
            stream.write_all(answer.as_bytes()).await
        }
    })
    .await;
    *centre.missing.lock().unwrap() = Some(format!("http://{address}/kernel"));
    let what = ["uploading OS image 4152.2.1", "kernel: ", "answered 404", "channel and version"];
    centre.aborts_at("sabakan-contents", &what).await;
    assert_eq!(asked.load(Ordering::SeqCst), 3, "nothing is gained by asking again");
    assert_eq!(centre.client.images().await.unwrap(), []);
    centre.recovers().await;
    centre.cluster.verdict().await;
}

#[tokio::test]
async fn a_kernel_that_changes_once_is_uploaded_as_it_is_then() {
    let mut centre = Centre::of(1).await;
    let times = Arc::new(AtomicUsize::new(1));
    let (url, _task) = growing(Arc::clone(&times)).await;
    *centre.missing.lock().unwrap() = Some(url);
    centre.cluster.update().await;
    assert_eq!(times.load(Ordering::SeqCst), 0, "it has changed");
    let path = "api/v1/images/coreos/4152.2.1";
    let stored = reqwest::get(centre.sabakan.url().join(path).unwrap()).await.unwrap();
    let stored = stored.bytes().await.unwrap();
    let mut archive = tar::Archive::new(&stored[..]);
    let sizes = archive.entries().unwrap().map(|entry| entry.unwrap().size());
    assert_eq!(sizes.collect::<Vec<_>>(), [1001, 1001]);
    centre.cluster.verdict().await;
}
