//! Packages that are not what they should be, for tests of who notices.

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
}

impl Flaw {
    /// The package and the version that the control file names.
    fn named(self, version: &NecoVersion) -> (&'static str, String) {
        match self {
            Self::OtherName => ("coil", version.to_string()),
            Self::OtherVersion => ("neco", format!("{version}.1")),
            _ => ("neco", version.to_string()),
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
    let (name, said) = flaw.named(version);
    build(workshop, &deb, name, &said, "It holds nothing.")?;
    match flaw {
        Flaw::Unsigned => return Ok(vec![deb]),
        Flaw::OtherKey => drop(sign(&deb, keys.other, version)?),
        Flaw::OtherBits => {
            sign(&deb, keys.trusted, version)?;
            build(workshop, &deb, name, &said, "It holds nothing, in other words.")?;
        }
        Flaw::Hollow | Flaw::OtherName | Flaw::OtherVersion => {
            drop(sign(&deb, keys.trusted, version)?);
        }
    }
    let signature = PathBuf::from(format!("{}.minisig", deb.display()));
    Ok(vec![deb, signature])
}

/// Builds a package without files.
fn build(
    workshop: &Path,
    deb: &Path,
    name: &str,
    version: &str,
    text: &str,
) -> Result<(), SiteError> {
    let tree = tempfile::tempdir_in(workshop).map_err(SiteError::io("making", workshop))?;
    let control = tree.path().join("DEBIAN/control");
    std::fs::create_dir_all(tree.path().join("DEBIAN"))
        .and_then(|()| {
            let fields = [
                format!("Package: {name}"),
                format!("Version: {version}"),
                "Architecture: amd64".to_owned(),
                "Maintainer: Neco <neco@example.org>".to_owned(),
                format!("Description: a package for tests\n {text}\n"),
            ];
            std::fs::write(&control, fields.join("\n"))
        })
        .map_err(SiteError::io("writing", &control))?;
    let program = "dpkg-deb";
    let output = Command::new(program)
        .args(["--root-owner-group", "-Zgzip", "--build"])
        .args([tree.path(), deb])
        .stdin(Stdio::null())
        .output()
        .map_err(|source| SiteError::Spawn { program: program.to_owned(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(SiteError::Spawn { program: program.to_owned(), source: std::io::Error::other(said) })
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
                Err(error) => panic!("{flaw:?}: {error}"),
            });
        }
        let expected = ["nothing", "no signature", "signature", "signature", "Package", "Version"];
        assert_eq!(found, expected);
    }
}
