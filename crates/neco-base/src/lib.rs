//! Small things that every crate needs and that know nothing of Neco.
//!
//! - [`Backoff`] and [`Retry`] say how long to wait before the next try, [`jittered`] how long until the
//!   next look. Nothing here sleeps, and chance can be given.
//! - [`Secret`] is a value that is not printed and does not stay in memory.
//! - [`one_line`] tells an error with its causes.
//! - [`hex`] writes bytes, most often of a digest, as text.
//! - [`KeyId`] names a minisign key.
//! - [`read_small`] reads a file that people write, [`Tree`] a folder of them.

mod backoff;
mod causes;
mod hex;
mod key_id;
mod read;
mod secret;
mod tree;

pub use backoff::{Backoff, Retry, jittered};
pub use causes::one_line;
pub use hex::hex;
pub use key_id::{KeyId, KeyIdError};
pub use read::read_small;
pub use secret::{Secret, Zeroize};
pub use tree::{Tree, TreeError, TreeFile};
