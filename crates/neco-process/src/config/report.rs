//! What is wrong with a configuration: every problem, one line each.

use std::fmt;
use std::path::PathBuf;

use crate::yaml::Place;

/// One remark on a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The line in it, counted from 1, if known.
    pub line: Option<u64>,
    /// The key, with dots between its parts; empty for the file as a whole.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}; {}", self.what, self.remedy)
    }
}

/// All remarks on one configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// What makes it unusable.
    pub problems: Vec<Problem>,
    /// What somebody should look at.
    pub warnings: Vec<Problem>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [one] => write!(f, "{one}"),
            many => {
                write!(f, "the configuration has {} problems", many.len())?;
                many.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}

impl Report {
    pub(super) fn problem(
        &mut self,
        place: Place<'_>,
        key: &str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.problems.push(remark(place, key, what, remedy));
    }

    pub(super) fn warning(
        &mut self,
        place: Place<'_>,
        key: &str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.warnings.push(remark(place, key, what, remedy));
    }
}

fn remark(
    place: Place<'_>,
    key: &str,
    what: impl Into<String>,
    remedy: impl Into<String>,
) -> Problem {
    Problem {
        file: place.file.to_owned(),
        line: place.line,
        key: key.to_owned(),
        what: what.into(),
        remedy: remedy.into(),
    }
}
