//! Whole updates under faults. Each module is one kind of fault; each test is one story with one site of its own.
//!
//! `cargo xtask test` runs one or two of each kind; the others are marked as long, and `cargo xtask test --all` runs them too.

mod audit;
mod bad_access;
mod bad_configuration;
mod bad_mirrors;
mod bad_packages;
mod bad_records;
mod bad_releases;
mod bad_settings;
mod bad_values;
mod disks;
mod etcd;
mod go;
mod installs;
mod journals;
mod kills;
mod leaders;
mod members;
mod necoctl_audit;
mod no_etcd;
mod orders;
mod plans;
mod power;
mod releases;
mod restored;
mod turns;
mod update;
mod workers;
mod writes;
