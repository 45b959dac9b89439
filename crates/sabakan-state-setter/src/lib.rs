//! Tells sabakan how the machines of the data centre are, finishes retirements, switches retired machines off.
//!
//! The [`Engine`] campaigns for leadership; while it leads it looks at all machines in an interval. What serf, alerts and
//! hardware metrics say of a machine becomes a verdict ([`decide`]), the verdict with its grace a state to set ([`grace`]), and
//! too many losses at once are held back ([`brake`]): all of that is pure. Who is asked stands behind traits.

#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

pub mod alerts;
pub mod brake;
pub mod decide;
mod engine;
pub mod exposition;
mod files;
pub mod grace;
pub mod hardware;
pub mod health;
pub mod keys;
pub mod list;
mod look;
mod observation;
pub mod power;
mod retire;
mod said;
pub mod schedule;
mod shutdown;

pub use engine::{Context, Drivers, Engine, Options, site_list};
pub use files::ListFiles;
pub use observation::{Change, Metrics, Observation};
