//! Where etcd is and who we are to it.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};
use neco_base::Secret;

use crate::StoreError;

/// Reads the options again, or says why they cannot be read now. Of what it gives, endpoints,
/// certificates, user and password are used.
pub type Renew = Arc<dyn Fn() -> Result<Options, String> + Send + Sync>;

/// How a connection is made. The defaults are those of the configuration file.
#[derive(Clone, PartialEq, Eq)]
pub struct Options {
    /// The endpoints, `http://HOST:PORT` or `https://HOST:PORT`.
    pub endpoints: Vec<String>,
    /// What all keys begin with.
    pub prefix: String,
    /// How long one try on one endpoint may take.
    pub timeout: Duration,
    /// How long a call may take with all its tries.
    pub deadline: Duration,
    /// The authorities that the servers' certificates are checked against, PEM. Without it, those of
    /// the system.
    pub ca: Option<Vec<u8>>,
    /// The client certificate, PEM.
    pub cert: Option<Vec<u8>>,
    /// Its key, PEM.
    pub key: Option<Secret<Vec<u8>>>,
    /// The user.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<Secret>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            endpoints: vec!["http://127.0.0.1:2379".to_owned()],
            prefix: neco_schema::PREFIX.to_owned(),
            timeout: Duration::from_secs(2),
            deadline: Duration::from_secs(10),
            ca: None,
            cert: None,
            key: None,
            user: None,
            password: None,
        }
    }
}

/// Neither password nor keys.
impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("endpoints", &self.endpoints)
            .field("prefix", &self.prefix)
            .field("timeout", &self.timeout)
            .field("deadline", &self.deadline)
            .field("ca", &self.ca.is_some())
            .field("cert", &self.cert.is_some())
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// etcd counts pings that come faster than every 5 s as an attack and drops the connection.
const PING_EVERY: Duration = Duration::from_secs(6);

impl Options {
    /// Options for these endpoints, all else at its default.
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { endpoints: endpoints.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Checks what can be known without a connection.
    ///
    /// # Errors
    /// [`StoreError::Options`] with all problems.
    pub fn validate(&self) -> Result<(), StoreError> {
        let mut problems = Vec::new();
        if self.endpoints.is_empty() {
            problems.push("endpoints: none is given".to_owned());
        }
        let tls = self.ca.is_some() || self.cert.is_some() || self.key.is_some();
        for url in &self.endpoints {
            if let Some(what) = misshapen(url) {
                problems.push(format!("endpoints: {url:?} {what}"));
            } else if tls && url.starts_with("http://") {
                problems.push(format!("endpoints: {url} must be https, as certificates are set"));
            }
        }
        if self.cert.is_some() != self.key.is_some() {
            problems.push("tls-cert and tls-key: one is given without the other".to_owned());
        }
        let pems = [
            ("tls-ca", self.ca.as_ref(), "CERTIFICATE-----"),
            ("tls-cert", self.cert.as_ref(), "CERTIFICATE-----"),
            ("tls-key", self.key.as_ref().map(Secret::reveal), "PRIVATE KEY-----"),
        ];
        for (name, pem, label) in pems {
            if let Some(pem) = pem
                && !pem.windows(label.len()).any(|part| part == label.as_bytes())
            {
                problems.push(format!("{name}: holds no PEM block of the right kind"));
            }
        }
        if self.password.is_some() && self.user.is_none() {
            problems.push("password: given without username".to_owned());
        }
        if self.timeout.is_zero() {
            problems.push("timeout: must be longer than 0".to_owned());
        }
        if problems.is_empty() { Ok(()) } else { Err(StoreError::Options { problems }) }
    }

    /// The client library's options, without the user.
    pub(super) fn connect_options(&self, url: &str, require_leader: bool) -> ConnectOptions {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(self.timeout / 2)
            .with_keep_alive(PING_EVERY, self.timeout)
            .with_require_leader(require_leader)
            .with_auto_token_refresh(true);
        if url.starts_with("https://") {
            let mut tls = TlsOptions::new();
            tls = match &self.ca {
                Some(ca) => tls.ca_certificate(Certificate::from_pem(ca)),
                None => tls.with_native_roots(),
            };
            if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
                tls = tls.identity(Identity::from_pem(cert, key.reveal()));
            }
            options = options.with_tls(tls);
        }
        options
    }
}

/// What is wrong with an endpoint.
fn misshapen(url: &str) -> Option<&'static str> {
    let Some(rest) = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")) else {
        return Some("must begin with http:// or https://");
    };
    let Some((host, port)) = rest.rsplit_once(':') else {
        return Some("names no port");
    };
    if host.is_empty() || host.contains(['/', '@', ' ', '?', '#']) {
        return Some("names no host");
    }
    if port.parse::<u16>().is_err() {
        return Some("must end in a port number");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_are_told_at_once() {
        let options = Options {
            endpoints: ["boot-0:2379", "http://boot-1", "http://boot-2:2379"]
                .map(Into::into)
                .into(),
            cert: Some(b"nonsense".to_vec()),
            password: Some(Secret::from("secret")),
            ..Options::default()
        };
        let told = options.validate().expect_err("nothing is right").to_string();
        for part in [
            "\"boot-0:2379\" must begin with http:// or https://",
            "\"http://boot-1\" names no port",
            "http://boot-2:2379 must be https",
            "one is given without the other",
            "tls-cert: holds no PEM block",
            "password: given without username",
        ] {
            assert!(told.contains(part), "{part:?} is missing in {told:?}");
        }
        assert!(!told.contains("secret") && !format!("{options:?}").contains("secret"));
        assert!(Options::default().validate().is_ok());
        assert!(Options::new(["https://[::1]:2379"]).validate().is_ok());
    }
}
