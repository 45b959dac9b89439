//! How a process ends: its exit code, and the last line it prints.

use std::fmt;
use std::io::{self, Write};
use std::process;

/// What the exit code of every program of Neco means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum ExitCode {
    /// Done, true, or unchanged.
    #[default]
    Done = 0,
    /// No: the predicate is false, or the operation failed.
    No = 1,
    /// Unknown: etcd is unreachable, or a deadline passed.
    Unknown = 2,
    /// There is nothing yet: not initialised.
    NothingYet = 3,
    /// Conflict: someone else changed it; try again.
    Conflict = 4,
    /// Refused by a safety rule; the message names the flag that overrides it.
    Refused = 5,
    /// The command line is wrong.
    Usage = 64,
    /// This machine or user cannot run it.
    CannotRun = 77,
}

impl From<ExitCode> for process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

/// Why a program ends without success.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: ExitCode,
    /// What went wrong, outermost first.
    pub error: anyhow::Error,
    /// What to do about it, if that is known.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure with a code of its own. What to do about a disk that refuses is said unless the error says it.
    pub fn new(code: ExitCode, error: impl Into<anyhow::Error>) -> Self {
        let error = error.into();
        let hint = disk_hint(&error).map(str::to_owned);
        Self { code, error, hint }
    }

    /// Says what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether the reader of our output went away: nothing to complain about.
    fn is_broken_pipe(&self) -> bool {
        let broken = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
        // A broken connection to etcd or Docker has a context around it; our own output has none.
        let outermost = self.error.chain().next();
        outermost.and_then(|error| error.downcast_ref::<io::Error>()).is_some_and(broken)
    }
}

/// What to do about a disk that is full or read-only, where the error comes from one and does not say so itself.
fn disk_hint(error: &anyhow::Error) -> Option<&'static str> {
    let causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    let (known_by, hint) = causes.into_iter().find_map(|cause| match cause.kind() {
        io::ErrorKind::StorageFull => Some(("free space", "free space on that file system")),
        io::ErrorKind::QuotaExceeded => Some(("the quota", "raise the quota or free space")),
        io::ErrorKind::ReadOnlyFilesystem => Some((
            "remount it",
            "that file system is read-only: see `dmesg`, then remount it read-write",
        )),
        _ => None,
    })?;
    let says = |cause: &(dyn std::error::Error + 'static)| cause.to_string().contains(known_by);
    (!error.chain().any(says)).then_some(hint)
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(ExitCode::No, error)
    }
}

impl fmt::Display for Failure {
    /// `error: outermost: cause: cause of the cause`, and the hint on a line of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error")?;
        let mut said = String::new();
        for cause in self.error.chain() {
            let text = cause.to_string();
            // Some libraries repeat their cause in their own message.
            if !said.ends_with(&text) {
                write!(f, ": {text}")?;
                said = text;
            }
        }
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Gives a result's error an exit code and a hint.
pub trait OrFail<T> {
    /// Ends the program with this code if it is an error.
    ///
    /// # Errors
    /// If `self` is one.
    fn or_exit(self, code: ExitCode) -> Result<T, Failure>;

    /// Adds what to do about it.
    ///
    /// # Errors
    /// If `self` is one.
    fn or_hint(self, hint: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Into<Failure>> OrFail<T> for Result<T, E> {
    fn or_exit(self, code: ExitCode) -> Result<T, Failure> {
        self.map_err(|error| Failure { code, ..error.into() })
    }

    fn or_hint(self, hint: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| error.into().with_hint(hint))
    }
}

/// Runs a program and ends the process with its code.
///
/// An error is printed on standard error as one line with its causes, never with a backtrace. If
/// standard output was closed by its reader, the process ends in silence: that is an I/O error with
/// no context around it, as `writeln!` returns it.
pub fn run(program: impl FnOnce() -> Result<ExitCode, Failure>) -> ! {
    let code = match program() {
        Ok(code) => code,
        Err(failure) if failure.is_broken_pipe() => ExitCode::Done,
        Err(failure) => {
            // Standard error may be closed as well, and then nobody is there to be told.
            let _ = writeln!(io::stderr(), "{failure}");
            failure.code
        }
    };
    let _ = io::stdout().flush();
    process::exit(code as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    #[test]
    fn the_chain_is_one_line_and_repeats_nothing() {
        let error = anyhow!("connection refused").context("dial 10.69.0.3: connection refused");
        let failure = Failure::from(error.context("reading /neco/status/current"));
        let expected = "error: reading /neco/status/current: dial 10.69.0.3: connection refused";
        assert_eq!(failure.to_string(), expected);
        assert_eq!(failure.code, ExitCode::No);
    }

    #[test]
    fn code_and_hint_are_added_in_any_order() {
        let fail = || Err::<(), _>(anyhow!("rack 2 is alive"));
        let failure = fail().or_exit(ExitCode::Refused).or_hint("use --force").unwrap_err();
        assert_eq!(failure.to_string(), "error: rack 2 is alive\nhint: use --force");
        assert_eq!(failure.code, ExitCode::Refused);
        let failure = fail().or_hint("use --force").or_exit(ExitCode::Refused).unwrap_err();
        assert_eq!((failure.code, failure.hint.is_some()), (ExitCode::Refused, true));
    }

    #[test]
    fn what_to_do_about_a_disk_that_refuses_is_said_once() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let failure = Failure::from(anyhow!(full()).context("writing /etc/x"));
        assert_eq!(failure.hint.as_deref(), Some("free space on that file system"));
        let failure = Failure::from(anyhow!(full()).context("writing /etc/x (free space)"));
        assert_eq!(failure.hint, None);
        let read_only = anyhow!(io::Error::from(io::ErrorKind::ReadOnlyFilesystem));
        assert!(Failure::from(read_only).to_string().contains("remount it read-write"));
        assert_eq!(Failure::from(anyhow!("no such thing")).hint, None);
    }

    #[test]
    fn only_our_own_output_breaks_in_silence() {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(Failure::from(broken()).is_broken_pipe());
        let elsewhere = Err::<(), _>(broken()).context("talking to Docker").unwrap_err();
        assert!(!Failure::from(elsewhere).is_broken_pipe());
        assert!(!Failure::from(io::Error::other("x")).is_broken_pipe());
    }
}
