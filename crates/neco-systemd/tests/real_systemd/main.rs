//! The engine against a real systemd.
//!
//! These tests change the machine they run on and stop its system bus for a moment, so they are meant for a machine of
//! the virtual data centre: `cargo test -p neco-systemd --test real_systemd --no-run` builds the executable, which is
//! copied there and run with `--ignored --test-threads 1`.

mod bench;
mod jobs;
mod outages;
mod transient;

use neco_systemd::contract;

use crate::bench::Machine;

#[tokio::test]
#[ignore = "needs a booted systemd; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn the_real_engine_keeps_the_contract() {
    contract::holds(Machine::new).await;
}
