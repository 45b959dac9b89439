//! The process outside: what its end leaves, the kernel removes; what the kernel leaves, it removes.

use std::ffi::OsString;
use std::fs;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};

use super::dirs::{Dirs, Top};
use super::record::{Process, Record};
use crate::host::cgroup::{self, Groups};

/// How long a killed data centre may take to disappear.
const DISAPPEARANCE: Duration = Duration::from_secs(30);

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Starts a data centre whose description lies in its folder, and stays until it has ended. `tied` to its standard input, it
/// ends the data centre when that is closed, which the kernel does for whoever held the other end, however it ended.
///
/// # Errors
/// The namespaces cannot be made.
pub fn run(program: &Path, top: &Top, name: &str, tied: bool) -> Result<()> {
    let dirs = top.instance(name);
    // Whoever makes the namespaces is killed when this process ends, and the first process in them with it.
    let mut outer = Command::new("setpriv");
    outer.args(["--pdeathsig", "KILL", "unshare", "--mount", "--net", "--pid", "--fork"]);
    outer.args(["--kill-child=SIGKILL", "--mount-proc", "--propagation", "private", "--"]);
    outer.arg(program).arg("first").arg(name);
    outer.stdin(Stdio::null());
    let mut outer = outer.spawn().context("starting unshare")?;
    let pid = |id: u32| i32::try_from(id).context("a process id is positive");
    let record = Record {
        warden: Process::of(pid(std::process::id())?).context("this process is not in /proc")?,
        outer: Process::of(pid(outer.id())?).context("unshare has ended")?,
    };
    record.write(&dirs)?;
    if tied {
        std::thread::spawn(move || {
            // Nothing is ever written to it.
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            record.outer.kill();
        });
    }
    let status = outer.wait().context("waiting for unshare")?;
    eprintln!("warden: the data centre {name} has ended ({status})");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(remove(top, &dirs))
}

/// Removes what is left of a data centre that has ended.
async fn remove(top: &Top, dirs: &Dirs) -> Result<()> {
    Groups::new(&top.tag_of(&dirs.name))?.remove().await?;
    match fs::remove_dir_all(&dirs.dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", dirs.dir.display()))
        }
        _ => Ok(()),
    }
}

/// Starts a warden that goes on when this process ends, unless it is `tied` to the pipe whose end this gives.
///
/// # Errors
/// It cannot be started.
pub fn start(
    program: &Path,
    top: &Top,
    name: &str,
    tied: bool,
) -> Result<(std::process::Child, Option<std::process::ChildStdin>)> {
    let dirs = top.instance(name);
    let log =
        fs::File::create(dirs.log()).with_context(|| format!("making {}", dirs.log().display()))?;
    let words: [OsString; 2] = ["warden".into(), name.into()];
    let mut command = Command::new(program);
    command.args(words).env(super::dirs::TOP_VARIABLE, &top.0);
    if tied {
        command.arg("--tied").stdin(Stdio::piped());
    } else {
        command.stdin(Stdio::null());
    }
    // Signals of the terminal are not for it.
    let mut child = command
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .context("starting the warden")?;
    let held = child.stdin.take();
    Ok((child, held))
}

/// Ends a data centre, however it is, and waits until nothing of it is left.
///
/// # Errors
/// Something does not go away.
pub async fn down(top: &Top, name: &str) -> Result<()> {
    let dirs = top.instance(name);
    let deadline = tokio::time::Instant::now() + DISAPPEARANCE;
    if let Some(record) = Record::read(&dirs)? {
        // What is frozen cannot die.
        let groups = Groups::new(&top.tag_of(name))?;
        groups.thaw_all();
        let warden = record.warden;
        record.outer.kill();
        while record.outer.lives() || warden.lives() {
            if tokio::time::Instant::now() >= deadline {
                bail!(
                    "the data centre {name} does not end (processes {} and {}); see {}",
                    record.outer.pid,
                    warden.pid,
                    dirs.log().display()
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    // The warden has done this, unless it was killed.
    remove(top, &dirs).await
}

/// Held by whoever starts one or sweeps: one that is about to be started looks like one that nobody runs.
pub struct Held(#[expect(dead_code, reason = "held until it is dropped")] Flock<fs::File>);

/// Waits for its turn to start one or to sweep.
///
/// # Errors
/// The folder cannot be written to.
pub fn hold(top: &Top) -> Result<Held> {
    let instances = top.instances();
    fs::create_dir_all(&instances).with_context(|| format!("making {}", instances.display()))?;
    let lock = top.0.join("lock");
    let file = fs::File::create(&lock).with_context(|| format!("making {}", lock.display()))?;
    let held = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error);
    held.map(Held).with_context(|| format!("locking {}", lock.display()))
}

/// Removes what is left of data centres that nobody runs any more: folders and cgroups. Gives their names.
///
/// # Errors
/// Something does not go away.
pub async fn sweep(top: &Top, _held: &Held) -> Result<Vec<String>> {
    let mut names = top.names();
    let prefix = format!("{}-", top.tag());
    names.extend(
        cgroup::tags()?.iter().filter_map(|tag| Some(tag.strip_prefix(&prefix)?.to_owned())),
    );
    names.sort();
    names.dedup();
    let mut swept = Vec::new();
    for name in names {
        let record = Record::read(&top.instance(&name))?;
        if record.is_none_or(|record| !record.outer.lives() && !record.warden.lives()) {
            remove(top, &top.instance(&name)).await?;
            swept.push(name);
        }
    }
    Ok(swept)
}
