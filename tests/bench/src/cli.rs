//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// Measures what the design sets budgets for; `cargo xtask bench` builds what it needs and starts it.
#[derive(Clone, Debug, Parser)]
#[command(name = "neco-bench", disable_version_flag = true, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// Release packages: the installed one, and the one of an update.
    #[arg(long, value_name = "DIR", required = true)]
    pub packages: Option<PathBuf>,
    /// The same with a recipe of empty steps.
    #[arg(long, value_name = "DIR", required = true)]
    pub empty_steps: Option<PathBuf>,
    /// What the figures are written as, on standard output.
    #[arg(long, value_enum, default_value_t = Output::Human)]
    pub output: Output,
    /// What is measured; everything if nothing is named.
    #[arg(value_enum, value_name = "NAME")]
    pub names: Vec<Measurement>,
    /// A part of a measurement that needs a process of its own.
    #[command(subcommand)]
    pub part: Option<Part>,
}

impl Cli {
    /// What is measured, in the order of [`Measurement`], each once.
    #[must_use]
    pub fn chosen(&self) -> Vec<Measurement> {
        let wanted = |name: &Measurement| self.names.is_empty() || self.names.contains(name);
        Measurement::value_variants().iter().copied().filter(wanted).collect()
    }
}

/// The form of the figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table.
    Human,
    /// The table on standard error, and one JSON object on the last line.
    Json,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Measurement {
    /// How long 3 and 5 servers wait for one another in an update of empty steps.
    Barrier,
    /// What the daemons hold in memory a minute after an update.
    Memory,
    /// How fast a package of 1 GiB comes from a mirror, verified and durable.
    Download,
    /// How long necoctl takes to start.
    StartUp,
    /// How long a plan over the default recipe takes.
    Plan,
    /// How fast an image of 1 GiB comes from a registry into sabakan.
    Image,
}

/// A part of a measurement that needs a process of its own.
#[derive(Clone, Debug, Subcommand)]
pub enum Part {
    /// Fetches a package as a worker does: says `ready`, waits for a line, fetches, says how it went.
    #[command(hide = true)]
    Fetch {
        /// The root of a server, with its configuration and keys.
        #[arg(long)]
        root: PathBuf,
        /// The version of the package.
        #[arg(long)]
        version: String,
    },
    /// Serves an image and takes uploads: says where, until its input ends.
    #[command(hide = true)]
    ServeImage {
        /// How many bytes its layer has.
        #[arg(long)]
        size: u64,
        /// Where uploads are kept.
        #[arg(long)]
        directory: PathBuf,
    },
    /// Carries an image as a worker does: says `ready`, waits for a line, carries, says how it went.
    #[command(hide = true)]
    UploadImage {
        /// Where the settings are.
        #[arg(long)]
        etcd: String,
        /// Its full name.
        #[arg(long)]
        image: String,
        /// Where it goes.
        #[arg(long)]
        sabakan: String,
        /// What it is called there.
        #[arg(long)]
        asset: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cli(words: &[&str]) -> Result<Cli, clap::Error> {
        let given = ["neco-bench", "--packages", "p", "--empty-steps", "e"];
        Cli::try_parse_from(given.iter().chain(words))
    }

    #[test]
    fn what_is_chosen_is_measured_once_and_in_order() {
        let chosen = |words: &[&str]| cli(words).expect("a command line").chosen();
        assert_eq!(chosen(&[]), Measurement::value_variants());
        let some = [Measurement::Barrier, Measurement::StartUp];
        assert_eq!(chosen(&["start-up", "barrier", "start-up"]), some);
    }

    #[test]
    fn an_unknown_name_is_refused_with_those_there_are() {
        let error = cli(&["barier"]).expect_err("no such measurement").to_string();
        assert!(error.contains("barier") && error.contains("start-up"), "{error}");
    }

    #[test]
    fn the_verb_that_starts_this_knows_the_same_names() {
        let verb = include_str!("../../../xtask/src/verbs/bench.rs");
        for measurement in Measurement::value_variants() {
            let name = measurement.to_possible_value().expect("none is skipped");
            assert!(verb.contains(&format!("\"{}\"", name.get_name())), "{measurement:?}");
        }
    }
}
