//! The registry in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCEPT_RANGES, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HOST, LINK,
    LOCATION, RANGE, WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::StreamExt as _;
use reqwest::Url;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::body::spoil;
use super::content::Content;
use super::faults::{Asked, Fault, Faults, Scope};
use super::image::TestImage;
use crate::digest::Digest;

/// Whom a registry lets in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Door {
    /// Everybody.
    #[default]
    Open,
    /// Who says this user and password with each request.
    Basic(String, String),
    /// Who brings a token. It is given to everybody, or to this user with this password alone.
    Bearer(Option<(String, String)>),
}

/// A registry on the loopback, until it is dropped.
pub struct FakeRegistry {
    host: String,
    store: Store,
    _task: AbortOnDropHandle<()>,
}

/// A door and what is behind it. Clones are the same one.
#[derive(Clone, Default)]
struct Store {
    repositories: Arc<Mutex<BTreeMap<String, Repository>>>,
    entry: Arc<Mutex<Entry>>,
    faults: Faults,
}

/// Who comes in.
#[derive(Default)]
struct Entry {
    door: Door,
    /// Where tokens are said to be made, if not here.
    realm: Option<String>,
    /// The tokens that count, with what they are for.
    tokens: BTreeMap<String, String>,
    made_tokens: usize,
}

#[derive(Default)]
struct Repository {
    tags: BTreeMap<String, Digest>,
    manifests: BTreeMap<Digest, (String, Bytes)>,
    blobs: BTreeMap<Digest, Content>,
}

impl FakeRegistry {
    /// A registry with nothing in it, which lets everybody in.
    ///
    /// # Errors
    /// There is no port.
    pub async fn start() -> std::io::Result<Self> {
        Self::serve(Store::default()).await
    }

    /// Another door to the same content, with faults of its own.
    ///
    /// # Errors
    /// There is no port.
    pub async fn beside(&self, door: Door) -> std::io::Result<Self> {
        let repositories = Arc::clone(&self.store.repositories);
        let other = Self::serve(Store { repositories, ..Store::default() }).await?;
        other.set_door(door);
        Ok(other)
    }

    async fn serve(store: Store) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let host = listener.local_addr()?.to_string();
        let router = store.clone().router();
        let task = tokio::spawn(async move {
            // It ends with the task.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { host, store, _task: AbortOnDropHandle::new(task) })
    }

    /// Its routes, to be served elsewhere too.
    pub fn router(&self) -> Router {
        self.store.clone().router()
    }

    /// Its host, as names of images begin with it.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its faults, and the record of what it was asked.
    pub fn faults(&self) -> &Faults {
        &self.store.faults
    }

    /// From now on it lets in others. Tokens from before do not count any more.
    pub fn set_door(&self, door: Door) {
        let mut entry = self.store.entry();
        entry.door = door;
        entry.tokens.clear();
    }

    /// Says that tokens are made elsewhere.
    pub fn set_realm(&self, realm: &str) {
        self.store.entry().realm = Some(realm.to_owned());
    }

    /// No token from before counts any more.
    pub fn expire_tokens(&self) {
        self.store.entry().tokens.clear();
    }

    /// Puts an image into it.
    pub fn push(&self, repository: &str, tag: &str, image: &TestImage) {
        for blob in image.blobs() {
            self.put_blob(repository, blob);
        }
        self.put_manifest(repository, tag, image.kind().manifest(), image.manifest());
    }

    /// Puts a blob into it.
    pub fn put_blob(&self, repository: &str, content: Content) {
        let mut repositories = self.store.repositories();
        let blobs = &mut repositories.entry(repository.to_owned()).or_default().blobs;
        blobs.insert(content.digest(), content);
    }

    /// Puts a manifest into it, by a tag or by its digest.
    pub fn put_manifest(&self, repository: &str, reference: &str, kind: &str, text: Bytes) {
        let digest = Digest::of(&text);
        let mut repositories = self.store.repositories();
        let repository = repositories.entry(repository.to_owned()).or_default();
        repository.manifests.insert(digest, (kind.to_owned(), text));
        if reference.parse::<Digest>().is_err() {
            repository.tags.insert(reference.to_owned(), digest);
        }
    }

    /// Loses a blob.
    pub fn lose(&self, repository: &str, digest: Digest) {
        if let Some(repository) = self.store.repositories().get_mut(repository) {
            repository.blobs.remove(&digest);
        }
    }
}

/// What is asked for.
enum Question<'a> {
    Ping,
    Token,
    Tags(&'a str),
    Manifest(&'a str, &'a str),
    Blob(&'a str, &'a str),
    Nothing,
}

impl<'a> Question<'a> {
    fn of(path: &'a str) -> Self {
        if path == "/token" {
            return Self::Token;
        }
        let Some(rest) = path.strip_prefix("/v2/") else { return Self::Nothing };
        if rest.is_empty() {
            return Self::Ping;
        }
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return Self::Tags(name);
        }
        match rest.rsplit_once('/').and_then(|(rest, last)| Some((rest.rsplit_once('/')?, last))) {
            Some(((name, "manifests"), reference)) => Self::Manifest(name, reference),
            Some(((name, "blobs"), digest)) => Self::Blob(name, digest),
            _ => Self::Nothing,
        }
    }

    fn scope(&self) -> Option<Scope> {
        match self {
            Self::Token => Some(Scope::Tokens),
            Self::Tags(_) => Some(Scope::Tags),
            Self::Manifest(..) => Some(Scope::Manifests),
            Self::Blob(..) => Some(Scope::Blobs),
            Self::Ping | Self::Nothing => None,
        }
    }

    fn repository(&self) -> &str {
        match self {
            Self::Tags(name) | Self::Manifest(name, _) | Self::Blob(name, _) => name,
            Self::Ping | Self::Token | Self::Nothing => "",
        }
    }
}

/// A body that is found, before any fault.
struct Found {
    content: Content,
    kind: String,
    headers: Vec<(HeaderName, String)>,
}

impl Found {
    fn json(text: impl Into<Bytes>) -> Self {
        Self { content: Content::of(text), kind: JSON.to_owned(), headers: vec![] }
    }
}

impl Store {
    fn router(self) -> Router {
        Router::new().fallback(answer).with_state(self)
    }

    fn repositories(&self) -> MutexGuard<'_, BTreeMap<String, Repository>> {
        self.repositories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self) -> MutexGuard<'_, Entry> {
        self.entry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn respond(&self, uri: &Uri, headers: &HeaderMap, fault: &Fault) -> Response {
        let question = Question::of(uri.path());
        if let Question::Token = question {
            return match self.token(uri, headers) {
                Some(token) => send(Found::json(token), headers, fault),
                None => unauthorized(),
            };
        }
        if let Some(refusal) = self.refusal(&question, headers) {
            return refusal;
        }
        let found = match question {
            Question::Ping => Ok(Found::json("{}")),
            Question::Tags(name) => self.tags(name, uri),
            Question::Manifest(name, reference) => self.manifest(name, reference),
            Question::Blob(name, digest) => self.blob(name, digest),
            Question::Token | Question::Nothing => Err("UNSUPPORTED"),
        };
        match found {
            Ok(found) => send(found, headers, fault),
            Err(code) => {
                plain(StatusCode::NOT_FOUND, &json!({ "errors": [{ "code": code }] }).to_string())
            }
        }
    }

    /// What is said to whom the door is closed to.
    fn refusal(&self, question: &Question<'_>, headers: &HeaderMap) -> Option<Response> {
        let entry = self.entry();
        let given = header(headers, &AUTHORIZATION);
        let challenge = match &entry.door {
            Door::Open => return None,
            Door::Basic(user, password) => {
                if given == Some(basic(user, password)) {
                    return None;
                }
                "Basic realm=\"fake\"".to_owned()
            }
            Door::Bearer(_) => {
                let scope = format!("repository:{}:pull", question.repository());
                let token = given.as_deref().and_then(|given| given.strip_prefix("Bearer "));
                if token.and_then(|token| entry.tokens.get(token)) == Some(&scope) {
                    return None;
                }
                let realm = entry.realm.clone().unwrap_or_else(|| {
                    format!("http://{}/token", header(headers, &HOST).unwrap_or_default())
                });
                format!("Bearer realm=\"{realm}\",service=\"fake\",scope=\"{scope}\"")
            }
        };
        let mut response = unauthorized();
        set(&mut response, WWW_AUTHENTICATE, &challenge);
        Some(response)
    }

    /// A new token, for whom the door is open.
    fn token(&self, uri: &Uri, headers: &HeaderMap) -> Option<String> {
        let mut entry = self.entry();
        let known = match &entry.door {
            Door::Bearer(None) => true,
            Door::Bearer(Some((user, password))) => {
                header(headers, &AUTHORIZATION) == Some(basic(user, password))
            }
            Door::Open | Door::Basic(..) => false,
        };
        let scope = parameter(uri, "scope")
            .filter(|_| parameter(uri, "service").as_deref() == Some("fake"));
        let scope = scope.filter(|_| known)?;
        entry.made_tokens += 1;
        let token = format!("token-{}", entry.made_tokens);
        entry.tokens.insert(token.clone(), scope);
        Some(json!({ "token": token, "expires_in": 300 }).to_string())
    }

    fn tags(&self, name: &str, uri: &Uri) -> Result<Found, &'static str> {
        let repositories = self.repositories();
        let repository = repositories.get(name).ok_or("NAME_UNKNOWN")?;
        let all: BTreeSet<&String> = repository.tags.keys().collect();
        let last = parameter(uri, "last").unwrap_or_default();
        let count = parameter(uri, "n").and_then(|n| n.parse().ok()).unwrap_or(usize::MAX);
        let mut rest = all.into_iter().filter(|tag| **tag > last);
        let page: Vec<_> = rest.by_ref().take(count).cloned().collect();
        let mut headers = Vec::new();
        if let Some(last) = page.last().filter(|_| rest.next().is_some()) {
            let next = format!("</v2/{name}/tags/list?last={last}&n={count}>; rel=\"next\"");
            headers.push((LINK, next));
        }
        let text = json!({ "name": name, "tags": page }).to_string();
        Ok(Found { content: Content::of(text), kind: JSON.to_owned(), headers })
    }

    fn manifest(&self, name: &str, reference: &str) -> Result<Found, &'static str> {
        let repositories = self.repositories();
        let repository = repositories.get(name).ok_or("NAME_UNKNOWN")?;
        let digest = reference.parse().ok().or_else(|| repository.tags.get(reference).copied());
        let digest = digest.ok_or("MANIFEST_UNKNOWN")?;
        let (kind, text) = repository.manifests.get(&digest).ok_or("MANIFEST_UNKNOWN")?;
        let headers = vec![(DOCKER_CONTENT_DIGEST, digest.to_string())];
        Ok(Found { content: Content::of(text.clone()), kind: kind.clone(), headers })
    }

    fn blob(&self, name: &str, digest: &str) -> Result<Found, &'static str> {
        let repositories = self.repositories();
        let repository = repositories.get(name).ok_or("NAME_UNKNOWN")?;
        let digest = digest.parse().map_err(|_| "DIGEST_INVALID")?;
        let content = repository.blobs.get(&digest).ok_or("BLOB_UNKNOWN")?.clone();
        let headers = vec![(ACCEPT_RANGES, "bytes".to_owned())];
        Ok(Found { content, kind: "application/octet-stream".to_owned(), headers })
    }
}

const JSON: &str = "application/json; charset=utf-8";
const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

async fn answer(State(store): State<Store>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let (uri, headers) = (parts.uri, parts.headers);
    let fault =
        Question::of(uri.path()).scope().map_or(Fault::None, |scope| store.faults.due(scope));
    let mut response = match &fault {
        Fault::Status(status, more) => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::IM_A_TEAPOT);
            let mut response = plain(status, r#"{"errors":[{"code":"UNKNOWN"}]}"#);
            for (name, value) in more {
                set(&mut response, HeaderName::from_static(name), value);
            }
            response
        }
        Fault::Html => {
            let mut response = plain(StatusCode::OK, "<!DOCTYPE html><title>Please log in</title>");
            set(&mut response, CONTENT_TYPE, "text/html; charset=utf-8");
            response
        }
        Fault::RedirectTo(base) => {
            let mut response = plain(StatusCode::TEMPORARY_REDIRECT, "");
            set(&mut response, LOCATION, &format!("{}{uri}", base.trim_end_matches('/')));
            response
        }
        fault => store.respond(&uri, &headers, fault),
    };
    if let Fault::Link(text) = &fault {
        set(&mut response, LINK, text);
    }
    store.faults.note(Asked {
        uri: uri.to_string(),
        authorization: header(&headers, &AUTHORIZATION),
        range: header(&headers, &RANGE),
        status: response.status().as_u16(),
    });
    if let Fault::Silent = fault {
        return std::future::pending().await;
    }
    response
}

/// What was found, or the part of it that is wanted, spoilt as ordered.
fn send(found: Found, headers: &HeaderMap, fault: &Fault) -> Response {
    let size = found.content.size();
    let wanted = match fault {
        Fault::IgnoreRange => None,
        _ => header(headers, &RANGE).and_then(|text| range(&text, size)),
    };
    let (status, part) = match wanted {
        None => (StatusCode::OK, 0..size),
        Some(part) if part.start >= size => {
            return plain(StatusCode::RANGE_NOT_SATISFIABLE, "");
        }
        Some(part) => (StatusCode::PARTIAL_CONTENT, part),
    };
    let length = part.end - part.start;
    let (body, length) = spoil(found.content.stream(part.clone()).boxed(), length, fault);
    let mut response = (status, Body::from_stream(body)).into_response();
    set(&mut response, CONTENT_TYPE, &found.kind);
    set(&mut response, CONTENT_LENGTH, &length.to_string());
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {}-{}/{size}", part.start, part.end - 1);
        set(&mut response, CONTENT_RANGE, &range);
    }
    for (name, value) in found.headers {
        set(&mut response, name, &value);
    }
    response
}

/// The range of a header such as `bytes=5-` or `bytes=5-9`.
fn range(text: &str, size: u64) -> Option<Range<u64>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let end =
        if last.is_empty() { size } else { last.parse::<u64>().ok()?.saturating_add(1).min(size) };
    Some(first.parse().ok()?..end)
}

fn plain(status: StatusCode, body: &str) -> Response {
    let mut response = (status, body.to_owned()).into_response();
    set(&mut response, CONTENT_TYPE, JSON);
    response
}

fn unauthorized() -> Response {
    plain(StatusCode::UNAUTHORIZED, r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#)
}

fn set(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn header(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

fn parameter(uri: &Uri, name: &str) -> Option<String> {
    let url = Url::parse(&format!("http://fake{uri}")).ok()?;
    let found = url.query_pairs().find(|(key, _)| key == name);
    found.map(|(_, value)| value.into_owned())
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}
