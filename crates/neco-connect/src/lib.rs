//! Connects the configuration file and the settings in etcd to a store and a release source.
//!
//! The drivers do not know the configuration file, and the process frame knows neither etcd nor GitHub; both daemons and
//! the command line need the same few joints between them, and they stand here.

mod etcd;
mod outage;
mod settings;
mod source;
mod store;

pub use etcd::etcd_troubles;
pub use neco_base::one_line;
pub use outage::Outage;
pub use settings::{Settings, SettingsProblem, check_setting};
pub use source::{ConfiguredSource, SourceError, Sources, github_token, release_source, secret};
pub use store::{ConnectError, connect, connect_renewing, store_options, wait_for_store};
