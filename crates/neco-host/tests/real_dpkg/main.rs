//! The engine against the dpkg of a whole machine.
//!
//! These tests install and remove packages where they run, so they are meant for a machine of the virtual data centre and
//! refuse any other: `cargo test -p neco-host --test real_dpkg --no-run` builds the executable, which is copied there and
//! run with `--ignored --test-threads 1`.

#[path = "../common/mod.rs"]
mod common;
mod troubles;

use std::path::Path;

use common::dpkg::{DpkgBench, hold_locks_where_asked};
use neco_host::package::contract;

/// A bench on this machine, if it is one that may be changed.
fn bench() -> DpkgBench {
    let container = std::fs::read_to_string("/run/systemd/container").unwrap_or_default();
    assert!(
        container.trim() == "systemd-nspawn" && Path::new("/etc/neco/rack").exists(),
        "this is no machine of `cargo xtask dc`: its packages are left alone"
    );
    DpkgBench::system()
}

#[tokio::test]
#[ignore = "needs root and Debian's dpkg of a machine of its own; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn dpkg_keeps_the_contract() {
    contract::holds(bench).await;
}

#[tokio::test]
#[ignore = "needs root and Debian's dpkg of a machine of its own; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn dpkg_below_another_root_keeps_the_contract() {
    drop(bench());
    contract::holds(DpkgBench::below).await;
}

#[test]
fn another_process_holds_locks_where_it_is_asked() {
    hold_locks_where_asked();
}
