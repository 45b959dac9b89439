//! Starting and stopping a stand-in.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse as _;
use axum::routing::{get, post, put};
use axum::{Extension, Json, Router};
use neco_http::Url;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::answer::{Answered, Refusal};
use super::listener::{Connections, Peer};
use super::store::Store;
use super::{
    Faults, Log, access, assets, control, crypts, faults, graphql, ignitions, images, log,
    machines, settings,
};

/// How long open requests may go on when the stand-in stops.
const GRACE: Duration = Duration::from_secs(1);

/// What can be set about a stand-in.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Where it listens for HTTP; sabakan's own place is `0.0.0.0:10080` (external-apis §1.1).
    pub http: SocketAddr,
    /// How it listens for HTTPS, where disk keys are.
    pub https: Option<TlsOptions>,
    /// Where it keeps what it knows, so that it comes back as it was. Without one it forgets.
    pub directory: Option<PathBuf>,
    /// What addresses of assets and images begin with; its own address if not given.
    pub advertised: Option<Url>,
    /// Who may change things; this machine alone, unless told otherwise (external-apis §1.1).
    pub allowed: Vec<IpAddr>,
    /// Whether `/stand-in/log` and `/stand-in/faults` are there.
    pub control: bool,
    /// The version that it tells.
    pub version: String,
}

/// How a stand-in listens for HTTPS (external-apis §1.1).
#[derive(Clone)]
pub struct TlsOptions {
    /// Where; sabakan's own place is `0.0.0.0:10443`.
    pub address: SocketAddr,
    /// Its certificates, as PEM.
    pub certificates: Vec<u8>,
    /// Its private key, as PEM.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsOptions").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Default for ServeOptions {
    /// Some free port of loopback, for HTTP alone, without a memory.
    fn default() -> Self {
        Self {
            http: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            https: None,
            directory: None,
            advertised: None,
            allowed: vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            control: false,
            version: "3.1.4".to_owned(),
        }
    }
}

/// A running stand-in; it stops when this is dropped.
#[derive(Debug)]
pub struct FakeSabakan {
    http: SocketAddr,
    https: Option<SocketAddr>,
    healthy: Arc<AtomicBool>,
    store: Arc<Store>,
    faults: Faults,
    log: Log,
    stop: CancellationToken,
    tasks: JoinSet<io::Result<()>>,
}

impl FakeSabakan {
    /// Listens and serves.
    ///
    /// # Errors
    /// It cannot listen there, its directory cannot be used, or certificate and key are none.
    pub async fn start(options: ServeOptions) -> io::Result<Self> {
        let store = Arc::new(Store::open(options.directory.as_deref())?);
        let (faults, log, healthy) =
            (Faults::default(), Log::default(), Arc::new(AtomicBool::new(true)));
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let allowed: Arc<[IpAddr]> = options.allowed.into();
        // Inside out: who may, what goes wrong, what is written down.
        let around = |router: Router, tls: bool| {
            router
                .layer(from_fn_with_state(allowed.clone(), access::guard))
                .layer(from_fn_with_state(faults.clone(), faults::happen))
                .layer(from_fn_with_state((log.clone(), tls), log::keep))
        };
        let listener = TcpListener::bind(options.http).await?;
        let http = listener.local_addr()?;
        let advertised = match &options.advertised {
            Some(url) => url.to_string(),
            None => format!("http://{http}/"),
        };
        let about = About { version: options.version.into(), healthy: healthy.clone() };
        let router = api(store.clone(), about).layer(Extension(Advertised(advertised.into())));
        let router = around(router, false);
        // What is said to the stand-in itself is not written down.
        let router = match options.control {
            true => control::routes(log.clone(), faults.clone()).merge(router),
            false => router,
        };
        serve(&mut tasks, Connections::new(listener, None)?, router, &stop);
        let mut https = None;
        if let Some(tls) = options.https {
            let listener = TcpListener::bind(tls.address).await?;
            https = Some(listener.local_addr()?);
            let connections = Connections::new(listener, Some(acceptor(&tls)?))?;
            serve(&mut tasks, connections, around(keys(store.clone()), true), &stop);
        }
        Ok(Self { http, https, healthy, store, faults, log, stop, tasks })
    }

    /// Where it listens for HTTP.
    pub fn url(&self) -> Url {
        let url = format!("http://{}/", self.http);
        url.parse().expect("an address makes a URL")
    }

    /// Where it listens for HTTPS.
    pub fn https_url(&self) -> Option<Url> {
        let url = format!("https://{}/", self.https?);
        Some(url.parse().expect("an address makes a URL"))
    }

    /// What goes wrong.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// What it was asked.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Whether it says that it is well.
    pub fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::SeqCst);
    }

    /// Loses its copy of an asset, as a replica that has not fetched it yet: it stays known.
    pub fn lose_copy(&self, asset: &str) {
        let _ = self.store.change(|model| {
            model.assets.get_mut(asset).into_iter().for_each(|meta| meta.exists = false);
            Ok(())
        });
    }

    /// Waits until it ends by itself, which it does only if the system fails it.
    pub async fn ended(&mut self) {
        self.tasks.join_next().await;
    }

    /// Stops: no new connections, and open requests have a second left.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(GRACE, all).await;
    }
}

impl Drop for FakeSabakan {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What addresses of assets and images begin with.
#[derive(Clone)]
pub(super) struct Advertised(pub(super) Arc<str>);

#[derive(Clone)]
struct About {
    version: Arc<str>,
    healthy: Arc<AtomicBool>,
}

fn api(store: Arc<Store>, about: About) -> Router {
    Router::new()
        .route("/api/v1/machines", get(machines::search).post(machines::register))
        .route("/api/v1/machines/{serial}", axum::routing::delete(machines::remove))
        .route("/api/v1/state/{serial}", get(machines::get_state).put(machines::put_state))
        .route(
            "/api/v1/labels/{serial}/{name}",
            put(machines::put_label).delete(machines::delete_label),
        )
        .route("/api/v1/retire-date/{serial}", put(machines::put_retire_date))
        .route("/api/v1/config/ipam", get(settings::get_ipam).put(settings::put_ipam))
        .route("/api/v1/config/dhcp", get(settings::get_dhcp).put(settings::put_dhcp))
        .route(
            "/api/v1/kernel_params/{os}",
            get(settings::get_kernel_params).put(settings::put_kernel_params),
        )
        .route("/api/v1/images/{os}", get(images::index))
        .route("/api/v1/images/{os}/{id}", get(images::get).put(images::put).delete(images::delete))
        .route("/api/v1/assets", get(assets::list))
        .route("/api/v1/assets/{name}", get(assets::get).put(assets::put).delete(assets::delete))
        .route("/api/v1/assets/{name}/meta", get(assets::meta))
        .route("/api/v1/ignitions/{role}", get(ignitions::list))
        .route(
            "/api/v1/ignitions/{role}/{id}",
            get(ignitions::get).put(ignitions::put).delete(ignitions::delete),
        )
        .route("/graphql", post(graphql::post).get(graphql::get))
        .with_state(store)
        .merge(
            Router::new()
                .route("/version", get(version))
                .route("/health", get(health))
                .with_state(about),
        )
        .fallback(|| async { Refusal::not_found() })
        .method_not_allowed_fallback(|| async { Refusal::method() })
}

/// What is served over TLS alone.
fn keys(store: Arc<Store>) -> Router {
    Router::new()
        .route("/api/v1/crypts/{serial}", axum::routing::delete(crypts::delete))
        .route("/api/v1/crypts/{serial}/{*path}", get(crypts::get).put(crypts::put))
        .with_state(store)
        .fallback(|| async { Refusal::not_found() })
        .method_not_allowed_fallback(|| async { Refusal::method() })
}

async fn version(State(about): State<About>) -> Answered {
    Ok(Json(json!({ "version": *about.version })).into_response())
}

async fn health(State(about): State<About>) -> Answered {
    let (status, health) = match about.healthy.load(Ordering::SeqCst) {
        true => (StatusCode::OK, "healthy"),
        false => (StatusCode::INTERNAL_SERVER_ERROR, "unhealthy"),
    };
    Ok((status, Json(json!({ "health": health }))).into_response())
}

fn serve(
    tasks: &mut JoinSet<io::Result<()>>,
    connections: Connections,
    router: Router,
    stop: &CancellationToken,
) {
    let stopped = stop.clone().cancelled_owned();
    let service = router.into_make_service_with_connect_info::<Peer>();
    tasks.spawn(
        async move { axum::serve(connections, service).with_graceful_shutdown(stopped).await },
    );
}

fn acceptor(tls: &TlsOptions) -> io::Result<TlsAcceptor> {
    let invalid = |error: rustls::pki_types::pem::Error| {
        io::Error::new(io::ErrorKind::InvalidInput, error.to_string())
    };
    let certificates = CertificateDer::pem_slice_iter(&tls.certificates)
        .collect::<Result<Vec<_>, _>>()
        .map_err(invalid)?;
    let key = PrivateKeyDer::from_pem_slice(&tls.key).map_err(invalid)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, key))
        .map_err(io::Error::other)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
