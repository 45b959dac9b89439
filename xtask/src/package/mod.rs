//! The Debian package: the mirror of the target filesystem in `debian/`, the stripped programs, and
//! a file that says which version it is. One build serves any version.

mod carried;
mod control;
mod docs;
mod scripts;
mod tree;
mod version;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::build::{IN_BIN, Programs, SHIPPED};
use crate::exit::{Doing, Done};
use crate::git;
use crate::tools::need;
use crate::workspace::Workspace;
use crate::{lock, run};
pub(crate) use carried::Carried;
use tree::Tree;
pub(crate) use version::Version;

/// How hard to compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    /// Small, for releases.
    Xz,
    /// Quick, for tests.
    Zstd,
    /// Quick, and known to lintian.
    Gzip,
}

/// Whether the package is meant to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quality {
    Sound,
    /// Its worker dies at start, to show what happens then.
    Bad,
}

/// Held while something is packed into a folder.
pub(crate) const LOCK: &str = ".lock";

/// What the worker of a bad package is.
const DYING_WORKER: &str = "#!/bin/sh\n\
echo 'neco-worker: this package is broken on purpose' >&2\n\
exit 1\n";

/// Fails unless everything is there that packing needs beside what is built.
pub(crate) fn needs() -> Done {
    need("dpkg-deb", "dpkg")?;
    need("gzip", "gzip")?;
    need("strip", "binutils")
}

/// Packs `neco_<version>_amd64.deb` into `out`.
pub(crate) fn pack(
    workspace: &Workspace,
    programs: &Programs,
    version: &Version,
    compression: Compression,
    quality: Quality,
    out: &Path,
) -> Done<PathBuf> {
    pack_with(workspace, programs, version, compression, quality, None, out)
}

/// The same with the files of `overlay`, a mirror of the target filesystem, laid over those of `debian/`.
pub(crate) fn pack_with(
    workspace: &Workspace,
    programs: &Programs,
    version: &Version,
    compression: Compression,
    quality: Quality,
    overlay: Option<&Path>,
    out: &Path,
) -> Done<PathBuf> {
    fs::create_dir_all(out).doing(|| format!("cannot create {}", out.display()))?;
    let file = out.join(format!("neco_{version}_amd64.deb"));
    // Two verbs at once would fill the same folder.
    let _lock = lock::hold(&out.join(LOCK))?;
    let epoch = source_date(workspace, version)?;

    let mut tree = Tree::create(out.join(format!(".neco_{version}.stage")))?;
    let debian = workspace.root.join("debian");
    tree.mirror(&debian)?;
    if let Some(overlay) = overlay {
        tree.mirror(overlay)?;
    }
    scripts::add(&mut tree, &debian)?;
    let mut stripped = Vec::new();
    for name in SHIPPED {
        let dir = if IN_BIN.contains(&name) { "usr/bin" } else { "usr/sbin" };
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
    let scratch = out.join(format!(".neco_{version}.docs"));
    docs::add(&mut tree, workspace, programs, version, epoch, &scratch)?;

    let control = control::fill(
        &debian.join("DEBIAN/control.in"),
        version,
        tree.kibibytes(),
        &control::needed_libc(&stripped)?,
    )?;
    tree.write("DEBIAN/control", control.as_bytes(), 0o644)?;
    tree.write("DEBIAN/md5sums", tree.md5sums()?.as_bytes(), 0o644)?;
    tree.finish(epoch)?;

    let mut command = Command::new("dpkg-deb");
    command.arg("--root-owner-group");
    match compression {
        Compression::Xz => {}
        Compression::Zstd => drop(command.args(["-Zzstd", "-z1"])),
        Compression::Gzip => drop(command.args(["-Zgzip", "-z1"])),
    }
    let new = out.join(format!(".neco_{version}.new"));
    command.arg("-b").arg(tree.path()).arg(&new).env("SOURCE_DATE_EPOCH", epoch.to_string());
    run::capture(&mut command)?;
    // Whoever reads the old one at this moment goes on reading it.
    fs::rename(&new, &file).doing(|| format!("cannot publish {}", file.display()))?;
    Ok(file)
}

/// The time that every file in the package carries: that of the last commit, so that the same tree makes the same package.
/// Where git knows of none, it is the day of the version.
fn source_date(workspace: &Workspace, version: &Version) -> Done<u64> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => {
            text.parse().doing(|| format!("SOURCE_DATE_EPOCH={text} is no number of seconds"))
        }
        Err(_) => Ok(git::last_commit(workspace).unwrap_or_else(|| version.day())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(PathBuf);

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// This tree, with some program of the system in the place of each of ours.
    fn stage(name: &str) -> (Scratch, Workspace, Programs) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
        let scratch =
            Scratch(std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id())));
        let dir = scratch.0.join("programs");
        fs::create_dir_all(&dir).unwrap();
        for name in SHIPPED {
            fs::copy("/bin/true", dir.join(name)).unwrap();
        }
        let workspace = Workspace { root, target: scratch.0.join("target") };
        let programs = Programs { dir };
        crate::texts::tests::lay(&programs);
        (scratch, workspace, programs)
    }

    fn dpkg_deb(args: &[&str], file: &Path) -> String {
        run::capture(Command::new("dpkg-deb").args(args).arg(file)).unwrap()
    }

    #[test]
    fn the_package_contains_what_it_promises_and_nothing_of_ours() {
        let (scratch, workspace, programs) = stage("contents");
        let version = Version::parse("2026.11.21-40152").unwrap();
        let file =
            pack(&workspace, &programs, &version, Compression::Zstd, Quality::Sound, &scratch.0)
                .unwrap();
        assert!(file.ends_with("neco_2026.11.21-40152_amd64.deb"), "{}", file.display());
        let fields = dpkg_deb(&["-f"], &file);
        let field = |name: &str| {
            fields.lines().find_map(|line| {
                let (found, value) = line.split_once(": ")?;
                (found == name).then(|| value.to_owned())
            })
        };
        assert_eq!(field("Package").as_deref(), Some("neco"));
        assert_eq!(field("Version").as_deref(), Some("2026.11.21-40152"));
        assert_eq!(field("Architecture").as_deref(), Some("amd64"));
        assert!(field("Depends").unwrap().starts_with("libc6 (>= 2."), "{:?}", field("Depends"));

        let listing = dpkg_deb(&["-c"], &file);
        let has = |line: &str| {
            listing.lines().any(|found| {
                let words: Vec<_> = found.split_whitespace().collect();
                format!("{} {} {}", words[0], words[1], words[5..].join(" ")) == line
            })
        };
        for line in [
            "-rwxr-xr-x root/root ./usr/sbin/neco-updater",
            "-rwxr-xr-x root/root ./usr/sbin/neco-worker",
            "-rwxr-xr-x root/root ./usr/bin/necoctl",
            "-rwxr-xr-x root/root ./usr/bin/sabakan-state-setter",
            "-rw-r--r-- root/root ./usr/share/neco/sabakan-state-setter.yml",
            "-rw-r--r-- root/root ./lib/systemd/system/sabakan-state-setter.service",
            "-rw-r--r-- root/root ./usr/share/man/man8/sabakan-state-setter.8.gz",
            "lrwxrwxrwx root/root ./usr/bin/neco -> necoctl",
            "-rw-r--r-- root/root ./usr/share/neco/VERSION",
            "-rw-r--r-- root/root ./lib/systemd/system/neco-updater.service",
            "-rw-r--r-- root/root ./lib/systemd/system/neco-worker.service",
            "-rw-r--r-- root/root ./usr/share/bash-completion/completions/neco",
            "-rw-r--r-- root/root ./usr/share/zsh/vendor-completions/_necoctl",
            "-rw-r--r-- root/root ./usr/share/fish/vendor_completions.d/neco.fish",
            "-rw-r--r-- root/root ./usr/share/man/man8/neco-worker.8.gz",
            "lrwxrwxrwx root/root ./usr/share/man/man8/neco.8.gz -> necoctl.8.gz",
            "-rw-r--r-- root/root ./usr/share/doc/neco/changelog.Debian.gz",
            "drwxr-xr-x root/root ./usr/share/neco/",
        ] {
            assert!(has(line), "no `{line}` in\n{listing}");
        }
        assert!(!listing.contains("README") && !listing.contains(".in"), "{listing}");
        assert!(!listing.contains("./man/"), "{listing}");

        let root = scratch.0.join("root");
        run::capture(Command::new("dpkg-deb").arg("-x").arg(&file).arg(&root)).unwrap();
        let version = fs::read_to_string(root.join("usr/share/neco/VERSION")).unwrap();
        assert_eq!(version, "2026.11.21-40152\n");
        let page = root.join("usr/share/man/man8/neco-worker.8.gz");
        let page = run::capture(Command::new("gzip").arg("-dc").arg(page)).unwrap();
        let title = ".TH \"neco-worker\" \"8\" \"2026-11-21\" \"neco 2026.11.21-40152\" \"Neco\"\n";
        assert!(page.contains(title) && page.contains(".SH \"EXIT STATUS\"\n"), "{page}");
    }

    #[test]
    fn the_same_sources_make_the_same_bytes_for_every_compression() {
        let (scratch, workspace, programs) = stage("same");
        let version = Version::parse("2026.11.21-40152").unwrap();
        for compression in [Compression::Zstd, Compression::Gzip, Compression::Xz] {
            let [one, other] = ["one", "other"].map(|name| {
                let out = scratch.0.join(name);
                let file = pack(&workspace, &programs, &version, compression, Quality::Sound, &out)
                    .unwrap();
                fs::read(file).unwrap()
            });
            assert!(one == other, "{compression:?}: two packings differ");
        }
    }

    #[test]
    fn the_worker_of_a_bad_package_says_so_and_dies() {
        let (scratch, workspace, programs) = stage("bad");
        let version = Version::parse("2026.11.21-40152").unwrap();
        let file =
            pack(&workspace, &programs, &version, Compression::Zstd, Quality::Bad, &scratch.0)
                .unwrap();
        let root = scratch.0.join("root");
        run::capture(Command::new("dpkg-deb").arg("-x").arg(&file).arg(&root)).unwrap();
        let output = Command::new(root.join("usr/sbin/neco-worker")).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(said, "neco-worker: this package is broken on purpose\n");
    }

    #[test]
    fn a_program_that_was_not_built_is_named() {
        let (scratch, workspace, programs) = stage("missing");
        fs::remove_file(programs.program("necoctl")).unwrap();
        let version = Version::parse("2026.11.21-40152").unwrap();
        let failure =
            pack(&workspace, &programs, &version, Compression::Zstd, Quality::Sound, &scratch.0);
        let message = failure.unwrap_err().message;
        assert!(message.contains("necoctl"), "{message}");
    }
}
