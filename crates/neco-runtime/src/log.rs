//! What containers write, line by line.

use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::RuntimeError;

/// Which lines are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSpec {
    /// At most so many of the lines that are there, the newest.
    pub tail: u32,
    /// Whether new lines are waited for.
    pub follow: bool,
}

impl LogSpec {
    /// The newest lines that are there, at most `tail`.
    pub const fn last(tail: u32) -> Self {
        Self { tail, follow: false }
    }

    /// And those that come.
    #[must_use]
    pub const fn follow(mut self) -> Self {
        self.follow = true;
        self
    }
}

/// Where a line was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogSource {
    /// The standard output.
    Stdout,
    /// The standard error.
    Stderr,
}

/// A line that a container wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Where to.
    pub source: LogSource,
    /// The line without its end; what is no UTF-8 is replaced, what is beyond [`LogLine::LONGEST`] bytes is left out.
    pub text: String,
}

impl LogLine {
    /// The longest line in bytes.
    pub const LONGEST: usize = 64 << 10;
}

/// Lines, as they come. To drop it ends it.
pub type LogLines = BoxStream<'static, Result<LogLine, RuntimeError>>;
