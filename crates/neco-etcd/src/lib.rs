//! Runs a real etcd server, or several, as supervised children.
//!
//! For tests, for the playground, and for programs that bring their own store. A server is
//! [started](Server::start) from a [`MemberConfig`], tells when it is [ready](Server::ready) and
//! when it has [exited](Server::exited), and is [stopped](Server::stop) in order within a bound, or
//! killed. A [`Cluster`] is several of them on loopback.
//!
//! What surprises a newcomer:
//!
//! - The kernel kills the servers when this process ends, however it ends.
//! - Port 0 means a free port that this crate chooses; see [`Server::client_url`].
//! - A server that ended early is reported with etcd's own reason, not with ours.
//! - No privilege is needed.
//!
//! ```no_run
//! # async fn example() -> neco_etcd::Result<()> {
//! use neco_etcd::{MemberConfig, Server};
//!
//! let mut server = Server::start(MemberConfig::default()).await?;
//! println!("clients connect to {}", server.client_url());
//! server.stop().await?;
//! # Ok(())
//! # }
//! ```

mod binary;
mod cluster;
mod config;
mod error;
mod health;
mod log;
mod ports;
mod process;
mod server;
mod spawn;
mod url;

pub use binary::Binary;
pub use cluster::{Cluster, ClusterOptions};
pub use config::{
    AutoCompaction, ClusterState, MAX_TXN_OPS, MemberConfig, START_WITHIN, STOP_WITHIN, ServerTls,
};
pub use error::{Error, Problem, Problems, Result};
pub use server::{Exit, Server, Stopped};
pub use spawn::spawn;
