//! Ignition templates from the source files of a role (neco-daemons §7).
//!
//! A source file names what machines of a role get: an included source, a passwd object, files, units. [`build`] gathers it
//! into the template that sabakan takes; [`check_references`] looks at all roles at once, for sources that name what is not
//! there and for files that nobody names. Both are pure, over a [`Tree`], and tell all problems with file and line.
//!
//! The texts are rendered by sabakan, for each machine when it boots. [`build`] checks what can be known before: that every
//! action is closed, that functions exist, and that each `Metadata` key has a value.

mod build;
mod metadata;
mod path;
mod references;
mod roles;
mod source;
pub(crate) mod text;

pub use build::build;
pub use metadata::Metadata;
pub use neco_base::Tree;
pub use neco_toml::{Problem, Problems};
pub use references::check_references;
pub use roles::{entry_point, roles};
