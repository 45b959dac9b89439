//! The command that sshd forces, run by a real shell.

use std::process::{Command, Output};

const CONFIG: &str = include_str!("../../golden/sshd/neco.conf");

/// What sshd would run for a login, with `neco` in the place of the one of the server.
fn login(neco: &str, asked_for: Option<&str>) -> Output {
    let forced = CONFIG.lines().find_map(|line| line.strip_prefix("ForceCommand "));
    let forced = forced.expect("a forced command").replace("/usr/bin/neco", neco);
    // As sshd does: the user's shell is given the line.
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &forced]).env("SHELL", "/bin/sh").env_remove("SSH_ORIGINAL_COMMAND");
    command.stdin(std::process::Stdio::null());
    if let Some(asked_for) = asked_for {
        command.env("SSH_ORIGINAL_COMMAND", asked_for);
    }
    command.output().expect("a shell")
}

#[test]
fn a_session_is_neco_s_where_there_is_one() {
    let output = login("/bin/echo", Some("exit 7"));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "session-log start\n");
    assert!(output.status.success());
}

#[test]
fn nobody_is_kept_out_where_neco_is_missing() {
    let output = login("/nonexistent/neco", Some("echo \"a  b\" $((3 + 4)); exit 7"));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "a  b 7\n");
    assert_eq!(output.status.code(), Some(7));
    let output = login("/nonexistent/neco", None);
    assert!(output.status.success(), "a shell that is told nothing ends: {output:?}");
}
