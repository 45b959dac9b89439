//! Units as plain processes, for a sandbox without a service manager.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use nix::unistd::{Pid, getsid};
use serde::{Deserialize, Serialize};

use super::{DetachError, RunDetached, check};
use crate::error::Doing;
use crate::replace::create_dirs;
use crate::{FileError, RealFs, Root, replace};

/// Where records of running units lie below the root.
const RUNNING: &str = "/run/neco";
/// Where records of enabled units lie below the root.
const ENABLED: &str = "/var/lib/neco/enabled";

/// How long a new process may take to begin its own session.
const APART_WITHIN: Duration = Duration::from_secs(30);

/// Runs units as processes in sessions of their own.
///
/// A running unit is recorded in `/run/neco/<unit>.pid`, its output goes to `/run/neco/<unit>.log`; an enabled one is
/// recorded in `/var/lib/neco/enabled/<unit>.json`, and whoever plays the machine starts it again at "boot" with
/// [`boot`](Self::boot). All of it lies below the root.
#[derive(Clone, Debug)]
pub struct DetachedProcess {
    root: Root,
}

/// A unit that is started at boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnabledUnit {
    /// Its name.
    pub unit: String,
    /// Its command.
    pub argv: Vec<String>,
}

/// Which process a unit is: an id alone may be given to another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Running {
    pid: u32,
    /// In clock ticks since the kernel started.
    started: u64,
    boot_id: String,
}

impl DetachedProcess {
    /// Units below `root`.
    pub fn new(root: Root) -> Self {
        Self { root }
    }

    /// The units that are to be started at boot, by name. Blocks.
    pub fn enabled(&self) -> Result<Vec<EnabledUnit>, FileError> {
        let dir = self.root.resolve(ENABLED).doing("resolving", ENABLED)?;
        let names = match crate::FileSystem::list(&RealFs, &dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            names => names.doing("listing", &dir)?,
        };
        let mut units = Vec::new();
        for name in names {
            let path = dir.join(name);
            if path.extension().is_some_and(|extension| extension == "json") {
                let bytes = std::fs::read(&path).doing("reading", &path)?;
                let unit = serde_json::from_slice(&bytes).map_err(io::Error::from);
                units.push(unit.doing("understanding", &path)?);
            }
        }
        Ok(units)
    }

    /// Starts every enabled unit that is not running, as a service manager does at boot; returns their names.
    pub async fn boot(&self) -> Result<Vec<String>, DetachError> {
        let unknown = |source| DetachError::File { unit: "*".to_owned(), source };
        let mut started = Vec::new();
        for EnabledUnit { unit, argv } in self.enabled().map_err(unknown)? {
            if !self.is_running(&unit).await? {
                self.start(&unit, &argv).await?;
                started.push(unit);
            }
        }
        Ok(started)
    }

    /// The process of a running unit; `None` if it has ended. Blocks.
    pub fn pid(&self, unit: &str) -> Result<Option<u32>, FileError> {
        let path = self.root.resolve(pid_file(unit)).doing("resolving", pid_file(unit))?;
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.doing("reading", &path)?,
        };
        // A record that cannot be read is that of no process.
        let Ok(record) = serde_json::from_slice::<Running>(&bytes) else { return Ok(None) };
        let is_unit = |pid: &u32| identify(*pid).as_ref() == Some(&record);
        // Whoever gets this id may signal its group: neither their own (0) nor everybody (-1) is a unit.
        Ok(Some(record.pid).filter(|&pid| pid > 1).filter(is_unit))
    }

    /// Starts the process and records it.
    async fn spawn(&self, unit: &str, argv: &[String]) -> Result<(), DetachError> {
        let file = |source| DetachError::File { unit: unit.to_owned(), source };
        let start =
            |source| DetachError::Start { unit: unit.to_owned(), argv: argv.to_vec(), source };
        let log = format!("{RUNNING}/{unit}.log");
        let log = self.root.resolve(&log).doing("resolving", &log).map_err(file)?;
        create_dirs(&RealFs, log.parent().unwrap_or(self.root.path())).map_err(file)?;
        let output = OpenOptions::new().create(true).append(true).mode(0o640).open(&log);
        let output = output.doing("opening", &log).map_err(file)?;
        let errors = output.try_clone().doing("opening", &log).map_err(file)?;
        // `setsid` becomes the command: it is no group leader, so it need not fork.
        let mut child = tokio::process::Command::new("setsid")
            .arg("--")
            .args(argv)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(start)?;
        let pid = child.id().unwrap_or_default();
        let Some(record) = identify(pid) else {
            // It has ended already.
            return match child.try_wait().map_err(start)? {
                Some(_) => Ok(()),
                None => Err(start(io::Error::other("the process is not in /proc"))),
            };
        };
        let text = serde_json::to_vec(&record).map_err(|error| start(error.into()))?;
        let recorded = replace(&RealFs, &self.root, pid_file(unit), &text, 0o644, None);
        if let Err(source) = recorded {
            // Nobody would know of it, and the next try would start a second one.
            let _ = child.kill().await;
            return Err(file(source));
        }
        // From its own session on, nothing that befalls this process's group befalls it. Dropped, it is reaped by
        // the runtime while this process lives, and by init after that.
        match tokio::time::timeout(APART_WITHIN, apart(pid)).await {
            Ok(()) => Ok(()),
            Err(_) => Err(start(io::ErrorKind::TimedOut.into())),
        }
    }
}

#[async_trait]
impl RunDetached for DetachedProcess {
    async fn start(&self, unit: &str, argv: &[String]) -> Result<(), DetachError> {
        check(unit, Some(argv))?;
        if self.is_running(unit).await? {
            tracing::info!(unit, "the unit is running already");
            return Ok(());
        }
        self.spawn(unit, argv).await
    }

    async fn is_running(&self, unit: &str) -> Result<bool, DetachError> {
        check(unit, None)?;
        let pid = self.pid(unit);
        pid.map(|pid| pid.is_some())
            .map_err(|source| DetachError::File { unit: unit.to_owned(), source })
    }

    async fn enable(&self, unit: &str, argv: &[String]) -> Result<(), DetachError> {
        check(unit, Some(argv))?;
        let record = EnabledUnit { unit: unit.to_owned(), argv: argv.to_vec() };
        let text = serde_json::to_vec_pretty(&record).map_err(io::Error::from);
        text.doing("encoding", enabled_file(unit))
            .and_then(|text| {
                replace(&RealFs, &self.root, enabled_file(unit), &text, 0o644, None).map(|_| ())
            })
            .map_err(|source| DetachError::File { unit: unit.to_owned(), source })
    }

    async fn command(&self, unit: &str) -> Result<Option<Vec<String>>, DetachError> {
        check(unit, None)?;
        let file = |source| DetachError::File { unit: unit.to_owned(), source };
        let path = self.root.resolve(enabled_file(unit));
        let path = path.doing("resolving", enabled_file(unit)).map_err(file)?;
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.doing("reading", &path).map_err(file)?,
        };
        let record = serde_json::from_slice::<EnabledUnit>(&bytes).map_err(io::Error::from);
        Ok(Some(record.doing("understanding", &path).map_err(file)?.argv))
    }

    async fn disable(&self, unit: &str) -> Result<(), DetachError> {
        check(unit, None)?;
        let file = |source| DetachError::File { unit: unit.to_owned(), source };
        let path = self.root.resolve_parent(enabled_file(unit));
        let path = path.doing("resolving", enabled_file(unit)).map_err(file)?;
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => {
                removed.doing("removing", &path).and_then(|()| sync_parent(path)).map_err(file)
            }
        }
    }
}

/// Waits until the process leads a session, or has ended.
async fn apart(pid: u32) {
    let id = Pid::from_raw(pid.cast_signed());
    while identify(pid).is_some() && getsid(Some(id)) != Ok(id) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn sync_parent(mut path: PathBuf) -> Result<(), FileError> {
    path.pop();
    std::fs::File::open(&path).and_then(|dir| dir.sync_all()).doing("syncing", &path)
}

fn pid_file(unit: &str) -> String {
    format!("{RUNNING}/{unit}.pid")
}

fn enabled_file(unit: &str) -> String {
    format!("{ENABLED}/{unit}.json")
}

/// The living process with this id. One that has ended and was not waited for yet does not live.
fn identify(pid: u32) -> Option<Running> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, parentheses too.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<_> = rest.split_ascii_whitespace().collect();
    // Fields are counted from 1 in proc(5); the state is the third.
    let (state, started) = (fields.first()?, fields.get(22 - 3)?.parse().ok()?);
    if matches!(*state, "Z" | "X") {
        return None;
    }
    let boot_id = crate::identity::boot_id(&Root::system()).unwrap_or_default();
    Some(Running { pid, started, boot_id })
}
