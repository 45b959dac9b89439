//! Where results, remarks and secrets go in and out.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde::Serialize;

use crate::cli::{Output, Style};

/// The title of what a rehearsal shows.
pub const WOULD_BE_DONE: &str = "would be done, and was not:";

/// The streams of one run and how they are to be used.
pub struct Io<'a> {
    /// Results.
    pub out: &'a mut dyn Write,
    /// Progress and warnings.
    pub err: &'a mut dyn Write,
    /// Secrets.
    pub input: &'a mut dyn Read,
    /// Whether `input` is a terminal.
    pub input_is_terminal: bool,
    /// Whether `out` is a terminal.
    pub output_is_terminal: bool,
    /// The form of results.
    pub output: Output,
    /// The name the program was called by.
    pub style: Style,
}

impl std::fmt::Debug for Io<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Io")
            .field("output", &self.output)
            .field("style", &self.style)
            .finish_non_exhaustive()
    }
}

impl Io<'_> {
    /// Whether results are JSON.
    pub fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    /// Writes a result as one line of JSON.
    ///
    /// # Errors
    /// The output is closed.
    pub fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        let line = serde_json::to_string(value).map_err(io::Error::other)?;
        writeln!(self.out, "{line}")
    }

    /// Writes a line of a result for people.
    ///
    /// # Errors
    /// The output is closed.
    pub fn line(&mut self, text: impl std::fmt::Display) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    /// Tells which files a rehearsal would have written.
    ///
    /// # Errors
    /// The output is closed.
    pub fn planned(&mut self, files: &[PathBuf]) -> io::Result<()> {
        if self.is_json() {
            return self.json(&serde_json::json!({
                "format": 1, "outcome": "planned", "files": files,
            }));
        }
        self.line(WOULD_BE_DONE)?;
        for file in files {
            self.line(format_args!("  write  {}", file.display()))?;
        }
        Ok(())
    }

    /// Writes a remark. A closed standard error is nobody's trouble.
    pub fn remark(&mut self, text: impl std::fmt::Display) {
        let _ = writeln!(self.err, "{text}");
    }
}
