//! From the configuration file and the settings to the release source.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use neco_base::Secret;
use neco_process::config::ReleaseConfig;
use neco_releases::{GithubClient, Options, ReleaseError, ReleaseSource, Url};
use neco_schema::{ConfigKey, Key, Range};
use neco_store::{Store, StoreError};

use crate::{Settings, one_line};

/// The secret settings, read when they are needed and never kept in a view.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// `config/github-token`.
    pub github_token: Option<Secret>,
    /// `config/notification/slack`.
    pub slack: Option<Secret>,
}

impl Secrets {
    /// Reads them.
    ///
    /// # Errors
    /// etcd does not answer.
    pub async fn read(store: &dyn Store) -> Result<Self, StoreError> {
        let token = Key::Config(ConfigKey::GithubToken);
        let slack = Key::Config(ConfigKey::Slack);
        let snapshot = store.read(&[Range::from(&token), Range::from(&slack)], None).await?;
        let text = |key: &Key| {
            let kv = snapshot.kvs.get(&key.to_string())?;
            let text = Secret::new(String::from_utf8_lossy(&kv.value).into_owned());
            let trimmed = text.reveal().trim();
            (!trimmed.is_empty()).then(|| Secret::from(trimmed))
        };
        Ok(Self { github_token: text(&token), slack: text(&slack) })
    }
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
        let secrets = Secrets::read(&*self.store).await.map_err(|error| one_line(&error))?;
        let mut kept = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let same =
            |kept: &Client| kept.proxy == settings.proxy && kept.token == secrets.github_token;
        if let Some(kept) = kept.as_ref().filter(|kept| same(kept)) {
            return Ok(Arc::clone(&kept.client) as Arc<dyn ReleaseSource>);
        }
        let client =
            release_source(&self.config, settings.proxy.clone(), secrets.github_token.clone())
                .map_err(|error| one_line(&error))?;
        let client = Arc::new(client);
        *kept = Some(Client {
            proxy: settings.proxy.clone(),
            token: secrets.github_token,
            client: Arc::clone(&client),
        });
        Ok(client)
    }
}
