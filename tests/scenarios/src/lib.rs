//! Real processes on real etcd: whole updates under faults.
//!
//! A [`Scenario`] is a site of the playground that runs its first version, a [`Trail`] of everything that changes in its
//! etcd, and, in the end, a [`Scenario::verdict`]: what the disks and processes say, what the journals still hold open,
//! what was done to which unit how often, and what the auditor of the protocol's invariants makes of all of it.
//!
//! `cargo xtask test` builds the packages that the sites install, and says in `NECO_PACKAGES` where they are.

mod backup;
mod come_to;
pub mod disk_walk;
mod leadership;
mod live_audit;
mod observer;
mod operator;
mod recording;
mod refusals;
mod scenario;
mod trail;
mod webhook;
mod wire;
mod within;

pub use backup::{Backup, copy};
pub use come_to::{
    GROUPED_UNIT, UNIT_IN_TURN, all_settled, given_up, nothing_was_done_twice, once, posted,
    request_for, settled,
};
pub use leadership::{go_leads, leads, updater};
pub use live_audit::live_audit;
pub use observer::effects;
pub use operator::{Told, daemons, necoctl, processes, restarted, says};
pub use recording::{Event, Recording};
pub use refusals::aborted;
pub use scenario::{LONG, Scenario, attempts, lines, now};
pub use trail::Trail;
pub use wire::{Verdict, Wire};
pub use within::{
    TURN_UNIT, add_turn_unit, begun_since, holds, is_held, kill_and_wait, kill_worker, kind,
    recipe_of,
};
