//! The operators' command line: status, why, update, stop, recover and the rest.
//!
//! One file per verb in [`commands`]. A verb is a function over a [`session::Session`]: a store, a root, a clock, and
//! where to write; the tests run whole verbs on a store in memory. What a verb may do to etcd is decided in
//! `neco_plan::operator`; here it is asked for, carried out and told. Exit codes are assigned in [`failure`] alone.
//!
//! The same program under the name `neco` speaks as the original did: see [`cli::Style`].

pub mod audit;
pub mod cli;
pub mod commands;
pub mod connection;
pub mod failure;
pub mod images;
pub mod io;
pub mod order;
pub mod preview;
pub mod recipe;
pub mod recording;
pub mod secrets;
pub mod session;
pub mod site;
pub mod status;
pub mod words;

use std::ffi::OsString;
use std::io::IsTerminal;

use clap::Parser;
use neco_process::exit::{self, ExitCode, Failure};

use cli::{Cli, Style};
use io::Io;

/// The program: runs the verb that the arguments name and ends the process with its exit code.
pub fn main() -> ! {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let style = Style::of_program(arguments.first());
    exit::run(|| {
        let mut out = std::io::stdout().lock();
        let mut err = std::io::stderr();
        let mut input = std::io::stdin();
        let mut io = Io {
            out: &mut out,
            err: &mut err,
            input: &mut input,
            input_is_terminal: std::io::stdin().is_terminal(),
            output_is_terminal: std::io::stdout().is_terminal(),
            output: cli::Output::Human,
            style,
        };
        run(arguments, &mut io)
    })
}

/// Runs the verb that the arguments, program name included, ask for.
///
/// # Errors
/// Whatever keeps the verb from being done, with its exit code. Wrong usage is told here and is not an error.
pub fn run(arguments: Vec<OsString>, io: &mut Io<'_>) -> Result<ExitCode, Failure> {
    let style = io.style;
    let code = match Cli::try_parse_from(arguments) {
        Ok(cli) => {
            io.output = cli.global.output;
            neco_process::crypto::install_crypto_provider();
            commands::dispatch(cli, io)
                .map_err(|failure| style.failure(failure::with_rights(failure)))?
        }
        Err(error) if error.use_stderr() => {
            // Standard error may be closed, and then nobody is there to be told.
            let _ = write!(io.err, "{}", error.render());
            ExitCode::Usage
        }
        Err(help) => {
            write!(io.out, "{}", help.render())?;
            ExitCode::Done
        }
    };
    Ok(style.code(code))
}
