//! One boot server: its disk, its power and its processes (systemd-nspawn(1)).

use std::fs;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::dirs::{Dirs, MachineDirs};
use super::proc;
use crate::description::DataCentre;
use crate::host::base::program;
use crate::host::cgroup::Groups;
use crate::host::command::{command, outcome, run};
use crate::plan::machine::{Content, Secrets, files};
use crate::plan::topology::Place;

/// What systemd-nspawn ends with after a machine has asked to be started again.
const REBOOT: i32 = 133;

/// Between two looks at something that is about to be.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// One question to a machine.
const QUESTION: Duration = Duration::from_secs(20);

/// Until the last process of a machine is gone whose power was cut.
const DEATH: Duration = Duration::from_secs(10);

/// Capabilities that would reach beyond the machine: the clock, the kernel and the hardware are the host's.
const DROPPED: &str = "CAP_SYS_TIME,CAP_SYS_MODULE,CAP_SYS_RAWIO";

/// A boot server that can be switched on.
pub struct Machine {
    /// Where it is.
    pub place: Place,
    /// Its rack.
    pub rack: u32,
    /// The tree that systemd-nspawn is a program of, too.
    base: PathBuf,
    dirs: MachineDirs,
    groups: Arc<Groups>,
    limits: crate::description::Limits,
}

/// A machine that is on.
pub struct Running {
    nspawn: Child,
    /// The first process of the machine.
    pub leader: i32,
}

impl Machine {
    /// The boot server of a rack, with its disk: everything that is on it before the first start.
    ///
    /// # Errors
    /// The disk cannot be written or mounted.
    pub fn build(
        centre: &DataCentre,
        dirs: &Dirs,
        base: &Path,
        rack: u32,
        secrets: &Secrets,
        groups: Arc<Groups>,
    ) -> Result<Self> {
        let place = Place::BootServer(rack);
        let dirs = dirs.machine(&place.name());
        for dir in [dirs.upper(), dirs.work(), dirs.root(), dirs.docker()] {
            fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        }
        for file in files(centre, rack, secrets) {
            let path = dirs.upper().join(&file.path);
            parents(base, &dirs.upper(), Path::new(&file.path))?;
            match &file.content {
                Content::Text(text) => write(&path, text, file.mode),
                Content::Link(target) => std::os::unix::fs::symlink(target, &path),
            }
            .with_context(|| format!("writing {}", path.display()))?;
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            base.display(),
            dirs.upper().display(),
            dirs.work().display()
        );
        mount(
            Some("overlay"),
            &dirs.root(),
            Some("overlay"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .with_context(|| format!("mounting the disk of {}", place.name()))?;
        Ok(Self { place, rack, base: base.to_owned(), dirs, groups, limits: centre.limits })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> String {
        self.place.name()
    }

    /// Switches it on.
    ///
    /// # Errors
    /// Something of its last life still runs, or systemd-nspawn does not start it.
    pub async fn power_on(&self) -> Result<Running> {
        let name = self.name();
        // Two systemds on one disk would be two machines with one name.
        let left = self.groups.processes(&name);
        if !left.is_empty() {
            bail!("{name} still has processes of its last life: {left:?}");
        }
        let console = self.dirs.console();
        let console = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&console)
            .with_context(|| format!("opening {}", console.display()))?;
        let mut nspawn = self
            .nspawn(&self.groups.prepare(&name)?)
            .stdin(Stdio::null())
            .stdout(console.try_clone()?)
            .stderr(console)
            .spawn()
            .context("starting systemd-nspawn")?;
        let pid = nspawn
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .context("systemd-nspawn has ended")?;
        let deadline = Instant::now() + self.limits.boot;
        let leader = loop {
            // Others are helpers of systemd-nspawn that end soon.
            let first = proc::children(pid).into_iter().find(|&pid| proc::is_first_of_its_own(pid));
            if let Some(leader) = first {
                break leader;
            }
            if let Some(status) = nspawn.try_wait()? {
                bail!("systemd-nspawn does not start {name} ({status}): {}", self.last_words());
            }
            if Instant::now() >= deadline {
                bail!("systemd-nspawn has not started {name}: {}", self.last_words());
            }
            sleep(LOOK_EVERY).await;
        };
        Ok(Running { nspawn, leader })
    }

    fn nspawn(&self, groups: &[PathBuf]) -> Command {
        let name = self.name();
        // The shell joins the groups and becomes systemd-nspawn. The first word after the script is its name.
        let script =
            r#"while [ "$1" != -- ]; do echo 0 > "$1" || exit; shift; done; shift; exec "$@""#;
        let mut all = command(["sh", "-c", script, "power-on"]);
        all.args(groups).arg("--").args(program(&self.base, "systemd-nspawn"));
        all.args(["--quiet", "--settings=no", "--register=no", "--keep-unit", "--boot"]);
        all.arg(format!("--directory={}", self.dirs.root().display()));
        all.arg(format!("--machine={name}"));
        all.arg(format!("--uuid=00000000-0000-4000-8000-{:012}", self.rack));
        all.arg(format!("--network-namespace-path=/run/netns/{name}"));
        all.arg("--capability=all").arg(format!("--drop-capability={DROPPED}"));
        // Docker's keyrings, and its programs for the control of devices.
        all.arg("--system-call-filter=add_key keyctl bpf");
        all.arg(format!("--bind={}:/var/lib/docker", self.dirs.docker().display()));
        all.args(["--console=pipe", "--link-journal=no", "--resolv-conf=off", "--timezone=off"]);
        all.arg("--kill-signal=SIGRTMIN+4");
        // A ready-made network namespace counts as the host's: its settings would be read-only.
        all.env("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "network");
        all
    }

    /// The end of what it said on its console.
    #[must_use]
    pub fn last_words(&self) -> String {
        let text = fs::read(self.dirs.console()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(5)..].join(" | ")
    }

    /// Waits until it says that it runs. Units that have failed are in the way of the `first` boot only: later they are what
    /// somebody has made of the machine.
    ///
    /// # Errors
    /// It has not within the time that it has, or it has ended.
    pub async fn booted(&self, running: &mut Running, first: bool) -> Result<()> {
        let deadline = Instant::now() + self.limits.boot;
        loop {
            let output = outcome(
                &mut within(running.leader, &["systemctl", "is-system-running"]),
                "",
                QUESTION,
            )
            .await;
            let state =
                output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
            match state.as_deref() {
                Ok("running") => return Ok(()),
                Ok("degraded") if !first => return Ok(()),
                Ok("degraded") => {
                    let failed = ["systemctl", "--failed", "--plain", "--no-legend"];
                    let failed = run(&mut within(running.leader, &failed), QUESTION).await?;
                    let units: Vec<&str> =
                        failed.lines().filter_map(|line| line.split_whitespace().next()).collect();
                    bail!(
                        "{} runs, but these units have failed: {}",
                        self.name(),
                        units.join(", ")
                    );
                }
                _ => {}
            }
            if let Some(status) = running.nspawn.try_wait()? {
                bail!(
                    "{} has ended while it booted ({status}): {}",
                    self.name(),
                    self.last_words()
                );
            }
            if Instant::now() >= deadline {
                let state = state.unwrap_or_else(|error| error.to_string());
                bail!(
                    "{} has not come up in {} s (it says {state:?}): {}",
                    self.name(),
                    self.limits.boot.as_secs(),
                    self.last_words()
                );
            }
            sleep(LOOK_EVERY * 2).await;
        }
    }

    /// Takes its power away: everything in it is gone at once.
    ///
    /// # Errors
    /// Something of it still lives after some seconds.
    pub async fn cut(&self, running: &mut Running) -> Result<()> {
        // Never systemd-nspawn: the machine would go on without it.
        let _ = kill(Pid::from_raw(running.leader), Signal::SIGKILL);
        let deadline = Instant::now() + DEATH;
        loop {
            let ended = running.nspawn.try_wait()?.is_some();
            let left = self.groups.processes(&self.name());
            if ended && left.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("{} lives on without power: {left:?}", self.name());
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

impl Running {
    /// Asks it to shut down; its end is told by [`Running::ended`].
    ///
    /// # Errors
    /// It is gone.
    pub fn ask_to_shut_down(&self) -> Result<()> {
        let pid = self.nspawn.id().and_then(|id| i32::try_from(id).ok()).context("it has ended")?;
        kill(Pid::from_raw(pid), Signal::SIGTERM).context("asking systemd-nspawn")
    }

    /// Whether it has ended, and how.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn ended(&mut self) -> Result<Option<End>> {
        Ok(self.nspawn.try_wait()?.map(End::of))
    }
}

/// How a machine came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It shut down, or its power was cut.
    Off,
    /// It asked to be started again.
    Reboot,
}

impl End {
    fn of(status: ExitStatus) -> Self {
        if status.code() == Some(REBOOT) { Self::Reboot } else { Self::Off }
    }
}

/// A command inside of a machine, beside its units and with the rights of the host: for questions only.
#[must_use]
pub fn within(leader: i32, words: &[&str]) -> Command {
    let leader = leader.to_string();
    let enter = ["nsenter", "-t", &leader, "-m", "-u", "-i", "-n", "-p", "-C", "--"];
    command(enter.into_iter().chain(words.iter().copied()))
}

/// Makes the folders above a file in the upper layer as they are in the base: the upper one's attributes are what is seen.
fn parents(base: &Path, upper: &Path, file: &Path) -> Result<()> {
    let mut above: Vec<&Path> =
        file.ancestors().skip(1).filter(|dir| *dir != Path::new("")).collect();
    above.reverse();
    for dir in above {
        let made = upper.join(dir);
        if made.is_dir() {
            continue;
        }
        let known = fs::metadata(base.join(dir));
        let mode = match &known {
            Ok(known) => known.mode() & 0o7777,
            Err(_) if dir.ends_with(".ssh") => 0o700,
            Err(_) => 0o755,
        };
        fs::DirBuilder::new()
            .mode(mode)
            .create(&made)
            .and_then(|()| match &known {
                Ok(known) => std::os::unix::fs::chown(&made, Some(known.uid()), Some(known.gid())),
                Err(_) => Ok(()),
            })
            .and_then(|()| fs::set_permissions(&made, fs::Permissions::from_mode(mode)))
            .with_context(|| format!("making {}", made.display()))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_above_a_file_keep_the_modes_that_the_base_gives_them() {
        let dir = tempfile::tempdir().unwrap();
        let (base, upper) = (dir.path().join("base"), dir.path().join("upper"));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(base.join("root")).unwrap();
        fs::create_dir(&upper).unwrap();
        parents(&base, &upper, Path::new("root/.ssh/authorized_keys")).unwrap();
        parents(&base, &upper, Path::new("etc/neco/rack")).unwrap();
        let mode = |path: &str| fs::metadata(upper.join(path)).unwrap().mode() & 0o7777;
        assert_eq!([mode("root"), mode("root/.ssh"), mode("etc/neco")], [0o700, 0o700, 0o755]);
    }

    #[test]
    fn a_machine_that_asks_for_it_is_started_again() {
        let ended = |code: &str| {
            let status =
                std::process::Command::new("sh").args(["-c", &format!("exit {code}")]).status();
            End::of(status.unwrap())
        };
        assert_eq!([ended("0"), ended("1"), ended("133")], [End::Off, End::Off, End::Reboot]);
    }
}
