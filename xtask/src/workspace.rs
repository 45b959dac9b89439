//! Where the tree and its target directory are, and `cargo` as a child of ours.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::exit::{Doing, Done, Failure};
use crate::run;

/// The tree this program was built from.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
}

impl Workspace {
    /// Finds the tree from where cargo found this package, and the target directory from cargo.
    pub(crate) fn find() -> Done<Self> {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest
            .parent()
            .ok_or_else(|| Failure::failed("xtask does not lie inside a workspace"))?
            .to_owned();
        let mut metadata = cargo_in(&root);
        metadata.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
        let metadata: Value = serde_json::from_str(&run::capture(&mut metadata)?)
            .doing(|| "cannot read cargo's metadata".into())?;
        let target = metadata["target_directory"]
            .as_str()
            .map(PathBuf::from)
            .ok_or_else(|| Failure::failed("cargo's metadata names no target directory"))?;
        Ok(Self { root, target })
    }

    /// `cargo`, to be run at the root of the tree.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = cargo_in(&self.root);
        if std::env::var_os("CARGO_TARGET_DIR").is_some() {
            command.env("CARGO_TARGET_DIR", &self.target);
        }
        command
    }

    /// `cargo metadata` of the members alone.
    pub(crate) fn metadata(&self) -> Done<Value> {
        let mut command = self.cargo();
        command.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
        serde_json::from_str(&run::capture(&mut command)?)
            .doing(|| "cannot read cargo's metadata".into())
    }
}

/// Takes away what `cargo run` added to the environment of this process: build scripts that watch
/// those variables (ring's does) would otherwise run again each time a verb and a plain cargo
/// alternate.
pub(crate) fn without_cargo_run(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let added = name.to_str().is_some_and(|name| {
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|p| name.starts_with(p))
                || ["CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE", "OUT_DIR"].contains(&name)
        });
        if added {
            command.env_remove(name);
        }
    }
}

fn cargo_in(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    without_cargo_run(&mut command);
    command
}
