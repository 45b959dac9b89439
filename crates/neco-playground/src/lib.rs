//! Shows the whole system on one machine, without root: etcd, mirror, updaters, workers, one release.
//!
//! A [`Site`] is real processes: three members of etcd, a mirror that serves signed packages over GitHub's API, and boot
//! servers, each a directory with a worker (and the first two with an updater) whose binaries come out of the package that
//! is installed there. What a data centre would have beside them is recorded instead of run: units and containers. The
//! program `neco-playground` takes a site through one update and shows it; `tests/scenarios` does worse things to sites.

mod access;
pub mod cli;
mod daemon;
mod dir;
mod disks;
mod error;
mod faults;
mod flawed;
mod go_leader;
mod held;
mod layout;
mod look;
mod mirror;
mod packages;
mod proof;
mod server;
mod show;
mod site;
mod state;
mod story;

pub use access::Access;
pub use daemon::{Daemon, DaemonState, Exited, Run};
pub use disks::Disks;
pub use error::SiteError;
pub use flawed::Flaw;
pub use go_leader::{GoLeader, GoLeaderError, Written};
pub use held::{HELD_UNIT, Held};
pub use look::Look;
pub use mirror::Host;
pub use packages::{Package, Packages};
pub use proof::{ServerSummary, Summary, prove};
pub use server::{ALIVE_TTL, BootServer, SESSION_TTL};
pub use site::{SERVERS, Site, SiteOptions};
pub use state::{Standing, has_settled, is_completed, outcome_of, standings, state_text};
pub use story::play;
