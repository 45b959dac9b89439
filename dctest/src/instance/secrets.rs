//! Keys and certificates of one data centre; made when it is made, gone when it is gone.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::host::command::{command, run};
use crate::plan::machine::Secrets;

const LIMIT: Duration = Duration::from_secs(30);

/// The private key of operators.
#[must_use]
pub fn operator_key(dir: &Path) -> PathBuf {
    dir.join("operator")
}

/// Makes everything below `dir`.
///
/// # Errors
/// `dir` cannot be written to, or ssh-keygen(1) fails.
pub async fn make(dir: &Path) -> Result<Secrets> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("making {}", dir.display()))?;
    let operator = ssh_key(&operator_key(dir), "operator").await?;
    let host = dir.join("host");
    let known = ssh_key(&host, "boot-server").await?;
    let read = |path: &Path| {
        fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
    };
    // One key for all of them: `ssh` is told once whom to believe.
    let known: Vec<&str> = known.split_whitespace().take(2).collect();
    write_private(&dir.join("known_hosts"), &format!("boot-server {}\n", known.join(" ")))?;
    let authority = Authority::new()?;
    write_private(&dir.join("authority.pem"), &authority.certificate)?;
    let (certificate, key) = authority.issue(super::registry::NAME, &[super::registry::NAME])?;
    write_private(&dir.join("registry.pem"), &certificate)?;
    write_private(&dir.join("registry.key"), &key)?;
    Ok(Secrets {
        operator: operator.trim().to_owned(),
        host_key: read(&host)?,
        authority: authority.certificate,
    })
}

/// Makes a key and gives its public half.
async fn ssh_key(path: &Path, comment: &str) -> Result<String> {
    let file = path.display().to_string();
    let words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", &file];
    run(&mut command(words), LIMIT).await?;
    let public = path.with_extension("pub");
    fs::read_to_string(&public).with_context(|| format!("reading {}", public.display()))
}

/// Signs certificates; lives as long as the data centre that it belongs to.
pub struct Authority {
    /// Its own certificate, PEM.
    pub certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn new() -> Result<Self> {
        Self::named("virtual data centre")
    }

    /// A new one of this name.
    ///
    /// # Errors
    /// As [`Authority::new`].
    pub fn named(name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().context("making the authority's key")?;
        let certificate = params.self_signed(&key).context("making the authority's certificate")?;
        Ok(Self { certificate: certificate.pem(), issuer: Issuer::new(params, key) })
    }

    /// A certificate and its key, both PEM, of somebody who is reached by `names` (host names or addresses), to be used by
    /// servers and clients alike.
    ///
    /// # Errors
    /// One of the names is none.
    pub fn issue(&self, subject: &str, names: &[&str]) -> Result<(String, String)> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).context("naming a server")?;
        params.distinguished_name.push(DnType::CommonName, subject);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().context("making a key")?;
        let signed = params.signed_by(&key, &self.issuer).context("signing a certificate")?;
        Ok((signed.pem(), key.serialize_pem()))
    }
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    #[ignore = "needs ssh-keygen, as data centres do; `cargo xtask test --all` runs it"]
    async fn private_halves_are_their_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("secrets");
        let made = make(&dir).await.unwrap();
        assert!(made.operator.starts_with("ssh-ed25519 "), "{}", made.operator);
        assert!(made.host_key.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----"));
        assert!(made.authority.starts_with("-----BEGIN CERTIFICATE-----"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir), 0o700);
        for file in ["operator", "host", "known_hosts"] {
            assert_eq!(mode(&dir.join(file)), 0o600, "{file}");
        }
    }
}
