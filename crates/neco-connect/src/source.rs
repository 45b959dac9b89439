//! From the configuration file and the settings to the release source.

use neco_process::config::ReleaseConfig;
use neco_releases::{GithubClient, Options, ReleaseError, Secret, Url};
use neco_schema::{ConfigKey, Key, Range};
use neco_store::{Store, StoreError};

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
            let text = String::from_utf8_lossy(&kv.value).trim().to_owned();
            (!text.is_empty()).then(|| Secret::new(text))
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
