//! One HTTP exchange: redirects followed by hand, the token kept at home, refusals turned into errors.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use neco_base::Secret;
use neco_http::{is_loopback, is_redirect, next_hop, retry_after, server_now, shown};
use neco_schema::Timestamp;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url};

use crate::error::ReleaseError;

/// What a bogus header can do at most.
const LONGEST_BLOCK: Duration = Duration::from_secs(2 * 60 * 60);
/// What GitHub asks for where it refuses without saying for how long.
const UNTOLD_BLOCK: Duration = Duration::from_secs(60);

/// What is needed to build a [`Transport`].
pub(crate) struct TransportOptions<'a> {
    pub(crate) api_url: &'a Url,
    pub(crate) token: Option<&'a Secret>,
    pub(crate) proxy: Option<&'a Url>,
    pub(crate) user_agent: &'a str,
    pub(crate) connect_timeout: Duration,
}

/// Sends GET requests.
#[derive(Debug)]
pub(crate) struct Transport {
    http: reqwest::Client,
    home: Url,
    /// Already in the form of the header; marked sensitive, so that no log shows it.
    authorization: Option<HeaderValue>,
    proxied: bool,
    blocked: Mutex<Option<Block>>,
    remaining: Mutex<Option<u64>>,
}

#[derive(Clone, Debug)]
struct Block {
    /// Which question was refused: what is not asked meanwhile is told in the same words.
    url: String,
    ends: Instant,
    until: Timestamp,
}

impl Transport {
    pub(crate) fn new(options: &TransportOptions<'_>) -> Result<Self, ReleaseError> {
        let home = options.api_url.clone();
        let option = |option, problem: String| ReleaseError::Option { option, problem };
        if !matches!(home.scheme(), "http" | "https") || home.host_str().is_none() {
            let problem = format!("{:?} is not an absolute http or https URL", shown(&home));
            return Err(option("release.api_url", problem));
        }
        if !home.username().is_empty() || home.password().is_some() {
            let problem = "must not contain a user or password; set github-token instead";
            return Err(option("release.api_url", problem.to_owned()));
        }
        let authorization = options.token.map(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.reveal().trim()))
                .map_err(|_| {
                    option("github-token", "has characters that no token has; set it again".into())
                })?;
            value.set_sensitive(true);
            Ok::<_, ReleaseError>(value)
        });
        let http = neco_http::client(&home, options.proxy).map_err(|_| {
            let proxy = options.proxy.map(shown).unwrap_or_default();
            option("proxy", format!("{proxy:?} is no proxy URL"))
        })?;
        let http = http
            .user_agent(options.user_agent)
            .connect_timeout(options.connect_timeout)
            .pool_idle_timeout(Duration::from_secs(90))
            .pool_max_idle_per_host(1)
            .tcp_keepalive(Duration::from_secs(30));
        let http =
            http.build().map_err(|source| ReleaseError::Transport { url: shown(&home), source })?;
        let transport = Self {
            http,
            home,
            authorization: authorization.transpose()?,
            proxied: options.proxy.is_some(),
            blocked: Mutex::new(None),
            remaining: Mutex::new(None),
        };
        if transport.authorization.is_some() && !transport.may_carry_token(&transport.home) {
            let url = shown(&transport.home);
            tracing::warn!(url, "the GitHub token is not sent: the API is not reached over https");
        }
        Ok(transport)
    }

    /// Sends a GET for `url` and follows its redirects; the answer's status is a success, or 304, or 416.
    ///
    /// The token goes along as long as no other host was asked, as after the renaming of a repository: what another
    /// host points to is its choice, even on the configured one.
    ///
    /// Reading the body is the caller's business, the time for the headers is `patience` per hop.
    pub(crate) async fn get(
        &self,
        url: &Url,
        headers: &HeaderMap,
        patience: Duration,
    ) -> Result<Response, ReleaseError> {
        self.refuse_while_blocked(url)?;
        let mut visited = vec![url.clone()];
        let mut at = url.clone();
        let mut with_token = true;
        loop {
            with_token = with_token && self.may_carry_token(&at);
            let response = self.hop(&at, headers, with_token, patience).await?;
            if is_redirect(response.status()) {
                at = next_hop(&visited, response.headers())
                    .map_err(|problem| ReleaseError::Redirect { url: shown(url), problem })?;
                visited.push(at.clone());
                continue;
            }
            return self.judge(&at, with_token, response).await;
        }
    }

    /// How many requests the API still grants, as far as it said.
    pub(crate) fn remaining(&self) -> Option<u64> {
        *self.remaining.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the token may go along with a request for `url`: to the configured host alone, and there only where
    /// nobody on the way can read it.
    fn may_carry_token(&self, url: &Url) -> bool {
        let private = url.scheme() == "https" || (is_loopback(url) && !self.proxied);
        url.origin() == self.home.origin() && private
    }

    async fn hop(
        &self,
        at: &Url,
        headers: &HeaderMap,
        with_token: bool,
        patience: Duration,
    ) -> Result<Response, ReleaseError> {
        let mut request = self.http.get(at.clone()).headers(headers.clone());
        if let Some(authorization) = self.authorization.as_ref().filter(|_| with_token) {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        match tokio::time::timeout(patience, request.send()).await {
            Ok(sent) => sent.map_err(|source| broken(at, source)),
            Err(_) => Err(ReleaseError::Silent { url: shown(at), after: patience }),
        }
    }

    async fn judge(
        &self,
        at: &Url,
        with_token: bool,
        response: Response,
    ) -> Result<Response, ReleaseError> {
        let status = response.status();
        let home = at.origin() == self.home.origin();
        if home && let Some(remaining) = number(response.headers(), "x-ratelimit-remaining") {
            *self.remaining.lock().unwrap_or_else(PoisonError::into_inner) = Some(remaining);
        }
        if status.is_success()
            || status == StatusCode::NOT_MODIFIED
            || status == StatusCode::RANGE_NOT_SATISFIABLE
        {
            return Ok(response);
        }
        let url = shown(at);
        let token_sent = self.authorization.is_some() && with_token;
        Err(match status.as_u16() {
            401 => ReleaseError::Unauthorized { url, token_sent },
            403 | 429 => match rate_limit(response).await {
                Some(wait) => self.block(home, url, wait),
                None => ReleaseError::Forbidden { url, token_sent },
            },
            status @ (404 | 410) => ReleaseError::Gone { url, status },
            status @ (408 | 500..=599) => ReleaseError::Server { url, status },
            status => ReleaseError::Status { url, status },
        })
    }

    /// Remembers that the API wants to be left alone. Another host's limit stops nothing but this request.
    fn block(&self, home: bool, url: String, wait: Duration) -> ReleaseError {
        let wait = wait.min(LONGEST_BLOCK);
        let until = now().plus_nanos(i64::try_from(wait.as_nanos()).unwrap_or(i64::MAX));
        if home {
            let block = Block { url: url.clone(), ends: Instant::now() + wait, until };
            *self.blocked.lock().unwrap_or_else(PoisonError::into_inner) = Some(block);
        }
        ReleaseError::RateLimited { url, until }
    }

    fn refuse_while_blocked(&self, url: &Url) -> Result<(), ReleaseError> {
        let blocked = self.blocked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match blocked.filter(|block| Instant::now() < block.ends) {
            Some(block) if url.origin() == self.home.origin() => {
                Err(ReleaseError::RateLimited { url: block.url, until: block.until })
            }
            _ => Ok(()),
        }
    }
}

/// The error of a connection that broke while `url` was asked for.
pub(crate) fn broken(url: &Url, source: reqwest::Error) -> ReleaseError {
    ReleaseError::Transport { url: shown(url), source: source.without_url() }
}

fn now() -> Timestamp {
    Timestamp::new(jiff::Timestamp::now()).unwrap_or_default()
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// How long a refusal asks to wait, if it is about the rate of requests.
async fn rate_limit(response: Response) -> Option<Duration> {
    let headers = response.headers();
    if headers.contains_key(RETRY_AFTER) {
        return Some(retry_after(headers).unwrap_or(UNTOLD_BLOCK));
    }
    if number(headers, "x-ratelimit-remaining") == Some(0) {
        let reset = number(headers, "x-ratelimit-reset");
        let reset = reset.and_then(|at| i64::try_from(at).ok());
        let wait = reset.map(|at| at.saturating_sub(server_now(headers).as_second()).max(1));
        return Some(wait.map_or(UNTOLD_BLOCK, |wait| Duration::from_secs(wait.unsigned_abs())));
    }
    if response.status() == StatusCode::TOO_MANY_REQUESTS {
        return Some(UNTOLD_BLOCK);
    }
    // A secondary limit may say so in words alone. The first bytes are enough to see it.
    let mut response = response;
    let excerpt = tokio::time::timeout(Duration::from_secs(5), response.chunk()).await;
    let excerpt = excerpt.ok()?.ok()??;
    let text = String::from_utf8_lossy(&excerpt).to_ascii_lowercase();
    text.contains("rate limit").then_some(UNTOLD_BLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transport(api: &str, proxy: Option<&str>) -> Transport {
        let api_url: Url = api.parse().expect("a URL");
        let proxy: Option<Url> = proxy.map(|proxy| proxy.parse().expect("a URL"));
        Transport::new(&TransportOptions {
            api_url: &api_url,
            token: Some(&Secret::from("ghp_secret")),
            proxy: proxy.as_ref(),
            user_agent: "test",
            connect_timeout: Duration::from_secs(1),
        })
        .unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn the_token_goes_only_to_the_configured_host_and_only_in_private() {
        let carries = |transport: &Transport, url: &str| {
            transport.may_carry_token(&url.parse().expect("URL"))
        };
        let github = transport("https://api.github.com/", None);
        assert!(carries(&github, "https://api.github.com/repos/o/r/releases"));
        for other in [
            "http://api.github.com/",
            "https://api.github.com:8443/",
            "https://api.github.com.example/",
            "https://objects.githubusercontent.com/x",
            "https://github.com/",
        ] {
            assert!(!carries(&github, other), "{other}");
        }
        for loopback in ["http://127.0.0.1:80/", "http://[::1]:8080/", "http://localhost:1/"] {
            assert!(carries(&transport(loopback, None), loopback), "{loopback}");
            let proxied = transport(loopback, Some("http://10.0.0.1:3128"));
            assert!(!carries(&proxied, loopback), "{loopback}");
        }
        let mirror = transport("http://mirror.example/", None);
        assert!(!carries(&mirror, "http://mirror.example/"));
    }

    #[test]
    fn the_token_is_not_shown() {
        assert!(!format!("{:?}", transport("https://h/", None)).contains("ghp_secret"));
    }

    #[test]
    fn settings_that_cannot_work_are_refused_with_their_name() {
        let refused = |api: &str, token: &str| {
            let api_url: Url = api.parse().expect("a URL");
            let error = Transport::new(&TransportOptions {
                api_url: &api_url,
                token: Some(&Secret::from(token)),
                proxy: None,
                user_agent: "test",
                connect_timeout: Duration::from_secs(1),
            })
            .expect_err("refused");
            let text = error.to_string();
            assert!(!text.contains("hunter2"), "{text}");
            text
        };
        assert!(refused("ftp://host/", "t").starts_with("release.api_url: "));
        assert!(refused("https://user:hunter2@host/", "t").starts_with("release.api_url: "));
        assert!(refused("https://host/", "hunter2\n2").starts_with("github-token: "));
    }
}
