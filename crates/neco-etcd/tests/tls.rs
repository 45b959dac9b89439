//! A server that demands client certificates.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{member, within};
use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use neco_etcd::{Cluster, ClusterOptions, Error, Server, ServerTls};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ca.crt"), issuer.pem()).unwrap();
        Self { issuer, dir }
    }

    /// A certificate and its key, for either side.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["127.0.0.1".to_owned(), name.to_owned()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        (cert.pem(), key.serialize_pem())
    }

    fn server(&self) -> ServerTls {
        let (cert, key) = self.issue("localhost");
        let put = |name: &str, text: &str| -> PathBuf {
            let path: &Path = self.dir.path();
            fs::write(path.join(name), text).unwrap();
            path.join(name)
        };
        ServerTls {
            cert: put("server.crt", &cert),
            key: put("server.key", &key),
            trusted_ca: Some(self.dir.path().join("ca.crt")),
            client_cert_auth: true,
        }
    }

    fn client(&self) -> TlsOptions {
        TlsOptions::new().ca_certificate(Certificate::from_pem(self.issuer.pem()))
    }

    fn client_with_certificate(&self) -> TlsOptions {
        let (cert, key) = self.issue("client");
        self.client().identity(Identity::from_pem(cert, key))
    }
}

async fn connect(url: String, tls: TlsOptions) -> Client {
    let options = ConnectOptions::new().with_tls(tls);
    within("connect", Client::connect([url], Some(options))).await.unwrap()
}

#[tokio::test]
async fn clients_with_a_certificate_are_served_and_others_are_not() {
    let authority = Authority::new();
    let server = Server::start(member("m").tls(authority.server())).await.unwrap();
    assert!(server.client_url().starts_with("https://127.0.0.1:"), "{}", server.client_url());

    let mut client = connect(server.client_url(), authority.client_with_certificate()).await;
    within("put", client.put("k", "v", None)).await.unwrap();
    let mut stranger = connect(server.client_url(), authority.client()).await;
    within("put without a certificate", stranger.put("k", "v", None)).await.unwrap_err();
    let other = Authority::new().client_with_certificate();
    let mut forger = connect(server.client_url(), other).await;
    within("put with a foreign certificate", forger.put("k", "v", None)).await.unwrap_err();
}

#[tokio::test]
async fn a_cluster_serves_over_tls() {
    let authority = Authority::new();
    let options = ClusterOptions {
        member: Some(member("m").tls(authority.server())),
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start(3, options).await.unwrap();
    for url in cluster.endpoints() {
        let mut client = connect(url, authority.client_with_certificate()).await;
        within("put", client.put("k", "v", None)).await.unwrap();
    }
}

#[tokio::test]
async fn an_unreadable_key_pair_is_reported_before_the_start() {
    let authority = Authority::new();
    let tls = ServerTls { key: "/nonexistent/key".into(), ..authority.server() };
    let error = Server::start(member("m").tls(tls)).await.unwrap_err();
    assert!(error.to_string().contains("key /nonexistent/key cannot be read"), "{error}");
}

#[tokio::test]
async fn a_malformed_certificate_is_reported_in_etcds_own_words() {
    let authority = Authority::new();
    let tls = authority.server();
    fs::write(&tls.cert, "not a certificate").unwrap();
    let error = Server::start(member("m").tls(tls)).await.unwrap_err();
    assert!(matches!(error, Error::EarlyExit(_)), "{error}");
    assert!(error.to_string().contains("failed to find any PEM data"), "{error}");
}
