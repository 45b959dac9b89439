//! Reads TOML tables and reports everything that does not fit, with file, line and field.
//!
//! A person who wrote ten mistakes into a file wants to see ten lines, not the first. So whoever reads a file takes the
//! fields it knows from [`Fields`], goes on with what it has where something is wrong, and at the end [`Report::conclude`]
//! gives the value or all [`Problems`].

mod fields;
mod name;
mod problem;

pub use fields::{Document, Fields, Found};
pub use name::{Name, NameError};
pub use problem::{Problem, Problems, Report};
