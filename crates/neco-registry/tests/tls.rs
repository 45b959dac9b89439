//! A registry behind TLS and a proxy, as in a data centre.

mod common;

use std::sync::{Arc, Mutex};

use common::{PATH, Site, read_whole};
use neco_registry::{Options, Registries, RegistryError, Url};
use neco_schema::Severity;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_util::task::AbortOnDropHandle;

/// A proxy that leads every tunnel to one registry, behind a certificate for [`NAME`].
struct Proxy {
    url: Url,
    authority: Vec<u8>,
    tunnels: Arc<Mutex<Vec<String>>>,
    _task: AbortOnDropHandle<()>,
}

/// A name that no resolver knows.
const NAME: &str = "registry.invalid";

impl Proxy {
    async fn before(host: &str) -> Self {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("a pair");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let tunnels = Arc::new(Mutex::new(Vec::new()));
        let (seen, host) = (Arc::clone(&tunnels), host.to_owned());
        let task = tokio::spawn(async move {
            let mut all = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, seen, host) = (acceptor.clone(), Arc::clone(&seen), host.clone());
                all.spawn(async move {
                    // Clients come and go, and some do not like the certificate.
                    let _ = tunnel(stream, &acceptor, &seen, &host).await;
                });
            }
        });
        Self {
            url: url.parse().expect("a URL"),
            authority: made.cert.pem().into_bytes(),
            tunnels,
            _task: AbortOnDropHandle::new(task),
        }
    }
}

async fn tunnel(
    stream: TcpStream,
    acceptor: &TlsAcceptor,
    seen: &Mutex<Vec<String>>,
    host: &str,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let asked = head.lines().next().unwrap_or_default().to_owned();
    seen.lock().expect("no panic").push(asked);
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    let mut near = acceptor.accept(stream).await?;
    let mut far = TcpStream::connect(host).await?;
    copy_bidirectional(&mut near, &mut far).await.map(drop)
}

#[tokio::test]
async fn a_registry_is_reached_through_a_proxy_and_known_by_its_authority() {
    let site = Site::new().await;
    let proxy = Proxy::before(site.registry.host()).await;
    let straight = site.image().await;
    let name = format!("{NAME}/{PATH}:1").parse().expect("a name");
    let options = Options {
        proxy: Some(proxy.url.clone()),
        authorities: proxy.authority.clone(),
        ..site.options()
    };
    let client = Registries::new(options).expect("settings");
    let image = client.image(&name).await.expect("an image");
    let archive = |image: &neco_registry::Image| image.archive(&name).expect("an archive");
    assert_eq!(read_whole(archive(&image)).await, read_whole(archive(&straight)).await);
    let tunnels = proxy.tunnels.lock().expect("no panic").clone();
    assert!(!tunnels.is_empty());
    let ours = format!("CONNECT {NAME}:443 HTTP/1.1");
    assert!(tunnels.iter().all(|asked| *asked == ours), "{tunnels:?}");
    let before = tunnels.len();
    client.image(&site.name()).await.expect("a registry on this machine is asked directly");
    assert_eq!(proxy.tunnels.lock().expect("no panic").len(), before);
}

#[tokio::test]
async fn a_registry_that_nobody_vouches_for_is_not_asked() {
    let site = Site::new().await;
    let proxy = Proxy::before(site.registry.host()).await;
    let options = Options { proxy: Some(proxy.url.clone()), attempts: 1, ..site.options() };
    let client = Registries::new(options).expect("settings");
    let name = format!("{NAME}/{PATH}:1").parse().expect("a name");
    let error = client.image(&name).await.expect_err("unknown");
    assert!(matches!(error, RegistryError::Transport { .. }), "{error}");
    assert_eq!(error.severity(), Severity::TryAgain);
    assert!(site.registry.faults().take_asked().is_empty());
}
