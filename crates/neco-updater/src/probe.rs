//! What must be healthy before a request is made.

use std::sync::Arc;

use async_trait::async_trait;
use neco_store::Store;

/// Something outside of the view that must be right before a request is made.
#[async_trait]
pub trait Probe: Send + Sync + 'static {
    /// What is wrong, in words with a remedy; empty when all is well. Ends within a bound of its own.
    async fn check(&self) -> Vec<String>;
}

/// etcd: every member healthy.
pub struct EtcdProbe {
    store: Arc<dyn Store>,
}

impl EtcdProbe {
    /// Asks the members of the cluster that `store` talks to.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }
}

#[async_trait]
impl Probe for EtcdProbe {
    async fn check(&self) -> Vec<String> {
        match self.store.health().await {
            Ok(health) => health
                .members
                .iter()
                .filter(|member| !member.healthy)
                .map(|member| {
                    let name = if member.name.is_empty() { "without a name" } else { &member.name };
                    format!("etcd member {name} is not healthy: {}", member.trouble)
                })
                .collect(),
            Err(error) => vec![format!("the health of etcd is unknown: {error}")],
        }
    }
}
