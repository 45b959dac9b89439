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
pub use outage::Outage;
pub use settings::{Settings, SettingsProblem, check_setting};
pub use source::{ConfiguredSource, SourceError, Sources, github_token, release_source, secret};
pub use store::{ConnectError, connect, connect_renewing, store_options, wait_for_store};

/// An error with its causes, in one line.
pub fn one_line(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let text = source.to_string();
        // Some libraries repeat their cause in their own text.
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = source.source();
    }
    line
}
