//! Whole updates under faults. Each module is one kind of fault; each test is one story with one site of its own.

mod audit;
mod bad_records;
mod bad_releases;
mod bad_surroundings;
mod etcd;
mod go;
mod leaders;
mod power;
mod releases;
mod update;
mod workers;
