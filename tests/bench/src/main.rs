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
        // As many threads as the daemons have: one of them is measured in this program.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(neco_bench::run(&cli))
    })
}
