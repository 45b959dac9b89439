//! From the configuration file to etcd.

use neco_base::Secret;
use neco_process::config::{Config, ConfigError, Pem};
use neco_store::{EtcdStore, Options, StoreError};

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

/// A store for the configuration. Succeeds with nothing listening; the first call tells.
///
/// # Errors
/// A file cannot be read, or the options contradict each other.
pub async fn connect(config: &Config) -> Result<EtcdStore, ConnectError> {
    Ok(EtcdStore::connect(store_options(config)?).await?)
}
