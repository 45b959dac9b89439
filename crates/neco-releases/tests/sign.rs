//! Keys and signatures, judged by other implementations of minisign.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use minisign_verify::{PublicKey, Signature};
use neco_base::Secret;
use neco_releases::mirror::MirrorError;
use neco_releases::mirror::sign::{Protection, SigningKey, generate_key, sign};
use neco_schema::NecoVersion;

const COMMENT: &str = "package=neco version=2026.11.21-40152 arch=amd64";

struct Case {
    dir: tempfile::TempDir,
    deb: PathBuf,
}

impl Case {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let deb = dir.path().join("neco_2026.11.21-40152_amd64.deb");
        std::fs::write(&deb, vec![7; 200_000]).expect("written");
        Self { dir, deb }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn key(&self, name: &str) -> SigningKey {
        let (secret, public) = (self.path(name), self.path(&format!("{name}.pub")));
        let id = generate_key(&secret, &public, &Protection::Unencrypted).expect("a key");
        let key = SigningKey::load(&secret, None).expect("a key");
        assert_eq!(key.id(), id);
        key
    }
}

fn version() -> NecoVersion {
    "2026.11.21-40152".parse().expect("a version")
}

fn verify(public: &Path, file: &Path, signature: &Path) -> Result<String, minisign_verify::Error> {
    let key = PublicKey::from_file(public)?;
    let signature = Signature::from_file(signature)?;
    // Streaming takes pre-hashed signatures only.
    let mut verifier = key.verify_stream(&signature)?;
    std::fs::read(file).expect("there").chunks(65536).for_each(|chunk| verifier.update(chunk));
    verifier.finalize()?;
    Ok(signature.trusted_comment().to_owned())
}

/// Debian's tool; `None`, and a word about it, where it is not installed.
fn minisign(arguments: &[&str]) -> Option<std::process::Output> {
    match Command::new("minisign").args(arguments).output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("minisign is not installed: apt-get install minisign; skipped");
            None
        }
        Err(error) => panic!("minisign: {error}"),
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

#[test]
fn a_signature_is_verified_by_the_library_that_workers_use() {
    let case = Case::new();
    let key = case.key("key");
    let signed = sign(&case.deb, &key, &version()).expect("signed");
    assert_eq!(signed.path, case.path("neco_2026.11.21-40152_amd64.deb.minisig"));
    assert_eq!(signed.trusted_comment, COMMENT);
    let public = case.path("key.pub");
    assert_eq!(verify(&public, &case.deb, &signed.path).as_deref().ok(), Some(COMMENT));
    assert_eq!(std::fs::read_to_string(&public).ok(), key.public_key().ok());

    std::fs::write(&case.deb, vec![8; 200_000]).expect("written");
    assert!(verify(&public, &case.deb, &signed.path).is_err(), "other bytes");
    std::fs::write(&case.deb, vec![7; 200_000]).expect("written");
    let forged = std::fs::read_to_string(&signed.path).expect("there").replace("40152", "40153");
    std::fs::write(&signed.path, forged).expect("written");
    assert!(verify(&public, &case.deb, &signed.path).is_err(), "another comment");
    case.key("other");
    assert!(verify(&case.path("other.pub"), &case.deb, &signed.path).is_err(), "another key");
}

#[test]
fn a_signature_is_verified_by_the_tool_of_debian() {
    let case = Case::new();
    let key = case.key("key");
    let signed = sign(&case.deb, &key, &version()).expect("signed");
    let verify = |public: &str| {
        let public = case.path(public);
        let (deb, signature) = (text(&case.deb), text(&signed.path));
        minisign(&["-V", "-H", "-p", text(&public), "-m", deb, "-x", signature])
    };
    let Some(output) = verify("key.pub") else { return };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    assert!(said.contains(&format!("Trusted comment: {COMMENT}")), "{said}");
    case.key("other");
    let refused = verify("other.pub").expect("installed");
    assert!(!refused.status.success());
    // It names the key that signed as we do, but leaves leading zeros out.
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    let id = key.id().to_string();
    assert!(said.contains(&format!(" is {}\n", id.trim_start_matches('0'))), "{said}");
}

#[test]
fn a_key_that_the_tool_of_debian_made_signs_here() {
    let case = Case::new();
    let (secret, public) = (case.path("tool.key"), case.path("tool.pub"));
    let made = minisign(&["-G", "-W", "-p", text(&public), "-s", text(&secret)]);
    let Some(made) = made else { return };
    assert!(made.status.success(), "{made:?}");
    let key = SigningKey::load(&secret, None).expect("a key");
    let signed = sign(&case.deb, &key, &version()).expect("signed");
    assert_eq!(verify(&public, &case.deb, &signed.path).as_deref().ok(), Some(COMMENT));
}

#[test]
fn an_encrypted_key_opens_with_its_password_alone() {
    let case = Case::new();
    let (secret, public) = (case.path("key"), case.path("key.pub"));
    let password = Secret::from("correct horse");
    let id =
        generate_key(&secret, &public, &Protection::Password(password.clone())).expect("a key");
    let problem = |password: Option<&Secret>| {
        let error = SigningKey::load(&secret, password).expect_err("closed").to_string();
        assert!(!error.contains("horse") && error.contains("/key: "), "{error}");
        error
    };
    assert!(problem(None).contains("is encrypted"));
    assert!(problem(Some(&Secret::from("wrong horse"))).contains("does not open"));
    let key = SigningKey::load(&secret, Some(&password)).expect("a key");
    assert_eq!(key.id(), id);
    let signed = sign(&case.deb, &key, &version()).expect("signed");
    assert_eq!(verify(&public, &case.deb, &signed.path).as_deref().ok(), Some(COMMENT));
}

#[test]
fn a_secret_key_is_its_owners_alone_and_never_overwritten() {
    let case = Case::new();
    let key = case.key("key");
    let secret = case.path("key");
    let mode = std::fs::metadata(&secret).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let content = std::fs::read(&secret).expect("there");
    for (secret, public) in [("key", "new.pub"), ("new", "key.pub"), ("same", "same")] {
        let (secret, public) = (case.path(secret), case.path(public));
        let error = generate_key(&secret, &public, &Protection::Unencrypted).expect_err("exists");
        assert!(matches!(error, MirrorError::Key { .. }), "{error}");
    }
    assert_eq!(std::fs::read(&secret).expect("there"), content);
    assert!(!case.path("new").exists(), "half a pair is left");
    let shown = format!("{key:?}");
    assert!(shown.len() < 80 && shown.contains("SigningKey"), "{shown}");
}

#[test]
fn a_second_key_signs_beside_the_first_and_the_same_key_in_its_place() {
    let case = Case::new();
    let (first, second) = (case.key("first"), case.key("second"));
    let one = sign(&case.deb, &first, &version()).expect("signed");
    let two = sign(&case.deb, &second, &version()).expect("signed");
    let name = format!("neco_2026.11.21-40152_amd64.deb.minisig.{}", second.id());
    assert_eq!(two.path, case.path(&name));
    assert_eq!(second.id().to_string().len(), 16);
    for (public, signed) in [("first.pub", &one), ("second.pub", &two)] {
        let found = verify(&case.path(public), &case.deb, &signed.path);
        assert_eq!(found.as_deref().ok(), Some(COMMENT), "{public}");
    }
    std::fs::write(&case.deb, vec![9; 10]).expect("written");
    for (key, public, before) in [(&first, "first.pub", &one), (&second, "second.pub", &two)] {
        let again = sign(&case.deb, key, &version()).expect("signed");
        assert_eq!(again.path, before.path);
        assert!(verify(&case.path(public), &case.deb, &again.path).is_ok());
    }
}

#[test]
fn what_cannot_be_signed_is_refused() {
    let case = Case::new();
    let key = case.key("key");
    let other = "2026.11.21-40153".parse().expect("a version");
    let error = sign(&case.deb, &key, &other).expect_err("another version");
    assert!(matches!(error, MirrorError::OtherVersion { .. }), "{error}");
    let error = sign(&case.path("x.deb"), &key, &version()).expect_err("no such name");
    assert!(matches!(error, MirrorError::Name { .. }), "{error}");
    for (content, says) in
        [("", "no minisign secret key"), ("untrusted comment: x\nAAAA\n", "no minisign secret key")]
    {
        std::fs::write(case.path("broken"), content).expect("written");
        let error = SigningKey::load(&case.path("broken"), None).expect_err("broken").to_string();
        assert!(error.contains(says), "{error}");
    }
    let public = case.path("key.pub");
    assert!(SigningKey::load(&public, None).is_err(), "a public key signs nothing");
}
