//! Knows this server: identity, addresses, files under a root, journal, verified packages, dpkg.

pub mod address;
mod digest;
mod error;
pub mod fs;
pub mod identity;
pub mod journal;
mod replace;
mod root;

pub use error::FileError;
pub use fs::{FileSystem, Owner, RealFs};
pub use identity::IdentityError;
pub use journal::{Journal, JournalError, JournalStore};
pub use replace::{Replaced, replace};
pub use root::Root;
