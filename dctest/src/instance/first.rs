//! The first process of the namespaces: whoever loses its parent becomes its child, and it buries them (pid_namespaces(7)).

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// Gives the namespaces a `/run` of their own, starts `program` with `words`, and waits until it has ended; then the kernel
/// ends everything else.
///
/// # Errors
/// A mount is refused, or the program cannot be started.
pub fn run(program: &Path, words: &[OsString]) -> Result<u8> {
    let none: Option<&str> = None;
    // Names of network spaces, locks of machines, and the host's Docker: none of it is seen from outside, or from inside.
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
        .context("mounting /run")?;
    std::fs::create_dir("/run/netns").context("making /run/netns")?;
    mount(none, "/run", none, MsFlags::MS_SHARED, none).context("sharing /run")?;
    let child = Command::new(program)
        .args(words)
        .spawn()
        .with_context(|| format!("starting {}", program.display()))?;
    let child = Pid::from_raw(i32::try_from(child.id()).context("a process id is positive")?);
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == child => {
                return Ok(u8::try_from(code).unwrap_or(1));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                return Ok(u8::try_from(128 + signal as i32).unwrap_or(1));
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("waiting for the keeper"),
        }
    }
}
