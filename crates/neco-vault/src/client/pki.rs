//! Certification authorities and their certificates.

use std::net::IpAddr;
use std::time::Duration;

use neco_base::Secret;
use serde::{Deserialize, Serialize};

use super::Client;
use super::mounts::seconds;
use crate::VaultError;

/// A CA to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootCa {
    /// What it is called.
    pub common_name: String,
    /// How long it is good.
    pub ttl: Duration,
}

/// What certificates of a role may be. Any name may stand in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role {
    /// How long they are good if nobody says.
    pub ttl: Duration,
    /// How long at most.
    pub max_ttl: Duration,
    /// Whether they are for clients.
    pub client: bool,
    /// Whether they are for servers.
    pub server: bool,
}

/// A certificate to issue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateRequest {
    /// Whom it is for.
    pub common_name: String,
    /// Names of hosts that it is good for besides.
    pub dns_names: Vec<String>,
    /// Addresses that it is good for.
    pub ip_addresses: Vec<IpAddr>,
    /// How long it is good; as the role says if not given.
    pub ttl: Option<Duration>,
    /// Whether it is good for the host of the common name.
    pub good_for_common_name: bool,
}

/// A certificate.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate, in PEM form.
    pub certificate: String,
    /// Its key, in PEM form.
    pub private_key: Secret,
    /// The certificate of the CA, in PEM form.
    pub issuing_ca: String,
}

/// What Vault says and is told.
mod wire {
    use super::*;

    #[derive(Serialize)]
    pub(super) struct RootCa<'r> {
        pub(super) common_name: &'r str,
        pub(super) ttl: String,
        pub(super) format: &'static str,
    }

    #[derive(Deserialize)]
    pub(super) struct Certificate {
        #[serde(default)]
        pub(super) certificate: String,
    }

    #[derive(Serialize)]
    pub(super) struct Import<'b> {
        pub(super) pem_bundle: &'b str,
    }

    #[derive(Serialize)]
    pub(super) struct Role {
        pub(super) ttl: String,
        pub(super) max_ttl: String,
        pub(super) allow_any_name: bool,
        pub(super) client_flag: bool,
        pub(super) server_flag: bool,
    }

    #[derive(Serialize)]
    pub(super) struct Request<'r> {
        pub(super) common_name: &'r str,
        pub(super) alt_names: String,
        pub(super) ip_sans: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub(super) ttl: Option<String>,
        pub(super) exclude_cn_from_sans: bool,
    }

    #[derive(Deserialize)]
    pub(super) struct Issued {
        pub(super) certificate: String,
        pub(super) private_key: String,
        pub(super) issuing_ca: String,
    }
}

impl Client {
    /// Makes a CA at a mount, and gives out its key and certificate in one piece of PEM, for [`Client::import_ca`].
    ///
    /// # Errors
    /// Vault refuses, or does not answer.
    pub async fn generate_root(&self, mount: &str, root: &RootCa) -> Result<Secret, VaultError> {
        let body = wire::RootCa {
            common_name: &root.common_name,
            ttl: seconds(root.ttl),
            format: "pem_bundle",
        };
        let answer = self.act(format!("{mount}/root/generate/exported")).body(&body).send().await?;
        let bundle = Secret::new(answer.data::<wire::Certificate>()?.certificate);
        if !bundle.reveal().contains("PRIVATE KEY") {
            return Err(answer.empty());
        }
        Ok(bundle)
    }

    /// Gives a mount the CA that another one made.
    ///
    /// # Errors
    /// Vault refuses, or does not answer.
    pub async fn import_ca(&self, mount: &str, bundle: &Secret) -> Result<(), VaultError> {
        let body = wire::Import { pem_bundle: bundle.reveal() };
        self.put(format!("{mount}/config/ca")).body(&body).send().await.map(drop)
    }

    /// The certificate of a mount's CA, in PEM form, if it has one.
    ///
    /// # Errors
    /// Vault refuses, or does not answer.
    pub async fn ca_certificate(&self, mount: &str) -> Result<Option<String>, VaultError> {
        let answer = match self.get(format!("{mount}/cert/ca")).find().await {
            Ok(Some(answer)) => answer,
            Ok(None) => return Ok(None),
            Err(VaultError::Refused { reason, .. }) if reason.contains("no default issuer") => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let certificate = answer.data::<wire::Certificate>()?.certificate;
        Ok(Some(certificate).filter(|certificate| !certificate.is_empty()))
    }

    /// Says what certificates of a role may be.
    ///
    /// # Errors
    /// Vault refuses, or does not answer.
    pub async fn put_role(&self, mount: &str, name: &str, role: &Role) -> Result<(), VaultError> {
        let body = wire::Role {
            ttl: seconds(role.ttl),
            max_ttl: seconds(role.max_ttl),
            allow_any_name: true,
            client_flag: role.client,
            server_flag: role.server,
        };
        self.put(format!("{mount}/roles/{name}")).body(&body).send().await.map(drop)
    }

    /// Issues a certificate of a role. One too many does no harm.
    ///
    /// # Errors
    /// Vault refuses, or does not answer.
    pub async fn issue(
        &self,
        mount: &str,
        role: &str,
        request: &CertificateRequest,
    ) -> Result<Issued, VaultError> {
        let addresses: Vec<_> = request.ip_addresses.iter().map(IpAddr::to_string).collect();
        let body = wire::Request {
            common_name: &request.common_name,
            alt_names: request.dns_names.join(","),
            ip_sans: addresses.join(","),
            ttl: request.ttl.map(seconds),
            exclude_cn_from_sans: !request.good_for_common_name,
        };
        let answer = self.put(format!("{mount}/issue/{role}")).body(&body).send().await?;
        let issued: wire::Issued = answer.data()?;
        Ok(Issued {
            certificate: issued.certificate,
            private_key: Secret::new(issued.private_key),
            issuing_ca: issued.issuing_ca,
        })
    }
}
