//! Packages, keys and signatures made on the spot.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod child;
pub(crate) mod dpkg;
pub(crate) mod workshop;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use minisign::KeyPair;
use neco_host::{Expected, Root, TrustedKeys, Unsigned, VerifiedPackage, verify_package};
use neco_schema::NecoVersion;

/// A temporary directory with a root in it.
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) root: Root,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("root");
        std::fs::create_dir(&root).expect("room");
        Self { root: Root::new(root).expect("an absolute path"), dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn trust(&self, keys: &KeyPair, name: &str) {
        let dir = self.root.join("/etc/neco/release-keys");
        std::fs::create_dir_all(&dir).expect("room");
        let text = keys.pk.to_box().expect("a key").to_string();
        std::fs::write(dir.join(format!("{name}.pub")), text).expect("room");
    }

    pub(crate) fn revoke(&self, id: &str) {
        let dir = self.root.join("/usr/share/neco/release-keys");
        std::fs::create_dir_all(&dir).expect("room");
        std::fs::write(dir.join("revoked"), format!("{id} # lost\n")).expect("room");
    }

    pub(crate) fn keys(&self) -> TrustedKeys {
        TrustedKeys::load(&self.root).expect("good keys")
    }
}

/// A package to be built.
pub(crate) struct Deb<'a> {
    pub(crate) package: &'a str,
    pub(crate) version: &'a str,
    pub(crate) architecture: &'a str,
    /// Path, content and mode of each file.
    pub(crate) files: &'a [(&'a str, &'a str, u32)],
    /// Further lines of its control file.
    pub(crate) control: &'a str,
    /// Name and text of each maintainer script.
    pub(crate) scripts: &'a [(&'a str, &'a str)],
}

impl Default for Deb<'_> {
    fn default() -> Self {
        Self {
            package: "neco",
            version: "1.0.0-1",
            architecture: "amd64",
            files: &[],
            control: "",
            scripts: &[],
        }
    }
}

impl Deb<'_> {
    /// Builds it in `dir`.
    pub(crate) fn build(&self, dir: &Path) -> PathBuf {
        let Self { package, version, architecture, control, .. } = self;
        let name = format!("{package}_{version}_{architecture}.deb");
        let tree = dir.join(format!("{name}.tree"));
        let write = |path: &str, text: &str, mode: u32| {
            let path = tree.join(path.trim_start_matches('/'));
            let mut parent = path.parent().expect("a parent").to_owned();
            std::fs::create_dir_all(&parent).expect("room");
            // dpkg-deb wants a control directory that others may enter.
            while parent.starts_with(&tree) {
                let mode = std::fs::Permissions::from_mode(0o755);
                std::fs::set_permissions(&parent, mode).expect("ours");
                parent.pop();
            }
            std::fs::write(&path, text).expect("room");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("ours");
        };
        let control = format!(
            "Package: {package}\nVersion: {version}\nArchitecture: {architecture}\n\
             Maintainer: Neco <neco@example.com>\n{control}Description: made by a test\n"
        );
        write("DEBIAN/control", &control, 0o644);
        for (path, text, mode) in self.files {
            write(path, text, *mode);
        }
        for (name, text) in self.scripts {
            write(&format!("DEBIAN/{name}"), text, 0o755);
        }
        let deb = dir.join(&name);
        let output = Command::new("dpkg-deb")
            .args(["--root-owner-group", "-b", "-Zzstd", "-z1"])
            .args([&tree, &deb])
            .output()
            .expect("dpkg-deb is part of every Debian");
        assert!(output.status.success(), "{output:?}");
        std::fs::remove_dir_all(&tree).expect("ours");
        deb
    }
}

pub(crate) fn version(text: &str) -> NecoVersion {
    text.parse().expect("a version")
}

pub(crate) fn key_pair() -> KeyPair {
    KeyPair::generate_unencrypted_keypair().expect("random numbers")
}

/// The id of a key as minisign prints it.
pub(crate) fn key_id(keys: &KeyPair) -> String {
    let id = keys.pk.keynum().try_into().expect("eight bytes");
    format!("{:016X}", u64::from_le_bytes(id))
}

/// Signs the file at `path`, with the signature in `FILE.minisig<suffix>`.
pub(crate) fn sign(path: &Path, keys: &KeyPair, comment: &str, suffix: &str) -> PathBuf {
    let data = std::fs::File::open(path).expect("there");
    let signature =
        minisign::sign(Some(&keys.pk), &keys.sk, data, Some(comment), None).expect("signed");
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".minisig{suffix}"));
    std::fs::write(&name, signature.to_string()).expect("room");
    name.into()
}

/// Builds, signs and verifies a package.
pub(crate) async fn verified(place: &Place, deb: &Deb<'_>) -> VerifiedPackage {
    let keys = key_pair();
    place.trust(&keys, "test");
    let path = deb.build(place.dir.path());
    let expected =
        Expected { package: deb.package.to_owned(), ..Expected::neco(version(deb.version)) };
    let signature = sign(&path, &keys, &expected.trusted_comment(), "");
    let keys = place.keys();
    verify_package(&path, &[signature], &keys, &expected, Unsigned::Refuse)
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}
