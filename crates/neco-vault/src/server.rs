//! What a step of an update asks of one Vault server.

use async_trait::async_trait;
use neco_base::Secret;
use neco_http::Url;

use crate::VaultError;

/// One server of Vault. Nothing here needs a token.
#[async_trait]
pub trait Vault: Send + Sync {
    /// Where its API is.
    fn address(&self) -> &Url;

    /// How it is. Every state that it can tell is an answer, none an error.
    async fn health(&self) -> Result<Health, VaultError>;

    /// What it lacks to be unsealed.
    async fn seal_status(&self) -> Result<SealStatus, VaultError>;

    /// Gives it a share of the key, and tells what it lacks then. An unsealed server takes anything.
    ///
    /// A server that joins a cluster by this answers while it still joins, and so as sealed: see [`crate::unseal`].
    async fn unseal(&self, key: &Secret) -> Result<SealStatus, VaultError>;

    /// The active server of its cluster, which has said so itself.
    ///
    /// What a standby knows of its leader may be old: Vault writes the leader down in its storage, where it outlives it, and
    /// a server that forwards a request there may answer with neither data nor error. So the one that is named is asked.
    /// Whoever writes, or reads what was just written, asks this one, because a standby of OpenBao reads for itself, and
    /// late.
    async fn leader(&self) -> Result<Leader, VaultError>;
}

/// What a server is able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Nothing: it has no key yet, or has not found the cluster that has one.
    Uninitialised,
    /// Nothing: it waits for its key.
    Sealed,
    /// It has the key, and leaves the work to the leader or waits to become it.
    Standby,
    /// It leads.
    Active,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Uninitialised => "not initialised",
            Self::Sealed => "sealed",
            Self::Standby => "a standby",
            Self::Active => "active",
        })
    }
}

/// How a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// What it is able to do.
    pub state: State,
    /// Its version.
    pub version: String,
}

/// What a server lacks to be unsealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealStatus {
    /// Whether there is a key at all.
    pub initialised: bool,
    /// Whether it waits for the key.
    pub sealed: bool,
    /// How many shares make the key.
    pub threshold: u32,
    /// How many it was given.
    pub progress: u32,
}

/// The active server of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Where its API is.
    pub address: Url,
    /// Whether it is the server that was asked.
    pub here: bool,
}
