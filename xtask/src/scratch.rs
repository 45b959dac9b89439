//! Where tests put what they throw away: in memory, if there is room.
//!
//! A scenario is dozens of processes that make every line durable; most of what it waits for is the disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run;

/// The file system in memory that every Linux has.
const MEMORY: &str = "/dev/shm";
/// What must be free in it: several sites side by side, and as much again.
const ROOM: u64 = 8 << 30;
/// What names another place.
pub(crate) const VARIABLE: &str = "TMPDIR";

/// The folder in memory, unless a person has chosen one, programs cannot be run there, or there is little room.
pub(crate) fn in_memory() -> Option<PathBuf> {
    if std::env::var_os(VARIABLE).is_some() {
        return None;
    }
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mut df = Command::new("df");
    let free = run::capture(df.args(["--output=avail", "-B1", MEMORY])).ok()?;
    let free: u64 = free.lines().last()?.trim().parse().ok()?;
    (runs_programs(&mounts) && free >= ROOM).then(|| Path::new(MEMORY).to_owned())
}

/// Whether it is in memory, and neither read-only nor without the right to execute.
fn runs_programs(mounts: &str) -> bool {
    let mount = mounts.lines().rev().map(|line| line.split(' ').collect::<Vec<_>>());
    let mut here = mount.filter(|fields| fields.get(1) == Some(&MEMORY));
    here.next().is_some_and(|fields| {
        let options: Vec<_> = fields.get(3).map_or("", |options| options).split(',').collect();
        fields.get(2) == Some(&"tmpfs") && options.contains(&"rw") && !options.contains(&"noexec")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_memory_in_which_programs_run_is_used() {
        let root = "/dev/vda / ext4 rw,relatime 0 0\n";
        for (mount, usable) in [
            ("tmpfs /dev/shm tmpfs rw,nosuid,nodev 0 0\n", true),
            ("shm /dev/shm tmpfs rw,nosuid,nodev,noexec,relatime,size=65536k 0 0\n", false),
            ("tmpfs /dev/shm tmpfs ro,nosuid 0 0\n", false),
            ("/dev/vdb /dev/shm ext4 rw 0 0\n", false),
            ("", false),
        ] {
            assert_eq!(runs_programs(&format!("{root}{mount}")), usable, "{mount}");
        }
        let twice = "tmpfs /dev/shm tmpfs rw 0 0\ntmpfs /dev/shm tmpfs rw,noexec 0 0\n";
        assert!(!runs_programs(twice), "the later mount lies over the earlier");
    }
}
