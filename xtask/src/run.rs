//! Starting other programs: their failures name the whole command line.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::exit::{Doing, Done, Failure};

/// This program, to be started once more, also after cargo has put another of its name in its place.
///
/// The tests of the workspace link it with the features that all members ask for together, which
/// replaces the file that `cargo xtask` started.
pub(crate) fn this_program() -> Done<PathBuf> {
    let program = std::env::current_exe().doing(|| "cannot find this program".into())?;
    Ok(in_place_of(program))
}

/// What stands where a program was started that is called deleted: proc_pid_exe(5).
fn in_place_of(program: PathBuf) -> PathBuf {
    match program.as_os_str().as_bytes().strip_suffix(b" (deleted)") {
        Some(name) => PathBuf::from(OsString::from_vec(name.to_vec())),
        None => program,
    }
}

/// The command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(quoted).collect::<Vec<_>>().join(" ")
}

/// Runs the command with this process's own output; fails unless it exits with 0.
pub(crate) fn succeed(command: &mut Command) -> Done {
    let status = command.status().doing(|| format!("cannot start `{}`", shown(command)))?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::failed(format!("`{}` failed: {status}", shown(command))))
    }
}

/// Runs the command and returns its standard output; on failure the message carries what it said.
pub(crate) fn capture(command: &mut Command) -> Done<String> {
    let output = output(command)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::failed(format!(
            "`{}` failed: {}\n{}",
            shown(command),
            output.status,
            said.trim_end()
        )));
    }
    String::from_utf8(output.stdout)
        .doing(|| format!("the output of `{}` is not UTF-8", shown(command)))
}

/// Whether the command can be started and exits with 0; what it says is dropped.
pub(crate) fn works(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn output(command: &mut Command) -> Done<Output> {
    command.stdin(Stdio::null()).output().doing(|| format!("cannot start `{}`", shown(command)))
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_was_linked_anew_is_started_where_it_was() {
        assert_eq!(
            in_place_of("/tree/target/xtask (deleted)".into()),
            PathBuf::from("/tree/target/xtask")
        );
        assert_eq!(in_place_of("/tree/target/xtask".into()), PathBuf::from("/tree/target/xtask"));
    }

    #[test]
    fn shows_a_command_that_can_be_pasted_into_a_shell() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo it's", ""]);
        assert_eq!(shown(&command), r"sh -c 'echo it'\''s' ''");
    }

    #[test]
    fn a_failure_carries_what_the_program_said() {
        let failure = capture(Command::new("sh").args(["-c", "echo no disk >&2; exit 3"]));
        let message = failure.unwrap_err().message;
        assert!(message.contains("exit status: 3"), "{message}");
        assert!(message.ends_with("no disk"), "{message}");
    }

    #[test]
    fn a_program_that_does_not_exist_is_named() {
        let message = succeed(&mut Command::new("/nonexistent/tool")).unwrap_err().message;
        assert!(message.starts_with("cannot start `/nonexistent/tool`"), "{message}");
    }
}
