//! Programs of this machine.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take to become true.
const SOON: Duration = Duration::from_secs(60);

fn run(program: &str, words: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null());
    command.output().unwrap_or_else(|error| panic!("{program}: {error}"))
}

/// What a program says that must succeed.
pub(crate) fn output(program: &str, words: &[&str]) -> String {
    let done = run(program, words);
    let error = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} {words:?}: {error}");
    String::from_utf8_lossy(&done.stdout).trim_end().to_owned()
}

/// Whether a program succeeds.
pub(crate) fn succeeds(program: &str, words: &[&str]) -> bool {
    run(program, words).status.success()
}

/// Waits until something is so.
pub(crate) fn until(what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
