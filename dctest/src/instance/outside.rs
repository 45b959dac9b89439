//! What boot servers that run everything find on the internet side beside images and releases: files of the web over TLS, and
//! what all stand-ins of sabakan know together, as the real ones do by etcd.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use neco_sabakan::fake::{FakeSabakan, ServeOptions};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Where it is, beside the other hosts of the internet.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 13);

/// Where the sabakan is that the others pass everything on to.
pub const SABAKAN: SocketAddr = SocketAddr::new(IpAddr::V4(ADDRESS), 10080);

/// In its folder: the certificate of its web server, its key, the files that it serves, what sabakan knows.
pub const CERTIFICATE: &str = "web.crt";
/// See [`CERTIFICATE`].
pub const KEY: &str = "web.key";
/// See [`CERTIFICATE`].
pub const FILES: &str = "files";
/// See [`CERTIFICATE`].
pub const STATE: &str = "sabakan";

/// How long somebody may take to ask.
const QUESTION: Duration = Duration::from_secs(10);

/// The longest question.
const LONGEST: usize = 8 << 10;

/// Is all of it until it is killed. `writers` may change what sabakan knows.
///
/// # Errors
/// An address cannot be listened on, or the folder does not hold what it should.
pub async fn run_outside(dir: &Path, writers: Vec<IpAddr>) -> Result<()> {
    let options = ServeOptions {
        http: SABAKAN,
        directory: Some(dir.join(STATE)),
        advertised: Some(format!("http://{SABAKAN}/").parse().context("its own address")?),
        allowed: writers,
        control: true,
        ..ServeOptions::default()
    };
    let mut sabakan = FakeSabakan::start(options).await.context("starting sabakan")?;
    let acceptor = acceptor(dir)?;
    let address = SocketAddr::from((ADDRESS, 443));
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;
    let files = dir.join(FILES);
    loop {
        let accepted = tokio::select! {
            biased;
            () = sabakan.ended() => bail!("sabakan has ended"),
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { continue };
        let (acceptor, files) = (acceptor.clone(), files.clone());
        tokio::spawn(async move {
            if let Err(error) = serve(acceptor, stream, &files).await {
                eprintln!("web: {error:#}");
            }
        });
    }
}

fn acceptor(dir: &Path) -> Result<TlsAcceptor> {
    let file = |name: &str| dir.join(name);
    let certificates = CertificateDer::pem_file_iter(file(CERTIFICATE))
        .and_then(Iterator::collect)
        .with_context(|| format!("reading {}", file(CERTIFICATE).display()))?;
    let key = PrivateKeyDer::from_pem_file(file(KEY))
        .with_context(|| format!("reading {}", file(KEY).display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Answers one request: with a file, or that there is none.
async fn serve(acceptor: TlsAcceptor, stream: TcpStream, files: &Path) -> Result<()> {
    let asked = async {
        let mut stream = acceptor.accept(stream).await.context("shaking hands")?;
        let mut asked = Vec::new();
        while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
            if stream.read_buf(&mut asked).await.context("reading a request")? == 0 {
                bail!("nothing was asked");
            }
            if asked.len() > LONGEST {
                bail!("a request is longer than {LONGEST} bytes");
            }
        }
        Ok((stream, asked))
    };
    let (mut stream, asked) = tokio::time::timeout(QUESTION, asked).await.context("waiting")??;
    let asked = String::from_utf8_lossy(&asked);
    let mut words = asked.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let content = file_of(files, path).and_then(|file| fs::read(file).ok());
    let (status, content) = match content {
        Some(content) => ("200 OK", content),
        None => ("404 Not Found", Vec::new()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        content.len()
    );
    stream.write_all(head.as_bytes()).await.context("answering")?;
    if method == "GET" {
        stream.write_all(&content).await.context("answering")?;
    }
    stream.shutdown().await.context("ending")
}

/// The file of a path, which leads nowhere else.
fn file_of(files: &Path, path: &str) -> Option<PathBuf> {
    let path = Path::new(path.strip_prefix('/')?);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    plain.then(|| files.join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_no_other_folder() {
        let files = Path::new("/files");
        assert_eq!(file_of(files, "/a/b.gz"), Some("/files/a/b.gz".into()));
        for path in ["/../etc/passwd", "//etc/passwd", "a", ""] {
            assert_eq!(file_of(files, path), None, "{path}");
        }
    }
}
