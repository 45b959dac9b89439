//! Packages that are not what they should be, for tests of who notices.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use neco_releases::mirror::sign::{SigningKey, sign};
use neco_schema::NecoVersion;

use crate::SiteError;

/// What is wrong with a package that is published all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It holds nothing to run, but is named, signed and described rightly: what is verified before an installation has
    /// nothing to find.
    Hollow,
    /// It bears no signature.
    Unsigned,
    /// Its signature was made over other bits.
    OtherBits,
    /// It was signed by the publisher's other key, which no server trusts by itself.
    OtherKey,
    /// It is another package by its own account.
    OtherName,
    /// It is another version by its own account.
    OtherVersion,
    /// It is for another architecture by its own account.
    OtherArchitecture,
    /// It is no package.
    NoPackage,
    /// It has no control file.
    NoControl,
    /// Its control file tells no version.
    NoVersion,
    /// Its control file tells no architecture.
    NoArchitecture,
    /// The archive of its files does not unpack.
    BrokenData,
    /// Its preinst refuses to have it installed.
    Preinst,
    /// Its postinst fails to get it ready.
    Postinst,
}

/// What its scripts complain about.
const COMPLAINT: &str = "the moon is in the wrong house";

impl Flaw {
    /// The control file; `None` if it has none.
    fn control(self, version: &NecoVersion, text: &str) -> Option<String> {
        if self == Self::NoControl {
            return None;
        }
        let name = if self == Self::OtherName { "coil" } else { "neco" };
        let architecture = if self == Self::OtherArchitecture { "arm64" } else { "amd64" };
        let suffix = if self == Self::OtherVersion { ".1" } else { "" };
        let fields = [
            (true, format!("Package: {name}")),
            (self != Self::NoVersion, format!("Version: {version}{suffix}")),
            (self != Self::NoArchitecture, format!("Architecture: {architecture}")),
            (true, "Maintainer: Neco <neco@example.org>".to_owned()),
            (true, format!("Description: a package for tests\n {text}\n")),
        ];
        let there = fields.into_iter().filter_map(|(there, field)| there.then_some(field));
        Some(there.collect::<Vec<_>>().join("\n"))
    }

    /// The maintainer script that fails.
    fn script(self) -> Option<&'static str> {
        match self {
            Self::Preinst => Some("preinst"),
            Self::Postinst => Some("postinst"),
            _ => None,
        }
    }
}

/// The two keys of a publisher.
pub(crate) struct Keys<'a> {
    pub(crate) trusted: &'a SigningKey,
    pub(crate) other: &'a SigningKey,
}

/// Makes a package with `flaw` in `workshop`, signed unless that is its flaw, and gives its files. Blocks.
pub(crate) fn make(
    workshop: &Path,
    version: &NecoVersion,
    flaw: Flaw,
    keys: &Keys<'_>,
) -> Result<Vec<PathBuf>, SiteError> {
    let deb = workshop.join(format!("neco_{version}_amd64.deb"));
    build(workshop, &deb, version, flaw, "It holds nothing.")?;
    match flaw {
        Flaw::Unsigned => return Ok(vec![deb]),
        Flaw::OtherKey => drop(sign(&deb, keys.other, version)?),
        Flaw::OtherBits => {
            sign(&deb, keys.trusted, version)?;
            build(workshop, &deb, version, flaw, "It holds nothing, in other words.")?;
        }
        _ => drop(sign(&deb, keys.trusted, version)?),
    }
    let signature = PathBuf::from(format!("{}.minisig", deb.display()));
    Ok(vec![deb, signature])
}

/// Builds a package without programs.
fn build(
    workshop: &Path,
    deb: &Path,
    version: &NecoVersion,
    flaw: Flaw,
    text: &str,
) -> Result<(), SiteError> {
    let tree = tempfile::tempdir_in(workshop).map_err(SiteError::io("making", workshop))?;
    let lay = |path: &str, text: &str, mode: u32| {
        let path = tree.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(tree.path()))
            .and_then(|()| std::fs::write(&path, text))
            .and_then(|()| std::fs::set_permissions(&path, Permissions::from_mode(mode)))
            .map_err(SiteError::io("writing", &path))
    };
    lay("usr/share/doc/neco/flaw", &format!("{flaw:?}\n").repeat(1000), 0o644)?;
    lay("DEBIAN/md5sums", "", 0o644)?;
    if let Some(control) = flaw.control(version, text) {
        lay("DEBIAN/control", &control, 0o644)?;
    }
    if let Some(script) = flaw.script() {
        lay(
            &format!("DEBIAN/{script}"),
            &format!("#!/bin/sh\necho '{COMPLAINT}' >&2\nexit 1\n"),
            0o755,
        )?;
    }
    let program = "dpkg-deb";
    let output = Command::new(program)
        .args(["--root-owner-group", "-Zgzip", "--nocheck", "--build"])
        .args([tree.path(), deb])
        .stdin(Stdio::null())
        .output()
        .map_err(|source| SiteError::Spawn { program: program.to_owned(), source })?;
    if output.status.success() {
        return spoil(deb, flaw);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(SiteError::Spawn { program: program.to_owned(), source: std::io::Error::other(said) })
}

/// Spoils a package that was built right.
fn spoil(deb: &Path, flaw: Flaw) -> Result<(), SiteError> {
    let mut bytes = std::fs::read(deb).map_err(SiteError::io("reading", deb))?;
    match flaw {
        Flaw::NoPackage => bytes = b"This was a package once.\n".repeat(100),
        Flaw::BrokenData => {
            // The archive of the files is the last part, and its end tells whether all is right.
            let end = bytes.len();
            bytes[end - 64..].iter_mut().for_each(|byte| *byte ^= 0x55);
        }
        _ => return Ok(()),
    }
    std::fs::write(deb, bytes).map_err(SiteError::io("writing", deb))
}

#[cfg(test)]
mod tests {
    use neco_host::{Expected, Root, TrustedKeys, Unsigned, VerifyError, verify_package};
    use neco_releases::mirror::sign::{Protection, generate_key};

    use super::*;

    /// A workshop with two keys, the first of which is trusted below `root/`.
    fn workshop() -> (tempfile::TempDir, [SigningKey; 2], TrustedKeys) {
        let dir = tempfile::tempdir().expect("a directory");
        let trusted = dir.path().join("root/etc/neco/release-keys");
        std::fs::create_dir_all(&trusted).expect("room");
        let key = |name: &str, public: PathBuf| {
            let secret = dir.path().join(name);
            generate_key(&secret, &public, &Protection::Unencrypted).expect("a key");
            SigningKey::load(&secret, None).expect("its own form")
        };
        let keys = [key("a.key", trusted.join("a.pub")), key("b.key", dir.path().join("b.pub"))];
        let root = Root::new(dir.path().join("root")).expect("absolute");
        let known = TrustedKeys::load(&root).expect("readable");
        (dir, keys, known)
    }

    #[tokio::test]
    async fn each_flaw_is_the_one_that_verification_names() {
        let (dir, [trusted, other], known) = workshop();
        let keys = Keys { trusted: &trusted, other: &other };
        let version: NecoVersion = "2026.11.21-40152".parse().expect("a version");
        let mut found = Vec::new();
        for flaw in [
            Flaw::Hollow,
            Flaw::Unsigned,
            Flaw::OtherBits,
            Flaw::OtherKey,
            Flaw::OtherName,
            Flaw::OtherVersion,
            Flaw::OtherArchitecture,
            Flaw::NoPackage,
            Flaw::NoControl,
            Flaw::NoVersion,
            Flaw::NoArchitecture,
            // What shows only when it is installed.
            Flaw::BrokenData,
            Flaw::Preinst,
            Flaw::Postinst,
        ] {
            let place = tempfile::tempdir_in(dir.path()).expect("a directory");
            let files = make(place.path(), &version, flaw, &keys).expect("a package");
            let (deb, signatures) = files.split_first().expect("a package");
            let expected = Expected::neco(version.clone());
            let verified =
                verify_package(deb, signatures, &known, &expected, Unsigned::Refuse).await;
            found.push(match verified {
                Ok(_) => "nothing",
                Err(VerifyError::Unsigned { .. }) => "no signature",
                Err(VerifyError::Signature { .. }) => "signature",
                Err(VerifyError::Control { field, .. }) => field,
                Err(VerifyError::NotADeb { why, .. }) => {
                    // A missing field is named with the file it is missing in.
                    let known =
                        ["not a Debian format archive", "'Version'", "control'", "no Architecture"];
                    known
                        .into_iter()
                        .find(|known| why.contains(known))
                        .unwrap_or_else(|| panic!("{why}"))
                }
                Err(error) => panic!("{flaw:?}: {error}"),
            });
        }
        let verified = ["nothing", "no signature", "signature", "signature"];
        let control = ["Package", "Version", "Architecture"];
        let no_package =
            ["not a Debian format archive", "control'", "'Version'", "no Architecture"];
        let later = ["nothing"; 3];
        let expected = [&verified[..], &control[..], &no_package[..], &later[..]].concat();
        assert_eq!(found, expected);
    }
}
