//! Runs the program of a session as if it had been started directly.

use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use super::Child;

/// The exit code where nothing could be run.
const NOT_RUN: i32 = 255;

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

impl Ended {
    /// Nothing could be run.
    pub const NOT_RUN: Self = Self::Code(NOT_RUN);

    fn of(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::NOT_RUN,
        }
    }

    /// Ends this process the same way, so that sshd tells the client what it would have told without us.
    pub fn end_so(self) -> ! {
        match self {
            Self::Code(code) => std::process::exit(code),
            Self::Signal(signal) => {
                // A new program in this process has its signals as they are by default, ours have handlers.
                let line = format!("ulimit -c 0; kill -{signal} $$");
                let failed = std::process::Command::new("/bin/sh").args(["-c", &line]).exec();
                drop(failed);
                std::process::exit(128 + signal)
            }
        }
    }
}

/// Runs `child` with the streams of this process until it ends.
///
/// A terminal sends its signals to all of its programs: those do not end this one, which has the record to look after. A
/// hang-up or an order to end that comes to this process alone is passed on.
///
/// # Errors
/// It cannot be started.
pub async fn attend(child: &Child, folder: Option<&Path>) -> io::Result<Ended> {
    // Before it starts: what comes in between must not end us.
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let _ignored = [signal(SignalKind::interrupt())?, signal(SignalKind::quit())?];

    let mut command = Command::new(&child.program);
    command.args(&child.arguments);
    let copies = folder.filter(|_| child.copies_input);
    if copies.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut running = command.spawn()?;
    if let (Some(folder), Some(input)) = (copies, running.stdin.take()) {
        copy_input(folder, input.into_owned_fd()?.into());
    }
    let pass_on = |id: Option<u32>, signal: Signal| {
        // Who is gone needs no signal.
        if let Some(pid) = id.and_then(|id| i32::try_from(id).ok()) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    };
    loop {
        let id = running.id();
        tokio::select! {
            biased;
            status = running.wait() => return Ok(Ended::of(status?)),
            _ = hangup.recv() => pass_on(id, Signal::SIGHUP),
            _ = terminate.recv() => pass_on(id, Signal::SIGTERM),
        }
    }
}

/// Lets a thread give what comes in to the child, with a copy in the folder as far as that takes it.
fn copy_input(folder: &Path, mut child: std::fs::File) {
    let copy = std::fs::File::create_new(folder.join(Child::INPUT));
    // It ends with the input, or with this process.
    std::thread::spawn(move || {
        let mut copy = copy.ok();
        let mut input = io::stdin();
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = input.read(&mut buffer) {
            if let Some(file) = &mut copy
                && file.write_all(&buffer[..length]).is_err()
            {
                copy = None;
            }
            if child.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
    });
}
