//! The client of Vault's HTTP API.

mod access;
mod call;
mod kv;
mod mounts;
mod pki;
mod seal;

use std::sync::Arc;
use std::time::Duration;

use neco_base::{Backoff, Secret};
use neco_http::{Url, is_loopback, shown};

use crate::VaultError;

pub use access::AuthMethod;
pub use mounts::{Engine, Mount};
pub use pki::{CertificateRequest, Issued, Role, RootCa};
pub use seal::Initialised;

/// The settings of a [`Client`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the server is: `https://HOST:8200`, or `http` to this machine itself.
    pub address: Url,
    /// The CAs, as PEM, that alone are trusted; the system's if none are given.
    pub ca: Option<Vec<u8>>,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// How long to wait for a whole answer.
    pub request_timeout: Duration,
    /// How often a request is tried that fails in a way that passes, where repeating does no harm. How a server is, is
    /// asked once: [`crate::wait_until_answering`] and its like ask again.
    pub attempts: u32,
    /// How long to wait between tries.
    pub backoff: Backoff,
    /// The longest answer that is read.
    pub answer_limit: u64,
}

impl Options {
    /// The settings for a server.
    pub fn new(address: Url) -> Self {
        Self {
            address,
            ca: None,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            attempts: 3,
            backoff: Backoff::new(Duration::from_millis(200), Duration::from_secs(2)),
            answer_limit: 1 << 20,
        }
    }

    /// Trusts these CAs alone.
    pub fn trusting(self, ca: impl Into<Vec<u8>>) -> Self {
        Self { ca: Some(ca.into()), ..self }
    }
}

/// A client of one server of Vault. Cheap to clone: clones share their connections.
///
/// What needs a token uses that of [`Client::with_token`]. A request that a standby cannot forward is followed to the leader
/// once, as Vault's own client does.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<Secret>,
    limits: Arc<Limits>,
}

#[derive(Debug)]
struct Limits {
    request_timeout: Duration,
    attempts: u32,
    backoff: Backoff,
    answer_limit: u64,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("base", &shown(&self.base)).finish_non_exhaustive()
    }
}

impl Client {
    /// A client with these settings; nothing is sent yet.
    ///
    /// # Errors
    /// A setting cannot be used.
    pub fn new(options: Options) -> Result<Self, VaultError> {
        let base = checked(&options.address)?;
        let broken = |source: reqwest::Error| VaultError::Transport { url: shown(&base), source };
        // Vault is inside the data centre: proxies are for the world outside.
        let mut http = neco_http::client(&base, None)
            .map_err(broken)?
            .no_proxy()
            .connect_timeout(options.connect_timeout)
            .pool_idle_timeout(Duration::from_secs(90))
            .pool_max_idle_per_host(1);
        if let Some(ca) = &options.ca {
            let certificates = reqwest::Certificate::from_pem_bundle(ca).unwrap_or_default();
            if certificates.is_empty() {
                return Err(VaultError::Option {
                    option: "CA of Vault",
                    problem: "no certificate in it; give a file in PEM form".to_owned(),
                });
            }
            http = http.tls_certs_only(certificates);
        }
        let limits = Limits {
            request_timeout: options.request_timeout,
            attempts: options.attempts,
            backoff: options.backoff,
            answer_limit: options.answer_limit,
        };
        Ok(Self {
            http: http.build().map_err(broken)?,
            base,
            token: None,
            limits: Arc::new(limits),
        })
    }

    /// The same client, for requests with this token.
    pub fn with_token(&self, token: Secret) -> Self {
        Self { token: Some(token), ..self.clone() }
    }

    /// The same client, for another server of the cluster.
    ///
    /// # Errors
    /// The address cannot be used.
    pub fn at(&self, address: &Url) -> Result<Self, VaultError> {
        Ok(Self { base: checked(address)?, ..self.clone() })
    }
}

/// The address, if secrets may go there.
fn checked(address: &Url) -> Result<Url, VaultError> {
    let problem = match address.scheme() {
        _ if !address.username().is_empty() || address.password().is_some() => {
            "must not contain a user or password"
        }
        "https" if address.host_str().is_some() => return Ok(address.clone()),
        "http" if is_loopback(address) => return Ok(address.clone()),
        "http" => "keys and tokens go over https alone, unless Vault is on this machine",
        _ => "is no address such as https://10.69.0.3:8200",
    };
    let problem = format!("{:?} {problem}", shown(address));
    Err(VaultError::Option { option: "address of Vault", problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(address: &str) -> String {
        let options = Options::new(address.parse().expect("a URL"));
        Client::new(options).expect_err("refused").to_string()
    }

    #[test]
    fn secrets_go_over_https_or_stay_on_this_machine() {
        for fine in ["https://10.69.0.3:8200", "http://127.0.0.1:8200", "http://localhost:1/"] {
            let client = Client::new(Options::new(fine.parse().expect("a URL")));
            let client = client.unwrap_or_else(|error| panic!("{fine}: {error}"));
            assert!(client.at(&"http://10.69.0.3:8200".parse().expect("a URL")).is_err());
        }
        assert!(refused("http://10.69.0.3:8200").contains("https alone"));
        assert!(refused("unix:/run/vault").contains("is no address"));
        let with_password = refused("https://admin:hunter2@10.69.0.3:8200");
        assert!(with_password.contains("must not contain"), "{with_password}");
        assert!(!with_password.contains("hunter2"), "{with_password}");
    }

    #[test]
    fn a_ca_that_is_none_is_refused() {
        let address = "https://10.69.0.3:8200".parse().expect("a URL");
        let error = Client::new(Options::new(address).trusting("no PEM")).expect_err("refused");
        assert!(error.to_string().starts_with("CA of Vault: "), "{error}");
    }

    #[test]
    fn the_token_is_not_shown() {
        let address = "https://10.69.0.3:8200".parse().expect("a URL");
        let client = Client::new(Options::new(address)).expect("a client");
        let shown = format!("{:?}", client.with_token("hunter2".into()));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
