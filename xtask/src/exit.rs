//! How a verb ends.

use std::fmt::Display;
use std::process::ExitCode;

/// What a verb returns.
pub(crate) type Done<T = ()> = Result<T, Failure>;

/// The exit codes that are not zero; the same numbers as `necoctl`'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The work was tried and did not succeed.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 64,
    /// This machine lacks something that the verb cannot bring by itself.
    CannotRun = 77,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The one line (or few) that a person reads, and the exit code a script reads.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, message: message.into() }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, message: message.into() }
    }

    pub(crate) fn cannot_run(message: impl Into<String>) -> Self {
        Self { exit: Exit::CannotRun, message: message.into() }
    }
}

/// Says what was being done when an operation failed.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Done<T>;
}

impl<T, E: Display> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Done<T> {
        self.map_err(|error| Failure::failed(format!("{}: {error}", what())))
    }
}
