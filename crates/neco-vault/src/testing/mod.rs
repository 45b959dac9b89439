//! A cluster of Vault servers in memory.

mod authority;
mod cluster;
mod http;
mod policy;
mod secrets;
mod server;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use neco_base::Secret;
use neco_http::Url;

pub use server::FakeServer;

use cluster::Cluster;
use http::Listener;

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Which server was asked.
    pub server: usize,
    /// How, such as `PUT`.
    pub method: String,
    /// For what, below `/v1/`.
    pub path: String,
    /// Whether a token came along.
    pub with_token: bool,
    /// Whether the server was to answer for itself.
    pub not_forwarded: bool,
}

/// What goes wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This status comes, and nothing is done.
    Status(u16),
    /// The connection breaks after it was done.
    Cut,
    /// No answer comes, and nothing is done.
    Hang,
    /// This comes as the body of a success, and nothing is done.
    Body(String),
    /// The server sends to this place.
    Redirect(String),
}

/// A cluster of Vault servers that speak Vault's protocol over plain HTTP on loopback, sealed and without a key at first.
///
/// All share one storage. A server that is unsealed while nobody leads becomes the leader. Who led last stays written down
/// when it leads no more, as it does in Vault's storage, until another one leads: a standby sends there what it was told
/// not to forward, and forwards the rest into the void. Standbys read for nobody.
///
/// The servers listen as long as this lives.
#[derive(Debug)]
pub struct FakeVault {
    shared: Arc<Shared>,
    listeners: Mutex<Vec<Option<Listener>>>,
}

#[derive(Debug)]
struct Shared {
    cluster: Mutex<Cluster>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FakeVault {
    /// Starts so many servers.
    ///
    /// # Panics
    /// There is no port to listen on.
    pub async fn start(servers: usize) -> Self {
        let shared = Arc::new(Shared { cluster: Mutex::new(Cluster::default()) });
        let mut listeners = Vec::new();
        for server in 0..servers {
            let listener = Listener::start("127.0.0.1:0", server, &shared).await;
            shared.lock().add(listener.url());
            listeners.push(Some(listener));
        }
        Self { shared, listeners: Mutex::new(listeners) }
    }

    /// Where a server is.
    pub fn address(&self, server: usize) -> Url {
        self.shared.lock().address(server)
    }

    /// A server without HTTP.
    pub fn server(&self, server: usize) -> FakeServer {
        FakeServer::new(Arc::clone(&self.shared), server)
    }

    /// Gives the cluster a key without being asked over HTTP; returns it and the root token.
    pub fn initialise(&self) -> (Secret, Secret) {
        self.shared.lock().initialise()
    }

    /// Stops a server: nothing listens there, and its key is forgotten.
    pub async fn stop(&self, server: usize) {
        self.shared.lock().stop(server);
        let listener = self.listeners.lock().unwrap_or_else(PoisonError::into_inner)[server].take();
        if let Some(listener) = listener {
            listener.close().await;
        }
    }

    /// Starts a server that was stopped, where it was before. It is sealed.
    ///
    /// # Panics
    /// Somebody else listens there meanwhile.
    pub async fn restart(&self, server: usize) {
        let address = self.address(server);
        let authority = address.authority().to_owned();
        let listener = Listener::start(&authority, server, &self.shared).await;
        self.shared.lock().start(server);
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)[server] = Some(listener);
    }

    /// Whether servers may become leaders from now on. Who leads goes on.
    pub fn allow_elections(&self, allowed: bool) {
        self.shared.lock().allow_elections(allowed);
    }

    /// Lets unsealing take some looks, as it does for a server that joins a cluster by it.
    pub fn unseal_after_looks(&self, looks: u32) {
        self.shared.lock().unseal_after_looks(looks);
    }

    /// Lets the next requests for `path` of a server, one each, go wrong.
    pub fn fail(&self, server: usize, path: &str, faults: impl IntoIterator<Item = Fault>) {
        self.shared.lock().fail(server, path, faults.into_iter().collect());
    }

    /// What was asked since this was asked last.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.lock().asked()
    }
}
