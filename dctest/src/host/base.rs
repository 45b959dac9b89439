//! The tree of files that all boot servers share: a small Debian, made once by mmdebstrap(1) and never written to again.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::fcntl::{Flock, FlockArg};

use super::command::{command, run};
use crate::digest::sha256;

/// The release of Debian that boot servers run.
const SUITE: &str = "bookworm";

/// What is on them beside the smallest Debian. No udev: without it systemd-networkd takes interfaces as they are.
const PACKAGES: [&str; 22] = [
    "bird2",
    "ca-certificates",
    "curl",
    "dbus",
    "docker-registry",
    "docker.io",
    "etcd-client",
    "etcd-server",
    "iproute2",
    "iptables",
    "iputils-ping",
    "nftables",
    "openssh-client",
    "openssh-server",
    "openssl",
    "procps",
    "serf",
    "sudo",
    "systemd",
    "systemd-container",
    "systemd-sysv",
    "tinyproxy-bin",
];

/// Where Debian keeps the libraries of this processor (multiarch tuple).
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// What nobody reads on a machine that lives for minutes.
const LEFT_OUT: [&str; 3] = ["/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*"];

/// The extension of a tree that is not whole yet.
const PARTIAL: &str = "partial";

/// Making it takes a minute or two where the packages are near.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// The words of the command that makes a tree in `dir`.
fn words(dir: &Path, sources: &[PathBuf]) -> Vec<String> {
    let mut words = vec![
        "mmdebstrap".to_owned(),
        "--quiet".to_owned(),
        "--format=directory".to_owned(),
        "--variant=minbase".to_owned(),
        "--aptopt=Acquire::Languages \"none\"".to_owned(),
        "--aptopt=Acquire::Retries \"3\"".to_owned(),
    ];
    // Told to dpkg itself, not by --dpkgopt: that one needs a helper of mmdebstrap's that is written in Python.
    let lines = LEFT_OUT.map(|path| format!("path-exclude={path}\\n")).concat();
    words.push(format!(
        "--setup-hook=mkdir -p \"$1/etc/dpkg/dpkg.cfg.d\" && printf '{lines}' > \"$1/etc/dpkg/dpkg.cfg.d/left-out\""
    ));
    words.push(format!("--include={}", PACKAGES.join(",")));
    words.push(SUITE.to_owned());
    words.push(dir.display().to_string());
    words.extend(sources.iter().map(|file| file.display().to_string()));
    words
}

/// The words of a program of the tree that runs on the host: with the tree's own libraries, so that the host need not have it
/// and every host has the same.
#[must_use]
pub fn program(tree: &Path, name: &str) -> [String; 4] {
    let libraries = tree.join(LIBRARIES);
    let shown = |path: PathBuf| path.display().to_string();
    [
        shown(libraries.join("ld-linux-x86-64.so.2")),
        "--library-path".to_owned(),
        format!("{}:{}", libraries.display(), libraries.join("systemd").display()),
        shown(tree.join("usr/bin").join(name)),
    ]
}

/// What a tree is known by: a change of anything that goes into it makes another.
fn key() -> String {
    let words = words(Path::new(""), &[]);
    sha256(words.join("\0").as_bytes())[..16].to_owned()
}

/// Whether the tree is there already.
#[must_use]
pub fn is_there(dir: &Path) -> bool {
    dir.join(key()).is_dir()
}

/// The tree, made if it is not there yet. Of two that ask at once one waits for the other.
///
/// # Errors
/// `dir` cannot be written to, or mmdebstrap fails: then with what it said.
pub async fn bring(dir: &Path) -> Result<PathBuf> {
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let tree = dir.join(key());
    if tree.is_dir() {
        return Ok(tree);
    }
    let lock = dir.join("lock");
    let file = fs::File::create(&lock).with_context(|| format!("making {}", lock.display()))?;
    let held = tokio::task::spawn_blocking(move || Flock::lock(file, FlockArg::LockExclusive));
    let _held = held.await?.map_err(|(_, error)| error).context("waiting for the base tree")?;
    if tree.is_dir() {
        return Ok(tree);
    }
    // What a killed one has left, of this tree or of another.
    for entry in fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))?.flatten()
    {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == PARTIAL) {
            fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    let partial = tree.with_extension(PARTIAL);
    run(&mut command(words(&partial, &sources())), LIMIT).await.context("making the base tree")?;
    // Only what is whole has the name.
    fs::rename(&partial, &tree).with_context(|| format!("naming {}", tree.display()))?;
    Ok(tree)
}

/// Where this host's own packages come from, if it runs the same release of Debian: perhaps a mirror nearby. Else mmdebstrap
/// asks Debian's own servers.
fn sources() -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    let dropped = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
    files.extend(dropped.map(|entry| entry.path()));
    files.retain(|file| {
        let fits = file.extension().is_some_and(|e| e == "list" || e == "sources");
        fits && fs::read_to_string(file).is_ok_and(|text| names(&text, SUITE))
    });
    files.sort();
    files
}

/// Whether a list of sources is one of Debian's of that release; others would bring their keys and troubles.
fn names(text: &str, suite: &str) -> bool {
    let lines = || text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines().any(|line| line.split_whitespace().any(|word| word == suite))
        && lines().any(|line| line.contains("/debian") || line.contains("debian-archive-keyring"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_short_and_always_the_same() {
        assert_eq!(key().len(), 16);
        assert_eq!(key(), key());
    }

    #[test]
    fn only_sources_of_this_debian_are_taken() {
        let own =
            "Types: deb\nURIs: http://deb.debian.org/debian\nSuites: bookworm bookworm-updates\n";
        assert!(names(own, "bookworm"));
        assert!(!names(own, "trixie"));
        assert!(!names("deb https://example.com/apt bookworm stable\n", "bookworm"));
        assert!(!names("# deb http://deb.debian.org/debian bookworm main\n", "bookworm"));
    }
}
