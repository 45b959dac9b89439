//! What git knows of the tree, where there is a git and where it does.

use std::process::Command;

use crate::exit::Done;
use crate::run;
use crate::workspace::Workspace;

/// What git says to `args` in the tree, whoever the tree belongs to.
pub(crate) fn ask(workspace: &Workspace, args: &[&str]) -> Done<String> {
    let trusted = format!("safe.directory={}", workspace.root.display());
    let mut command = Command::new("git");
    command.arg("-c").arg(trusted).arg("-C").arg(&workspace.root).args(args);
    run::capture(&mut command).map(|text| text.trim().to_owned())
}

/// When the last commit was made, in seconds since 1970; nothing in a tree that git knows nothing of, such as one from an
/// archive.
pub(crate) fn last_commit(workspace: &Workspace) -> Option<u64> {
    ask(workspace, &["log", "-1", "--format=%ct"]).ok()?.parse().ok()
}
