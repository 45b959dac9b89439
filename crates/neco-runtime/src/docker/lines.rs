//! Lines out of the pieces in which Docker sends what a container wrote.

use bollard::container::LogOutput;

use crate::{LogLine, LogSource};

/// Puts pieces together.
#[derive(Debug, Default)]
pub(super) struct Lines {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Lines {
    /// The lines that a piece completes.
    pub(super) fn add(&mut self, piece: &LogOutput) -> Vec<LogLine> {
        let (source, open) = match piece {
            LogOutput::StdErr { .. } => (LogSource::Stderr, &mut self.stderr),
            _ => (LogSource::Stdout, &mut self.stdout),
        };
        let mut complete = Vec::new();
        let mut parts = piece.as_ref().split(|byte| *byte == b'\n').peekable();
        while let Some(part) = parts.next() {
            let room = LogLine::LONGEST - open.len();
            open.extend_from_slice(&part[..part.len().min(room)]);
            if parts.peek().is_some() {
                complete.push(line(source, std::mem::take(open)));
            }
        }
        complete
    }

    /// What stands in lines that were never completed.
    pub(super) fn rest(self) -> Vec<LogLine> {
        let open = [(LogSource::Stdout, self.stdout), (LogSource::Stderr, self.stderr)];
        open.into_iter()
            .filter(|(_, open)| !open.is_empty())
            .map(|(source, open)| line(source, open))
            .collect()
    }
}

fn line(source: LogSource, mut bytes: Vec<u8>) -> LogLine {
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    LogLine { source, text: String::from_utf8_lossy(&bytes).into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: Vec<LogLine>) -> Vec<String> {
        lines.into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn pieces_become_lines_and_the_two_sources_are_kept_apart() {
        let mut lines = Lines::default();
        let out = |text: &'static str| LogOutput::StdOut { message: text.into() };
        assert_eq!(texts(lines.add(&out("on"))), Vec::<String>::new());
        let error = lines.add(&LogOutput::StdErr { message: "wrong\r\n".into() });
        assert_eq!(error, [LogLine { source: LogSource::Stderr, text: "wrong".into() }]);
        assert_eq!(texts(lines.add(&out("e\n\ntwo\nthr"))), ["one", "", "two"]);
        assert_eq!(texts(lines.rest()), ["thr"]);
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let mut lines = Lines::default();
        for _ in 0..3 {
            let message = vec![b'a'; LogLine::LONGEST / 2 + 1].into();
            assert!(lines.add(&LogOutput::StdOut { message }).is_empty());
        }
        let line = lines.add(&LogOutput::StdOut { message: "\nb".into() });
        assert_eq!(line[0].text.len(), LogLine::LONGEST);
        assert_eq!(texts(lines.rest()), ["b"]);
    }
}
