//! Asks the serf agent of this machine over its RPC: MessagePack over TCP (external-apis §3.3).
//!
//! - [`Serf`] is what Neco asks of an agent: who is in the cluster and how, and to change the agent's own tags.
//! - [`SerfClient`] asks a real one. Each question has a connection of its own and a bound in time and bytes, so an agent
//!   that was restarted is simply asked again.
//! - [`FakeSerf`], behind the feature `testing`, is a server that stands in for an agent, by the real protocol; `contract`,
//!   behind the same feature, is the suite that the client passes on it and on real agents.
//!
//! What a status or a tag means for a machine is not known here.

mod client;
#[cfg(any(test, feature = "testing"))]
pub mod contract;
mod error;
#[cfg(any(test, feature = "testing"))]
mod fake;
mod member;
mod object;
mod wire;

pub use client::{Options, SerfClient};
pub use error::SerfError;
#[cfg(any(test, feature = "testing"))]
pub use fake::{FakeSerf, Fault};
pub use member::{Member, Status};

use std::collections::BTreeMap;

use async_trait::async_trait;

/// An agent of serf, which knows the members of its cluster. A call may be dropped at any await.
#[async_trait]
pub trait Serf: Send + Sync {
    /// The members, those that have left or failed among them as long as the agent remembers them.
    ///
    /// # Errors
    /// The agent cannot be asked, or says no.
    async fn members(&self) -> Result<Vec<Member>, SerfError>;

    /// Sets tags of the agent's own machine and deletes others; those that are not named stay as they are.
    ///
    /// # Errors
    /// As [`members`](Self::members); also where all tags together are larger than serf's 512 bytes.
    async fn set_tags(
        &self,
        set: &BTreeMap<String, String>,
        delete: &[String],
    ) -> Result<(), SerfError>;
}
