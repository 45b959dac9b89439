//! Test-only: simulated clusters, virtual clock, fixtures, runners of the contract suites.

pub mod cluster;
pub mod store;
