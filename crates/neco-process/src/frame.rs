//! What every daemon does before its own work: its command line, its logs, its memory, its runtime.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser};
use tokio::runtime;

use crate::exit::{self, ExitCode, Failure};
use crate::logs::{self, LogFormat, LogOptions};
use crate::{crypto, man, memory, notify};

/// Threads of a daemon that run tasks; it waits most of its life.
const THREADS: usize = 2;

/// The options that every daemon takes, to be flattened into its own.
#[derive(Debug, Clone, Args)]
pub struct DaemonOptions {
    /// Treat this folder as the root of the file system.
    #[arg(long, default_value = "/", global = true)]
    pub root: PathBuf,
    /// Append logs to this file.
    #[arg(long, global = true)]
    pub logfile: Option<PathBuf>,
    /// critical, error, warning, info, debug.
    #[arg(long, global = true)]
    pub loglevel: Option<String>,
    /// plain, logfmt, json.
    #[arg(long, global = true)]
    pub logformat: Option<LogFormat>,
    /// Write the pages of the manual into a folder and end.
    #[arg(long, hide = true, value_name = "DIR")]
    man: Option<PathBuf>,
}

impl DaemonOptions {
    fn logs(&self) -> LogOptions {
        LogOptions {
            file: self.logfile.clone(),
            level: self.loglevel.clone(),
            format: self.logformat,
        }
    }
}

/// A command line of a daemon.
pub trait DaemonCommand: Parser {
    /// What every daemon takes.
    fn options(&self) -> &DaemonOptions;
}

/// Runs the daemon `name` with the command line in `words`, the program's name being the first; never comes back.
///
/// The process ends with the code that `work` ends with, as [`exit::run`] tells; with 64 if the command line is wrong.
/// `work` is watched as [`notify::watched`] says. An error is systemd's status of the unit, too, so that whoever started it
/// can say why it does not run.
pub fn run<C: DaemonCommand, F: Future<Output = Result<ExitCode, Failure>>>(
    name: &str,
    words: impl IntoIterator<Item = OsString>,
    work: impl FnOnce(C) -> F,
) -> ! {
    memory::give_back_early();
    let cli = C::try_parse_from(words).unwrap_or_else(|error| {
        let _ = error.print();
        std::process::exit(if error.use_stderr() { ExitCode::Usage as i32 } else { 0 })
    });
    exit::run(|| {
        let ended = set_up_and_run(name, cli, work);
        if let Err(failure) = &ended {
            notify::status(&failure.to_string().replace('\n', "; "));
        }
        ended
    })
}

fn set_up_and_run<C: DaemonCommand, F: Future<Output = Result<ExitCode, Failure>>>(
    name: &str,
    cli: C,
    work: impl FnOnce(C) -> F,
) -> Result<ExitCode, Failure> {
    let options = cli.options();
    if let Some(dir) = &options.man {
        man::write(<C as CommandFactory>::command(), dir)?;
        return Ok(ExitCode::Done);
    }
    logs::init(name, &options.logs())?;
    crypto::install_crypto_provider();
    let mut runtime = runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(THREADS).enable_all().build()?;
    runtime.block_on(notify::watched(work(cli)))
}
