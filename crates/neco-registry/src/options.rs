//! The settings of a client.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use neco_base::Backoff;
use reqwest::Url;

use crate::credentials::{Anonymous, Credentials};

/// The settings of a [`Registries`](crate::Registries).
#[derive(Clone)]
pub struct Options {
    /// Who Neco is. A login is sent to its registry, and to where that has its tokens made; only over https or within this
    /// machine.
    pub credentials: Arc<dyn Credentials>,
    /// For all registries but those on this machine; without it the environment's proxy variables hold.
    pub proxy: Option<Url>,
    /// Authorities that are trusted besides those of the system, as PEM.
    pub authorities: Vec<u8>,
    /// How the client calls itself.
    pub user_agent: String,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// How long to wait for an answer's headers, and for the whole of a small answer.
    pub request_timeout: Duration,
    /// How long a registry may be silent while it sends a blob.
    pub stall: Duration,
    /// How long an archive or a blob may take, tries and pauses of whoever reads it included.
    pub total: Duration,
    /// How often a request is tried that fails in a way that passes; for a blob, how many in a row may fail without a byte in between.
    pub attempts: u32,
    /// How long to wait between tries.
    pub backoff: Backoff,
    /// The longest wait that a registry may ask for within one call (`Retry-After`); it is asked again by a later call else.
    pub longest_wait: Duration,
    /// How many tags are asked for at once.
    pub tags_per_page: u32,
    /// How many pages of tags are read at most.
    pub max_pages: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            credentials: Arc::new(Anonymous),
            proxy: None,
            authorities: Vec::new(),
            user_agent: "github.com/cybozu-go/neco".to_owned(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            total: Duration::from_secs(60 * 60),
            attempts: 5,
            backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(15)),
            longest_wait: Duration::from_secs(60),
            tags_per_page: 1000,
            max_pages: 100,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("proxy", &self.proxy.as_ref().map(neco_http::shown))
            .field("user_agent", &self.user_agent)
            .finish_non_exhaustive()
    }
}
