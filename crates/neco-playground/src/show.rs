//! The update as it goes on, on standard error: a picture that is drawn over itself on a terminal, lines elsewhere.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use neco_schema::{NecoVersion, Timestamp};
use necoctl::status::live::{Trail, picture};
use necoctl::status::{Report, StepNames};

use crate::Look;

/// What `necoctl status --watch` shows, and the story around it.
#[derive(Debug)]
pub(crate) struct Show {
    terminal: bool,
    /// The lines of the picture that stands there now.
    drawn: usize,
    trail: Trail,
    /// Where the recipe that the servers follow is installed, and what its steps are called.
    root: PathBuf,
    names: Option<(String, StepNames)>,
    /// The version whose update is not shown.
    before: NecoVersion,
}

impl Show {
    /// A show of what comes after the update to `before`; it reads the names of the steps below `root`.
    pub(crate) fn new(root: PathBuf, before: NecoVersion) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { terminal, drawn: 0, trail: Trail::default(), root, names: None, before }
    }

    /// Shows how things stand.
    pub(crate) fn draw(&mut self, look: &Look) {
        if look.view.current().is_none_or(|request| request.version == self.before) {
            return;
        }
        self.learn_names();
        let names = self.names.as_ref().map(|(_, names)| names);
        let report = Report::new(&look.view, &look.snapshot, names);
        let now = Timestamp::new(jiff::Timestamp::now()).unwrap_or_default();
        if !self.terminal {
            for line in self.trail.news(&report, now) {
                say(&format!("  {line}\n"));
            }
            return;
        }
        let picture = picture(&report, now);
        let mut text = self.erasure();
        // Long lines are cut at the edge instead of being wrapped, so that they can be counted.
        text.push_str("\u{1b}[?7l");
        for line in &picture {
            text.push_str(&format!("  {line}\n"));
        }
        text.push_str("\u{1b}[?7h");
        self.drawn = picture.len();
        say(&text);
    }

    /// Tells something between two pictures.
    pub(crate) fn tell(&mut self, what: &str) {
        let erasure = self.erasure();
        self.drawn = 0;
        say(&format!("{erasure}  {what}\n"));
    }

    /// Tells that something was done, and how long it took.
    pub(crate) fn done(&mut self, what: &str, took: Duration) {
        let mark = if self.terminal { "\u{1b}[32m✓\u{1b}[0m" } else { "✓" };
        self.tell(&format!("{mark} {what:<60} {:>5.1} s", took.as_secs_f64()));
    }

    /// Tells that something was broken on purpose.
    pub(crate) fn fault(&mut self, what: &str) {
        let mark = if self.terminal { "\u{1b}[31m⚡\u{1b}[0m" } else { "⚡" };
        self.tell(&format!("{mark} {what}"));
    }

    /// Leaves the last picture standing.
    pub(crate) fn leave(&mut self) {
        self.drawn = 0;
    }

    fn erasure(&self) -> String {
        if self.drawn == 0 { String::new() } else { format!("\u{1b}[{}A\r\u{1b}[J", self.drawn) }
    }

    /// Reads the recipe again when another package is installed.
    fn learn_names(&mut self) {
        let Ok(version) = neco_process::daemon::installed_version(&self.root) else { return };
        if self.names.as_ref().is_none_or(|(known, _)| *known != version)
            && let Some(names) = StepNames::read(&self.root)
        {
            self.names = Some((version, names));
        }
    }
}

/// Standard error may be closed, and then nobody is there to be told.
pub(crate) fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
