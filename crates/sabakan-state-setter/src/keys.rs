//! The keys of disks, which sabakan keeps and deletes over HTTPS alone (external-apis §1.7).

use std::path::PathBuf;

use async_trait::async_trait;
use neco_connect::one_line;
use neco_http::Url;
use neco_sabakan::{Options, Sabakan as _, SabakanClient, Serial};

/// Deletes keys.
#[async_trait]
pub trait DiskKeys: Send + Sync {
    /// Deletes the keys of a retiring machine's disks, and tells which; none is fine. Ends within a bound of its own.
    ///
    /// # Errors
    /// In words.
    async fn delete(&self, serial: &Serial) -> Result<Vec<String>, String>;
}

/// Has sabakan delete them. The authority is read each time: it may come later than this daemon, and be replaced.
#[derive(Clone, Debug)]
pub struct SabakanKeys {
    /// Where sabakan listens for HTTP.
    pub url: Url,
    /// Where it listens for HTTPS.
    pub https: Url,
    /// The file of the authority that its certificate must come from.
    pub ca: PathBuf,
    /// Who asks, for sabakan's audit log.
    pub user: String,
}

#[async_trait]
impl DiskKeys for SabakanKeys {
    async fn delete(&self, serial: &Serial) -> Result<Vec<String>, String> {
        let ca = tokio::fs::read(&self.ca).await.map_err(|error| {
            let file = self.ca.display();
            format!("reading {file}, the CA of sabakan's certificate: {error}; name another by --sabakan-ca")
        })?;
        let options = Options::new(self.url.clone(), &self.user).https(self.https.clone(), ca);
        let client = SabakanClient::new(&options).map_err(|error| one_line(&error))?;
        client.delete_crypts(serial).await.map_err(|error| one_line(&error))
    }
}
