//! One fake server without HTTP.

use std::sync::Arc;

use async_trait::async_trait;
use neco_base::Secret;
use neco_http::{Url, shown};

use super::Shared;
use super::cluster::Cluster;
use crate::{Health, Leader, SealStatus, State, Vault, VaultError};

/// One server of a `FakeVault`, without HTTP.
#[derive(Clone, Debug)]
pub struct FakeServer {
    shared: Arc<Shared>,
    server: usize,
    address: Url,
}

impl FakeServer {
    pub(super) fn new(shared: Arc<Shared>, server: usize) -> Self {
        let address = shared.lock().address(server);
        Self { shared, server, address }
    }

    fn url(&self) -> String {
        shown(&self.address)
    }

    /// The cluster, as long as the server runs.
    fn ask<T>(
        &self,
        question: impl FnOnce(&mut Cluster) -> Result<T, VaultError>,
    ) -> Result<T, VaultError> {
        let mut cluster = self.shared.lock();
        if !cluster.runs(self.server) {
            let reason = "it does not run".to_owned();
            return Err(VaultError::Server { url: self.url(), status: 502, reason });
        }
        question(&mut cluster)
    }
}

#[async_trait]
impl Vault for FakeServer {
    fn address(&self) -> &Url {
        &self.address
    }

    async fn health(&self) -> Result<Health, VaultError> {
        self.ask(|cluster| {
            cluster.is_sealed(self.server);
            Ok(Health { state: cluster.state(self.server), version: "0.0.0-fake".to_owned() })
        })
    }

    async fn seal_status(&self) -> Result<SealStatus, VaultError> {
        self.ask(|cluster| {
            let sealed = cluster.is_sealed(self.server);
            let initialised = cluster.state(self.server) != State::Uninitialised;
            let threshold = u32::from(initialised);
            Ok(SealStatus { initialised, sealed, threshold, progress: 0 })
        })
    }

    async fn unseal(&self, key: &Secret) -> Result<SealStatus, VaultError> {
        self.ask(|cluster| {
            cluster.unseal(self.server, key.reveal()).map_err(|reason| VaultError::KeyRefused {
                url: self.url(),
                reason: reason.to_owned(),
            })
        })?;
        self.seal_status().await
    }

    async fn leader(&self) -> Result<Leader, VaultError> {
        let url = self.url();
        match self.health().await?.state {
            State::Active => return Ok(Leader { address: self.address.clone(), here: true }),
            State::Uninitialised => return Err(VaultError::NotInitialised { url }),
            State::Sealed => return Err(VaultError::Sealed { url }),
            State::Standby => {}
        }
        self.ask(|cluster| match cluster.recorded() {
            Some(leader) if cluster.state(leader) == State::Active => {
                Ok(Leader { address: cluster.address(leader), here: false })
            }
            _ => Err(VaultError::NoLeader { url, why: "the fake has none".to_owned() }),
        })
    }
}
