//! One exchange with Vault: redirects followed by hand, refusals turned into errors.

use neco_base::Secret;
use neco_http::{BodyError, Url, read_capped, shown};
use neco_schema::abridged;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use reqwest::{Method, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Client;
use crate::VaultError;

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
/// Vault can be told to refuse requests without it: a browser that was tricked does not send it.
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");
const NO_FORWARDING: HeaderName = HeaderName::from_static("x-vault-no-request-forwarding");

/// How much of Vault's own words is shown.
const SAID: usize = 300;

/// When a request that failed is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Never: whoever asks asks again himself.
    Never,
    /// If it did not leave this machine: twice would be once too often.
    IfNotSent,
    /// Whenever that may help: twice is as good as once.
    Always,
}

/// A request.
pub(super) struct Call<'c> {
    client: &'c Client,
    method: Method,
    /// Below `/v1/`.
    path: String,
    query: &'static str,
    body: Option<Secret<Vec<u8>>>,
    repeat: Repeat,
    with_token: bool,
    forwarded: bool,
}

/// A success.
pub(super) struct Answer {
    /// What was asked for, as it may be shown.
    pub(super) url: String,
    body: Secret<Vec<u8>>,
}

/// What every answer of a plugin is wrapped in.
#[derive(Deserialize)]
struct Wrapped<T> {
    data: Option<T>,
}

/// What a refusal says.
#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    errors: Vec<String>,
}

impl Client {
    /// A read: it can be repeated.
    pub(super) fn get(&self, path: impl Into<String>) -> Call<'_> {
        self.call(Method::GET, path.into(), Repeat::Always)
    }

    /// A write that says how something should be.
    pub(super) fn put(&self, path: impl Into<String>) -> Call<'_> {
        self.call(Method::PUT, path.into(), Repeat::Always)
    }

    /// A write that does something.
    pub(super) fn act(&self, path: impl Into<String>) -> Call<'_> {
        self.call(Method::PUT, path.into(), Repeat::IfNotSent)
    }

    /// A removal.
    pub(super) fn delete(&self, path: impl Into<String>) -> Call<'_> {
        self.call(Method::DELETE, path.into(), Repeat::Always)
    }

    fn call(&self, method: Method, path: String, repeat: Repeat) -> Call<'_> {
        Call {
            client: self,
            method,
            path,
            query: "",
            body: None,
            repeat,
            with_token: true,
            forwarded: true,
        }
    }

    fn url(&self, path: &str, query: &str) -> Url {
        let mut url = self.base.clone();
        url.set_query(Some(query).filter(|query| !query.is_empty()));
        url.set_fragment(None);
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path.split('/'));
        }
        url
    }
}

impl Call<'_> {
    pub(super) fn query(self, query: &'static str) -> Self {
        Self { query, ..self }
    }

    /// Sends this as JSON.
    pub(super) fn body(self, body: &impl Serialize) -> Self {
        // Nothing that is sent has keys that are no texts, or can fail otherwise.
        let body = serde_json::to_vec(body).unwrap_or_default();
        Self { body: Some(Secret::new(body)), ..self }
    }

    pub(super) fn repeat(self, repeat: Repeat) -> Self {
        Self { repeat, ..self }
    }

    /// Leaves the token at home, where none is needed.
    pub(super) fn without_token(self) -> Self {
        Self { with_token: false, ..self }
    }

    /// The server is to answer for itself.
    pub(super) fn not_forwarded(self) -> Self {
        Self { forwarded: false, ..self }
    }

    /// Sends it, again where that is allowed and may help.
    pub(super) async fn send(&self) -> Result<Answer, VaultError> {
        let limits = &self.client.limits;
        let mut retry = limits.backoff.retry();
        loop {
            let error = match self.try_once().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let again = match self.repeat {
                Repeat::Never => false,
                Repeat::IfNotSent => error.was_not_sent(),
                Repeat::Always => error.passes_soon(),
            };
            if !again || retry.failures() + 1 >= limits.attempts {
                return Err(error);
            }
            tokio::time::sleep(retry.pause()).await;
        }
    }

    /// As [`Call::send`], for what need not be there: 404 is none.
    pub(super) async fn find(&self) -> Result<Option<Answer>, VaultError> {
        match self.send().await {
            Ok(answer) => Ok(Some(answer)),
            Err(VaultError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn try_once(&self) -> Result<Answer, VaultError> {
        let after = self.client.limits.request_timeout;
        let url = self.client.url(&self.path, self.query);
        match tokio::time::timeout(after, self.exchange(&url)).await {
            Ok(answer) => answer,
            Err(_) => Err(VaultError::Silent { url: shown(&url), after }),
        }
    }

    async fn exchange(&self, url: &Url) -> Result<Answer, VaultError> {
        let response = self.hop(url).await?;
        if response.status() != StatusCode::TEMPORARY_REDIRECT {
            return self.judge(url, response).await;
        }
        // A standby that cannot forward says who leads; the leader sends nobody away.
        let leader = next_hop(url, &response)?;
        let response = self.hop(&leader).await?;
        if response.status() == StatusCode::TEMPORARY_REDIRECT {
            let why = format!("the leader that {} names sends further", shown(url));
            return Err(VaultError::NoLeader { url: shown(&leader), why });
        }
        self.judge(&leader, response).await
    }

    async fn hop(&self, url: &Url) -> Result<Response, VaultError> {
        let mut request = self.client.http.request(self.method.clone(), url.clone());
        request = request.header(REQUEST, "true");
        if let Some(token) = self.client.token.as_ref().filter(|_| self.with_token) {
            let mut token =
                HeaderValue::from_str(token.reveal().trim()).map_err(|_| VaultError::Option {
                    option: "token of Vault",
                    problem: "has characters that no token has".to_owned(),
                })?;
            token.set_sensitive(true);
            request = request.header(TOKEN, token);
        }
        if !self.forwarded {
            request = request.header(NO_FORWARDING, "true");
        }
        if let Some(body) = &self.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.reveal().clone());
        }
        request.send().await.map_err(|source| broken(url, source))
    }

    async fn judge(&self, url: &Url, response: Response) -> Result<Answer, VaultError> {
        let status = response.status();
        let limit = self.client.limits.answer_limit;
        let body = read_capped(response, limit).await.map_err(|error| match error {
            BodyError::TooLarge { limit } => VaultError::TooLarge { url: shown(url), limit },
            BodyError::Broken(source) => broken(url, source),
        })?;
        let body = Secret::new(body);
        let url = shown(url);
        if status.is_success() {
            return Ok(Answer { url, body });
        }
        let refusal: Refusal = serde_json::from_slice(body.reveal()).unwrap_or_default();
        let reason = match refusal.errors.join("; ") {
            nothing if nothing.is_empty() => {
                status.canonical_reason().unwrap_or("no reason given").to_ascii_lowercase()
            }
            said => abridged(&said, SAID),
        };
        let status = status.as_u16();
        Err(match status {
            403 => VaultError::Forbidden {
                url,
                token_sent: self.with_token && self.client.token.is_some(),
            },
            503 if reason.contains("sealed") => VaultError::Sealed { url },
            500 if reason.contains("active cluster node not found") => {
                VaultError::NoLeader { url, why: reason }
            }
            // 412 and 473: this server is not as far yet as the one that was asked before.
            408 | 412 | 429 | 472 | 473 | 500..=599 => VaultError::Server { url, status, reason },
            _ => VaultError::Refused { url, status, reason },
        })
    }
}

impl Answer {
    /// The answer itself.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, VaultError> {
        if self.body.reveal().trim_ascii().is_empty() {
            return Err(self.empty());
        }
        serde_json::from_slice(self.body.reveal())
            .map_err(|source| VaultError::Malformed { url: self.url.clone(), source })
    }

    /// What the answer wraps.
    pub(super) fn data<T: DeserializeOwned>(&self) -> Result<T, VaultError> {
        self.json::<Wrapped<T>>()?.data.ok_or_else(|| self.empty())
    }

    pub(super) fn empty(&self) -> VaultError {
        VaultError::Empty { url: self.url.clone() }
    }
}

/// The error of a connection that could not be made or broke.
fn broken(url: &Url, source: reqwest::Error) -> VaultError {
    let url = shown(url);
    match refused_certificate(&source) {
        Some(why) => VaultError::Untrusted { url, why },
        None => VaultError::Transport { url, source: source.without_url() },
    }
}

/// What is wrong with the other side's certificate, if that is the matter.
fn refused_certificate(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(error @ rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
        return Some(error.to_string());
    }
    // What an I/O error wraps is not its source: the wrapped error's source is.
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    match wrapped {
        Some(wrapped) => refused_certificate(wrapped),
        None => error.source().and_then(refused_certificate),
    }
}

/// Where a standby sends a request. The token goes along: the standby could have used it as well, and the leader shows a
/// certificate of the same CA.
fn next_hop(url: &Url, response: &Response) -> Result<Url, VaultError> {
    let refuse = |problem: String| VaultError::Redirect { url: shown(url), problem };
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or_else(|| refuse("without saying where".to_owned()))?;
    let next = url.join(location).map_err(|_| refuse("to something that is no URL".to_owned()))?;
    super::checked(&next).map_err(|_| refuse(format!("to {}", shown(&next))))?;
    if url.scheme() != next.scheme() {
        return Err(refuse(format!("from {} to {}", url.scheme(), next.scheme())));
    }
    Ok(next)
}
