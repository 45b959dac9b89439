//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Runs a whole Neco on this machine (etcd, a release mirror, boot servers) and takes it through one update.
#[derive(Clone, Debug, Parser)]
#[command(name = "neco-playground", disable_version_flag = true)]
pub struct Cli {
    /// The folder with the packages to install and publish; `cargo xtask playground` makes it.
    #[arg(long, value_name = "DIR")]
    pub packages: PathBuf,
    /// How many boot servers.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=5))]
    pub servers: u32,
    /// Leave everything running after the update, for necoctl, until Ctrl-C.
    #[arg(long)]
    pub keep: bool,
    /// What the summary is written as, on standard output.
    #[arg(long, value_enum, default_value_t = Output::Human)]
    pub output: Output,
    /// What goes wrong in the middle of the update.
    #[arg(long, value_enum)]
    pub fault: Option<Fault>,
}

/// The form of the summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table.
    Human,
    /// One JSON object on the last line.
    Json,
}

/// What goes wrong in the middle of the update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// A worker is killed between the stop of a service and its start.
    KillWorker,
    /// The updater that leads is killed.
    KillLeader,
    /// Every member of etcd is restarted, one after another.
    RestartEtcd,
    /// The worker of the new release dies at start; a later release heals it.
    BadRelease,
    /// An updater of the original leads for a while.
    GoLeader,
}
