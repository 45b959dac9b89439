//! The command line as clap reads it: what is the same for all verbs, and the names the program goes by.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, ValueEnum};
use neco_process::exit::{ExitCode, Failure};

use crate::commands::Command;

/// Looks after the boot servers of a data centre: shows how an update stands, tells what stands in its way, and gives
/// the orders that only a person should give.
///
/// Exit codes: 0 done, true or unchanged; 1 no, failed, or a stored record is malformed; 2 etcd does not answer or a
/// deadline passed; 3 there is nothing yet; 4 somebody else changed it, try again; 5 refused by a safety rule, the
/// message names the flag that overrides it; 64 wrong usage.
#[derive(Debug, Parser)]
#[command(name = "necoctl", max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    /// Print the version of the installed package and exit
    #[arg(long, short = 'V')]
    pub version: bool,
    /// Write the pages of the manual into a folder and exit
    #[arg(long, hide = true, value_name = "DIR")]
    pub man: Option<PathBuf>,
    /// What is the same for all verbs.
    #[command(flatten)]
    pub global: Global,
    /// The verb.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What is the same for all verbs.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options for all verbs")]
pub struct Global {
    /// Use the configuration, keys and data of the system below DIR
    #[arg(long, value_name = "DIR", default_value = "/", global = true)]
    pub root: PathBuf,
    /// How results are written to standard output
    #[arg(long, value_name = "FORM", default_value = "human", global = true)]
    pub output: Output,
    /// How long to wait for etcd to answer
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration, global = true)]
    pub timeout: Duration,
}

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Human,
    /// One JSON object a line, with its version in `format`
    Json,
}

/// What every changing verb takes.
#[derive(Clone, Debug, Default, Args)]
pub struct Change {
    /// Say what would be written, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Why, for those who read the history
    #[arg(long, value_name = "TEXT", default_value = "no reason given", hide_default_value = true)]
    pub reason: String,
    /// Who asks [default: the user who runs this, before sudo]
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
}

/// Which of its names the program was called by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// `necoctl`.
    #[default]
    Ours,
    /// `neco`: command lines, exit codes and the layout of `status` are the original's, and verbs that change something
    /// are silent when they have done it.
    Original,
}

impl Style {
    /// The style for a program called like this.
    pub fn of_program(name: Option<&OsString>) -> Self {
        match name.and_then(|name| Path::new(name).file_name()) {
            Some(name) if name == "neco" => Self::Original,
            _ => Self::Ours,
        }
    }

    /// The exit code in this style: the original knows 0 and 1.
    pub fn code(self, code: ExitCode) -> ExitCode {
        match (self, code) {
            (Self::Ours, code) | (Self::Original, code @ ExitCode::Done) => code,
            (Self::Original, _) => ExitCode::No,
        }
    }

    /// A failure in this style. A secret on the command line keeps its 64: the original would have taken it. Whether an
    /// image runs has three answers in both.
    pub fn failure(self, failure: Failure) -> Failure {
        if failure.error.is::<crate::secrets::OnCommandLine>()
            || failure.error.is::<crate::commands::is_running::NotKnown>()
        {
            return failure;
        }
        Failure { code: self.code(failure.code), ..failure }
    }
}

/// A duration as Go writes them, such as `1m30s`.
pub fn duration(text: &str) -> Result<Duration, String> {
    neco_process::duration::parse(text)
        .map_err(|error| format!("it {error}; write one such as 5s or 1m30s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_name_decides_the_style() {
        for (name, style) in [
            ("/usr/bin/neco", Style::Original),
            ("neco", Style::Original),
            ("necoctl", Style::Ours),
            ("/opt/neco/necoctl", Style::Ours),
            ("", Style::Ours),
        ] {
            assert_eq!(Style::of_program(Some(&name.into())), style, "{name}");
        }
        assert_eq!(Style::of_program(None), Style::Ours);
    }

    #[test]
    fn the_original_knows_one_failure() {
        for code in [ExitCode::Unknown, ExitCode::NothingYet, ExitCode::Refused, ExitCode::Usage] {
            assert_eq!(Style::Original.code(code), ExitCode::No);
            assert_eq!(Style::Ours.code(code), code);
        }
        assert_eq!(Style::Original.code(ExitCode::Done), ExitCode::Done);
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
