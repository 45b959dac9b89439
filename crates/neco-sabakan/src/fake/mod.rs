//! A server that stands in for sabakan: the real protocol, from one model in memory (external-apis §8).
//!
//! It keeps the odd shapes of the real one: `null` where a list is empty, numbers in texts, bodies of `null`, 404 for a search
//! that finds nothing, the newest image at the end. It knows sabakan's rules: the ways between states, deleted images, the
//! order of template ids, conflicts, who may change what. [`Faults`] make it fail, [`Log`] remembers what it was asked.
//!
//! It serves tests in their own process, and as a program of its own the virtual data centre: then [`ServeOptions::directory`]
//! lets it come back as it was, and [`ServeOptions::control`] opens `/stand-in/log` and `/stand-in/faults` to stories.
//!
//! Not here: network boot, DHCP, the audit log, ranges of assets, a second replica.

mod access;
mod answer;
mod assets;
mod control;
mod crypts;
mod faults;
mod graphql;
mod ignitions;
mod images;
mod listener;
mod log;
mod machines;
mod model;
mod serve;
mod settings;
mod store;

pub use faults::{Fault, Faults, Rule};
pub use log::{Asked, Log};
pub use serve::{FakeSabakan, ServeOptions, TlsOptions};
