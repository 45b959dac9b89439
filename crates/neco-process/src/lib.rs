//! Frames a process: config, logs, signals, readiness, watchdog, listener, exit codes.
//!
//! What every daemon and command of Neco needs before it does its own work. A daemon's `main` reads
//! like this: [`frame::run`] around everything, [`config::load`],
//! [`lock::LocalLock`], [`signals::Shutdown`], [`listener::Listener`], [`ready::Ready`], and then the
//! engine. This crate knows nothing of updates, etcd or boot servers.
//!
//! Every path that a function takes with a `root` is an absolute path below that root, so that a
//! whole system can run inside a directory; see [`under`].

pub mod clock;
pub mod config;
pub mod crypto;
pub mod daemon;
pub mod duration;
pub mod exit;
pub mod frame;
pub mod listener;
pub mod lock;
pub mod logs;
pub mod man;
pub mod memory;
pub mod notify;
pub mod ready;
mod root;
pub mod signals;
pub mod yaml;

pub use root::under;
