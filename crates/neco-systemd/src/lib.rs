//! Drives units: the trait, systemd over D-Bus, a recorder for sandboxes, and a fake.
//!
//! [`Units`] is what Neco asks of systemd; every call waits for the result of the job it caused.
//!
//! - [`Systemd`] is the systemd of a real machine.
//! - [`Recorder`] starts nothing: it keeps the state of the units of one root in a file, notes every effect in a log,
//!   and fails where it is told to. The playground and the scenarios run on it.
//! - `Fake`, behind the feature `testing`, does the same in memory for unit tests.
//! - `contract`, behind the same feature, is the suite that every engine passes.
//!
//! A service, a timer, and a command that shall outlive its caller
//! ([`start_transient`](Units::start_transient)) are all units.
//!
//! Both recorder and fake run the model in `manager`, which follows systemd in what a careless caller would trip over: a
//! changed unit file counts only after a daemon-reload, starting an active unit changes nothing, a unit without an
//! `[Install]` section cannot be enabled, a failed start leaves the unit failed,
//! an empty file masks a unit, and a transient unit is forgotten when it ends.

mod bus;
#[cfg(any(test, feature = "testing"))]
pub mod contract;
mod error;
#[cfg(any(test, feature = "testing"))]
mod fake;
mod manager;
mod name;
mod recorder;
mod state;
mod units;

pub use bus::Systemd;
pub use error::{Job, UnitError};
#[cfg(any(test, feature = "testing"))]
pub use fake::Fake;
pub use manager::{UnitEffect, UnitRecord};
pub use name::{UnitName, UnitNameError};
pub use recorder::Recorder;
pub use state::{ActiveState, FileState, LoadState, UnitRun, UnitState};
pub use units::Units;
