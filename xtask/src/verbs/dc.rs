//! `cargo xtask dc`.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::build::{DCTEST, Programs};
use crate::exit::{Done, Failure};
use crate::tools::Tools;
use crate::workspace::{self, Workspace};

pub(super) const HELP: &str = "\
Runs a virtual data centre to look at and to break; arguments go to neco-dctest.

usage: cargo xtask dc VERB [ARGUMENTS]";

pub(super) fn run(args: Vec<String>) -> Done {
    let workspace = Workspace::find()?;
    let tools = Tools::bring(&workspace)?;
    tools.for_data_centres()?;
    let programs = Programs::dctest(&workspace, &tools)?;
    let program = programs.program(DCTEST);
    let mut command = Command::new(&program);
    workspace::without_cargo_run(&mut command);
    tools.lend(&mut command);
    command.env("NECO_DCTEST_DIR", workspace.target.join("dctest"));
    let error = command.args(args).exec();
    Err(Failure::failed(format!("cannot start {}: {error}", program.display())))
}
