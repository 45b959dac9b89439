//! Who runs a data centre: the process whose end is the end of everything.

use std::fs;
use std::io;

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use neco_process::ready::started;

use super::dirs::Dirs;
use super::proc;

/// A process that cannot be taken for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its id on the host.
    pub pid: i32,
    /// When it started, in ticks since the host booted.
    pub started: u64,
}

impl Process {
    /// The process with this id.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, started: started(u32::try_from(pid).ok()?)? })
    }

    /// Whether it still runs.
    #[must_use]
    pub fn lives(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Ends it at once, if it is still that one.
    pub fn kill(self) {
        if self.lives() {
            let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
        }
    }
}

/// The record of a data centre.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Stays outside.
    pub warden: Process,
    /// Made the namespaces; its child is their first process.
    pub outer: Process,
}

impl Record {
    /// Writes it; appears as a whole.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn write(&self, dirs: &Dirs) -> Result<()> {
        let (path, partial) = (dirs.record(), dirs.dir.join("record.partial"));
        fs::write(&partial, serde_json::to_string(self)?)
            .and_then(|()| fs::rename(&partial, &path))
            .with_context(|| format!("writing {}", path.display()))
    }

    /// The record, if there is one.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(dirs: &Dirs) -> Result<Option<Self>> {
        let path = dirs.record();
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(
                serde_json::from_str(&text)
                    .with_context(|| format!("reading {}", path.display()))?,
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// The first process of the namespaces, by its id on the host.
    #[must_use]
    pub fn first(&self) -> Option<i32> {
        self.outer.lives().then(|| proc::children(self.outer.pid))?.first().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::dirs::Top;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = Top(dir.path().to_owned()).instance("dc0");
        assert_eq!(Record::read(&dirs).unwrap(), None);
        fs::create_dir_all(&dirs.dir).unwrap();
        let own = Process::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        let record = Record { warden: own, outer: own };
        record.write(&dirs).unwrap();
        assert_eq!(Record::read(&dirs).unwrap(), Some(record));
    }

    #[test]
    fn another_process_of_the_same_id_is_neither_alive_nor_killed() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let one = Process::of(i32::try_from(child.id()).unwrap()).unwrap();
        let other = Process { started: one.started + 1, ..one };
        assert!(one.lives() && !other.lives());
        other.kill();
        assert!(one.lives());
        one.kill();
        child.wait().unwrap();
        assert!(!one.lives());
    }
}
