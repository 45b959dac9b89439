//! `completion`: completions for a shell.

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use neco_process::exit::{ExitCode, Failure};

use crate::cli::{Cli, Style};
use crate::io::Io;

/// Print the completions for a shell.
#[derive(Debug, Args)]
pub struct Completion {
    /// The shell; bash if not given
    #[arg(default_value = "bash")]
    shell: Shell,
}

impl Completion {
    /// Prints them.
    ///
    /// # Errors
    /// The output is closed.
    pub fn run(self, io: &mut Io<'_>) -> Result<ExitCode, Failure> {
        let name = match io.style {
            Style::Ours => "necoctl",
            Style::Original => "neco",
        };
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), name, &mut script);
        io.out.write_all(&script)?;
        Ok(ExitCode::Done)
    }
}
