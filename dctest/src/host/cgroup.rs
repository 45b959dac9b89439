//! Control groups (cgroups(7)): one for each machine, in every hierarchy, so that its processes can be found, frozen and
//! measured, whatever they do.
//!
//! They are the one thing that outlives the namespaces of a data centre, so their names tell whose they are.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

/// Where hierarchies are mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// Beginning of the names of our own.
const PREFIX: &str = "neco-dc-";

/// How long the kernel may take to forget a group whose last process has ended.
const REMOVAL: Duration = Duration::from_secs(5);

/// What differs between the two versions.
pub trait Version: Send + Sync {
    /// Our own group in each hierarchy.
    fn own(&self) -> Vec<PathBuf>;

    /// Makes one directory, below one that is there, ready to take processes.
    ///
    /// # Errors
    /// The kernel refuses.
    fn prepare(&self, dir: &Path) -> io::Result<()>;

    /// Halts every process of a group, or lets them go on.
    ///
    /// # Errors
    /// The kernel refuses, or there is no such group.
    fn freeze(&self, dirs: &[PathBuf], frozen: bool) -> io::Result<()>;

    /// What a group has in memory.
    fn memory(&self, dirs: &[PathBuf]) -> Option<Memory>;
}

/// What a group has in memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The processes' own.
    pub anonymous: u64,
    /// With what the kernel keeps of files that they have read and written, and could give back.
    pub all: u64,
}

/// The version of this host.
///
/// # Errors
/// No hierarchy is mounted, or `/proc/self/cgroup` cannot be read.
pub fn of_this_host() -> Result<Box<dyn Version>> {
    let text = fs::read_to_string("/proc/self/cgroup").context("reading /proc/self/cgroup")?;
    let own = parse(&text, Path::new(MOUNT));
    let own: Vec<PathBuf> =
        own.into_iter().filter(|dir| dir.join("cgroup.procs").exists()).collect();
    if own.is_empty() {
        bail!("no cgroup hierarchy is mounted below {MOUNT}");
    }
    let unified_only = Path::new(MOUNT).join("cgroup.controllers").exists();
    Ok(if unified_only { Box::new(V2 { own }) } else { Box::new(V1 { own }) })
}

/// Reads `/proc/self/cgroup`: `ID:CONTROLLERS:PATH` in each line. The directories need not exist.
fn parse(text: &str, mount: &Path) -> Vec<PathBuf> {
    let dir = |line: &str| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let unified = mount.join("unified");
        let hierarchy = match controllers.strip_prefix("name=").unwrap_or(controllers) {
            // Of version 2: beside others, or alone.
            "" if unified.is_dir() => unified,
            "" => mount.to_owned(),
            controllers => mount.join(controllers),
        };
        Some(hierarchy.join(path.trim_start_matches('/')))
    };
    text.lines().filter_map(dir).collect()
}

/// Version 1, alone or beside version 2 without controllers.
struct V1 {
    own: Vec<PathBuf>,
}

impl Version for V1 {
    fn own(&self) -> Vec<PathBuf> {
        self.own.clone()
    }

    fn prepare(&self, dir: &Path) -> io::Result<()> {
        make(dir)?;
        // A set of processors takes no process before it has processors and memory.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let (mine, parents) = (dir.join(file), dir.with_file_name(file));
            if mine.exists() && fs::read_to_string(&mine)?.trim().is_empty() {
                fs::write(&mine, fs::read_to_string(parents)?.trim())?;
            }
        }
        let clone = dir.join("cgroup.clone_children");
        if clone.exists() { fs::write(clone, "1") } else { Ok(()) }
    }

    fn freeze(&self, dirs: &[PathBuf], frozen: bool) -> io::Result<()> {
        let state = if frozen { "FROZEN" } else { "THAWED" };
        write_where_it_is(dirs, "freezer.state", state)
    }

    fn memory(&self, dirs: &[PathBuf]) -> Option<Memory> {
        read_memory(dirs, "memory.usage_in_bytes", "total_rss")
    }
}

/// Version 2 alone.
struct V2 {
    own: Vec<PathBuf>,
}

impl Version for V2 {
    fn own(&self) -> Vec<PathBuf> {
        self.own.clone()
    }

    fn prepare(&self, dir: &Path) -> io::Result<()> {
        make(dir)
    }

    fn freeze(&self, dirs: &[PathBuf], frozen: bool) -> io::Result<()> {
        write_where_it_is(dirs, "cgroup.freeze", if frozen { "1" } else { "0" })
    }

    fn memory(&self, dirs: &[PathBuf]) -> Option<Memory> {
        read_memory(dirs, "memory.current", "anon")
    }
}

fn make(dir: &Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn write_where_it_is(dirs: &[PathBuf], file: &str, value: &str) -> io::Result<()> {
    match dirs.iter().map(|dir| dir.join(file)).find(|path| path.exists()) {
        Some(path) => fs::write(path, value),
        None => Err(io::Error::new(io::ErrorKind::NotFound, format!("no group has {file}"))),
    }
}

/// Memory as one file tells it, and as a line of `memory.stat` does.
fn read_memory(dirs: &[PathBuf], all: &str, anonymous: &str) -> Option<Memory> {
    let dir = dirs.iter().find(|dir| dir.join(all).exists())?;
    let all = fs::read_to_string(dir.join(all)).ok()?.trim().parse().ok()?;
    let parts = fs::read_to_string(dir.join("memory.stat")).ok()?;
    let own = parts.lines().find_map(|line| line.strip_prefix(anonymous)?.strip_prefix(' '))?;
    Some(Memory { anonymous: own.trim().parse().ok()?, all })
}

/// The groups of one data centre.
pub struct Groups {
    version: Box<dyn Version>,
    /// Tells it from all others of this host.
    name: String,
}

impl Groups {
    /// Those of the data centre with this tag.
    ///
    /// # Errors
    /// As [`of_this_host`].
    pub fn new(tag: &str) -> Result<Self> {
        Ok(Self { version: of_this_host()?, name: format!("{PREFIX}{tag}") })
    }

    /// The directories of a machine, whether they are there or not.
    #[must_use]
    pub fn of(&self, machine: &str) -> Vec<PathBuf> {
        self.tops().into_iter().map(|dir| dir.join(machine)).collect()
    }

    fn tops(&self) -> Vec<PathBuf> {
        self.version.own().into_iter().map(|own| own.join(&self.name)).collect()
    }

    /// Makes the groups of a machine and says which files take the ids of its processes.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn prepare(&self, machine: &str) -> Result<Vec<PathBuf>> {
        for dir in self.tops().into_iter().chain(self.of(machine)) {
            self.version
                .prepare(&dir)
                .with_context(|| format!("making the cgroup {}", dir.display()))?;
        }
        Ok(self.of(machine).into_iter().map(|dir| dir.join("cgroup.procs")).collect())
    }

    /// Halts a machine, or lets it go on.
    ///
    /// # Errors
    /// The kernel refuses, or the machine never ran.
    pub fn freeze(&self, machine: &str, frozen: bool) -> Result<()> {
        let word = if frozen { "freezing" } else { "thawing" };
        self.version.freeze(&self.of(machine), frozen).with_context(|| format!("{word} {machine}"))
    }

    /// What a machine has in memory.
    #[must_use]
    pub fn memory(&self, machine: &str) -> Option<Memory> {
        self.version.memory(&self.of(machine))
    }

    /// The ids of the processes of a machine, as this process sees them.
    #[must_use]
    pub fn processes(&self, machine: &str) -> Vec<i32> {
        let mut all: Vec<i32> = self.of(machine).iter().flat_map(|dir| processes(dir)).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Lets all machines go on: what is frozen cannot die.
    pub fn thaw_all(&self) {
        for machine in machines(&self.tops()) {
            let _ = self.version.freeze(&self.of(&machine), false);
        }
    }

    /// Removes everything.
    ///
    /// # Errors
    /// Something still runs in one of the groups after some seconds.
    pub async fn remove(&self) -> Result<()> {
        let deadline = Instant::now() + REMOVAL;
        loop {
            self.thaw_all();
            let left: Vec<PathBuf> =
                self.tops().into_iter().filter(|top| !remove_tree(top)).collect();
            match left.first() {
                None => return Ok(()),
                Some(dir) if Instant::now() >= deadline => {
                    let processes = processes(dir);
                    bail!(
                        "the cgroup {} does not go away; processes in it: {processes:?}",
                        dir.display()
                    );
                }
                Some(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

/// The tags of all data centres that have groups on this host.
///
/// # Errors
/// As [`of_this_host`].
pub fn tags() -> Result<Vec<String>> {
    let mut tags: Vec<String> = of_this_host()?
        .own()
        .iter()
        .flat_map(|own| children(own))
        .filter_map(|dir| Some(dir.file_name()?.to_str()?.strip_prefix(PREFIX)?.to_owned()))
        .collect();
    tags.sort();
    tags.dedup();
    Ok(tags)
}

fn machines(tops: &[PathBuf]) -> Vec<String> {
    let names = tops.iter().flat_map(|top| children(top));
    let mut names: Vec<String> =
        names.filter_map(|dir| Some(dir.file_name()?.to_str()?.to_owned())).collect();
    names.sort();
    names.dedup();
    names
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

fn processes(dir: &Path) -> Vec<i32> {
    let own = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let mut all: Vec<i32> = own.lines().filter_map(|line| line.parse().ok()).collect();
    all.extend(children(dir).iter().flat_map(|child| processes(child)));
    all
}

/// Whether nothing is left. Directories go bottom-up; their files are the kernel's.
fn remove_tree(dir: &Path) -> bool {
    for child in children(dir) {
        remove_tree(&child);
    }
    match fs::remove_dir(dir) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hierarchy_is_found_by_its_line() {
        let mount = tempfile::tempdir().unwrap();
        let text = "9:name=systemd:/\n4:memory:/some/group\n3:cpuset:/\n0::/here\n";
        let path = |name: &str| mount.path().join(name);
        // Version 2 alone is mounted at the top.
        let alone = parse("0::/user.slice\n", mount.path());
        assert_eq!(alone, [path("user.slice")]);
        fs::create_dir(path("unified")).unwrap();
        let beside = parse(text, mount.path());
        assert_eq!(beside, ["systemd/", "memory/some/group", "cpuset/", "unified/here"].map(path));
    }

    #[test]
    fn processors_and_memory_come_from_the_group_above() {
        let top = tempfile::tempdir().unwrap();
        fs::write(top.path().join("cpuset.cpus"), "0-1\n").unwrap();
        fs::write(top.path().join("cpuset.mems"), "0\n").unwrap();
        let dir = top.path().join("machine");
        fs::create_dir(&dir).unwrap();
        for file in ["cpuset.cpus", "cpuset.mems", "cgroup.clone_children"] {
            fs::write(dir.join(file), "").unwrap();
        }
        V1 { own: vec![] }.prepare(&dir).unwrap();
        let read = |file: &str| fs::read_to_string(dir.join(file)).unwrap();
        assert_eq!([read("cpuset.cpus"), read("cpuset.mems")], ["0-1", "0"]);
        assert_eq!(read("cgroup.clone_children"), "1");
    }

    #[test]
    fn both_versions_freeze_and_measure_by_their_own_files() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = [dir.path().join("elsewhere"), dir.path().to_owned()];
        let write = |file: &str, text: &str| fs::write(dir.path().join(file), text).unwrap();
        let read = |file: &str| fs::read_to_string(dir.path().join(file)).unwrap();
        let memory = |anonymous, all| Some(Memory { anonymous, all });
        let one = V1 { own: vec![] };
        let refused = one.freeze(&dirs, true).unwrap_err();
        assert_eq!(refused.to_string(), "no group has freezer.state");
        write("freezer.state", "THAWED\n");
        write("memory.usage_in_bytes", "4096\n");
        write("memory.stat", "rss 1\ntotal_rss_huge 2\ntotal_rss 1024\n");
        one.freeze(&dirs, true).unwrap();
        assert_eq!(
            (read("freezer.state").as_str(), one.memory(&dirs)),
            ("FROZEN", memory(1024, 4096))
        );
        let two = V2 { own: vec![] };
        assert_eq!(two.memory(&dirs), None);
        write("cgroup.freeze", "1\n");
        write("memory.current", "8192\n");
        write("memory.stat", "anon 2048\nfile 6144\nanon_thp 0\n");
        two.freeze(&dirs, false).unwrap();
        assert_eq!((read("cgroup.freeze").as_str(), two.memory(&dirs)), ("0", memory(2048, 8192)));
    }

    #[test]
    fn processes_are_counted_in_groups_below_too() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("payload/docker")).unwrap();
        fs::write(dir.path().join("cgroup.procs"), "").unwrap();
        fs::write(dir.path().join("payload/cgroup.procs"), "7\n").unwrap();
        fs::write(dir.path().join("payload/docker/cgroup.procs"), "11\n12\n").unwrap();
        assert_eq!(processes(dir.path()), [7, 11, 12]);
    }
}
