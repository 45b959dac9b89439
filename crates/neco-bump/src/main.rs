//! Finds newer versions of what `artifacts.toml` pins, and writes them there.

use clap::Parser;
use neco_bump::cli::Cli;
use neco_process::exit::{self, ExitCode};

fn main() {
    exit::run(|| {
        let cli = Cli::try_parse().unwrap_or_else(|error| {
            let _ = error.print();
            std::process::exit(if error.use_stderr() { ExitCode::Usage as i32 } else { 0 })
        });
        cli.run()
    })
}
