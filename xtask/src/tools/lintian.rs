//! lintian, which judges Debian packages.
//!
//! Unpacked beside other tools it would not do: it clears its environment and then calls programs by their plain names, so that
//! those it needs would not find their libraries, and what they cannot see it does not complain of. So it gets a small Debian
//! of its own, unpacked and not installed, and runs with that as its root, in a mount namespace that ends with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::apt::Apt;
use super::{IGNORE_SYSTEM, Tools, need, on_path};
use crate::exit::{Doing, Done, Failure};
use crate::{lock, run};

/// What it fails for, and nothing that a machine or a person has set up.
const OPTIONS: [&str; 8] = [
    "--allow-root",
    "--no-cfg",
    "--profile",
    "debian",
    "--fail-on",
    "error,warning",
    "--tag-display-limit",
    "0",
];

/// Makes the tree, its first argument, whole: devices, processes, a place for scratch, and at `/mnt` the second argument.
/// What is mounted is seen by nobody else.
const ENTER: &str = r#"set -e
tree=$1 folder=$2
shift 2
mount --rbind /dev "$tree/dev"
mount --rbind /proc "$tree/proc"
mount -t tmpfs tmpfs "$tree/tmp"
mount --bind "$folder" "$tree/mnt"
exec chroot "$tree" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/nonexistent LC_ALL=C.UTF-8 lintian "$@"
"#;

/// The mount points of the tree; no package has all of them.
const PLACES: [&str; 4] = ["dev", "proc", "tmp", "mnt"];

/// Where lintian is.
#[derive(Debug)]
pub(crate) enum Lintian {
    System(PathBuf),
    Tree(PathBuf),
}

impl Lintian {
    /// Finds lintian; fetches it if it is missing.
    pub(crate) fn bring(tools: &Tools) -> Done<Self> {
        if std::env::var_os(IGNORE_SYSTEM).is_none_or(|value| value != "1")
            && let Some(program) = on_path("lintian", Path::new(""))
            && run::works(Command::new(&program).arg("--version"))
        {
            return Ok(Self::System(program));
        }
        Self::unpacked(&tools.dir)
    }

    /// One of our own, in the folder of tools.
    fn unpacked(tools: &Path) -> Done<Self> {
        for (program, package) in
            [("unshare", "util-linux"), ("mount", "mount"), ("chroot", "coreutils")]
        {
            need(program, package)?;
        }
        if !run::works(namespaces().arg("true")) {
            return Err(Failure::cannot_run(
                "there is no lintian on this machine, and no namespaces to run one of its own in; \
                 install it, on Debian by: apt-get install lintian",
            ));
        }
        let tree = tools.join("lintian");
        if !tree.is_dir() {
            let _lock = lock::hold(&tools.join("lock"))?;
            // Another verb may have brought it while this one waited for the lock.
            if !tree.is_dir() {
                fetch(tools, &tree)?;
            }
        }
        let lintian = Self::Tree(tree);
        run::capture(lintian.command(tools).arg("--version")).map_err(|failure| {
            Failure::cannot_run(format!(
                "lintian does not run in {}; remove that and try again, or install lintian, on Debian by: \
                 apt-get install lintian\n{}",
                tools.join("lintian").display(),
                failure.message
            ))
        })?;
        Ok(lintian)
    }

    /// Lets it look at a package; fails for what it calls an error or a warning.
    pub(crate) fn judge(&self, package: &Path) -> Done {
        let package = package
            .canonicalize()
            .doing(|| format!("cannot find the package {}", package.display()))?;
        let folder = package.parent().unwrap_or(Path::new("/"));
        let seen = match self {
            Self::System(_) => package.clone(),
            Self::Tree(_) => Path::new("/mnt").join(package.file_name().unwrap_or_default()),
        };
        let mut command = self.command(folder);
        let status =
            command.args(OPTIONS).arg(seen).status().doing(|| "cannot start lintian".into())?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::failed(format!("lintian is not content with {}: {status}", package.display())))
    }

    /// lintian, to be given arguments; one of our own sees `folder` as `/mnt`.
    fn command(&self, folder: &Path) -> Command {
        match self {
            Self::System(program) => Command::new(program),
            Self::Tree(tree) => {
                let mut command = namespaces();
                command.args(["sh", "-c", ENTER, "lintian"]).arg(tree).arg(folder);
                command
            }
        }
    }
}

/// Starts what follows in namespaces of its own, in which it may mount.
fn namespaces() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "--"]);
    command
}

/// Unpacks lintian, what it depends on and what every Debian has into `tree`.
fn fetch(tools: &Path, tree: &Path) -> Done {
    eprintln!("xtask: bringing lintian as Debian packages into {}", tree.display());
    for (program, package) in
        [("apt-get", "apt"), ("apt-cache", "apt"), ("dpkg-deb", "dpkg"), ("dpkg", "dpkg")]
    {
        need(program, package)?;
    }
    let cannot = |failure: Failure| {
        let message = format!(
            "cannot bring lintian; install it, on Debian by: apt-get install lintian\n{}",
            failure.message
        );
        Failure::cannot_run(message)
    };
    let apt = Apt::prepare(&tools.join("apt"))?;
    let packages = apt.update().and_then(|()| apt.download_whole("lintian")).map_err(cannot)?;
    let partial = tree.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).doing(|| format!("cannot remove {}", partial.display()))?;
    }
    for place in PLACES.map(|place| partial.join(place)) {
        fs::create_dir_all(&place).doing(|| format!("cannot create {}", place.display()))?;
    }
    for package in packages {
        run::capture(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&partial))?;
    }
    apt.clean()?;
    // Only what is whole has the name.
    fs::rename(&partial, tree).doing(|| format!("cannot name {}", tree.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Workspace;

    #[test]
    #[ignore = "fetches packages: `cargo xtask test --all`"]
    fn one_of_our_own_sees_what_takes_other_programs_to_see() {
        let workspace = Workspace::find().unwrap();
        let tools = workspace.target.join("tools");
        fs::create_dir_all(&tools).unwrap();
        let lintian = Lintian::unpacked(&tools).unwrap();
        let dir = std::env::temp_dir().join(format!("xtask-lintian-{}", std::process::id()));
        let lay = |path: &str, text: &str| {
            let file = dir.join("tree").join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        let control = "Package: bad\nVersion: 1\nArchitecture: all\nMaintainer: A <a@b.example>\n\
                       Description: is wrong in several ways\n It has no copyright file.\n";
        lay("DEBIAN/control", control);
        lay("DEBIAN/md5sums", "");
        lay("DEBIAN/preinst", "#!/bin/sh\nset -e\nif true\n");
        lay("usr/share/man/man8/bad.8", ".TH bad 8\n.SH NAME\nbad \\- is wrong\n.nosuch\n");
        let page = dir.join("tree/usr/share/man/man8/bad.8");
        run::capture(Command::new("gzip").arg("-9n").arg(page)).unwrap();
        run::capture(Command::new("chmod").arg("755").arg(dir.join("tree/DEBIAN/preinst")))
            .unwrap();
        let file = dir.join("bad.deb");
        let mut command = Command::new("dpkg-deb");
        command.args(["--root-owner-group", "-Zgzip", "-b"]).arg(dir.join("tree")).arg(&file);
        run::capture(&mut command).unwrap();
        let verdict = lintian.judge(&file);
        let seen = lintian.command(&dir).args(OPTIONS).arg("/mnt/bad.deb").output().unwrap();
        fs::remove_dir_all(&dir).unwrap();
        assert!(verdict.unwrap_err().message.starts_with("lintian is not content with "));
        let said = String::from_utf8_lossy(&seen.stdout);
        for tag in
            ["no-copyright-file", "groff-message", "maintainer-shell-script-fails-syntax-check"]
        {
            assert!(
                said.contains(tag),
                "no {tag} in {said}{}",
                String::from_utf8_lossy(&seen.stderr)
            );
        }
    }
}
