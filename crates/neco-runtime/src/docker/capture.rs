//! What a command writes, as far as it is kept.

use bollard::container::LogOutput;
use bollard::errors::Error;
use futures::{Stream, TryStreamExt as _};

use crate::Output;

/// How much standard output is taken.
pub(super) const MOST_STDOUT: usize = 16 << 20;

/// How much of the end of the standard error is kept.
const MOST_STDERR: usize = 64 << 10;

/// What was written.
#[derive(Debug, Default)]
pub(super) struct Capture {
    output: Output,
    /// Whether the standard output was longer than is taken.
    pub(super) overflown: bool,
}

impl Capture {
    /// Takes all there is until the command has closed both, or has written more than is taken.
    pub(super) async fn all(
        written: impl Stream<Item = Result<LogOutput, Error>>,
    ) -> Result<Self, Error> {
        let mut capture = Self::default();
        let mut written = std::pin::pin!(written);
        while let Some(part) = written.try_next().await? {
            capture.add(part);
            if capture.overflown {
                break;
            }
        }
        Ok(capture)
    }

    fn add(&mut self, part: LogOutput) {
        match part {
            LogOutput::StdOut { message } => {
                let room = MOST_STDOUT - self.output.stdout.len();
                self.overflown |= message.len() > room;
                self.output.stdout.extend_from_slice(&message[..message.len().min(room)]);
            }
            LogOutput::StdErr { message } | LogOutput::Console { message } => {
                let stderr = &mut self.output.stderr;
                stderr.extend_from_slice(&message);
                stderr.drain(..stderr.len().saturating_sub(MOST_STDERR));
            }
            LogOutput::StdIn { .. } => {}
        }
    }

    pub(super) fn output(self) -> Output {
        self.output
    }

    /// What a command that failed said of it: its standard error, or else its standard output, where also Docker writes why a
    /// command cannot be started.
    pub(super) fn complaint(&self) -> String {
        let Output { stdout, stderr } = &self.output;
        let said = if stderr.is_empty() { stdout } else { stderr };
        let end = &said[said.len().saturating_sub(MOST_STDERR)..];
        String::from_utf8_lossy(end).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_stdout_and_the_end_of_stderr_are_kept() {
        let mut capture = Capture::default();
        capture.add(LogOutput::StdOut { message: vec![b'a'; MOST_STDOUT].into() });
        assert!(!capture.overflown);
        capture.add(LogOutput::StdOut { message: "b".into() });
        assert!(capture.overflown);
        capture.add(LogOutput::StdErr { message: vec![b'a'; MOST_STDERR].into() });
        capture.add(LogOutput::StdErr { message: "the end".into() });
        assert!(capture.complaint().ends_with("athe end"));
        let Output { stdout, stderr } = capture.output();
        assert!(stdout == vec![b'a'; MOST_STDOUT]);
        assert_eq!(stderr.len(), MOST_STDERR);
    }

    #[test]
    fn a_complaint_is_what_stands_in_stderr_or_else_in_stdout() {
        let mut capture = Capture::default();
        capture.add(LogOutput::StdOut { message: "exec failed".into() });
        assert_eq!(capture.complaint(), "exec failed");
        capture.add(LogOutput::StdErr { message: "why".into() });
        assert_eq!(capture.complaint(), "why");
    }
}
