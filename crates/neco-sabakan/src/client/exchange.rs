//! One exchange of HTTP: where to, how long, how often, and what a refusal means.

use neco_http::{BodyError, Url, read_capped, shown};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::upload::Body;
use super::{Limits, Options};
use crate::sabakan::{OnProgress, UploadProgress};
use crate::{ContentDigest, SabakanError};

/// The most that is read of an answer: some ten thousand machines.
const LARGEST_ANSWER: u64 = 64 << 20;
/// How much of an answer that nobody understands is shown.
const SHOWN: usize = 200;

/// Whether a question may be asked again when it is not known what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Asking twice is as asking once.
    Safe,
    /// It is not.
    Never,
}

/// What is asked for: a path, and conditions that errors do not show.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) path: &'a [&'a str],
    pub(super) query: &'a [(String, String)],
}

impl<'a> From<&'a [&'a str]> for Target<'a> {
    fn from(path: &'a [&'a str]) -> Self {
        Self { path, query: &[] }
    }
}

impl<'a, const N: usize> From<&'a [&'a str; N]> for Target<'a> {
    fn from(path: &'a [&'a str; N]) -> Self {
        Self { path, query: &[] }
    }
}

/// Speaks to one listener of sabakan.
#[derive(Debug)]
pub(super) struct Exchange {
    client: Client,
    base: Url,
    user: String,
    limits: Limits,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub(super) struct Answer {
    call: String,
    status: StatusCode,
    body: Vec<u8>,
}

impl Exchange {
    pub(super) fn new(
        option: &'static str,
        base: &Url,
        ca: Option<&[u8]>,
        options: &Options,
    ) -> Result<Self, SabakanError> {
        let wrong = |problem: String| SabakanError::Option { option, problem };
        let scheme = if ca.is_some() { "https" } else { "http" };
        if base.scheme() != scheme || base.host_str().is_none() {
            return Err(wrong(format!("{:?} is not an absolute {scheme} URL", shown(base))));
        }
        let unusable = |error: reqwest::Error| wrong(chain(&error.without_url()));
        let mut client = neco_http::client(base, None)
            .map_err(unusable)?
            .no_proxy()
            .connect_timeout(options.limits.connect);
        if let Some(ca) = ca {
            let certificates = reqwest::Certificate::from_pem_bundle(ca).map_err(unusable)?;
            if certificates.is_empty() {
                return Err(wrong("the CA holds no certificate in PEM".to_owned()));
            }
            client = client.tls_certs_only(certificates);
        }
        Ok(Self {
            client: client.build().map_err(unusable)?,
            base: base.clone(),
            user: options.user.clone(),
            limits: options.limits.clone(),
        })
    }

    /// How a request is named in errors.
    pub(super) fn call(&self, method: &Method, path: &[&str]) -> String {
        format!("{method} {}", shown(&self.url(path)))
    }

    /// Asks until there is an answer that is a success, as often as is allowed and makes sense.
    pub(super) async fn ask<'a>(
        &self,
        method: Method,
        target: impl Into<Target<'a>> + Send,
        repeat: Repeat,
        with: impl Fn(RequestBuilder) -> RequestBuilder + Send + Sync,
    ) -> Result<Answer, SabakanError> {
        let target = target.into();
        let mut retry = self.limits.between.retry();
        loop {
            let sent = self.send_once(method.clone(), target, &with).await;
            let error = match sent.and_then(Answer::success) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let pause = retry.pause();
            if repeat == Repeat::Never
                || !passes_soon(&error)
                || retry.failures() >= self.limits.tries
            {
                return Err(error);
            }
            tracing::debug!(error = chain(&error), "sabakan is asked again");
            tokio::time::sleep(pause).await;
        }
    }

    /// Asks once; every status is an answer.
    pub(super) async fn send_once<'a>(
        &self,
        method: Method,
        target: impl Into<Target<'a>> + Send,
        with: impl Fn(RequestBuilder) -> RequestBuilder + Send + Sync,
    ) -> Result<Answer, SabakanError> {
        let Target { path, query } = target.into();
        let call = self.call(&method, path);
        let mut url = self.url(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = with(self.request(method, url));
        let exchange = async { Answer::read(call.clone(), request.send().await).await };
        let after = self.limits.answer;
        let late = |_| SabakanError::TimedOut { call: call.clone(), after };
        tokio::time::timeout(after, exchange).await.map_err(late)?
    }

    /// Sends a body while it is read, and waits for the answer as long as something moves. Gives the digest too where that
    /// was asked for and all was sent.
    pub(super) async fn upload(
        &self,
        path: &[&str],
        body: Body,
        progress: OnProgress<'_>,
        with: impl FnOnce(RequestBuilder) -> RequestBuilder + Send,
    ) -> Result<(Answer, Option<ContentDigest>), SabakanError> {
        let call = self.call(&Method::PUT, path);
        let total = body.length;
        let (body, mut flow) = body.begin();
        let request = with(self.request(Method::PUT, self.url(path)));
        let request = request.header(reqwest::header::CONTENT_LENGTH, total).body(body);
        let asked = call.clone();
        let exchange = async move { Answer::read(asked, request.send().await).await };
        tokio::pin!(exchange);
        let deadline = tokio::time::sleep(self.limits.upload);
        tokio::pin!(deadline);
        let answer = loop {
            let silence = tokio::time::sleep(self.limits.silence);
            tokio::select! {
                biased;
                answer = &mut exchange => break answer,
                () = &mut deadline => {
                    let after = self.limits.upload;
                    return Err(SabakanError::TimedOut { call, after });
                }
                done = flow.moved() => progress(UploadProgress { done, total }),
                () = silence => {
                    let after = self.limits.silence;
                    return Err(SabakanError::Silent { call, after });
                }
            }
        };
        // A source that failed ends the connection: that is the cause, not what the connection says.
        if let Some(source) = flow.failure() {
            return Err(SabakanError::Content { call, source });
        }
        let answer = answer?.success()?;
        progress(UploadProgress { done: total, total });
        Ok((answer, flow.digest()))
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        // A URL with a host has a path.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.client.request(method, url).header("X-Sabakan-User", &self.user)
    }
}

impl Answer {
    async fn read(
        call: String,
        sent: Result<Response, reqwest::Error>,
    ) -> Result<Self, SabakanError> {
        let response = match sent {
            Ok(response) => response,
            Err(source) => return Err(transport(call, source)),
        };
        let status = response.status();
        match read_capped(response, LARGEST_ANSWER).await {
            Ok(body) => Ok(Self { call, status, body }),
            Err(BodyError::TooLarge { limit }) => Err(SabakanError::TooLarge { call, limit }),
            Err(BodyError::Broken(source)) => Err(transport(call, source)),
        }
    }

    pub(super) fn call(&self) -> &str {
        &self.call
    }

    pub(super) fn status(&self) -> u16 {
        self.status.as_u16()
    }

    pub(super) fn is_success(&self) -> bool {
        self.status.is_success()
    }

    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, SabakanError> {
        let malformed = |source| SabakanError::Malformed { call: self.call.clone(), source };
        serde_json::from_slice(&self.body).map_err(malformed)
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn success(self) -> Result<Self, SabakanError> {
        self.refusal()?;
        Ok(self)
    }

    /// What the status means, if it is no success (external-apis §1.1).
    pub(super) fn refusal(&self) -> Result<(), SabakanError> {
        let (call, status) = (self.call.clone(), self.status());
        if self.is_success() {
            return Ok(());
        }
        let error = self.said();
        Err(match status {
            403 => SabakanError::Forbidden { call },
            404 => SabakanError::NotFound { call, error },
            409 => SabakanError::Conflict { call, error },
            500.. => SabakanError::Server { call, status, error },
            _ => SabakanError::Refused { call, status, error },
        })
    }

    /// The text of an error: the field `error`, or the beginning of what came instead, on one line.
    fn said(&self) -> String {
        #[derive(Deserialize)]
        struct Said {
            error: String,
        }
        let text = match serde_json::from_slice::<Said>(&self.body) {
            Ok(said) => said.error,
            Err(_) => self.text(),
        };
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        match line.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None if line.is_empty() => self.status.to_string(),
            None => line,
        }
    }
}

/// Whether the same question may find an answer a moment later.
fn passes_soon(error: &SabakanError) -> bool {
    matches!(
        error,
        SabakanError::Server { .. }
            | SabakanError::TimedOut { .. }
            | SabakanError::Transport { .. }
    )
}

fn transport(call: String, source: reqwest::Error) -> SabakanError {
    let source = source.without_url();
    let text = chain(&source);
    // What TLS has against a certificate has no type that is public.
    match text.find("invalid peer certificate") {
        Some(at) => SabakanError::Certificate { call, why: text[at..].to_owned() },
        None => SabakanError::Transport { call, source },
    }
}

/// An error with its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            call: "GET http://h/x".to_owned(),
            status: StatusCode::from_u16(status).expect("a status"),
            body: body.as_bytes().to_vec(),
        }
    }

    fn refusal(status: u16, body: &str) -> String {
        answer(status, body).refusal().expect_err("a refusal").to_string()
    }

    #[test]
    fn what_sabakan_says_stands_in_the_error_on_one_line() {
        let body = r#"{"status":400,"error":"invalid request: bad\n role","more":1}"#;
        assert_eq!(
            refusal(400, body),
            "GET http://h/x was refused with 400: invalid request: bad role"
        );
        assert_eq!(
            refusal(502, "<html>\n<b>no</b>"),
            "GET http://h/x failed in sabakan with 502: <html> <b>no</b>"
        );
        assert_eq!(
            refusal(500, ""),
            "GET http://h/x failed in sabakan with 500: 500 Internal Server Error"
        );
        assert!(refusal(500, &"x".repeat(5000)).len() < 300);
        assert!(refusal(403, "").contains("127.0.0.1"));
        assert!(answer(201, "").refusal().is_ok());
        assert!(answer(302, "").refusal().is_err());
    }

    #[test]
    fn names_stay_in_their_place_of_the_address() {
        for base in ["http://h:1/", "http://h:1", "http://h:1/below/"] {
            let options = Options::new(base.parse().expect("a URL"), "me");
            let exchange = Exchange::new("o", &options.url, None, &options).expect("usable");
            let call = exchange.call(&Method::GET, &["assets", "a b?c#d%", "meta"]);
            let base = base.trim_end_matches('/');
            assert_eq!(call, format!("GET {base}/assets/a%20b%3Fc%23d%25/meta"));
        }
    }

    #[test]
    fn settings_that_cannot_work_are_refused_with_their_name() {
        let refused = |url: &str, ca: Option<&[u8]>| {
            let options = Options::new(url.parse().expect("a URL"), "me");
            let error =
                Exchange::new("sabakan.x", &options.url, ca, &options).expect_err("refused");
            error.to_string()
        };
        assert_eq!(
            refused("ftp://u:p@h/", None),
            "sabakan.x: \"ftp://h/\" is not an absolute http URL"
        );
        assert!(refused("http://h/", Some(b"")).contains("not an absolute https URL"));
        assert!(refused("https://h/", Some(b"")).contains("holds no certificate"));
        let broken = b"-----BEGIN CERTIFICATE-----\nxxxx\n-----END CERTIFICATE-----\n";
        assert!(refused("https://h/", Some(broken)).starts_with("sabakan.x: "));
    }
}
