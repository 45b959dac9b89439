//! Connects the configuration file and the settings in etcd to a store and a release source.
//!
//! The drivers do not know the configuration file, and the process frame knows neither etcd nor GitHub; both daemons and
//! the command line need the same few joints between them, and they stand here.

mod settings;
mod source;
mod store;

pub use settings::{Settings, SettingsProblem};
pub use source::{Secrets, SourceError, release_source};
pub use store::{ConnectError, connect, store_options};
