//! `cargo xtask artifacts`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::build::{BUMP, Programs};
use crate::exit::{Done, Failure};
use crate::tools::Tools;
use crate::workspace::{self, Workspace};

pub(super) const HELP: &str = "\
Finds newer versions of what artifacts.toml pins, and writes them there; arguments go to neco-bump.

usage: cargo xtask artifacts [ARGUMENTS OF NECO-BUMP]";

/// The pins of the package.
const FILE: &str = "debian/usr/share/neco/artifacts.toml";

/// The versions that are passed over, where there is such a list.
const IGNORE: &str = "artifacts_ignore.yaml";

pub(super) fn run(args: Vec<String>) -> Done {
    let workspace = Workspace::find()?;
    let tools = Tools::bring(&workspace)?;
    let program = Programs::bump(&workspace, &tools)?.program(BUMP);
    let mut command = Command::new(&program);
    workspace::without_cargo_run(&mut command);
    command.args(files(&workspace.root, &args)).args(args);
    let error = command.exec();
    Err(Failure::failed(format!("cannot start {}: {error}", program.display())))
}

/// The files of the tree, unless the words name others.
fn files(root: &Path, words: &[String]) -> Vec<OsString> {
    let named = |name: &str| {
        let joined = format!("{name}=");
        words.iter().any(|word| word == name || word.starts_with(&joined))
    };
    let (file, ignore) = (root.join(FILE), root.join(IGNORE));
    let mut files = Vec::new();
    if !named("--file") {
        files.extend(["--file".into(), file.into()]);
    }
    if !named("--ignore") && ignore.exists() {
        files.extend(["--ignore".into(), ignore.into()]);
    }
    files
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_files_of_the_tree_are_taken_unless_others_are_named() {
        let root = std::env::temp_dir().join(format!("xtask-artifacts-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        let pins = ["--file".into(), root.join(FILE).into_os_string()];
        let list = ["--ignore".into(), root.join(IGNORE).into_os_string()];
        let given = |words: &[&str]| {
            files(&root, &words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(given(&["--check"]), pins, "there is no list");
        fs::write(root.join(IGNORE), "").unwrap();
        assert_eq!(given(&["etcd"]), [&pins[..], &list].concat());
        assert_eq!(given(&["--file=x"]), list);
        assert_eq!(given(&["--ignore", "x"]), pins);
        assert!(given(&["--ignore=x", "--file", "y"]).is_empty());
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn the_file_is_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        assert!(root.join(FILE).is_file());
    }
}
