//! The client of the GitHub API: lists releases, answers from memory what has not changed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use neco_base::{Backoff, Secret};
use neco_http::{BodyError, next_page, shown};
use neco_schema::{Environment, NecoVersion};
use reqwest::header::{ACCEPT, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use reqwest::{Response, StatusCode, Url};

use crate::error::ReleaseError;
use crate::release::{ListedRelease, Release, wire};
use crate::select;
use crate::tag::tag_prefix;
use crate::transport::{Transport, TransportOptions, broken};

/// The settings of a [`GithubClient`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the API is; `https://api.github.com/` unless a mirror is used.
    pub api_url: Url,
    /// Who owns the repository.
    pub owner: String,
    /// Its name.
    pub repository: String,
    /// Sent to the host of `api_url` alone, and only over https or to a loopback address.
    pub token: Option<Secret>,
    /// For all requests; without it the environment's proxy variables hold, but not for a loopback address.
    pub proxy: Option<Url>,
    /// How the client calls itself.
    pub user_agent: String,
    /// How many pages of 100 releases are read at most.
    pub max_pages: u32,
    /// While the first page does not change, the later ones are not asked for during this time.
    pub recheck: Duration,
    /// The longest JSON text that is read.
    pub json_limit: u64,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// How long to wait for an answer's headers, and for the whole of a JSON answer.
    pub request_timeout: Duration,
    /// How often a request is tried that fails in a way that passes.
    pub attempts: u32,
    /// How long to wait between tries.
    pub backoff: Backoff,
}

impl Options {
    /// The settings for a repository on github.com.
    pub fn new(owner: impl Into<String>, repository: impl Into<String>) -> Self {
        Self {
            api_url: Url::parse("https://api.github.com/").expect("a constant that parses"),
            owner: owner.into(),
            repository: repository.into(),
            token: None,
            proxy: None,
            user_agent: "github.com/cybozu-go/neco".to_owned(),
            max_pages: 10,
            recheck: Duration::from_secs(10 * 60),
            json_limit: 8 << 20,
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            attempts: 3,
            backoff: crate::BETWEEN_TRIES,
        }
    }
}

/// What a client did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Questions to the API that were answered.
    pub answers: u64,
    /// Of these, how many with "not modified", which costs nothing of the rate limit.
    pub unchanged: u64,
    /// How many requests the API still grants, as far as it said.
    pub remaining: Option<u64>,
}

/// A client of the release part of the GitHub API.
///
/// It keeps what it read together with its ETag and asks only whether that changed. Cheap to share by reference; one
/// client serves a process until its settings change.
#[derive(Debug)]
pub struct GithubClient {
    transport: Transport,
    options: Options,
    releases: Url,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    pages: BTreeMap<Url, Remembered>,
    /// The whole list, and when it was last read page by page.
    list: Option<(Instant, Vec<Page>)>,
    /// Releases that were not there, and when that was asked.
    absent: BTreeMap<Url, Instant>,
    /// What was odd about the last choice.
    remark: Option<String>,
    stats: Stats,
}

#[derive(Debug)]
struct Remembered {
    etag: HeaderValue,
    page: Page,
    used: Instant,
}

/// One JSON answer.
#[derive(Clone, Debug)]
struct Page {
    releases: Arc<[ListedRelease]>,
    next: Option<Url>,
}

/// How many answers are kept. Single releases by tag come on top of the pages of the list.
const REMEMBERED: usize = 32;

/// What is said about tags that name no version.
fn unparsable(env: Environment, tags: &[String]) -> Option<String> {
    /// More are counted only.
    const NAMED: usize = 3;
    let (named, more) = tags.split_at(tags.len().min(NAMED));
    let named: Vec<_> = named.iter().map(|tag| format!("{tag:?}")).collect();
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    let prefix = tag_prefix(env);
    (!named.is_empty()).then(|| {
        format!(
            "tag {}{more} names no version: tag releases like {prefix}2026.11.21-40152, or delete them",
            named.join(", ")
        )
    })
}

#[derive(Clone, Copy)]
enum Form {
    One,
    Many,
}

impl GithubClient {
    /// A client with these settings; nothing is sent yet.
    pub fn new(options: Options) -> Result<Self, ReleaseError> {
        for (option, name) in
            [("release.owner", &options.owner), ("release.repository", &options.repository)]
        {
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
            if name.is_empty() || !name.bytes().all(plain) || matches!(name.as_str(), "." | "..") {
                let problem =
                    format!("{name:?} is no GitHub name (letters, digits, '.', '_' and '-')");
                return Err(ReleaseError::Option { option, problem });
            }
        }
        let transport = Transport::new(&TransportOptions {
            api_url: &options.api_url,
            token: options.token.as_ref(),
            proxy: options.proxy.as_ref(),
            user_agent: &options.user_agent,
            connect_timeout: options.connect_timeout,
        })?;
        let mut releases = options.api_url.clone();
        releases.set_query(None);
        releases.set_fragment(None);
        releases
            .path_segments_mut()
            .map_err(|()| ReleaseError::Option {
                option: "release.api_url",
                problem: "has no path to add to".to_owned(),
            })?
            .pop_if_empty()
            .extend(["repos", &options.owner, &options.repository, "releases"]);
        Ok(Self { transport, options, releases, memory: Mutex::default() })
    }

    /// The release that the API marks as latest: neither draft nor pre-release. `None` while there is none.
    pub async fn latest(&self) -> Result<Option<ListedRelease>, ReleaseError> {
        self.one(&["latest"]).await
    }

    /// The published release with this tag.
    pub async fn by_tag(&self, tag: &str) -> Result<Option<ListedRelease>, ReleaseError> {
        let found = self.one(&["tags", tag]).await?;
        // Whoever answers with another release than the one asked for has none.
        Ok(found.filter(|release| release.tag == tag && !release.draft))
    }

    /// The releases on the first `pages` pages of 100, newest first.
    pub async fn list_newest(&self, pages: u32) -> Result<Vec<ListedRelease>, ReleaseError> {
        let (first, _) = self.first().await?;
        let pages = self.pages_from(first, pages).await?;
        Ok(pages.iter().flat_map(|page| page.releases.iter().cloned()).collect())
    }

    /// What the client did so far.
    pub fn stats(&self) -> Stats {
        Stats { remaining: self.transport.remaining(), ..self.memory().stats }
    }

    /// The settings.
    pub fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// The newest release of an environment; `none` costs no request.
    pub(crate) async fn choose(&self, env: Environment) -> Result<Option<Release>, ReleaseError> {
        match env {
            Environment::None => Ok(None),
            Environment::Test => {
                let version = select::TEST_VERSION.parse().expect("a constant that parses");
                self.choose_version(env, &version).await
            }
            Environment::Prod => {
                let Some(listed) = self.latest().await? else {
                    self.remark(None);
                    return Ok(None);
                };
                let judged = select::latest(listed);
                self.remark(judged.as_ref().err().map(|reason| {
                    let why = match reason {
                        select::NotEligible::Tag(tag) => format!("{reason}: {tag}"),
                        other => other.to_string(),
                    };
                    format!("{why}; mark a release like release-2026.11.21-40152 as the latest")
                }));
                Ok(judged.ok())
            }
            Environment::Dev | Environment::Staging => {
                let pages = self.list().await?;
                let selection =
                    select::newest(env, pages.iter().flat_map(|page| page.releases.iter()));
                self.remark(unparsable(env, &selection.unparsable));
                Ok(selection.release)
            }
        }
    }

    /// The release of an environment that holds `version`.
    pub(crate) async fn choose_version(
        &self,
        env: Environment,
        version: &NecoVersion,
    ) -> Result<Option<Release>, ReleaseError> {
        let listed = self.by_tag(&env.tag(version)).await?;
        Ok(listed.map(|listed| Release::new(version.clone(), listed)))
    }

    /// Keeps what is odd about the releases, for whoever chose.
    fn remark(&self, remark: Option<String>) {
        self.memory().remark = remark.map(|remark| format!("{}: {remark}", shown(&self.releases)));
    }

    /// What was odd about the last choice.
    pub(crate) fn remarked(&self) -> Option<String> {
        self.memory().remark.clone()
    }

    fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.releases.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.extend(segments);
        }
        url
    }

    fn first_page(&self) -> Url {
        let mut url = self.releases.clone();
        url.query_pairs_mut().append_pair("per_page", "100");
        url
    }

    /// One release. That there is none costs of the rate limit, unlike the list that has not changed: so what was not
    /// there is not asked for again until the list has changed, or memory is old. Unless the list shows it: then something
    /// on the way answered, or it came in between.
    async fn one(&self, segments: &[&str]) -> Result<Option<ListedRelease>, ReleaseError> {
        let url = self.url(segments);
        let asked = self.memory().absent.get(&url).copied();
        if asked.is_some_and(|asked| asked.elapsed() < self.options.recheck) {
            let (_, unchanged) = self.first().await?;
            if unchanged {
                return Ok(None);
            }
            self.memory().absent.clear();
        }
        match self.page(&url, Form::One).await {
            Ok((page, _)) => {
                self.memory().absent.remove(&url);
                Ok(page.releases.first().cloned())
            }
            Err(ReleaseError::Gone { .. }) => {
                // No such release, or no such repository? The list tells.
                let (list, _) = self.first().await?;
                if list.releases.iter().any(|release| is_at(release, segments)) {
                    return Ok(None);
                }
                let mut memory = self.memory();
                if memory.absent.len() >= REMEMBERED {
                    memory.absent.clear();
                }
                memory.absent.insert(url, Instant::now());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The first page of the list, and whether it is the same as last time.
    async fn first(&self) -> Result<(Page, bool), ReleaseError> {
        self.page(&self.first_page(), Form::Many).await.map_err(|error| match error {
            ReleaseError::Gone { url, .. } => ReleaseError::NoRepository { url },
            other => other,
        })
    }

    /// The whole list, from memory as long as its first page is the same and memory is fresh.
    ///
    /// What is published, withdrawn or edited on a later page alone is seen after `recheck`.
    async fn list(&self) -> Result<Vec<Page>, ReleaseError> {
        let (first, unchanged) = self.first().await?;
        if unchanged
            && let Some((read, pages)) = &self.memory().list
            && read.elapsed() < self.options.recheck
        {
            return Ok(pages.clone());
        }
        let pages = self.pages_from(first, self.options.max_pages).await?;
        self.memory().list = Some((Instant::now(), pages.clone()));
        Ok(pages)
    }

    async fn pages_from(&self, first: Page, limit: u32) -> Result<Vec<Page>, ReleaseError> {
        let mut next = first.next.clone();
        let mut pages = vec![first];
        while let Some(url) = next.filter(|_| pages.len() < limit as usize) {
            let (page, _) = self.page(&url, Form::Many).await?;
            next = page.next.clone();
            pages.push(page);
        }
        Ok(pages)
    }

    /// One answer of the API, with tries, and whether it is the one that memory held.
    async fn page(&self, url: &Url, form: Form) -> Result<(Page, bool), ReleaseError> {
        let mut retry = self.options.backoff.retry();
        loop {
            let after = self.options.request_timeout;
            let asked = match tokio::time::timeout(after, self.ask(url, form)).await {
                Ok(asked) => asked,
                Err(_) => Err(ReleaseError::Silent { url: shown(url), after }),
            };
            match asked {
                Err(error)
                    if error.passes_soon() && retry.failures() + 1 < self.options.attempts =>
                {
                    tokio::time::sleep(retry.pause()).await;
                }
                asked => return asked,
            }
        }
    }

    async fn ask(&self, url: &Url, form: Form) -> Result<(Page, bool), ReleaseError> {
        let remembered = self.memory().recall(url);
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/vnd.github+json"));
        headers.insert("x-github-api-version", HeaderValue::from_static("2022-11-28"));
        if let Some((etag, _)) = &remembered {
            headers.insert(IF_NONE_MATCH, etag.clone());
        }
        let response = self.transport.get(url, &headers, self.options.request_timeout).await?;
        self.memory().stats.answers += 1;
        match (response.status(), remembered) {
            (StatusCode::NOT_MODIFIED, Some((_, page))) => {
                self.memory().stats.unchanged += 1;
                return Ok((page, true));
            }
            (StatusCode::OK, _) => {}
            (status, _) => {
                return Err(ReleaseError::Status { url: shown(url), status: status.as_u16() });
            }
        }
        let etag = response.headers().get(ETAG).cloned();
        let next = self.next_page(url, response.headers())?;
        let releases = self.read(url, response, form).await?;
        let page = Page { releases, next };
        if let Some(etag) = etag {
            self.memory().keep(url.clone(), etag, page.clone());
        }
        Ok((page, false))
    }

    async fn read(
        &self,
        url: &Url,
        response: Response,
        form: Form,
    ) -> Result<Arc<[ListedRelease]>, ReleaseError> {
        let content_type = response.headers().get(CONTENT_TYPE);
        let content_type =
            content_type.and_then(|value| value.to_str().ok()).unwrap_or("something").to_owned();
        let not_json = |content_type| ReleaseError::WrongContent {
            url: shown(url),
            expected: "JSON",
            content_type,
        };
        if !content_type.contains("json") {
            return Err(not_json(content_type));
        }
        let body = read_capped(url, response, self.options.json_limit).await?;
        if body.trim_ascii_start().starts_with(b"<") {
            return Err(not_json("HTML".to_owned()));
        }
        let parsed = match form {
            Form::One => serde_json::from_slice(&body).map(|one: wire::Release| vec![one]),
            Form::Many => serde_json::from_slice(&body),
        };
        let parsed =
            parsed.map_err(|source| ReleaseError::Malformed { url: shown(url), source })?;
        Ok(parsed.into_iter().map(ListedRelease::from).collect())
    }

    fn next_page(&self, url: &Url, headers: &HeaderMap) -> Result<Option<Url>, ReleaseError> {
        let Some(target) = next_page(headers) else { return Ok(None) };
        let refuse = |problem: String| ReleaseError::Redirect { url: shown(url), problem };
        let next =
            url.join(target).map_err(|_| refuse("to a next page that is no URL".to_owned()))?;
        if next.origin() != self.releases.origin() {
            return Err(refuse(format!("to a next page on another host ({})", shown(&next))));
        }
        Ok(Some(next))
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn recall(&mut self, url: &Url) -> Option<(HeaderValue, Page)> {
        let remembered = self.pages.get_mut(url)?;
        remembered.used = Instant::now();
        Some((remembered.etag.clone(), remembered.page.clone()))
    }

    fn keep(&mut self, url: Url, etag: HeaderValue, page: Page) {
        self.pages.insert(url, Remembered { etag, page, used: Instant::now() });
        if self.pages.len() > REMEMBERED {
            let oldest = self.pages.iter().min_by_key(|(_, remembered)| remembered.used);
            if let Some(url) = oldest.map(|(url, _)| url.clone()) {
                self.pages.remove(&url);
            }
        }
    }
}

/// Whether the API has a release like this at the place that it is asked for.
fn is_at(release: &ListedRelease, segments: &[&str]) -> bool {
    match segments {
        ["latest"] => !release.draft && !release.prerelease,
        ["tags", tag] => !release.draft && release.tag == *tag,
        _ => false,
    }
}

/// Reads a body of at most `limit` bytes into memory.
pub(crate) async fn read_capped(
    url: &Url,
    response: Response,
    limit: u64,
) -> Result<Vec<u8>, ReleaseError> {
    neco_http::read_capped(response, limit).await.map_err(|error| match error {
        BodyError::TooLarge { limit } => {
            ReleaseError::TooLarge { url: shown(url), limit, announced: false }
        }
        BodyError::Broken(source) => broken(url, source),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_without_a_version_are_named_with_the_right_form() {
        let tags = |count: usize| (0..count).map(|n| format!("release-x{n}")).collect::<Vec<_>>();
        assert_eq!(unparsable(Environment::Staging, &[]), None);
        let one = unparsable(Environment::Staging, &tags(1)).expect("a remark");
        assert!(one.starts_with("tag \"release-x0\" names no version: "), "{one}");
        assert!(one.contains("release-2026.11.21-40152"), "{one}");
        let many = unparsable(Environment::Dev, &tags(9)).expect("a remark");
        assert!(many.contains("\"release-x2\" and 6 more"), "{many}");
        assert!(many.contains("test-2026.11.21-40152") && !many.contains("x3"), "{many}");
    }

    #[test]
    fn names_that_would_change_the_url_are_refused() {
        for (owner, repository, option) in [
            ("a/b", "neco", "release.owner"),
            ("", "neco", "release.owner"),
            ("cybozu-go", "..", "release.repository"),
            ("cybozu-go", "neco?x", "release.repository"),
        ] {
            let error = GithubClient::new(Options::new(owner, repository)).expect_err("refused");
            assert!(error.to_string().starts_with(option), "{error}");
        }
    }

    #[test]
    fn the_api_may_live_under_a_path() {
        for api in ["https://host/api/v3", "https://host/api/v3/"] {
            let options =
                Options { api_url: api.parse().expect("a URL"), ..Options::new("o", "r") };
            let client = GithubClient::new(options).expect("a client");
            assert_eq!(
                client.url(&["tags", "release-1.0.0"]).as_str(),
                "https://host/api/v3/repos/o/r/releases/tags/release-1.0.0"
            );
        }
    }

    #[test]
    fn memory_keeps_the_answers_that_were_used_last() {
        let mut memory = Memory::default();
        let url = |n: usize| Url::parse(&format!("https://h/{n}")).expect("a URL");
        let page = Page { releases: Arc::new([]), next: None };
        memory.keep(url(0), HeaderValue::from_static("e"), page.clone());
        for n in 1..=REMEMBERED + 5 {
            assert!(memory.recall(&url(0)).is_some());
            memory.keep(url(n), HeaderValue::from_static("e"), page.clone());
        }
        assert_eq!(memory.pages.len(), REMEMBERED);
        assert!(memory.recall(&url(0)).is_some() && memory.recall(&url(1)).is_none());
    }
}
