//! Asks Vault, or OpenBao, over its HTTP API.
//!
//! [`Vault`] is what a step of an update asks of one server: how it is, where its leader is, and to unseal.
//! [`wait_until_answering`], [`wait_until_unsealed`] and [`wait_for_leader`] wait for one, [`unseal`] unseals one that may be
//! unsealed already. None of these needs a token.
//!
//! - [`Client`] speaks HTTP, to one address, over TLS that ends in the site's own CA. It can do what a bootstrap needs, too:
//!   initialise, mount, make CAs and certificates, keep small records, put policies, log in, revoke.
//! - `FakeVault`, behind the feature `testing`, is a cluster of servers in memory that speak the same protocol on loopback;
//!   `FakeServer`, one of them, is a [`Vault`] without HTTP.
//! - `contract`, behind the same feature, is the suite that the fake and the real OpenBao pass.
//!
//! Which mounts, roles and policies a boot server needs, and where its unseal key is kept, is not known here.

mod client;
#[cfg(feature = "testing")]
pub mod contract;
mod error;
mod server;
#[cfg(feature = "testing")]
mod testing;
mod wait;

pub use client::{
    AuthMethod, CertificateRequest, Client, Engine, Initialised, Issued, Mount, Options, Role,
    RootCa,
};
pub use error::VaultError;
pub use server::{Health, Leader, SealStatus, State, Vault};
#[cfg(feature = "testing")]
pub use testing::{Asked, FakeServer, FakeVault, Fault};
pub use wait::{Unsealed, unseal, wait_for_leader, wait_until_answering, wait_until_unsealed};
