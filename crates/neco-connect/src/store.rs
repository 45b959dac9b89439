//! From the configuration file to etcd.

use std::path::Path;
use std::sync::Arc;

use neco_base::Secret;
use neco_process::config::{self, Config, ConfigError, Pem};
use neco_process::daemon::wait_for_config;
use neco_store::{EtcdStore, Options, StoreError};
use tokio_util::sync::CancellationToken;

use crate::one_line;

/// Why a store cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A file that the configuration names cannot be read.
    #[error("reading what the configuration file names")]
    Config(#[from] ConfigError),
    /// The options contradict each other, or the server refused the login.
    #[error("connecting to etcd")]
    Store(#[from] StoreError),
}

/// What the configuration file says about etcd, in the store's terms.
///
/// # Errors
/// A certificate or key file cannot be read.
pub fn store_options(config: &Config) -> Result<Options, ConnectError> {
    let read = |pem: &Pem| pem.read().map(String::into_bytes);
    let mut options = Options::new(config.etcd.endpoints.iter().cloned());
    options.prefix.clone_from(&config.etcd.prefix);
    options.timeout = config.etcd.timeout;
    if let Some(login) = &config.etcd.login {
        options.user = Some(login.username.clone());
        options.password = Some(login.password.clone());
    }
    if let Some(tls) = &config.etcd.tls {
        options.ca = tls.ca.as_ref().map(read).transpose()?;
        if let Some(identity) = &tls.identity {
            options.cert = Some(read(&identity.cert)?);
            options.key = Some(Secret::new(read(identity.key.reveal())?));
        }
    }
    Ok(options)
}

/// A store for the configuration below `root`. While etcd does not let it in, certificates, user and password are read
/// again, so that whoever mends them need not restart anything.
///
/// # Errors
/// As [`connect`].
pub async fn connect_renewing(config: &Config, root: &Path) -> Result<EtcdStore, ConnectError> {
    let root = root.to_owned();
    let renew = move || {
        let read = config::load(&root).map_err(|error| one_line(&error))?;
        store_options(&read.config).map_err(|error| one_line(&error))
    };
    Ok(EtcdStore::connect_renewing(store_options(config)?, Arc::new(renew)).await?)
}

/// Waits for a configuration from which a store can be made; `None` when `stop` comes first.
pub async fn wait_for_store(root: &Path, stop: &CancellationToken) -> Option<(Config, EtcdStore)> {
    wait_for_config(root, stop, async |config| {
        let store = connect_renewing(config, root).await;
        store.map_err(|error| one_line(&error))
    })
    .await
}

/// A store for the configuration. Succeeds with nothing listening; the first call tells.
///
/// # Errors
/// A file cannot be read, or the options contradict each other.
pub async fn connect(config: &Config) -> Result<EtcdStore, ConnectError> {
    Ok(EtcdStore::connect(store_options(config)?).await?)
}
