//! The exporters of hardware metrics, one on each machine (external-apis §7).

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use async_trait::async_trait;
use neco_http::Url;

use crate::alerts::{inside_client, page};
use crate::exposition::{self, Metrics};

/// Where exporters listen.
pub const PORT: u16 = 9105;
/// How long one may take.
const WITHIN: Duration = Duration::from_secs(10);
/// The most that is read of an answer.
const LARGEST: u64 = 8 << 20;

/// Knows the hardware of machines.
#[async_trait]
pub trait Hardware: Send + Sync {
    /// The wanted families of metrics that the machine at `address` tells. Ends within a bound of its own.
    ///
    /// # Errors
    /// In words: it does not answer, or not with metrics.
    async fn metrics(&self, address: Ipv4Addr, wanted: &BTreeSet<&str>) -> Result<Metrics, String>;
}

/// Asks the exporters themselves, never through a proxy.
#[derive(Debug)]
pub struct Exporters {
    client: reqwest::Client,
    port: u16,
}

impl Exporters {
    /// A client for exporters that listen at `port`; nothing is sent yet.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(port: u16) -> Result<Self, reqwest::Error> {
        Ok(Self { client: inside_client()?, port })
    }
}

#[async_trait]
impl Hardware for Exporters {
    async fn metrics(&self, address: Ipv4Addr, wanted: &BTreeSet<&str>) -> Result<Metrics, String> {
        let url: Url = format!("http://{address}:{}/metrics", self.port)
            .parse()
            .map_err(|error| format!("{address} makes no URL: {error}"))?;
        let body = page(&self.client, url, WITHIN, LARGEST).await?;
        exposition::parse(&String::from_utf8_lossy(&body), wanted)
            .map_err(|error| error.to_string())
    }
}
