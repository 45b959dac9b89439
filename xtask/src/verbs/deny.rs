//! The check of the dependencies' licences and sources, by cargo-deny.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::exit::{Doing, Done, Failure};
use crate::run;
use crate::tools::Tools;
use crate::workspace::{self, Workspace};

/// The version of cargo-deny that is built into target/tools.
const VERSION: &str = "0.20.2";

/// The program, or its build under way. Dropping this ends the build.
pub(super) struct Deny {
    program: PathBuf,
    build: Option<Build>,
}

struct Build {
    child: Child,
    command: String,
    log: PathBuf,
}

impl Deny {
    /// Begins to build the program beside what else runs, on whatever the others leave of one core; does nothing where it
    /// has been built.
    pub(super) fn begin(workspace: &Workspace) -> Done<Self> {
        let tools = Tools::bring(workspace)?;
        let program = tools.dir.join("bin").join("cargo-deny");
        let version = run::capture(Command::new(&program).arg("--version"));
        if version.is_ok_and(|version| version.trim() == format!("cargo-deny {VERSION}")) {
            return Ok(Self { program, build: None });
        }
        let log = tools.dir.join("cargo-deny.log");
        let output = File::create(&log).doing(|| format!("cannot create {}", log.display()))?;
        let errors = output.try_clone().doing(|| format!("cannot use {}", log.display()))?;
        let mut command = Command::new("nice");
        workspace::without_cargo_run(&mut command);
        command.current_dir(&workspace.root);
        command.args(["-n", "19"]).arg(workspace.cargo().get_program());
        command.args(["install", "--quiet", "--debug", "--locked", "--jobs=1", "--root"]);
        command.arg(&tools.dir).arg(format!("cargo-deny@{VERSION}"));
        command.env("CARGO_TARGET_DIR", tools.dir.join("build"));
        command.env("CARGO_PROFILE_DEV_DEBUG", "false");
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let shown = run::shown(&command);
        let child = command.spawn().doing(|| format!("cannot start `{shown}`"))?;
        Ok(Self { program, build: Some(Build { child, command: shown, log }) })
    }

    /// Waits for the program and checks bans, licences and sources. Advisories are left out: they need a database from the
    /// network, and change without a commit.
    pub(super) fn check(mut self, workspace: &Workspace) -> Done {
        if let Some(build) = &mut self.build {
            let Build { child, command, log } = build;
            let status = child.wait().doing(|| format!("cannot wait for `{command}`"))?;
            if !status.success() {
                let said = std::fs::read_to_string(log).unwrap_or_default();
                let said = said.trim_end();
                return Err(Failure::failed(format!("`{command}` failed: {status}\n{said}")));
            }
        }
        run::succeed(workspace.cargo().args(["fetch", "--locked"]))?;
        let mut command = Command::new(&self.program);
        command.current_dir(&workspace.root);
        run::succeed(command.args(["--offline", "check", "bans", "licenses", "sources"]))
    }
}

impl Drop for Deny {
    fn drop(&mut self) {
        if let Some(build) = &mut self.build {
            // Without effect on one that has been waited for.
            let _ = build.child.kill();
            let _ = build.child.wait();
        }
    }
}
