//! `cargo xtask dc`: a virtual data centre to look at and to break.

#[cfg(not(test))]
#[macro_use]
mod pipes;
mod verbs;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use neco_dctest::instance::dirs::{TOP_VARIABLE, Top};
use neco_dctest::instance::orders::{Link, Order, Power};
use neco_dctest::instance::{first, keeper, mirror, outside, warden};

/// Runs virtual data centres: boot servers that really boot, on a network that can really break.
#[derive(Parser)]
#[command(name = "dc", version, max_term_width = 100)]
struct Arguments {
    /// Which data centre, where there are several [default: the only one that runs]
    #[arg(long, global = true, value_parser = verbs::name)]
    name: Option<String>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Says whether this machine can run one; exits with 77 and names what is missing if not
    Check {
        /// The description
        file: Option<PathBuf>,
    },
    /// Starts one and waits until its boot servers are ready
    Up {
        /// The description [default: three boot servers]
        file: Option<PathBuf>,
        /// Stay, and end it with the standard input, or however this program ends
        #[arg(long)]
        tied: bool,
        /// How to tell of it
        #[arg(long, value_enum, default_value_t = verbs::Output::Human)]
        output: verbs::Output,
    },
    /// Shows how its machines are
    Status {
        /// How to tell of it
        #[arg(long, value_enum, default_value_t = verbs::Output::Human)]
        output: verbs::Output,
    },
    /// Logs in as an operator does, or runs a command so
    Ssh {
        /// The machine, such as boot-0
        machine: String,
        /// The command
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Runs a command as a unit of a machine, or a shell inside of it
    Sh {
        /// The machine, such as boot-0
        machine: String,
        /// The command
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Shows a machine's journal, also that of one that is off
    Logs {
        /// The machine; without it, what the data centre itself has said
        machine: Option<String>,
        /// Only this unit
        #[arg(long)]
        unit: Option<String>,
    },
    /// Presses a button of a machine
    Power {
        /// The machine, such as boot-0
        machine: String,
        /// The button
        #[arg(value_enum)]
        power: Power,
    },
    /// Halts a machine as it is
    Freeze {
        /// The machine, such as boot-0
        machine: String,
    },
    /// Lets a frozen machine go on
    Thaw {
        /// The machine, such as boot-0
        machine: String,
    },
    /// Changes a cable
    Link {
        /// One end, such as rack0-tor1
        one: String,
        /// The other end, such as boot-0
        other: String,
        /// How it shall be
        #[arg(value_enum)]
        state: Link,
    },
    /// Lets a machine hear nothing of some others
    Partition {
        /// The machine, such as boot-0
        machine: String,
        /// The others: machines, internet, operation
        #[arg(long, required = true, value_delimiter = ',')]
        from: Vec<String>,
    },
    /// Undoes every change of cables, every partition and every freeze
    Heal,
    /// Tells stories: `cargo xtask dctest`
    #[command(hide = true)]
    Stories(verbs::Stories),
    /// Ends it; nothing of it is left
    Down {
        /// All that run
        #[arg(long)]
        all: bool,
    },
    #[command(hide = true)]
    Warden {
        instance: String,
        #[arg(long)]
        tied: bool,
    },
    #[command(hide = true)]
    First { instance: String },
    #[command(hide = true)]
    Keeper { instance: String },
    #[command(hide = true)]
    Mirror { dir: PathBuf, address: std::net::SocketAddr },
    #[command(hide = true)]
    Outside { dir: PathBuf, writers: Vec<std::net::IpAddr> },
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(verbs::USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match run(arguments) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("dc: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<u8> {
    let top = std::env::var_os(TOP_VARIABLE).map(|dir| Top(PathBuf::from(dir)));
    let top =
        top.with_context(|| format!("{TOP_VARIABLE} is not set; start it as `cargo xtask dc`"))?;
    let program = std::env::current_exe().context("finding this program")?;
    match &arguments.verb {
        // Its thread must live as long as it does: the kernel watches the thread that started a process.
        Verb::Warden { instance, tied } => {
            return warden::run(&program, &top, instance, *tied).map(|()| 0);
        }
        Verb::First { instance } => {
            return first::run(&program, &["keeper".into(), instance.into()]);
        }
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(verb(arguments, &top, &program))
}

async fn verb(arguments: Arguments, top: &Top, program: &std::path::Path) -> Result<u8> {
    let name = arguments.name.as_deref();
    match arguments.verb {
        Verb::Warden { .. } | Verb::First { .. } => Ok(0),
        Verb::Keeper { instance } => keeper::run_keeper(top, &instance).await.map(|()| 0),
        Verb::Mirror { dir, address } => mirror::run_mirror(&dir, address).await.map(|()| 0),
        Verb::Outside { dir, writers } => outside::run_outside(&dir, writers).await.map(|()| 0),
        Verb::Check { file } => verbs::check(top, file.as_deref()).await,
        Verb::Up { file, tied, output } => {
            let wanted = verbs::Wanted { file: file.as_deref(), name, tied, output };
            verbs::up(top, program, &wanted).await
        }
        Verb::Stories(wanted) => {
            verbs::stories(top, program, name.unwrap_or("stories"), &wanted).await
        }
        Verb::Down { all } => verbs::down(top, name, all).await,
        verb => {
            let dirs = verbs::choose(top, name)?;
            match verb {
                Verb::Status { output } => verbs::status(&dirs, output).await,
                Verb::Ssh { machine, command } => verbs::ssh(&dirs, &machine, &command).await,
                Verb::Sh { machine, command } => verbs::sh(&dirs, &machine, &command).await,
                Verb::Logs { machine, unit } => {
                    verbs::logs(top, &dirs, machine.as_deref(), unit.as_deref()).await
                }
                Verb::Power { machine, power } => {
                    verbs::order(&dirs, Order::Power { machine, power }).await
                }
                Verb::Freeze { machine } => {
                    verbs::order(&dirs, Order::Freeze { machine, frozen: true }).await
                }
                Verb::Thaw { machine } => {
                    verbs::order(&dirs, Order::Freeze { machine, frozen: false }).await
                }
                Verb::Link { one, other, state } => {
                    verbs::order(&dirs, Order::Link { one, other, state }).await
                }
                Verb::Partition { machine, from } => {
                    verbs::order(&dirs, Order::Partition { machine, from }).await
                }
                Verb::Heal => verbs::order(&dirs, Order::Heal).await,
                _ => Ok(0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
