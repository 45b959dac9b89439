//! Small records, without versions.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Client;
use crate::VaultError;

impl Client {
    /// The record at `path`, which begins with the mount; none if there is none.
    ///
    /// # Errors
    /// It has another form; Vault refuses, or does not answer.
    pub async fn kv_get<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, VaultError> {
        match self.get(path).find().await? {
            Some(answer) => answer.data().map(Some),
            None => Ok(None),
        }
    }

    /// Writes the record at `path`, which is an object of JSON.
    ///
    /// # Errors
    /// Vault refuses, or does not answer.
    pub async fn kv_put(&self, path: &str, record: &impl Serialize) -> Result<(), VaultError> {
        self.put(path).body(record).send().await.map(drop)
    }

    /// Removes the record at `path`; nothing happens if there is none.
    ///
    /// # Errors
    /// Vault refuses, or does not answer.
    pub async fn kv_delete(&self, path: &str) -> Result<(), VaultError> {
        self.delete(path).find().await.map(drop)
    }
}
