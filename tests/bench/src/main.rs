//! The bench: measures, and prints figures beside their denominators and budgets.

use clap::Parser;
use neco_bench::cli::Cli;
use neco_process::exit::{self, ExitCode};

fn main() {
    exit::run(|| {
        let cli = Cli::try_parse().unwrap_or_else(|error| {
            let _ = error.print();
            std::process::exit(if error.use_stderr() { ExitCode::Usage as i32 } else { 0 })
        });
        neco_bench::run(&cli)
    })
}
