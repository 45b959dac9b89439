//! Finds newer versions of what `artifacts.toml` pins, and writes them there.
//!
//! - [`version`] compares versions as tags and channels write them, [`decide`] chooses which one is pinned next: pure.
//! - [`ignore`] reads the list of versions that are passed over.
//! - [`lookup`] asks registries, GitHub and the channel of the OS image, each within a bound.
//! - [`bump`] brings these together, a few things at once; what cannot be asked for stands in the way of nothing else.
//! - [`edit`] changes values within the text of the file, and no other byte; [`replace`] puts the result in its place.
//! - [`cli`] is the command line that `cargo xtask artifacts` starts.
//!
//! `docs/artifacts.md` tells how it is used.

pub mod bump;
pub mod cli;
pub mod decide;
pub mod edit;
pub mod ignore;
pub mod lookup;
pub mod replace;
mod report;
pub mod version;
