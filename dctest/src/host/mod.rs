//! The machine that everything runs on.

pub mod base;
pub mod cgroup;
pub mod command;
pub mod prerequisites;
