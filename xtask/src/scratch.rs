//! Where tests and measurements put what they throw away.
//!
//! Tests have it in memory, if there is room: a scenario is dozens of processes that make every line durable, and most of
//! what it waits for is the disk. Measurements have it on the disk of the tree, gigabytes at times.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::exit::{Doing, Done};
use crate::{lock, run};

/// The file system in memory that every Linux has.
const MEMORY: &str = "/dev/shm";
/// What must be free in it: several sites side by side, and as much again.
const ROOM: u64 = 8 << 30;
/// What names another place.
pub(crate) const VARIABLE: &str = "TMPDIR";
/// The file that is locked as long as somebody uses the folder it lies in.
const LOCK: &str = ".lock";

/// The place that a person has chosen.
pub(crate) fn chosen() -> Option<OsString> {
    std::env::var_os(VARIABLE).filter(|place| !place.is_empty())
}

/// A folder for one process, which is known to be in use as long as that process lives.
#[derive(Debug)]
pub(crate) struct Scratch {
    dir: PathBuf,
    lock: File,
}

impl Scratch {
    /// A folder in `place`, unless a person has `chosen` another place, which is theirs to keep clean.
    pub(crate) fn unless(chosen: Option<OsString>, place: &Path) -> Done<Option<Self>> {
        chosen.is_none().then(|| Self::begin(place)).transpose()
    }

    /// A new folder in `place`, where nothing else may lie; what processes have left there that are gone is removed.
    fn begin(place: &Path) -> Done<Self> {
        fs::create_dir_all(place).doing(|| format!("cannot create {}", place.display()))?;
        let _alone = lock::hold(&place.join(LOCK))?;
        sweep(place)?;
        let dir = place.join(std::process::id().to_string());
        fs::create_dir_all(&dir).doing(|| format!("cannot create {}", dir.display()))?;
        let lock = lock::hold(&dir.join(LOCK))?;
        Ok(Self { dir, lock })
    }

    /// Has `command` use it. Its input is the lock, so that it holds it however it ends.
    pub(crate) fn lend(self, command: &mut Command) {
        command.env(VARIABLE, self.dir).stdin(self.lock);
    }
}

fn sweep(place: &Path) -> Done {
    let entries = fs::read_dir(place).doing(|| format!("cannot list {}", place.display()))?;
    for entry in entries {
        let path = entry.doing(|| format!("cannot list {}", place.display()))?.path();
        if path.is_dir() && !is_used(&path) {
            fs::remove_dir_all(&path).doing(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

fn is_used(dir: &Path) -> bool {
    File::open(dir.join(LOCK))
        .is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
}

/// The folder in memory, unless a person has chosen one, programs cannot be run there, or there is little room.
pub(crate) fn in_memory() -> Option<PathBuf> {
    if chosen().is_some() {
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
    use std::process::Stdio;

    use super::*;

    #[test]
    fn what_a_process_has_left_goes_when_it_is_gone() {
        let place = std::env::temp_dir().join(format!("xtask-scratch-{}", std::process::id()));
        let older = place.join("of-an-older-version");
        fs::create_dir_all(older.join("deep")).unwrap();
        let scratch = Scratch::begin(&place).unwrap();
        assert!(!older.exists(), "nobody uses it");
        let dir = scratch.dir.clone();
        let mut command = Command::new("sh");
        // It says where it is, and stays.
        command.args(["-c", "echo \"$TMPDIR\"; exec sleep 60"]).stdout(Stdio::piped());
        scratch.lend(&mut command);
        let mut child = command.spawn().unwrap();
        drop(command);
        let mut said = String::new();
        let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut output, &mut said).unwrap();
        assert_eq!(Path::new(said.trim_end()), dir);
        sweep(&place).unwrap();
        let was_kept = dir.exists();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(was_kept, "it is used");
        sweep(&place).unwrap();
        assert!(!dir.exists(), "it is used no longer");
        fs::remove_dir_all(&place).unwrap();
    }

    #[test]
    fn a_place_that_a_person_has_chosen_is_used_as_it_is() {
        let place = std::env::temp_dir().join(format!("xtask-chosen-{}", std::process::id()));
        assert!(Scratch::unless(Some("/elsewhere".into()), &place).unwrap().is_none());
        assert!(!place.exists());
        let scratch = Scratch::unless(None, &place).unwrap().unwrap();
        assert_eq!(scratch.dir.parent(), Some(&*place));
        fs::remove_dir_all(&place).unwrap();
    }

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
