//! File systems of a boot server's own, which fill up and become read-only on request. No root is needed.
//!
//! They are mounted in a user and mount namespace that a *keeper* process holds open; the server's programs run in there.
//! The keeper waits for the end of its input. When that comes, because this value is dropped or this process is dead however
//! it died, it kills whatever runs in the namespace, and with it go the mounts and all that is on them.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::statvfs::statvfs;

use crate::SiteError;

/// What the keeper does.
const KEEPER: &str = r#"
echo ready
while read -r _; do :; done
mine=$(readlink /proc/self/ns/mnt)
for process in /proc/[0-9]*; do
    pid=${process#/proc/}
    [ "$pid" = $$ ] || [ "$(readlink "$process/ns/mnt")" != "$mine" ] || kill -9 "$pid"
done 2>/dev/null
"#;

/// Puts a file system at `$1`, with everything that was there, by way of the empty directory `$2`. A page is taken, so that
/// there can be one that is full from the beginning.
const MOUNT: &str = r#"
mount -t tmpfs -o size="$3",mode=0755 tmpfs "$2"
cp -a "$1/." "$2/"
head -c 4096 /dev/zero > "$2/.taken"
mount --move "$2" "$1"
"#;

/// What a file system holds at most that has room. It takes memory only for what is on it.
const ROOM: u64 = 2 << 30;
/// How long what the programs of the server do at the same time may keep a disk from filling up.
const FILL_WITHIN: Duration = Duration::from_secs(10);
/// How long the keeper may take to put an end to everything.
const END_WITHIN: Duration = Duration::from_secs(5);

/// The file systems of one boot server.
#[derive(Debug)]
pub struct Disks {
    keeper: Child,
    root: PathBuf,
    view: PathBuf,
}

impl Disks {
    /// Puts a file system at `root` and one at each of `places` below it. Blocks.
    pub(crate) fn mount(root: &Path, places: &[&str]) -> Result<Self, SiteError> {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "--", "sh", "-c", KEEPER]);
        // Not in the group of this process: what a terminal sends to that must not reach it.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let failed = |source| SiteError::Spawn { program: "unshare".to_owned(), source };
        let mut keeper = command.spawn().map_err(failed)?;
        let mut said = String::new();
        if let Some(out) = keeper.stdout.take() {
            BufReader::new(out).read_line(&mut said).map_err(failed)?;
        }
        if said.trim() != "ready" {
            let _ = keeper.wait();
            return Err(failed(std::io::Error::other(
                "this user can make no namespaces (see /proc/sys/user/max_user_namespaces)",
            )));
        }
        let view = PathBuf::from(format!("/proc/{}/root{}", keeper.id(), root.display()));
        let disks = Self { keeper, root: root.to_owned(), view };
        let stage = root.with_extension("disk");
        std::fs::create_dir_all(&stage).map_err(SiteError::io("making", &stage))?;
        for place in std::iter::once("").chain(places.iter().copied()) {
            let dir = disks.view.join(place);
            std::fs::create_dir_all(&dir).map_err(SiteError::io("making", &dir))?;
            let mut mount = disks.inside("sh");
            mount.args(["-e", "-c", MOUNT, "sh"]).args([&disks.dir(place), &stage]);
            run(mount.arg(ROOM.to_string()))?;
        }
        Ok(disks)
    }

    /// Where this process finds the root that the server's programs see.
    pub fn view(&self) -> &Path {
        &self.view
    }

    /// A command that runs in there.
    pub fn inside(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.keeper.id().to_string());
        command.args(["--user", "--mount", "--preserve-credentials", "--"]).arg(program);
        command
    }

    /// Takes all room away; what is there can still be replaced by something of its size in place. Blocks.
    ///
    /// # Errors
    /// It does not come to that.
    pub fn fill(&self, place: &str) -> Result<(), SiteError> {
        self.leave(place, 0)
    }

    /// Leaves room for so many bytes. Blocks.
    ///
    /// # Errors
    /// It does not come to that.
    pub fn leave(&self, place: &str, bytes: u64) -> Result<(), SiteError> {
        let deadline = Instant::now() + FILL_WITHIN;
        loop {
            let size = self.taken(place)? + bytes;
            match self.resize(place, size) {
                // Something was written in between.
                Err(_) if Instant::now() < deadline => {}
                resized => return resized,
            }
        }
    }

    /// Makes room. Blocks.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn make_room(&self, place: &str) -> Result<(), SiteError> {
        self.resize(place, ROOM)
    }

    /// Makes it read-only for all that is opened from now on. Blocks.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn forbid_writing(&self, place: &str) -> Result<(), SiteError> {
        let dir = self.dir(place);
        if place.is_empty() {
            // The places stay as they are.
            return run(self.inside("mount").args(["-o", "remount,ro"]).arg(dir));
        }
        // Another mount above it: logs and locks are open for writing, and a mount with such files stays writable.
        run(self.inside("mount").arg("--bind").args([&dir, &dir]))?;
        run(self.inside("mount").args(["-o", "remount,bind,ro"]).arg(dir))
    }

    /// Takes that back. Blocks.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn allow_writing(&self, place: &str) -> Result<(), SiteError> {
        let dir = self.dir(place);
        if place.is_empty() {
            return run(self.inside("mount").args(["-o", "remount,rw"]).arg(dir));
        }
        run(self.inside("umount").arg("--lazy").arg(dir))
    }

    fn dir(&self, place: &str) -> PathBuf {
        // Without a slash at its end.
        if place.is_empty() { self.root.clone() } else { self.root.join(place) }
    }

    fn taken(&self, place: &str) -> Result<u64, SiteError> {
        let dir = self.view.join(place);
        let found = statvfs(&dir).map_err(|errno| SiteError::io("asking", &dir)(errno.into()))?;
        Ok((found.blocks() - found.blocks_free()) * found.fragment_size())
    }

    fn resize(&self, place: &str, size: u64) -> Result<(), SiteError> {
        let mut command = self.inside("mount");
        run(command.arg("-o").arg(format!("remount,size={size}")).arg(self.dir(place)))
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let deadline = Instant::now() + END_WITHIN;
        while matches!(self.keeper.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                let _ = self.keeper.kill();
                let _ = self.keeper.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Runs a command that says nothing when it succeeds.
fn run(command: &mut Command) -> Result<(), SiteError> {
    let output = command.stdin(Stdio::null()).output();
    let failed = |source| SiteError::Spawn { program: format!("{command:?}"), source };
    let output = output.map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(SiteError::Spawn { program: format!("{command:?}"), source: std::io::Error::other(said) })
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    fn disks() -> (tempfile::TempDir, Disks) {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("server");
        std::fs::create_dir_all(root.join("etc")).expect("room");
        std::fs::write(root.join("etc/rack"), "0").expect("room");
        let disks = Disks::mount(&root, &["etc", "var/lib"]).expect("namespaces");
        (dir, disks)
    }

    fn write(disks: &Disks, file: &str) -> Result<(), ErrorKind> {
        let path = disks.view().join(file);
        std::fs::write(path, vec![7; 5000]).map_err(|error| error.kind())
    }

    #[test]
    fn each_place_fills_up_and_becomes_read_only_by_itself() {
        let (dir, disks) = disks();
        assert_eq!(std::fs::read(disks.view().join("etc/rack")).expect("copied"), b"0");
        for (place, file) in [("", "root"), ("etc", "etc/x"), ("var/lib", "var/lib/x")] {
            disks.fill(place).expect("full");
            assert_eq!(write(&disks, file), Err(ErrorKind::StorageFull), "{place}");
            disks.leave(place, 8192).expect("a little");
            assert_eq!(write(&disks, file), Ok(()), "{place}");
            disks.make_room(place).expect("room");
            disks.forbid_writing(place).expect("read-only");
            assert_eq!(write(&disks, file), Err(ErrorKind::ReadOnlyFilesystem), "{place}");
            disks.allow_writing(place).expect("writable");
            assert_eq!(write(&disks, file), Ok(()), "{place}");
        }
        assert!(!dir.path().join("server/root").exists(), "nobody else sees it");
    }

    #[test]
    fn what_runs_there_goes_with_it_though_it_has_left_its_starter() {
        let (_dir, disks) = disks();
        let mut command = disks.inside("sh");
        command.args(["-c", "setsid sleep 600 >/dev/null 2>&1 & echo $!"]);
        let said = command.output().expect("ran").stdout;
        let pid = String::from_utf8(said).expect("text").trim().to_owned();
        let alive = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        };
        assert!(alive());
        drop(disks);
        let deadline = Instant::now() + Duration::from_secs(60);
        while alive() {
            assert!(Instant::now() < deadline, "it is left behind");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
