//! The daemon against stand-ins of everything it asks, over loopback, with etcd in memory.

mod bench;
mod health;
mod jobs;
mod leadership;
mod outages;
