//! A signed package of 1 GiB, and a mirror that serves it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use neco_releases::mirror::sign::{Protection, SigningKey, generate_key, sign};
use neco_schema::{Environment, NecoVersion};

/// How large the package is, but for a few kilobytes.
pub(crate) const SIZE: u64 = 1 << 30;

/// The version of the package.
pub(crate) const VERSION: &str = "2026.11.21-40152";

/// Written again and again.
const BLOCK: usize = 1 << 20;

/// Where the parts of the stage lie.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    /// What the mirror serves.
    pub(crate) mirror: PathBuf,
    /// The root of the server that fetches.
    pub(crate) root: PathBuf,
    /// The package in the mirror.
    pub(crate) deb: PathBuf,
}

/// Lays a mirror with the package, and a root that trusts its key, below `dir`; blocks.
///
/// # Errors
/// A file cannot be written, or dpkg-deb is missing.
pub(crate) fn lay(dir: &Path) -> anyhow::Result<Stage> {
    let version: NecoVersion = VERSION.parse()?;
    let (mirror, root) = (dir.join("mirror"), dir.join("root"));
    // What begins with a dot is not served.
    let hidden = mirror.join(".incoming");
    let keys = root.join("etc/neco/release-keys");
    for made in [&hidden, &keys] {
        std::fs::create_dir_all(made).with_context(|| format!("making {}", made.display()))?;
    }
    let secret = dir.join("bench.key");
    generate_key(&secret, &keys.join("bench.pub"), &Protection::Unencrypted)?;
    let name = format!("neco_{VERSION}_amd64.deb");
    let deb = hidden.join(&name);
    pack(&dir.join("tree"), &deb)?;
    fill(&deb).with_context(|| format!("filling {}", deb.display()))?;
    sign(&deb, &SigningKey::load(&secret, None)?, &version)?;
    let folder = mirror.join(Environment::Prod.tag(&version));
    std::fs::rename(&hidden, &folder).with_context(|| format!("naming {}", folder.display()))?;
    Ok(Stage { deb: folder.join(name), mirror, root })
}

/// Builds a package without files.
fn pack(tree: &Path, deb: &Path) -> anyhow::Result<()> {
    let control = tree.join("DEBIAN/control");
    std::fs::create_dir_all(tree.join("DEBIAN"))?;
    let fields = format!(
        "Package: neco\nVersion: {VERSION}\nArchitecture: amd64\nMaintainer: Neco <neco@example.org>\n\
         Description: a package to be measured\n"
    );
    std::fs::write(&control, fields).with_context(|| format!("writing {}", control.display()))?;
    let mut command = Command::new("dpkg-deb");
    command.args(["--root-owner-group", "--build"]).args([tree, deb]).stdin(Stdio::null());
    let output = command.output().context("starting dpkg-deb")?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "dpkg-deb: {}", said.trim());
    Ok(())
}

/// Makes a package large: with a last member of the archive that dpkg passes over, as its name begins with an underscore.
fn fill(deb: &Path) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().append(true).open(deb)?;
    // ar(5): name, time, owner, group, mode, size, end.
    let header = format!("{:<16}{:<12}{:<6}{:<6}{:<8}{SIZE:<10}`\n", "_bench", 0, 0, 0, 100_644);
    file.write_all(header.as_bytes())?;
    let block = noise(BLOCK);
    for _ in 0..SIZE / BLOCK as u64 {
        file.write_all(&block)?;
    }
    file.sync_all()
}

/// Bytes that no file system stores in less room; Marsaglia's xorshift.
fn noise(length: usize) -> Vec<u8> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_large_package_says_what_a_small_one_says() {
        let dir = tempfile::tempdir().expect("a directory");
        let deb = dir.path().join("neco.deb");
        pack(&dir.path().join("tree"), &deb).expect("dpkg-deb");
        // As the real one, without its gigabyte.
        let mut file = std::fs::OpenOptions::new().append(true).open(&deb).expect("a file");
        let header = format!("{:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", "_bench", 0, 0, 0, 100_644, 8);
        assert_eq!(header.len(), 60);
        file.write_all(header.as_bytes()).and_then(|()| file.write_all(&noise(8))).expect("room");
        let output = Command::new("dpkg-deb").args(["-f"]).arg(&deb).arg("Version").output();
        let output = output.expect("dpkg-deb");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), VERSION);
    }

    #[test]
    fn noise_does_not_repeat_soon() {
        let bytes = noise(64);
        assert_eq!(bytes.len(), 64);
        assert_ne!(bytes[..32], bytes[32..]);
    }
}
