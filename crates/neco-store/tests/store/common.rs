//! What the tests on real etcd share.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use neco_etcd::{Cluster, ClusterOptions, MemberConfig, Server};
use neco_store::{EtcdStore, MemoryStore, Options};
use neco_testkit::store::Rig;
use tempfile::TempDir;

/// A server whose data are in memory where there is such a place: tests write a lot.
pub(crate) struct Etcd {
    pub server: Server,
    _data: Option<TempDir>,
}

impl Etcd {
    pub(crate) async fn start() -> Self {
        Self::start_with(MemberConfig::default()).await
    }

    pub(crate) async fn start_with(config: MemberConfig) -> Self {
        let data = in_memory();
        let config = match &data {
            Some(dir) => config.data_dir(dir.path().join("data")),
            None => config,
        };
        let server = Server::start(config.fsync(false)).await.expect("etcd starts");
        Self { server, _data: data }
    }

    pub(crate) async fn store(&self, prefix: &str) -> EtcdStore {
        connect([self.server.client_url()], prefix).await
    }

    pub(crate) async fn rig(&self, prefix: &str) -> Rig {
        rig(self.store(prefix).await)
    }
}

/// Several members, likewise.
pub(crate) struct Members {
    pub cluster: Cluster,
    _data: Option<TempDir>,
}

impl Members {
    pub(crate) async fn start(count: usize) -> Self {
        let data = in_memory();
        let options = ClusterOptions {
            member: Some(MemberConfig::new("etcd-").fsync(false)),
            data_dir: data.as_ref().map(|dir| dir.path().to_owned()),
            binary: None,
        };
        let cluster = Cluster::start(count, options).await.expect("the cluster starts");
        Self { cluster, _data: data }
    }

    pub(crate) async fn store(&self) -> EtcdStore {
        connect(self.cluster.endpoints(), "/neco/").await
    }
}

fn in_memory() -> Option<TempDir> {
    tempfile::Builder::new().prefix("neco-store-").tempdir_in(Path::new("/dev/shm")).ok()
}

pub(crate) async fn connect(
    endpoints: impl IntoIterator<Item = String>,
    prefix: &str,
) -> EtcdStore {
    let options = Options {
        prefix: prefix.to_owned(),
        deadline: Duration::from_secs(30),
        ..Options::new(endpoints)
    };
    EtcdStore::connect(options).await.expect("the options are usable")
}

pub(crate) fn rig(store: EtcdStore) -> Rig {
    Rig {
        store: Arc::new(store.clone()),
        compact: Arc::new(move |at| {
            let store = store.clone();
            Box::pin(async move { store.compact(at).await })
        }),
    }
}

pub(crate) fn memory_rig() -> Rig {
    let store = MemoryStore::default();
    Rig {
        store: Arc::new(store.clone()),
        compact: Arc::new(move |at| {
            let result = store.with(|mvcc| mvcc.compact(at));
            Box::pin(async move { result })
        }),
    }
}
