//! The versions of a channel of Flatcar Container Linux, as its publisher lists them.

use std::time::Duration;

use neco_artifacts::OsImage;
use neco_base::Backoff;
use neco_http::{BodyError, Url, is_redirect, next_hop, read_capped, shown};
use reqwest::Response;
use serde_json::{Map, Value};

use neco_base::one_line;

use super::{Found, Options};
use crate::decide::Offer;

/// The longest list that is read: with notes on every release it has a few MiB.
const LIMIT: u64 = 32 << 20;
/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a server may be silent.
const SILENCE: Duration = Duration::from_secs(30);
/// How long to wait between tries.
const BETWEEN_TRIES: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(15));
/// The entry that is another one's double.
const CURRENT: &str = "current";

/// Why there is no list. Addresses carry neither user information nor queries.
#[derive(Debug, thiserror::Error)]
enum ChannelError {
    #[error("{0} is no address below which lists can lie; correct --os-image-feed")]
    Address(String),
    #[error("{url} answered {status}{}", match .status {
        500.. | 408 | 429 => ": the server has trouble",
        _ => "; check the channel, --os-image-feed and the proxy",
    })]
    Status { url: String, status: u16 },
    #[error("{url} redirects {why}; check --os-image-feed and the proxy")]
    Redirect { url: String, why: String },
    #[error("{url} is no list of versions; is a login page or a proxy in between?")]
    Malformed {
        url: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("{url} sends more than the {LIMIT} bytes that are allowed for a list of versions")]
    TooLarge { url: String },
    #[error("connection to {url} failed; is the network or the proxy down?")]
    Transport {
        url: String,
        #[source]
        source: reqwest::Error,
    },
}

impl ChannelError {
    fn passes_soon(&self) -> bool {
        matches!(self, Self::Transport { .. } | Self::Status { status: 500..|408| 429, .. })
    }
}

/// The versions of the channel that `os_image` follows.
pub(super) async fn versions(os_image: &OsImage, options: &Options) -> Result<Found, String> {
    let feed = &options.os_image_feed;
    // A last part without a slash would be replaced rather than added to.
    let mut address = feed.clone();
    if !address.path().ends_with('/') {
        address.set_path(&format!("{}/", address.path()));
    }
    let url = address.join(&format!("releases-{}.json", os_image.channel));
    let url = url.map_err(|_| one_line(&ChannelError::Address(shown(feed))))?;
    let mut retry = BETWEEN_TRIES.retry();
    loop {
        match read(&url).await {
            Ok(list) => {
                let versions = list.into_iter().map(|(version, _)| version);
                let versions = versions.filter(|version| version != CURRENT);
                return Ok(Found {
                    offers: versions.map(Offer::from).collect(),
                    ..Found::default()
                });
            }
            Err(error) if error.passes_soon() && retry.failures() + 1 < options.attempts => {
                tokio::time::sleep(retry.pause()).await;
            }
            Err(error) => return Err(one_line(&error)),
        }
    }
}

async fn read(url: &Url) -> Result<Map<String, Value>, ChannelError> {
    let (at, answer) = get(url).await?;
    let url = shown(&at);
    let body = match read_capped(answer, LIMIT).await {
        Ok(body) => body,
        Err(BodyError::TooLarge { .. }) => return Err(ChannelError::TooLarge { url }),
        Err(BodyError::Broken(source)) => return Err(ChannelError::Transport { url, source }),
    };
    serde_json::from_slice(&body).map_err(|source| ChannelError::Malformed { url, source })
}

/// Follows redirects to an answer that is a success.
async fn get(url: &Url) -> Result<(Url, Response), ChannelError> {
    let mut visited = vec![url.clone()];
    let mut at = url.clone();
    loop {
        let failed = |source: reqwest::Error| ChannelError::Transport {
            url: shown(&at),
            source: source.without_url(),
        };
        let client = neco_http::client(&at, None).map_err(failed)?;
        let client = client.connect_timeout(CONNECT).read_timeout(SILENCE).build();
        let answer = client.map_err(failed)?.get(at.clone()).send().await.map_err(failed)?;
        let status = answer.status();
        if is_redirect(status) {
            let next = next_hop(&visited, answer.headers());
            at = next.map_err(|why| ChannelError::Redirect { url: shown(url), why })?;
            visited.push(at.clone());
            continue;
        }
        if status != reqwest::StatusCode::OK {
            return Err(ChannelError::Status { url: shown(&at), status: status.as_u16() });
        }
        return Ok((at, answer));
    }
}
