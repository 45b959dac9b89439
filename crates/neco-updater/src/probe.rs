//! What must be healthy before a request is made.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use neco_connect::etcd_troubles;
use neco_schema::{Key, Lrn, Range, prefixes};
use neco_store::{Store, StoreError};

/// Something outside of the view that must be right before a request is made.
#[async_trait]
pub trait Probe: Send + Sync + 'static {
    /// What is wrong, in words with a remedy; empty when all is well. Ends within a bound of its own.
    async fn check(&self) -> Vec<String>;
}

/// etcd: every member healthy, but for those of servers that have left.
pub struct EtcdProbe {
    store: Arc<dyn Store>,
}

impl EtcdProbe {
    /// Asks the members of the cluster that `store` talks to.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// The boot servers that there are.
    async fn registered(&self) -> Result<BTreeSet<Lrn>, StoreError> {
        let servers = Range::KeysOnly(prefixes::BOOT_SERVERS.to_owned());
        let snapshot = self.store.read(&[servers], None).await?;
        let lrn = |key: &String| match key.parse() {
            Ok(Key::BootServer(lrn)) => Some(lrn),
            _ => None,
        };
        Ok(snapshot.kvs.keys().filter_map(lrn).collect())
    }
}

#[async_trait]
impl Probe for EtcdProbe {
    async fn check(&self) -> Vec<String> {
        let registered = match self.registered().await {
            Ok(registered) => registered,
            Err(error) => return vec![format!("the boot servers are unknown: {error}")],
        };
        match self.store.health().await {
            Ok(health) => etcd_troubles(&health, &registered),
            Err(error) => vec![format!("the health of etcd is unknown: {error}")],
        }
    }
}
