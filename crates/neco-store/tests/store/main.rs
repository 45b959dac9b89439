//! What every store must do, what etcd does besides, and what the store makes of outages.

mod common;
mod contract_etcd;
mod contract_memory;
mod failover;
mod faults;
mod interop;
mod limits;
mod lost_answers;
mod members;
mod storage_rows;
mod trust;
