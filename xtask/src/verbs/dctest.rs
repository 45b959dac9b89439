//! `cargo xtask dctest`.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::build::{self, DCTEST, Programs};
use crate::exit::{Done, Exit, Failure};
use crate::package::{self, Compression, Quality, Version};
use crate::tools::Tools;
use crate::workspace::{self, Workspace};

pub(super) const HELP: &str = "\
Tells stories in a virtual data centre: real boot servers, the real package, real faults.

usage: cargo xtask dctest [core | --all | STORY...] [--list] [--output json]";

/// Of the package that the packages of stories are made from; stories give them versions of their own.
const VERSION: &str = "2026.11.21-40000";

pub(super) fn run(args: Vec<String>) -> Done {
    let asks_only = args.iter().any(|word| ["--help", "-h", "--list"].contains(&word.as_str()));
    if !asks_only && !super::ci::is_root() {
        return Err(Failure {
            exit: Exit::CannotRun,
            message: "boot servers that boot need root; run it as root".to_owned(),
        });
    }
    package::needs()?;
    let workspace = Workspace::find()?;
    let tools = Tools::bring(&workspace)?;
    tools.for_data_centres()?;
    let programs = Programs::with_dctest(&workspace, &tools)?;
    let dir = workspace.target.join("dctest");
    let (packages, suites) = (dir.join("packages"), dir.join("suites"));
    let version = Version::parse(VERSION)?;
    package::pack(&workspace, &programs, &version, Compression::Zstd, Quality::Sound, &packages)?;
    build::suites(&workspace, &tools, &suites)?;
    let program = programs.program(DCTEST);
    let mut command = Command::new(&program);
    workspace::without_cargo_run(&mut command);
    tools.lend(&mut command);
    command.env("NECO_DCTEST_DIR", &dir).env("NECO_BIN_DIR", &programs.dir);
    command.env("NECO_PACKAGES", packages).env("NECO_SUITES", suites);
    let error = command.arg("stories").args(args).exec();
    Err(Failure::failed(format!("cannot start {}: {error}", program.display())))
}
