//! Whole verbs on a store in memory, and the program itself.
//!
//! `BLESS=1 cargo test -p necoctl` writes the expected files of `tests/golden/` anew.

mod audit;
mod component;
mod config;
mod disturbed;
mod files;
mod harness;
mod help;
mod images;
mod orders;
mod plan;
mod program;
mod reading;
mod session_log;
mod site;
mod vault;
