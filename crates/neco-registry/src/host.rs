//! One registry: its client, and who Neco is to it by now.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use neco_http::{is_loopback, is_redirect, next_hop, retry_after, shown};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Certificate, Response, StatusCode, Url};

use crate::credentials::Login;
use crate::error::RegistryError;
use crate::name::Repository;
use crate::options::Options;
use crate::token;

/// For so many repositories an authorization is kept; more than any caller asks for in a row.
const REMEMBERED: usize = 64;

/// One registry.
pub(crate) struct Host {
    /// As logins are known by it.
    registry: String,
    base: Url,
    http: reqwest::Client,
    options: Arc<Options>,
    /// What was accepted last, by repository; tokens are made for one.
    authorizations: Mutex<BTreeMap<String, HeaderValue>>,
}

impl Host {
    /// The registry in which `repository` lies; nothing is sent yet.
    pub(crate) fn new(
        repository: &Repository,
        options: Arc<Options>,
    ) -> Result<Self, RegistryError> {
        let option = |option, problem: String| RegistryError::Option { option, problem };
        let host = repository.host();
        let url = |scheme: &str| Url::parse(&format!("{scheme}://{host}/v2/"));
        let no_host = |_| option("image", format!("{host:?} is no host of a registry"));
        let plain = url("http").map_err(no_host)?;
        // Nobody else can read what stays on this machine, and no proxy could lead back to it.
        let own = is_loopback(&plain);
        let (base, proxy) = match own {
            true => (plain, None),
            false => (url("https").map_err(no_host)?, options.proxy.as_ref()),
        };
        let http = neco_http::client(&base, proxy).map_err(|_| {
            let proxy = proxy.map(shown).unwrap_or_default();
            option(
                "proxy",
                format!("{proxy:?} is no proxy URL; write it like http://10.0.0.1:3128"),
            )
        })?;
        let authorities = Certificate::from_pem_bundle(&options.authorities);
        let authorities = authorities.map_err(|_| {
            option("authorities", "there is something else than certificates in PEM".to_owned())
        })?;
        let http = http
            .tls_certs_merge(authorities)
            .user_agent(&options.user_agent)
            .connect_timeout(options.connect_timeout)
            .pool_idle_timeout(Duration::from_secs(90))
            .pool_max_idle_per_host(1)
            .tcp_keepalive(Duration::from_secs(30))
            .build()
            .map_err(|source| RegistryError::Transport { url: shown(&base), source })?;
        let registry = repository.registry().to_owned();
        Ok(Self { registry, base, http, options, authorizations: Mutex::default() })
    }

    pub(crate) fn registry(&self) -> &str {
        &self.registry
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// The address of something in a repository.
    pub(crate) fn url(&self, repository: &Repository, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(repository.path().split('/')).extend(segments);
        }
        url
    }

    /// Whether this registry answers at `url` too.
    pub(crate) fn is_home(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// Whether a secret may be sent to `url`: nobody on the way can read it. Of the registry itself that is always so.
    pub(crate) fn is_private(&self, url: &Url) -> bool {
        url.scheme() == "https" || is_loopback(url) && is_loopback(&self.base)
    }

    /// Sends a GET for `url`, of this registry, and follows its redirects; the answer's status is 200, 206 or 416. Whoever is
    /// asked who comes says so, with a login or a token of now if the remembered one is not accepted any more.
    ///
    /// Reading the body is the caller's business, the time for the headers is `patience` per hop.
    pub(crate) async fn get(
        &self,
        url: &Url,
        repository: &Repository,
        headers: &HeaderMap,
        patience: Duration,
    ) -> Result<Response, RegistryError> {
        let remembered = self.authorizations().get(repository.path()).cloned();
        let (at, response) = self.follow(url, headers, remembered.as_ref(), patience).await?;
        if response.status() != StatusCode::UNAUTHORIZED || !self.is_home(&at) {
            return judge(&at, response);
        }
        self.authorizations().remove(repository.path());
        let (authorization, login_sent) = token::obtain(self, url, &response, repository).await?;
        drop(response);
        let (at, response) = self.follow(url, headers, Some(&authorization), patience).await?;
        if response.status() == StatusCode::UNAUTHORIZED && self.is_home(&at) {
            return Err(self.unauthorized(&at, StatusCode::UNAUTHORIZED, login_sent));
        }
        let response = judge(&at, response)?;
        let mut authorizations = self.authorizations();
        if authorizations.len() >= REMEMBERED {
            authorizations.clear();
        }
        authorizations.insert(repository.path().to_owned(), authorization);
        Ok(response)
    }

    /// The login for this registry, as it is now.
    pub(crate) async fn login(&self) -> Result<Option<Login>, RegistryError> {
        let login = self.options.credentials.login(&self.registry).await;
        login.map_err(|why| RegistryError::Credentials { registry: self.registry.clone(), why })
    }

    pub(crate) fn unauthorized(
        &self,
        url: &Url,
        status: StatusCode,
        login_sent: bool,
    ) -> RegistryError {
        RegistryError::Unauthorized {
            url: shown(url),
            status: status.as_u16(),
            registry: self.registry.clone(),
            login_sent,
            remedy: self.options.credentials.remedy(&self.registry),
        }
    }

    /// One request, redirected as often as it may be. What another host points to is its choice, and nothing of ours goes
    /// along any more, even back home.
    async fn follow(
        &self,
        url: &Url,
        headers: &HeaderMap,
        authorization: Option<&HeaderValue>,
        patience: Duration,
    ) -> Result<(Url, Response), RegistryError> {
        let mut visited = vec![url.clone()];
        let mut at = url.clone();
        let mut known = true;
        loop {
            known = known && self.is_home(&at);
            let mut request = self.http.get(at.clone()).headers(headers.clone());
            if let Some(authorization) = authorization.filter(|_| known) {
                request = request.header(AUTHORIZATION, authorization.clone());
            }
            let response = send(&at, request, patience).await?;
            if !is_redirect(response.status()) {
                return Ok((at, response));
            }
            at = next_hop(&visited, response.headers())
                .map_err(|problem| RegistryError::Redirect { url: shown(url), problem })?;
            visited.push(at.clone());
        }
    }

    fn authorizations(&self) -> MutexGuard<'_, BTreeMap<String, HeaderValue>> {
        self.authorizations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends a request and waits for the headers of its answer.
pub(crate) async fn send(
    url: &Url,
    request: reqwest::RequestBuilder,
    patience: Duration,
) -> Result<Response, RegistryError> {
    match tokio::time::timeout(patience, request.send()).await {
        Ok(sent) => sent.map_err(|source| broken(url, source)),
        Err(_) => Err(RegistryError::Silent { url: shown(url), after: patience }),
    }
}

/// The error of a connection that broke while `url` was asked for.
pub(crate) fn broken(url: &Url, source: reqwest::Error) -> RegistryError {
    RegistryError::Transport { url: shown(url), source: source.without_url() }
}

/// Lets an answer pass that can be worked with.
pub(crate) fn judge(at: &Url, response: Response) -> Result<Response, RegistryError> {
    let url = shown(at);
    let after = retry_after(response.headers());
    match response.status().as_u16() {
        200 | 206 | 416 => Ok(response),
        403 => Err(RegistryError::Forbidden { url }),
        429 => Err(RegistryError::RateLimited { url, after }),
        status @ (408 | 500..=599) => Err(RegistryError::Server { url, status, after }),
        status => Err(RegistryError::Status { url, status }),
    }
}
