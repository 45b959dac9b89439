//! Decides: what the leader does next, what a boot server does next, and which invariants must hold.
//!
//! Pure: no I/O, no clock, no randomness, no async runtime. A [`View`] is one consistent snapshot of etcd;
//! [`next_action`] says what the leader should do about it, [`next_move`] what one boot server should do, given what it
//! has written down about itself ([`Local`]). Both answer as data, and the guarded transactions that carry an answer
//! out ([`Move::txn`], [`Action::txn`]) are data too, so the code that runs in production is the code that the property
//! tests, the model and the simulation drive.
//!
//! The rows of the tables that the comments name are those of `docs/update.md`.

#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

mod action;
mod barrier;
mod fence;
pub mod invariants;
mod leader;
mod leader_txn;
mod local;
mod moves;
pub mod operator;
mod stopwatch;
#[cfg(feature = "testing")]
pub mod testing;
mod view;
mod waited;
pub mod why;
mod words;
mod worker;
mod worker_txn;

pub use action::{Action, LeaderContext, NewRequest, Waiting};
pub use barrier::{group_is_open, lowest_step};
pub use fence::{Fence, fence};
pub use leader::{Limits, Window, aborted_releases, choose_target, next_action, outcome};
pub use leader_txn::publish_release;
pub use local::{Doing, IntentState, JournalState, Local, OpenGroup, RequestState};
pub use moves::{Move, Post, PostKind, Rest};
// What it is told of a recipe.
pub use neco_schema::{GroupShape, RecipeShape};
pub use stopwatch::{Elapsed, Stopwatch};
pub use view::{
    Problem, Slot, Unreadable, Versioned, View, leader_ranges, operator_ranges, worker_ranges,
};
pub use worker::{Row, next_move, next_move_with_row};
pub use worker_txn::{StatusWrite, decide_way, release_turn, take_turn};
