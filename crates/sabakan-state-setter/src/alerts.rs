//! Alertmanager's API, version 2: the alerts that are active and not silenced (external-apis §7).

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use neco_connect::one_line;
use neco_http::{BodyError, Url, read_capped, shown};
use serde::Deserialize;

/// How long one question may take.
const WITHIN: Duration = Duration::from_secs(10);
/// The most that is read of an answer: some ten thousand alerts.
const LARGEST: u64 = 32 << 20;

/// An alert.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Alert {
    /// What it is about.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

impl Alert {
    /// Its name.
    pub fn name(&self) -> &str {
        self.labels.get("alertname").map_or("", String::as_str)
    }
}

/// Knows alerts.
#[async_trait]
pub trait Alerts: Send + Sync {
    /// The alerts that the API at `endpoint` tells, without those that are silenced. Ends within a bound of its own.
    ///
    /// # Errors
    /// In words.
    async fn active(&self, endpoint: &Url) -> Result<Vec<Alert>, String>;
}

/// Asks a real Alertmanager, never through a proxy: it is a program of this data centre.
#[derive(Debug)]
pub struct Alertmanager {
    client: reqwest::Client,
}

impl Alertmanager {
    /// A client; nothing is sent yet.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new() -> Result<Self, reqwest::Error> {
        Ok(Self { client: inside_client()? })
    }
}

/// A client for programs of this data centre, wherever they are: without a proxy.
pub(crate) fn inside_client() -> Result<reqwest::Client, reqwest::Error> {
    let nobody = Url::parse("http://127.0.0.1/").expect("a URL");
    neco_http::client(&nobody, None)?.no_proxy().connect_timeout(WITHIN).build()
}

/// Asks for a page within a bound; in an error `url` stands without its secrets.
pub(crate) async fn page(
    client: &reqwest::Client,
    url: Url,
    within: Duration,
    largest: u64,
) -> Result<Vec<u8>, String> {
    let call = format!("GET {}", shown(&url));
    let asked = async {
        let broken = |error: reqwest::Error| one_line(&error.without_url());
        let response = client.get(url).send().await.map_err(broken)?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("it answers {status}"));
        }
        read_capped(response, largest).await.map_err(|error| match error {
            BodyError::Broken(source) => one_line(&source),
            other => one_line(&other),
        })
    };
    match tokio::time::timeout(within, asked).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(why)) => Err(format!("{call}: {why}")),
        Err(_) => Err(format!("{call}: no answer within {within:?}")),
    }
}

#[async_trait]
impl Alerts for Alertmanager {
    async fn active(&self, endpoint: &Url) -> Result<Vec<Alert>, String> {
        let mut url = endpoint.clone();
        match url.path_segments_mut() {
            Ok(mut segments) => drop(segments.pop_if_empty().push("alerts")),
            Err(()) => return Err(format!("{} is not the URL of an API", shown(endpoint))),
        }
        url.query_pairs_mut().append_pair("silenced", "false");
        let call = shown(&url);
        let body = page(&self.client, url, WITHIN, LARGEST).await?;
        let alerts: Option<Vec<Alert>> = serde_json::from_slice(&body).map_err(|error| {
            format!("GET {call}: no list of alerts ({error}); is that Alertmanager?")
        })?;
        Ok(alerts.unwrap_or_default())
    }
}
