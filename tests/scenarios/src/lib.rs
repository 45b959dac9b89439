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
mod drip;
mod journal;
mod leadership;
mod live_audit;
mod logs;
mod observer;
mod operator;
mod process;
mod recording;
mod refitted;
mod refusals;
mod scenario;
mod trail;
mod units;
mod versions;
mod webhook;
mod wire;
mod within;
mod written;

pub use backup::{Backup, copy};
pub use come_to::{
    GROUPED_UNIT, IMAGE, UNIT_IN_TURN, all_settled, given_up, nothing_was_done_twice, once, posted,
    request_for, request_of, settled,
};
pub use drip::Drip;
pub use journal::{attempts, begun_since, has_done};
pub use leadership::{GoPeer, go_leads, leads, leads_alone, others_come_back, updater};
pub use live_audit::live_audit;
pub use logs::{Said, all_say_more, lines, one_says_more};
pub use operator::{Told, daemons, necoctl, processes, restarted, says};
pub use process::{ended_in_order, memory};
pub use recording::{Event, Recording};
pub use refitted::refitted;
pub use refusals::aborted;
pub use scenario::{LONG, Scenario, now};
pub use units::{effects, is_up, unit};
pub use versions::versions_between;
pub use wire::{Verdict, Wire};
pub use within::{
    TURN_UNIT, add_turn_unit, holds, is_held, kill_and_wait, kill_worker, kind, recipe_of,
};
pub use written::{Marks, directories};
