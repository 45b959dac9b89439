//! `cargo xtask playground`.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use crate::build::{PLAYGROUND, Programs};
use crate::exit::{Done, Failure};
use crate::package::{self, Compression, Quality, Version};
use crate::tools::Tools;
use crate::workspace::{self, Workspace};

pub(super) const HELP: &str = "\
Runs a whole system on this machine and updates it; arguments go to neco-playground.

usage: cargo xtask playground [ARGUMENTS OF NECO-PLAYGROUND]";

/// Before the update, the update, and what heals it when the update was bad.
const VERSIONS: [&str; 3] = ["2026.11.20-40151", "2026.11.21-40152", "2026.11.22-40153"];

/// The one that comes in a bad form too.
const UPDATE: usize = 1;

pub(super) fn run(args: Vec<String>) -> Done {
    package::needs()?;
    let workspace = Workspace::find()?;
    let tools = Tools::bring(&workspace)?;
    let programs = Programs::with_playground(&workspace, &tools)?;
    let packages = pack(&workspace, &programs)?;
    let mut command = Command::new(programs.program(PLAYGROUND));
    workspace::without_cargo_run(&mut command);
    tools.lend(&mut command);
    command.env("NECO_BIN_DIR", &programs.dir);
    command.arg("--packages").arg(packages).args(args);
    let error = command.exec();
    Err(Failure::failed(format!(
        "cannot start {}: {error}",
        programs.program(PLAYGROUND).display()
    )))
}

/// The packages that the playground publishes, all of one build. The later ones bring newer images, so that an update has
/// something to do.
pub(super) fn pack(workspace: &Workspace, programs: &Programs) -> Done<PathBuf> {
    let dir = workspace.target.join("playground").join("packages");
    let sound = VERSIONS.map(|version| (version, Quality::Sound, dir.clone()));
    let bad = (VERSIONS[UPDATE], Quality::Bad, dir.join("bad"));
    for (version, quality, out) in sound.into_iter().chain([bad]) {
        let newer = version != VERSIONS[0];
        let version = Version::parse(version)?;
        let overlay = workspace.root.join("crates/neco-playground/newer-images");
        let overlay = newer.then_some(overlay.as_path());
        package::pack_with(
            workspace,
            programs,
            &version,
            Compression::Zstd,
            quality,
            overlay,
            &out,
        )?;
    }
    Ok(dir)
}
