//! One data centre that runs.
//!
//! Three processes hold it. The *warden* stays outside: it starts the others in namespaces of their own, ends when they end,
//! and removes what namespaces do not take along. The *first process* of the namespaces reaps orphans. The *keeper* builds
//! everything, is the mainboard of every machine, and takes orders over a socket. Whoever kills the warden or the first
//! process kills everything; the kernel sees to that.

pub mod artefacts;
pub mod client;
pub mod dirs;
pub mod first;
pub mod keeper;
pub mod machine;
pub mod mirror;
pub mod network;
pub mod orders;
pub mod outside;
pub mod proc;
pub mod record;
pub mod registry;
pub mod secrets;
pub mod start;
pub mod warden;
