//! What this machine must have before a data centre can stand on it; each lack with what helps.

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::unistd::geteuid;

use super::base;
use super::cgroup::Groups;
use super::command::{command, run};
use crate::instance::dirs::Top;

/// What makes the tree that all machines share.
const MAKER: (&str, &str) = ("mmdebstrap", "mmdebstrap");

/// Programs and the Debian packages that bring them.
const PROGRAMS: [(&str, &str); 9] = [
    ("chroot", "coreutils"),
    ("ip", "iproute2"),
    ("mount", "mount"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("ssh", "openssh-client"),
    ("ssh-keygen", "openssh-client"),
    ("sysctl", "procps"),
    ("unshare", "util-linux"),
];

/// The tree that all machines share.
const DISK_OF_BASE: u64 = 1 << 30;
/// What one machine writes.
const DISK_OF_MACHINE: u64 = 300 << 20;
/// What one machine holds in memory.
const MEMORY_OF_MACHINE: u64 = 200 << 20;

const PROBE: Duration = Duration::from_secs(20);

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

/// What is missing for a number of machines in a data centre of `top`; nothing if they can stand here.
pub async fn lacks(top: &Top, machines: u32) -> Vec<Lack> {
    let dir = &top.0;
    let mut lacks = Vec::new();
    let mut lack =
        |what: String, remedy: &str| lacks.push(Lack { what, remedy: remedy.to_owned() });
    let there = base::is_there(&top.base());
    for (program, package) in PROGRAMS.into_iter().chain((!there).then_some(MAKER)) {
        if !is_on_path(program) {
            lack(
                format!("there is no {program} on this machine"),
                &format!("install it, on Debian by: apt-get install {package}"),
            );
        }
    }
    if !geteuid().is_root() {
        lack("this is not root".to_owned(), "namespaces and mounts need it: run it with sudo");
        // Everything else would only say so again.
        return lacks;
    }
    // Both mount options and lists of libraries are taken apart at these.
    if dir.display().to_string().contains([',', ':', '\\', '"']) {
        lack(
            format!("the path {} holds a comma, a colon, a quote or a backslash", dir.display()),
            "set CARGO_TARGET_DIR to a folder without",
        );
    }
    let namespaces = ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "true"];
    if let Err(error) = run(&mut command(namespaces), PROBE).await {
        lack(
            format!("this machine makes no namespaces: {error}"),
            "in a container, give it CAP_SYS_ADMIN; else use another machine",
        );
    } else if let Err(error) = overlay(dir).await {
        lack(
            format!("{} cannot hold the disks of machines: {error}", dir.display()),
            "use a file system that an overlay can write to, such as ext4 or xfs",
        );
    }
    if let Err(error) = cgroups(&top.tag()).await {
        lack(
            format!("this machine gives no cgroups: {error:#}"),
            "mount them writable below /sys/fs/cgroup",
        );
    }
    let needed = if there { 0 } else { DISK_OF_BASE } + u64::from(machines) * DISK_OF_MACHINE;
    match nix::sys::statvfs::statvfs(dir) {
        Ok(stat) => {
            let free = stat.blocks_available() * stat.fragment_size();
            if free < needed {
                lack(
                    format!(
                        "{} has {} MB free, and {} MB are needed",
                        dir.display(),
                        mb(free),
                        mb(needed)
                    ),
                    "make room, or set CARGO_TARGET_DIR to a larger disk",
                );
            }
        }
        Err(error) => {
            lack(format!("{} cannot be looked at: {error}", dir.display()), "make it accessible")
        }
    }
    let needed = u64::from(machines) * MEMORY_OF_MACHINE;
    if let Some(free) = fs::read_to_string("/proc/meminfo").ok().and_then(|text| available(&text))
        && free < needed
    {
        lack(
            format!("{} MB of memory are available, and {} MB are needed", mb(free), mb(needed)),
            "end something, or describe fewer boot servers",
        );
    }
    lacks
}

fn mb(bytes: u64) -> u64 {
    bytes / 1_000_000
}

/// The bytes that `MemAvailable` of `/proc/meminfo` tells of (proc(5)).
fn available(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(Into::into));
    dirs.into_iter().any(|dir| dir.join(program).is_file())
}

/// Tries an overlay whose upper layer lies below `dir`, in a mount namespace that ends with the trial.
async fn overlay(dir: &Path) -> anyhow::Result<()> {
    let trial = dir.join(format!(".overlay-{}", std::process::id()));
    for sub in ["lower", "upper", "work", "merged"] {
        fs::create_dir_all(trial.join(sub))?;
    }
    let script = "mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged && touch merged/file";
    let mut command = command(["unshare", "--mount", "sh", "-c", script]);
    let tried = run(command.current_dir(&trial), PROBE).await;
    fs::remove_dir_all(&trial)?;
    tried.map(drop)
}

async fn cgroups(tag: &str) -> anyhow::Result<()> {
    let groups = Groups::new(&format!("{tag}-check-{}", std::process::id()))?;
    let made = groups.prepare("machine");
    groups.remove().await?;
    made.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_in_bytes() {
        let text = "MemTotal:       24000000 kB\nMemAvailable:   1024 kB\n";
        assert_eq!(available(text), Some(1 << 20));
        assert_eq!(available("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn a_program_is_found_where_it_is() {
        assert!(is_on_path("sh"));
        assert!(!is_on_path("there-is-no-such-program"));
    }
}
