//! From the configuration file and the settings to the release source.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use neco_base::Secret;
use neco_process::config::ReleaseConfig;
use neco_releases::{GithubClient, Options, ReleaseError, ReleaseSource, Url};
use neco_schema::{ConfigKey, Key, KeyValue, Range};
use neco_store::{Store, StoreError};

use crate::{Settings, one_line};

/// A secret as it is stored, without the white space around it; `None` if there is nothing else. Secrets are read when
/// they are needed and never kept in a view.
pub fn secret(stored: &KeyValue) -> Option<Secret> {
    let text = Secret::new(String::from_utf8_lossy(&stored.value).into_owned());
    let trimmed = text.reveal().trim();
    (!trimmed.is_empty()).then(|| Secret::from(trimmed))
}

/// The token for the API of releases, if there is one.
///
/// # Errors
/// etcd does not answer.
pub async fn github_token(store: &dyn Store) -> Result<Option<Secret>, StoreError> {
    let key = Key::Config(ConfigKey::GithubToken);
    let snapshot = store.read(&[Range::from(&key)], None).await?;
    Ok(snapshot.kvs.get(&key.to_string()).and_then(secret))
}

/// Why there is no release source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The address is none.
    #[error("release.api_url {url:?} in the configuration file is no URL: {reason}")]
    Url {
        /// The address as given.
        url: String,
        /// Why.
        reason: String,
    },
    /// The client refuses the options.
    #[error("preparing the client for releases")]
    Client(#[from] ReleaseError),
}

/// A client for the configured repository.
///
/// # Errors
/// The options are unusable.
pub fn release_source(
    config: &ReleaseConfig,
    proxy: Option<Url>,
    token: Option<Secret>,
) -> Result<GithubClient, SourceError> {
    let mut options = Options::new(&config.owner, &config.repository);
    options.api_url = Url::parse(&config.api_url).map_err(|error| SourceError::Url {
        url: config.api_url.clone(),
        reason: error.to_string(),
    })?;
    options.proxy = proxy;
    options.token = token;
    options.request_timeout = config.timeout;
    Ok(GithubClient::new(options)?)
}

/// Makes release sources for the present settings.
#[async_trait]
pub trait Sources: Send + Sync + 'static {
    /// The source to ask now.
    ///
    /// # Errors
    /// Why there is none, in words.
    async fn source(&self, settings: &Settings) -> Result<Arc<dyn ReleaseSource>, String>;
}

/// The repository of the configuration file, reached as the settings in etcd say. One client is kept as long as neither
/// changes, so that what it knows of unchanged answers is kept too.
pub struct ConfiguredSource {
    config: ReleaseConfig,
    store: Arc<dyn Store>,
    client: Mutex<Option<Client>>,
}

struct Client {
    proxy: Option<Url>,
    token: Option<Secret>,
    client: Arc<GithubClient>,
}

impl ConfiguredSource {
    /// The repository of `config`, with the token and proxy that `store` holds.
    pub fn new(config: ReleaseConfig, store: Arc<dyn Store>) -> Self {
        Self { config, store, client: Mutex::new(None) }
    }
}

#[async_trait]
impl Sources for ConfiguredSource {
    async fn source(&self, settings: &Settings) -> Result<Arc<dyn ReleaseSource>, String> {
        let token = github_token(&*self.store).await.map_err(|error| one_line(&error))?;
        let mut kept = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |kept: &Client| kept.proxy == settings.proxy && kept.token == token;
        if let Some(kept) = kept.as_ref().filter(|kept| same(kept)) {
            return Ok(Arc::clone(&kept.client) as Arc<dyn ReleaseSource>);
        }
        let client = release_source(&self.config, settings.proxy.clone(), token.clone())
            .map_err(|error| one_line(&error))?;
        let client = Arc::new(client);
        *kept = Some(Client { proxy: settings.proxy.clone(), token, client: Arc::clone(&client) });
        Ok(client)
    }
}
