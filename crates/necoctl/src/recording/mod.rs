//! Sessions of people on a server, kept for those who must know later what was done there.
//!
//! sshd runs `neco session-log start` in the place of what a person asked for. It runs that, keeps a record beside it, and
//! sends the record away. Nothing that goes wrong with the record keeps anybody out: who has to mend a server with a
//! full disk must get in.
//!
//! - [`Child::of`] decides what is run, and what of it the record holds.
//! - [`attend`] runs it: with the terminal, exit code and signals of the one who asked.
//! - [`parcel`] packs the record and sends it away.

mod attend;
mod child;
pub mod parcel;

pub use attend::{Ended, attend};
pub use child::{Child, Programs};
