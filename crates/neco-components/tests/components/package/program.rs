//! Programs that read what components write, run until they have read it.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long a program may take to begin.
const SOON: Duration = Duration::from_secs(30);

/// The program that the variable `name` names.
pub(super) fn named_by(name: &str) -> OsString {
    std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set"))
}

/// What `program` says until it says `words`, and whether it did before it ended; it is killed then.
pub(super) fn said_until(words: &str, program: &OsString, arguments: &[&str]) -> (bool, String) {
    let mut child = Command::new("sh")
        .args(["-c", "exec \"$0\" \"$@\" 2>&1"])
        .arg(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell");
    let (sender, lines) = mpsc::channel();
    let stdout = child.stdout.take().expect("a pipe");
    std::thread::spawn(move || {
        let lines = BufReader::new(stdout).lines().map_while(Result::ok);
        lines.map(|line| sender.send(line)).take_while(Result::is_ok).for_each(drop);
    });
    let deadline = Instant::now() + SOON;
    let mut said = String::new();
    let began = loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) if line.contains(words) => break true,
            Ok(line) => said.extend([line.as_str(), "\n"]),
            Err(_) => break false,
        }
    };
    child.kill().expect("ours");
    child.wait().expect("ours");
    (began, said)
}
