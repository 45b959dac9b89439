//! What a package must be before anything of it runs, and how each refusal reads.

mod common;

use std::path::{Path, PathBuf};

use common::{Deb, Place, key_id, key_pair, sign, version};
use neco_host::{Expected, Rejection, Unsigned, VerifiedPackage, VerifyError, verify_package};
use neco_schema::PackageRef;

const COMMENT: &str = "package=neco version=1.0.0-1 arch=amd64";

fn expected() -> Expected {
    Expected::neco(version("1.0.0-1"))
}

async fn verify(
    place: &Place,
    path: &Path,
    signatures: &[PathBuf],
    expected: &Expected,
) -> Result<VerifiedPackage, VerifyError> {
    verify_package(path, signatures, &place.keys(), expected, Unsigned::Refuse).await
}

fn rejections(result: Result<VerifiedPackage, VerifyError>) -> Vec<Rejection> {
    match result {
        Err(VerifyError::Signature { rejections, .. }) => rejections,
        other => panic!("no refused signature: {other:?}"),
    }
}

#[tokio::test]
async fn a_package_that_is_all_right_becomes_a_witness() {
    let place = Place::new();
    let keys = key_pair();
    place.trust(&keys, "a");
    let path = Deb::default().build(place.dir.path());
    let signature = sign(&path, &keys, COMMENT, "");
    let package =
        verify(&place, &path, std::slice::from_ref(&signature), &expected()).await.expect("right");
    assert_eq!(package.path(), path);
    assert_eq!((package.package(), package.version()), ("neco", &version("1.0.0-1")));
    assert_eq!(package.key().map(|id| id.to_string()), Some(key_id(&keys)));
    package.still_intact().expect("nobody touched it");
    let sums = std::process::Command::new("sha256sum").arg(&path).output().expect("coreutils");
    assert!(sums.stdout.starts_with(package.sha256().as_bytes()), "{sums:?}");

    let pin = PackageRef {
        file: "neco_1.0.0-1_amd64.deb".to_owned(),
        size: package.size(),
        sha256: package.sha256().to_uppercase(),
        unknown: Default::default(),
    };
    verify(&place, &path, &[signature], &expected().pinned(&pin)).await.expect("right");
}

#[tokio::test]
async fn a_package_that_changes_after_verification_is_noticed() {
    let place = Place::new();
    let package = common::verified(&place, &Deb::default()).await;
    let good = std::fs::read(package.path()).expect("there");
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    std::fs::write(package.path(), &bad).expect("room");
    assert!(matches!(package.still_intact(), Err(VerifyError::Digest { .. })));
    bad.push(0);
    std::fs::write(package.path(), &bad).expect("room");
    assert!(matches!(package.still_intact(), Err(VerifyError::Size { .. })));
    std::fs::remove_file(package.path()).expect("there");
    assert!(matches!(package.still_intact(), Err(VerifyError::File(_))));
}

#[tokio::test]
async fn size_and_digest_of_the_request_are_asked_first() {
    let place = Place::new();
    let path = Deb::default().build(place.dir.path());
    let size = path.metadata().expect("there").len();
    let wrong = |size, sha256: &str| Expected {
        size: Some(size),
        sha256: Some(sha256.to_owned()),
        ..expected()
    };
    let digest = "0".repeat(64);
    let error = verify(&place, &path, &[], &wrong(size + 1, &digest)).await.expect_err("size");
    assert!(matches!(error, VerifyError::Size { found, .. } if found == size), "{error}");
    assert!(error.to_string().contains(&format!("has {size} bytes, but {} were", size + 1)));
    let error = verify(&place, &path, &[], &wrong(size, &digest)).await.expect_err("digest");
    assert!(
        matches!(&error, VerifyError::Digest { expected, .. } if *expected == digest),
        "{error}"
    );
}

#[tokio::test]
async fn a_signature_must_fit_key_bits_and_comment() {
    let place = Place::new();
    let (trusted, stranger) = (key_pair(), key_pair());
    place.trust(&trusted, "a");
    let path = Deb::default().build(place.dir.path());
    let reject = async |signature: PathBuf| {
        let found = rejections(verify(&place, &path, &[signature], &expected()).await);
        let [rejection] = <[_; 1]>::try_from(found).expect("one");
        rejection
    };

    let rejection = reject(sign(&path, &stranger, COMMENT, "")).await;
    assert!(matches!(&rejection, Rejection::UnknownKey { trusted: ids, .. } if ids.len() == 1));
    let text = rejection.to_string();
    assert!(text.contains(&key_id(&stranger)) && text.contains(&key_id(&trusted)), "{text}");

    for comment in [
        "package=neco version=1.0.0-2 arch=amd64",
        "package=neco version=1.0.0-1 arch=arm64",
        "package=other version=1.0.0-1 arch=amd64",
        "package=neco version=1.0.0-1 arch=amd64 ",
        "timestamp:1 package=neco version=1.0.0-1 arch=amd64",
        "",
    ] {
        let rejection = reject(sign(&path, &trusted, comment, "")).await;
        assert!(
            matches!(&rejection, Rejection::Comment { found, .. } if found == comment.trim_end()
                || found == comment),
            "{rejection}"
        );
    }

    let other = Deb { version: "1.0.0-2", ..Deb::default() }.build(place.dir.path());
    let rejection = reject(sign(&other, &trusted, COMMENT, "")).await;
    assert!(matches!(rejection, Rejection::Invalid { .. }), "{rejection}");

    // The comment is signed too: changing it in the file breaks the signature.
    let signature = sign(&path, &trusted, "package=neco version=0.9 arch=amd64", "");
    let text = std::fs::read_to_string(&signature).expect("there");
    std::fs::write(&signature, text.replace("version=0.9", "version=1.0.0-1")).expect("room");
    assert!(matches!(reject(signature).await, Rejection::Invalid { .. }));

    // The old form, over the file instead of its hash: "Ed" instead of "ED".
    let signature = sign(&path, &trusted, COMMENT, "");
    let text = std::fs::read_to_string(&signature).expect("there");
    let old: Vec<_> = text
        .lines()
        .enumerate()
        .map(|(at, line)| if at == 1 { line.replacen("RU", "RW", 1) } else { line.to_owned() })
        .collect();
    assert_ne!(old.join("\n"), text.trim_end());
    std::fs::write(&signature, old.join("\n")).expect("room");
    assert!(matches!(reject(signature).await, Rejection::NotPreHashed { .. }));

    for text in [&b""[..], b"<html>404</html>", b"a\nb\nc\nd\n", b"\xff\xff", &[b'a'; 100_000]] {
        let signature = place.path("bad.minisig");
        std::fs::write(&signature, text).expect("room");
        assert!(matches!(reject(signature).await, Rejection::Malformed { .. }));
    }
}

#[tokio::test]
async fn a_revoked_key_is_named_whatever_else_is_trusted() {
    let place = Place::new();
    let (dead, living) = (key_pair(), key_pair());
    place.trust(&dead, "dead");
    place.trust(&living, "living");
    place.revoke(&key_id(&dead).to_lowercase());
    let path = Deb::default().build(place.dir.path());
    let signature = sign(&path, &dead, COMMENT, "");
    let found =
        rejections(verify(&place, &path, std::slice::from_ref(&signature), &expected()).await);
    let [Rejection::RevokedKey { key, by, .. }] = &found[..] else { panic!("{found:?}") };
    assert_eq!(key.to_string(), key_id(&dead));
    assert!(by.ends_with("usr/share/neco/release-keys/revoked"));
    // Not even where unsigned packages are allowed.
    let only = [signature.clone()];
    let allowed = verify_package(&path, &only, &place.keys(), &expected(), Unsigned::Allow).await;
    assert!(matches!(rejections(allowed)[..], [Rejection::RevokedKey { .. }]));
    // A second signature, as a rotation release carries it, is enough.
    let second = sign(&path, &living, COMMENT, &format!(".{}", key_id(&living)));
    let package = verify(&place, &path, &[signature, second], &expected()).await.expect("right");
    assert_eq!(package.key().map(|id| id.to_string()), Some(key_id(&living)));
}

#[tokio::test]
async fn every_signature_that_was_tried_stands_in_the_refusal() {
    let place = Place::new();
    let (one, other) = (key_pair(), key_pair());
    place.trust(&one, "one");
    let path = Deb::default().build(place.dir.path());
    let signatures = [sign(&path, &one, "else", ""), sign(&path, &other, COMMENT, ".2")];
    let error = verify(&place, &path, &signatures, &expected()).await.expect_err("neither fits");
    let text = error.to_string();
    assert!(text.contains(&key_id(&one)) && text.contains(&key_id(&other)), "{text}");
    assert!(!text.contains('\n'), "{text}");
}

#[tokio::test]
async fn without_signature_or_key_a_package_is_refused_unless_allowed() {
    let place = Place::new();
    let keys = key_pair();
    let path = Deb::default().build(place.dir.path());
    let signature = [sign(&path, &keys, COMMENT, "")];
    let none = place.keys();
    let run = async |signatures: &[PathBuf], keys, unsigned| {
        verify_package(&path, signatures, keys, &expected(), unsigned).await
    };
    for signatures in [&[][..], &signature] {
        let error = run(signatures, &none, Unsigned::Refuse).await.expect_err("no key");
        assert!(matches!(error, VerifyError::NoKeys { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("/etc/neco/release-keys") && text.contains("unsigned: allow"),
            "{text}"
        );
        let package = run(signatures, &none, Unsigned::Allow).await.expect("allowed");
        assert_eq!(package.key(), None);
    }
    place.trust(&keys, "a");
    let some = place.keys();
    let error = run(&[], &some, Unsigned::Refuse).await.expect_err("unsigned");
    assert!(matches!(error, VerifyError::Unsigned { .. }), "{error}");
    assert_eq!(run(&[], &some, Unsigned::Allow).await.expect("allowed").key(), None);
    // Allowing unsigned packages does not allow wrong signatures, nor other bits or another package.
    let wrong = [sign(&path, &keys, "else", ".wrong")];
    assert!(matches!(
        run(&wrong, &some, Unsigned::Allow).await,
        Err(VerifyError::Signature { .. })
    ));
    let stranger = [sign(&path, &key_pair(), COMMENT, ".stranger")];
    assert!(matches!(
        run(&stranger, &some, Unsigned::Allow).await,
        Err(VerifyError::Signature { .. })
    ));
    let other = Expected { sha256: Some("0".repeat(64)), ..expected() };
    let result = verify_package(&path, &[], &some, &other, Unsigned::Allow).await;
    assert!(matches!(result, Err(VerifyError::Digest { .. })));
}

#[tokio::test]
async fn the_control_file_must_say_what_the_signature_says() {
    let place = Place::new();
    let keys = key_pair();
    place.trust(&keys, "a");
    for (deb, field) in [
        (Deb { package: "other", ..Deb::default() }, "Package"),
        (Deb { version: "1.0.0-2", ..Deb::default() }, "Version"),
        (Deb { architecture: "arm64", ..Deb::default() }, "Architecture"),
    ] {
        let path = deb.build(place.dir.path());
        let signature = sign(&path, &keys, COMMENT, "");
        let error = verify(&place, &path, &[signature], &expected()).await.expect_err(field);
        assert!(matches!(&error, VerifyError::Control { field: named, .. } if *named == field));
        assert!(error.to_string().contains(&format!("says {field}: ")), "{error}");
    }
}

#[tokio::test]
async fn a_signed_file_that_is_no_package_is_named() {
    let place = Place::new();
    let keys = key_pair();
    place.trust(&keys, "a");
    let deb = std::fs::read(Deb::default().build(place.dir.path())).expect("there");
    for (name, bytes) in [("text", &b"<html>"[..]), ("empty", b""), ("cut", &deb[..deb.len() / 2])]
    {
        let path = place.path(name);
        std::fs::write(&path, bytes).expect("room");
        let signature = sign(&path, &keys, COMMENT, "");
        let error = verify(&place, &path, &[signature], &expected()).await.expect_err(name);
        assert!(matches!(error, VerifyError::NotADeb { .. }), "{name}: {error:?}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
    let directory = place.dir.path().to_owned();
    let error = verify(&place, &directory, &[], &expected()).await.expect_err("a directory");
    assert!(matches!(error, VerifyError::NotADeb { .. }), "{error:?}");
    let error =
        verify(&place, &place.path("missing"), &[], &expected()).await.expect_err("missing");
    assert!(matches!(error, VerifyError::File(_)), "{error:?}");
}

#[tokio::test]
async fn a_signature_of_the_minisign_program_is_understood() {
    let place = Place::new();
    let run = |args: &[&str]| {
        std::process::Command::new("minisign")
            .args(args)
            .stdin(std::process::Stdio::null())
            .output()
    };
    let (public, secret) = (place.path("a.pub"), place.path("a.key"));
    let text = |path: &PathBuf| path.to_str().expect("text").to_owned();
    let Ok(made) = run(&["-G", "-W", "-p", &text(&public), "-s", &text(&secret)]) else {
        eprintln!("skipped: no minisign program here");
        return;
    };
    assert!(made.status.success(), "{made:?}");
    let path = Deb::default().build(place.dir.path());
    let signed =
        run(&["-S", "-s", &text(&secret), "-m", &text(&path), "-t", COMMENT]).expect("ran");
    assert!(signed.status.success(), "{signed:?}");
    let dir = place.root.join("/etc/neco/release-keys");
    std::fs::create_dir_all(&dir).expect("room");
    std::fs::copy(&public, dir.join("a.pub")).expect("room");
    let signature = PathBuf::from(format!("{}.minisig", path.display()));
    let package = verify(&place, &path, &[signature], &expected()).await.expect("right");
    let comment = std::fs::read_to_string(&public).expect("there");
    let id = package.key().expect("signed").to_string();
    // The program leaves leading zeros out.
    let printed = comment.lines().next().and_then(|line| line.split_whitespace().last());
    assert_eq!(printed, Some(id.trim_start_matches('0')), "{comment}");
}
