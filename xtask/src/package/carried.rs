//! Programs of others that a package carries: necoctl reads their list, fetches and compares them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::build::Programs;
use crate::exit::{Doing, Done};
use crate::run;
use crate::workspace::Workspace;

/// What reads the list.
const READER: &str = "necoctl";

/// Programs and their units in a mirror of the target filesystem, which goes away with this value.
#[derive(Debug)]
pub(crate) struct Carried {
    dir: PathBuf,
}

impl Drop for Carried {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Carried {
    /// Brings the programs of `list`. What was fetched once is kept below `target/programs`, by its digest.
    pub(crate) fn bring(workspace: &Workspace, programs: &Programs, list: &Path) -> Done<Self> {
        let kept = workspace.target.join("programs");
        let dir = kept.join(format!(".laid-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).doing(|| format!("cannot create {}", dir.display()))?;
        let carried = Self { dir };
        let mut reader = Command::new(programs.program(READER));
        reader.args(["site", "programs"]).arg(list);
        reader.arg("--into").arg(&carried.dir).arg("--cache").arg(&kept);
        for path in run::capture(&mut reader)?.lines() {
            eprintln!("xtask: the package carries /{path}");
        }
        Ok(carried)
    }

    /// Where they lie.
    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_the_reader_lays_out_is_carried_and_its_complaint_is_told() {
        let dir = std::env::temp_dir().join(format!("xtask-carried-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let workspace = Workspace { root: dir.clone(), target: dir.join("target") };
        let programs = Programs { dir: dir.clone() };
        let reader = |text: &str| {
            let path = programs.program(READER);
            fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        let list = Path::new("list.toml");
        // site programs LIST --into DIR --cache DIR
        reader(
            "[ \"$1 $2 $3 $4 $6\" = 'site programs list.toml --into --cache' ] && echo x >\"$5/x\" && touch \"$7/kept\"",
        );
        let carried = Carried::bring(&workspace, &programs, list).unwrap();
        let at = carried.path().to_owned();
        assert_eq!(fs::read_to_string(at.join("x")).unwrap(), "x\n");
        drop(carried);
        assert!(!at.exists() && workspace.target.join("programs/kept").exists());
        reader("echo 'error: no sha256 is written down for cke' >&2; exit 1");
        let message = Carried::bring(&workspace, &programs, list).unwrap_err().message;
        fs::remove_dir_all(&dir).unwrap();
        assert!(message.ends_with("error: no sha256 is written down for cke"), "{message}");
    }
}
