//! `key` and `mirror` work on files alone.

use std::os::unix::fs::PermissionsExt;

use crate::harness::Bench;

#[tokio::test]
async fn a_new_key_is_private_and_overwrites_nothing() {
    let bench = Bench::new();
    let path = bench.root.path().join("release.key");
    let text = path.to_str().expect("a path");
    let run = bench.run(&["key", "new", text, "--no-password"]).await;
    assert_eq!(run.code, 0, "{}", run.err);
    assert_eq!(std::fs::metadata(&path).expect("a key").permissions().mode() & 0o777, 0o600);
    assert!(bench.root.path().join("release.key.pub").exists());
    let before = std::fs::read(&path).expect("a key");

    let again = bench.run(&["key", "new", text, "--no-password"]).await;
    assert_eq!(again.code, 1);
    assert!(again.err.contains("is there already"), "{}", again.err);
    assert_eq!(std::fs::read(&path).expect("a key"), before);
}

#[tokio::test]
async fn a_key_without_any_password_must_be_asked_for() {
    let bench = Bench::new();
    let path = bench.root.path().join("release.key");
    let run = bench.run(&["key", "new", path.to_str().expect("a path")]).await;
    assert_eq!(run.code, 64, "an empty standard input is no password");
    assert!(!path.exists());
}

#[tokio::test]
async fn a_package_is_signed_published_and_listed() {
    let mut bench = Bench::new();
    bench.input = "a password\n";
    let dir = bench.root.path().to_owned();
    let path = |name: &str| dir.join(name).to_str().expect("a path").to_owned();
    let key = path("release.key");
    assert_eq!(bench.run(&["key", "new", &key]).await.code, 0);

    let deb = path("neco_2026.11.21-40152_amd64.deb");
    std::fs::write(
        &deb,
        b"!<arch>\ndebian-binary   0           0     0     100644  4         `\n2.0\n",
    )
    .expect("a package");
    let unsigned = bench.run(&["mirror", "add", &path("first"), &deb]).await;
    assert_eq!(unsigned.code, 0, "{}", unsigned.err);
    assert!(unsigned.err.contains("not signed"), "{}", unsigned.err);

    let run = bench.run(&["mirror", "sign", &deb, "--key", &key]).await;
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(
        run.out.trim_end().ends_with("package=neco version=2026.11.21-40152 arch=amd64"),
        "{}",
        run.out
    );
    let run = bench.run(&["mirror", "add", &path("mirror"), &deb]).await;
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    let again = bench.run(&["mirror", "add", &path("mirror"), &deb]).await;
    assert_eq!(again.code, 1);

    let list = bench.run(&["mirror", "list", &path("mirror"), "--output=json"]).await.json();
    let release = &list["releases"][0];
    assert_eq!(
        (&release["tag"], &release["signed"]),
        (&"release-2026.11.21-40152".into(), &true.into())
    );
    let list = bench.run(&["mirror", "list", &path("mirror")]).await;
    assert!(list.out.contains("latest"), "{}", list.out);

    bench.input = "another password\n";
    let wrong = bench.run(&["mirror", "sign", &deb, "--key", &key]).await;
    assert_eq!(wrong.code, 1);
    assert!(!wrong.err.contains("another password"), "{}", wrong.err);
}

#[tokio::test]
async fn a_rehearsal_names_the_files_and_writes_none() {
    let bench = Bench::new();
    let dir = bench.root.path().to_owned();
    let path = |name: &str| dir.join(name).to_str().expect("a path").to_owned();
    let listing = || {
        let entries = std::fs::read_dir(&dir).expect("a folder").flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        names.sort();
        names
    };
    let (key, deb) = (path("release.key"), path("neco_2026.11.21-40152_amd64.deb"));
    std::fs::write(&deb, b"!<arch>\n").expect("a package");

    let before = listing();
    let run = bench.run(&["key", "new", &key, "--dry-run"]).await;
    assert_eq!((run.code, run.err.as_str()), (0, ""), "no password is asked for");
    assert_eq!(
        run.out,
        format!("would be done, and was not:\n  write  {key}\n  write  {key}.pub\n")
    );
    assert_eq!(listing(), before);
    assert_eq!(bench.run(&["key", "new", &key, "--no-password"]).await.code, 0);

    let before = listing();
    let run = bench.run(&["mirror", "sign", &deb, "--key", &key, "--dry-run"]).await;
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(run.out.ends_with(&format!("  write  {deb}.minisig\n")), "{}", run.out);
    let add = ["mirror", "add", &path("m"), &deb, "--sign", &key, "--dry-run", "--output=json"];
    let planned = bench.run(&add).await.json();
    let folder = path("m/release-2026.11.21-40152");
    let name = "neco_2026.11.21-40152_amd64.deb";
    let files =
        [format!("{folder}/{name}"), format!("{folder}/{name}.minisig"), format!("{deb}.minisig")];
    assert_eq!(planned["outcome"], "planned");
    assert_eq!(planned["files"], serde_json::json!(files));
    assert_eq!(listing(), before);

    let mut add = Vec::from(add);
    add.retain(|word| *word != "--dry-run");
    assert_eq!(bench.run(&add).await.code, 0);
    assert!(files.iter().all(|file| std::path::Path::new(file).exists()));
    add.push("--dry-run");
    let again = bench.run(&add).await;
    assert_eq!(again.code, 1, "a rehearsal finds the same faults");
}

#[tokio::test]
async fn what_is_no_package_is_named() {
    let bench = Bench::new();
    let key = bench.root.path().join("k");
    let key = key.to_str().expect("a path");
    assert_eq!(bench.run(&["key", "new", key, "--no-password"]).await.code, 0);
    let run = bench.run(&["mirror", "sign", "/tmp/other_1_amd64.deb", "--key", key]).await;
    assert_eq!(run.code, 1);
    assert!(run.err.contains("neco_VERSION_amd64.deb"), "{}", run.err);
    let run = bench.run(&["mirror", "serve", "/nonexistent"]).await;
    assert_eq!(run.code, 1);
    assert!(run.err.contains("no directory"), "{}", run.err);
}
