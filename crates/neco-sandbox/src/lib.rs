//! Keeps what a sandboxed engine pretends to have done, in files under a root.
//!
//! A sandbox engine (units, containers) changes nothing on the machine: it records. Its record must be right
//! although processes are killed at any moment and although several processes share one root.
//!
//! - [`Ledger`] is a state in a JSON file and a log of effects, changed together under a lock.
//! - [`Faults`] is a file in which a person or a test asks for failures and for calls that hang.

mod faults;
mod ledger;

pub use faults::{FaultError, Faults};
pub use ledger::{Entries, Entry, Ledger, LedgerError, Noted};
