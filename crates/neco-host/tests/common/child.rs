//! Other processes for tests: this executable, run again with one of its tests that does something only where it is asked to.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// A test as another process, which leads a group of its own. Dropping it kills the group.
pub(crate) struct OtherProcess(Child);

impl OtherProcess {
    /// Runs `test` with `value` in the environment as `key`, and waits until it has called [`ready`].
    pub(crate) fn run(test: &str, key: &str, value: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("known"))
            .args(["--exact", test, "--include-ignored", "--nocapture", "--test-threads", "1"])
            .env(key, value)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("it runs already, so it can be run");
        let stdout = child.stdout.take().expect("piped");
        let other = Self(child);
        let mut lines = BufReader::new(stdout).lines();
        assert!(
            lines.any(|line| line.expect("text") == READY),
            "the test {test} has ended before it was ready"
        );
        other
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for OtherProcess {
    fn drop(&mut self) {
        let id = i32::try_from(self.0.id()).expect("a process id");
        killpg(Pid::from_raw(id), Signal::SIGKILL).expect("not waited for yet");
        self.0.wait().expect("it is killed");
    }
}

const READY: &str = "ready for the other";

/// In the other process: says that all is done, and waits for the end of its starter.
pub(crate) fn ready() {
    // The line of the test's name has no end yet.
    println!("\n{READY}");
    std::io::stdout().flush().expect("somebody reads");
    let mut rest = Vec::new();
    std::io::stdin().read_to_end(&mut rest).expect("readable");
}
