//! Running a command of the host within a bound, and keeping what it said.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// As much of each output is kept, from its end.
const KEPT: u64 = 256 << 10;

/// How long a killed command is waited for.
const REAP_WITHIN: Duration = Duration::from_secs(5);

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandOutput {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// How it ended.
    pub status: ExitStatus,
    /// The end of its standard output.
    pub stdout: String,
    /// The end of its standard error.
    pub stderr: String,
}

impl CommandOutput {
    /// Whether the standard output may be the end of a longer one.
    pub fn is_cut(&self) -> bool {
        self.stdout.len() as u64 >= KEPT
    }
}

impl fmt::Display for CommandOutput {
    /// One line: the command, how it ended, and the last thing it complained about.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ended with {}", self.argv.join(" "), self.status)?;
        match whole_complaint(&self.stderr) {
            Some(line) => write!(f, ": {line}"),
            None => Ok(()),
        }
    }
}

/// Why a command has no result.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started.
    #[error("starting `{}`{}", argv.join(" "), if source.kind() == io::ErrorKind::NotFound {
        " (is it installed, and in PATH?)"
    } else {
        ""
    })]
    Start {
        /// The program and its arguments.
        argv: Vec<String>,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It did not end in time and was killed.
    #[error("`{}` did not end within {}s and was killed", argv.join(" "), within.as_secs())]
    TimedOut {
        /// The program and its arguments.
        argv: Vec<String>,
        /// The bound.
        within: Duration,
        /// The end of its standard error.
        stderr: String,
    },
    /// Its end or its output could not be read.
    #[error("waiting for `{}`", argv.join(" "))]
    Wait {
        /// The program and its arguments.
        argv: Vec<String>,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// What happens to a command when the future that waits for it is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnDrop {
    /// It is killed: it only looks.
    Kill,
    /// It goes on: to interrupt it would do harm.
    Leave,
}

/// Runs a command of the host in the C locale, without input and in a process group of its own; on the deadline, or when the
/// call is dropped, it is killed. The first of `argv` is the program; there is at least that.
///
/// # Errors
/// It cannot be started, or does not end in time. One that ends without success is no error here.
pub async fn run_command(argv: &[&str], within: Duration) -> Result<CommandOutput, CommandError> {
    if argv.is_empty() {
        let source = io::ErrorKind::InvalidInput.into();
        return Err(CommandError::Start { argv: Vec::new(), source });
    }
    run(argv, &[], within, OnDrop::Kill).await
}

/// Runs `argv` in the C locale without input and in a process group of its own; on the deadline the group is killed.
///
/// Output goes to memory files, not pipes: a daemon that a maintainer script leaves behind does not hold the
/// end back, and a command that outlives this future is not broken by a closed pipe.
pub(crate) async fn run(
    argv: &[&str],
    env: &[(&str, &str)],
    within: Duration,
    on_drop: OnDrop,
) -> Result<CommandOutput, CommandError> {
    let argv: Vec<_> = argv.iter().map(|&arg| arg.to_owned()).collect();
    let (program, args) = argv.split_first().expect("callers name a program");
    let start = |source| CommandError::Start { argv: argv.clone(), source };
    let (stdout, stderr) = (memory_file().map_err(start)?, memory_file().map_err(start)?);
    let mut command = tokio::process::Command::new(program);
    command
        .args(args)
        .env("LC_ALL", "C")
        .env("PATH", search_path())
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .stdout(stdout.try_clone().map_err(start)?)
        .stderr(stderr.try_clone().map_err(start)?)
        .process_group(0)
        .kill_on_drop(on_drop == OnDrop::Kill);
    let mut child = command.spawn().map_err(start)?;
    let group = child.id();
    let wait = |source| CommandError::Wait { argv: argv.clone(), source };
    let Ok(ended) = tokio::time::timeout(within, child.wait()).await else {
        // Not reaped yet, so the id is still its own.
        if let Some(group) = group.and_then(|id| i32::try_from(id).ok()).filter(|&id| id > 1) {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = tokio::time::timeout(REAP_WITHIN, child.wait()).await;
        let stderr = tail(stderr).map_err(wait)?;
        return Err(CommandError::TimedOut { argv, within, stderr });
    };
    let status = ended.map_err(wait)?;
    let (stdout, stderr) = (tail(stdout).map_err(wait)?, tail(stderr).map_err(wait)?);
    Ok(CommandOutput { argv, status, stdout, stderr })
}

/// The line of an error output that says what is the matter: the first about the disk, else the first that speaks of an
/// error, so that dpkg's advice on its lock is passed over, else the last.
pub(crate) fn complaint(stderr: &str) -> Option<&str> {
    let mut lines = stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let about_the_disk = lines.clone().find(|line| is_about_the_disk(line));
    let first_error = lines.clone().find(|line| line.contains("error"));
    about_the_disk.or(first_error).or_else(|| lines.next_back())
}

/// The same with what follows on the next line, where it ends in a colon. Where dpkg speaks of another's failure, what
/// that one complained about comes first.
pub(crate) fn whole_complaint(stderr: &str) -> Option<String> {
    let line = complaint(stderr)?;
    if line.starts_with("dpkg: error processing")
        && let Some((before, after)) = stderr.split_once(line)
        && let Some(cause) = complaint(before)
    {
        let rest = whole_complaint(&format!("{line}{after}"))?;
        return Some(format!("{cause}; {rest}"));
    }
    let mut rest = stderr.lines().map(str::trim).skip_while(|other| *other != line).skip(1);
    let more = rest.find(|line| !line.is_empty()).filter(|_| line.ends_with(':'));
    Some(more.map_or_else(|| line.to_owned(), |more| format!("{line} {more}")))
}

/// Whether an output in the C locale speaks of a disk that is full, over its quota or read-only.
pub(crate) fn is_about_the_disk(stderr: &str) -> bool {
    let stderr = stderr.to_lowercase();
    let speaks_of = |errno: Errno| stderr.contains(&errno.desc().to_lowercase());
    [Errno::ENOSPC, Errno::EDQUOT, Errno::EROFS].into_iter().any(speaks_of)
}

/// The search path with the places of dpkg's helpers, which an ordinary user's may lack.
fn search_path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    let missing = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"]
        .into_iter()
        .filter(|dir| !path.split(':').any(|have| have == *dir));
    let own = Some(path.as_str()).filter(|path| !path.is_empty());
    own.into_iter().chain(missing).collect::<Vec<_>>().join(":")
}

fn memory_file() -> io::Result<File> {
    Ok(File::from(memfd_create("output", MFdFlags::MFD_CLOEXEC)?))
}

fn tail(mut file: File) -> io::Result<String> {
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(KEPT)))?;
    let mut bytes = Vec::new();
    file.take(KEPT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    async fn sh(script: &str, within: Duration) -> Result<CommandOutput, CommandError> {
        run(&["sh", "-c", script], &[("X", "y")], within, OnDrop::Kill).await
    }

    #[tokio::test]
    async fn status_and_both_outputs_are_kept() {
        let output =
            sh("echo $X$LC_ALL; echo 'sh: error: no' >&2; exit 3", LONG).await.expect("ran");
        assert_eq!(output.status.code(), Some(3));
        assert_eq!((&*output.stdout, &*output.stderr), ("yC\n", "sh: error: no\n"));
        let line = output.to_string();
        assert!(line.ends_with("ended with exit status: 3: sh: error: no"), "{line}");
    }

    #[tokio::test]
    async fn only_the_end_of_a_long_output_is_kept() {
        let output = sh("yes | head -c 300000; echo end", LONG).await.expect("ran");
        assert_eq!(output.stdout.len() as u64, KEPT);
        assert!(output.stdout.ends_with("end\n") && output.is_cut());
        assert!(!sh("echo end", LONG).await.expect("ran").is_cut());
    }

    #[tokio::test]
    async fn a_child_that_stays_behind_does_not_hold_the_end_back() {
        let output = sh("sleep 600 & echo $!", LONG).await.expect("ran");
        let pid: i32 = output.stdout.trim().parse().expect("a process id");
        nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL).expect("still there");
    }

    #[tokio::test]
    async fn what_does_not_end_is_killed_with_its_children() {
        let script = "echo stuck >&2; sleep 600 & sleep 600";
        let error = sh(script, Duration::from_millis(300)).await.expect_err("too long");
        assert!(matches!(&error, CommandError::TimedOut { stderr, .. } if stderr == "stuck\n"));
    }

    #[test]
    fn a_complaint_goes_on_after_its_colon() {
        let said = "dpkg-deb: error: parsing file 'control' near line 5:\n missing 'Version' field\nmore\n";
        let whole = "dpkg-deb: error: parsing file 'control' near line 5: missing 'Version' field";
        assert_eq!(whole_complaint(said).as_deref(), Some(whole));
        assert_eq!(whole_complaint("an error\nmore\n").as_deref(), Some("an error"));
        assert_eq!(whole_complaint("an error:\n").as_deref(), Some("an error:"));
    }

    #[test]
    fn a_script_s_own_words_come_before_those_of_dpkg_about_it() {
        let said = "warming up\nno room in the vault\ndpkg: error processing package x (--install):\n \
                    post-installation script returned error exit status 1\nErrors were encountered \
                    while processing:\n x\n";
        let whole = "no room in the vault; dpkg: error processing package x (--install): \
                     post-installation script returned error exit status 1";
        assert_eq!(whole_complaint(said).as_deref(), Some(whole));
    }

    #[tokio::test]
    async fn a_full_disk_is_the_complaint_whatever_came_of_it() {
        let said = "tar: ./x: Cannot write: No space left on device";
        let script = format!("echo '{said}' >&2; echo 'dpkg-deb: error: tar failed' >&2; exit 2");
        let output = sh(&script, LONG).await.expect("ran");
        assert_eq!(complaint(&output.stderr), Some(said));
        assert!(is_about_the_disk(&output.stderr) && is_about_the_disk("Read-only file system"));
        assert!(is_about_the_disk("Disk quota exceeded") && !is_about_the_disk("no such file"));
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let error = run(&["no-such-program"], &[], LONG, OnDrop::Kill).await.expect_err("missing");
        assert!(error.to_string().contains("`no-such-program` (is it installed"), "{error}");
    }
}
