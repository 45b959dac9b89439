//! What a process of a daemon has taken, and how it has ended.

use std::fs;

use neco_playground::BootServer;

use crate::daemons;

/// The most memory that a process has had so far, in KiB.
///
/// # Panics
/// It does not run.
#[must_use]
pub fn memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a figure");
    line.split_whitespace().nth(1).expect("a figure").parse().expect("a figure")
}

/// Checks that those of `processes` that have ended were told to, or went for a new binary.
///
/// # Panics
/// One has not.
pub fn ended_in_order(server: &BootServer, processes: &[u32]) {
    let exits = daemons(server).flat_map(|daemon| daemon.state().exits);
    for exited in exits.filter(|exited| processes.contains(&exited.pid)) {
        let code = exited.status.code();
        assert!(matches!(code, Some(0 | 3)), "process {}: {}", exited.pid, exited.status);
    }
}
