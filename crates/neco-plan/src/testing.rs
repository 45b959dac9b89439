//! Test-only: bugs planted in the decisions, and a writer that behaves like the original.

mod go_writer;
mod planted;

pub use go_writer::{GoAction, go_next_action, go_recover, go_txn};
pub use planted::{Planted, planted_barrier};
