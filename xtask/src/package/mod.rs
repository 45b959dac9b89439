//! The Debian package: the mirror of the target filesystem in `debian/`, the stripped programs, and
//! a file that says which version it is. One build serves any version.

mod control;
mod tree;
mod version;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::build::{Programs, SHIPPED};
use crate::exit::{Doing, Done, Failure};
use crate::run;
use crate::workspace::Workspace;
use tree::Tree;
pub(crate) use version::Version;

/// How hard to compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    /// Small, for releases.
    Xz,
    /// Quick, for tests.
    Zstd,
}

/// Whether the package is meant to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quality {
    Sound,
    /// Its worker dies at start, to show what happens then.
    Bad,
}

/// What the worker of a bad package is.
const DYING_WORKER: &str = "#!/bin/sh\n\
echo 'neco-worker: this package is broken on purpose' >&2\n\
exit 1\n";

/// Packs `neco_<version>_amd64.deb` into `out`.
pub(crate) fn pack(
    workspace: &Workspace,
    programs: &Programs,
    version: &Version,
    compression: Compression,
    quality: Quality,
    out: &Path,
) -> Done<PathBuf> {
    fs::create_dir_all(out).doing(|| format!("cannot create {}", out.display()))?;
    let file = out.join(format!("neco_{version}_amd64.deb"));
    let epoch = source_date(workspace)?;

    let mut tree = Tree::create(out.join(format!(".neco_{version}.stage")))?;
    tree.mirror(&workspace.root.join("debian"))?;
    let mut stripped = Vec::new();
    for name in SHIPPED {
        let dir = if name == "necoctl" { "usr/bin" } else { "usr/sbin" };
        if quality == Quality::Bad && name == "neco-worker" {
            tree.write(&format!("{dir}/{name}"), DYING_WORKER.as_bytes(), 0o755)?;
            continue;
        }
        let program = programs.stripped(name)?;
        tree.copy(&program, &format!("{dir}/{name}"), 0o755)?;
        stripped.push(program);
    }
    tree.link("usr/bin/neco", "necoctl")?;
    tree.write("usr/share/neco/VERSION", format!("{version}\n").as_bytes(), 0o644)?;

    let control = control::fill(
        &workspace.root.join("debian/DEBIAN/control.in"),
        version,
        tree.kibibytes(),
        &control::needed_libc(&stripped)?,
    )?;
    tree.write("DEBIAN/control", control.as_bytes(), 0o644)?;
    tree.write("DEBIAN/md5sums", tree.md5sums()?.as_bytes(), 0o644)?;
    tree.finish(epoch)?;

    let mut command = Command::new("dpkg-deb");
    command.arg("--root-owner-group");
    if compression == Compression::Zstd {
        command.args(["-Zzstd", "-z1"]);
    }
    command.arg("-b").arg(tree.path()).arg(&file).env("SOURCE_DATE_EPOCH", epoch.to_string());
    run::capture(&mut command)?;
    Ok(file)
}

/// The time that every file in the package carries: that of the last commit, so that the same tree
/// makes the same package.
fn source_date(workspace: &Workspace) -> Done<u64> {
    if let Ok(text) = std::env::var("SOURCE_DATE_EPOCH") {
        return text.parse().doing(|| format!("SOURCE_DATE_EPOCH={text} is no number of seconds"));
    }
    let text = run::capture(Command::new("git").arg("-C").arg(&workspace.root).args([
        "log",
        "-1",
        "--format=%ct",
    ]))
    .map_err(|failure| {
        Failure::failed(format!(
            "{}\nwithout git, set SOURCE_DATE_EPOCH to the time of the sources",
            failure.message
        ))
    })?;
    text.trim().parse().doing(|| format!("git says that the last commit was at `{}`", text.trim()))
}
