//! Serves a mirror's directory over HTTP.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE, ETAG, HOST, IF_NONE_MATCH, LINK};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use neco_base::hex;
use reqwest::Url;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::api::{self, Digests, Place};
use super::layout::{MirrorFile, MirrorRelease, list};
use super::{MirrorError, file};
use crate::error::ReleaseError;

/// How long open downloads may go on when the mirror stops.
const GRACE: Duration = Duration::from_secs(5);

/// What can be set about serving.
#[derive(Clone, Debug, Default)]
pub struct ServeOptions {
    /// What URLs in answers begin with; if not given, what the client called the server.
    pub base_url: Option<Url>,
    /// What goes wrong, for tests.
    #[cfg(feature = "testing")]
    pub faults: Option<super::faults::Faults>,
}

/// A running mirror; it stops when this is dropped.
#[derive(Debug)]
pub struct Mirror {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
}

impl Mirror {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The `api_url` for clients on this machine.
    pub fn api_url(&self) -> Url {
        let url = format!("http://{}/", self.address);
        url.parse().expect("an address makes a URL")
    }

    /// Waits until the mirror ends by itself, which it does only if the system fails it. Safe to drop and call again.
    pub async fn ended(&mut self) -> std::io::Result<()> {
        match (&mut self.task).await {
            Ok(ended) => ended,
            Err(error) => Err(std::io::Error::other(error)),
        }
    }

    /// Stops: no new connections, and open downloads have a few seconds left.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let _ = tokio::time::timeout(GRACE, &mut self.task).await;
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.stop.cancel();
        self.task.abort();
    }
}

/// Serves the mirror in `dir` on `listener`, for any owner and repository.
///
/// The directory is read at each request. Drafts are not offered.
pub fn serve(
    dir: impl Into<PathBuf>,
    listener: TcpListener,
    options: ServeOptions,
) -> std::io::Result<Mirror> {
    let address = listener.local_addr()?;
    let base = options.base_url.as_ref().map(|url| url.as_str().trim_end_matches('/').to_owned());
    let app = Arc::new(App { dir: dir.into(), base, address, digests: Digests::default() });
    let router = Router::new()
        .route("/repos/{owner}/{repository}/releases", get(releases))
        .route("/repos/{owner}/{repository}/releases/latest", get(latest))
        .route("/repos/{owner}/{repository}/releases/tags/{tag}", get(by_tag))
        .route("/repos/{owner}/{repository}/releases/{id}", get(by_id))
        .route("/repos/{owner}/{repository}/releases/assets/{id}", get(asset))
        .route("/{owner}/{repository}/releases/download/{tag}/{name}", get(download))
        .fallback(|| async { not_found() })
        .with_state(app);
    #[cfg(feature = "testing")]
    let router = match options.faults {
        Some(faults) => faults.around(router),
        None => router,
    };
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    let task =
        tokio::spawn(
            async move { axum::serve(listener, router).with_graceful_shutdown(stopped).await },
        );
    Ok(Mirror { address, stop, task })
}

#[derive(Debug)]
struct App {
    dir: PathBuf,
    base: Option<String>,
    address: SocketAddr,
    digests: Digests,
}

/// Why a request gets no answer of its own.
enum Failure {
    NotFound,
    Internal(String),
}

impl From<MirrorError> for Failure {
    fn from(error: MirrorError) -> Self {
        Self::Internal(crate::error::chain(&error))
    }
}

impl From<ReleaseError> for Failure {
    fn from(error: ReleaseError) -> Self {
        match &error {
            ReleaseError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Self::NotFound
            }
            _ => Self::Internal(crate::error::chain(&error)),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::NotFound => not_found(),
            Self::Internal(error) => {
                tracing::warn!(error, "request to the mirror failed");
                message(StatusCode::INTERNAL_SERVER_ERROR, "the mirror cannot read its directory")
            }
        }
    }
}

#[derive(Deserialize)]
struct Paging {
    per_page: Option<usize>,
    page: Option<usize>,
}

type Repository = (String, String);

async fn releases(
    State(app): State<Arc<App>>,
    Path((owner, repository)): Path<Repository>,
    Query(paging): Query<Paging>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let place = app.place(owner, repository, &headers);
    let per_page = paging.per_page.unwrap_or(30).clamp(1, 100);
    let page = paging.page.unwrap_or(1).max(1);
    let links_to = place.releases();
    let (body, pages) = app
        .read(move |app, all| {
            let offered: Vec<_> = all.iter().filter(|release| !release.draft).collect();
            let pages = offered.len().div_ceil(per_page).max(1);
            let shown =
                offered.into_iter().skip((page - 1).saturating_mul(per_page)).take(per_page);
            let shown = shown.map(|release| api::release(&place, release, &app.digests));
            Ok((Value::Array(shown.collect::<Result<_, _>>()?), pages))
        })
        .await?;
    let mut response = json_answer(&body, &headers);
    let link = |page: usize, rel: &str| {
        format!("<{links_to}?per_page={per_page}&page={page}>; rel=\"{rel}\"")
    };
    let mut links = Vec::new();
    if page > 1 {
        links.push(link(page - 1, "prev"));
    }
    if page < pages {
        links.extend([link(page + 1, "next"), link(pages, "last")]);
    }
    if page > 1 {
        links.push(link(1, "first"));
    }
    if let Ok(links) = links.join(", ").parse()
        && pages > 1
    {
        response.headers_mut().insert(LINK, links);
    }
    Ok(response)
}

async fn latest(
    State(app): State<Arc<App>>,
    Path((owner, repository)): Path<Repository>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    app.one(owner, repository, &headers, |release| release.latest).await
}

async fn by_tag(
    State(app): State<Arc<App>>,
    Path((owner, repository, tag)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    app.one(owner, repository, &headers, move |release| release.tag == tag).await
}

async fn by_id(
    State(app): State<Arc<App>>,
    Path((owner, repository, id)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let id: u64 = id.parse().map_err(|_| Failure::NotFound)?;
    app.one(owner, repository, &headers, move |release| api::id(&[&release.tag]) == id).await
}

async fn asset(
    State(app): State<Arc<App>>,
    Path((owner, repository, id)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let id: u64 = id.parse().map_err(|_| Failure::NotFound)?;
    let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accepted.contains("application/octet-stream") {
        return app.send(move |tag, name| api::id(&[tag, name]) == id, &headers).await;
    }
    let place = app.place(owner, repository, &headers);
    let body = app
        .read(move |app, all| {
            let (release, file) =
                find(all, |tag, name| api::id(&[tag, name]) == id).ok_or(Failure::NotFound)?;
            Ok(api::asset(&place, release, file, &app.digests)?)
        })
        .await?;
    Ok(json_answer(&body, &headers))
}

async fn download(
    State(app): State<Arc<App>>,
    Path((_, _, tag, name)): Path<(String, String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    app.send(move |its_tag, its_name| its_tag == tag && its_name == name, &headers).await
}

impl App {
    /// Reads the directory, away from the tasks of the network, and makes something of it.
    async fn read<T: Send + 'static>(
        self: Arc<Self>,
        make: impl FnOnce(&Self, &[MirrorRelease]) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let made = tokio::task::spawn_blocking(move || {
            let releases = list(&self.dir)?;
            for problem in releases.iter().filter_map(|release| release.problem.as_ref()) {
                tracing::warn!(problem, "release is not offered");
            }
            self.digests.keep_only(&releases);
            make(&self, &releases)
        });
        made.await.unwrap_or_else(|error| Err(Failure::Internal(error.to_string())))
    }

    async fn one(
        self: Arc<Self>,
        owner: String,
        repository: String,
        headers: &HeaderMap,
        is_it: impl Fn(&MirrorRelease) -> bool + Send + 'static,
    ) -> Result<Response, Failure> {
        let place = self.place(owner, repository, headers);
        let body = self
            .read(move |app, all| {
                let found = all.iter().find(|release| !release.draft && is_it(release));
                Ok(api::release(&place, found.ok_or(Failure::NotFound)?, &app.digests)?)
            })
            .await?;
        Ok(json_answer(&body, headers))
    }

    async fn send(
        self: Arc<Self>,
        is_it: impl Fn(&str, &str) -> bool + Send + 'static,
        headers: &HeaderMap,
    ) -> Result<Response, Failure> {
        let (open, name, size, digest) = self
            .read(move |app, all| {
                let (_, file) = find(all, is_it).ok_or(Failure::NotFound)?;
                let io = |source| ReleaseError::Io {
                    action: "opening",
                    path: file.path.clone(),
                    source,
                };
                // From here on all is about the file that is open, whatever happens to the name.
                let open = std::fs::File::open(&file.path).map_err(io)?;
                let metadata = open.metadata().map_err(io)?;
                let digest = app.digests.of_open(&file.path, &metadata)?;
                Ok((open, file.name.clone(), metadata.len(), digest))
            })
            .await?;
        Ok(file::send(open.into(), &name, size, &digest, headers).await)
    }

    fn place(&self, owner: String, repository: String, headers: &HeaderMap) -> Place {
        let called = headers.get(HOST).and_then(|host| host.to_str().ok()).filter(|host| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b);
            !host.is_empty() && host.bytes().all(plain)
        });
        let base = match (&self.base, called) {
            (Some(base), _) => base.clone(),
            (None, Some(host)) => format!("http://{host}"),
            (None, None) => format!("http://{}", self.address),
        };
        Place { base, owner, repository }
    }
}

/// A file of a release that is offered.
fn find(
    all: &[MirrorRelease],
    is_it: impl Fn(&str, &str) -> bool,
) -> Option<(&MirrorRelease, &MirrorFile)> {
    let offered = all.iter().filter(|release| !release.draft);
    let mut files =
        offered.flat_map(|release| release.files.iter().map(move |file| (release, file)));
    files.find(|(release, file)| is_it(&release.tag, &file.name))
}

fn json_answer(body: &Value, request: &HeaderMap) -> Response {
    let text = body.to_string();
    let etag = format!("W/\"{}\"", hex(&Sha256::digest(&text)[..16]));
    if file::matches(request, IF_NONE_MATCH.as_str(), &etag) {
        return (StatusCode::NOT_MODIFIED, [(ETAG, etag)]).into_response();
    }
    let headers = [(CONTENT_TYPE, "application/json; charset=utf-8".to_owned()), (ETAG, etag)];
    (headers, text).into_response()
}

fn not_found() -> Response {
    message(StatusCode::NOT_FOUND, "Not Found")
}

fn message(status: StatusCode, text: &str) -> Response {
    let body = json!({ "message": text }).to_string();
    (status, [(CONTENT_TYPE, "application/json; charset=utf-8")], body).into_response()
}
