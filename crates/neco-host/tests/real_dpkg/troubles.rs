//! What dpkg alone does, and what the engine makes of it.

use std::path::Path;
use std::time::Duration;

use neco_host::package::contract::{Bench as _, CONFIGURATION, PACKAGE};
use neco_host::{Installed, PackageError, PackageManager as _, VerifiedPackage};
use neco_schema::NecoVersion;

use super::bench;
use super::common::dpkg::{DpkgBench, LOCKS};
use super::common::workshop::an_installation_goes_on_when_nobody_waits;
use super::common::{Deb, version};

const OLD: &str = "2026.11.20-40151";
const NEW: &str = "2026.11.21-40152";

/// Longer than any of this takes where nothing asks a question.
const NO_QUESTION: Duration = Duration::from_secs(60);

async fn installed(bench: &DpkgBench) -> Installed {
    bench.dpkg.installed(PACKAGE).await.expect("an answer")
}

fn yes(text: &str) -> Installed {
    Installed::Yes(version(text))
}

fn broken(text: &str, state: &str) -> Installed {
    Installed::Broken { version: text.to_owned(), state: state.to_owned() }
}

fn old() -> NecoVersion {
    version(OLD)
}

#[tokio::test]
#[ignore = "needs root and Debian's dpkg of a machine of its own; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn dpkg_goes_on_when_nobody_waits() {
    let bench = bench();
    an_installation_goes_on_when_nobody_waits(&bench.workshop, &bench.dpkg).await;
}

#[tokio::test]
#[ignore = "needs root and Debian's dpkg of a machine of its own; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn each_of_the_locks_of_dpkg_is_waited_for() {
    for lock in LOCKS {
        let bench = bench();
        let package = bench.package(&old()).await;
        let other = bench.lock(&[lock]);
        let impatient = async {
            let error = bench.impatient.install(&package).await.expect_err("it is locked");
            let PackageError::Locked { holder, .. } = &error else { panic!("{lock}: {error:?}") };
            assert!(holder.contains(&format!("pid {}", other.id())), "{lock}: {error}");
            assert_eq!(installed(&bench).await, Installed::No);
            drop(other);
        };
        let (waited, ()) = tokio::join!(bench.dpkg.install(&package), impatient);
        waited.expect("the lock was released");
        assert_eq!(installed(&bench).await, yes(OLD));
    }
}

/// A package with this configuration, whose script asks a question.
async fn asking(bench: &DpkgBench, text: &str, configuration: &str) -> VerifiedPackage {
    let conffiles = format!("{CONFIGURATION}\n");
    let files = [(CONFIGURATION, configuration, 0o644), ("/DEBIAN/conffiles", &*conffiles, 0o644)];
    let script = "#!/bin/sh\nif read answer; then exit 1; fi\n\
                  test \"$DEBIAN_FRONTEND\" = noninteractive\n";
    let scripts = [("postinst", script)];
    bench
        .workshop
        .build(Deb { version: text, files: &files, scripts: &scripts, ..Deb::default() })
        .await
}

async fn install_unasked(bench: &DpkgBench, package: &VerifiedPackage) {
    let installing = tokio::time::timeout(NO_QUESTION, bench.dpkg.install(package));
    installing.await.expect("nothing waits for an answer").expect("installed");
}

#[tokio::test]
#[ignore = "needs root and Debian's dpkg of a machine of its own; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn no_question_about_configuration_files_blocks_an_installation() {
    let bench = bench();
    let (old, new) = (asking(&bench, OLD, "old\n").await, asking(&bench, NEW, "new\n").await);
    let path = Path::new(CONFIGURATION);
    let text = |path: &Path| std::fs::read_to_string(path).expect("there");
    install_unasked(&bench, &old).await;
    install_unasked(&bench, &new).await;
    assert_eq!(text(path), "new\n", "what nobody changed is replaced");
    std::fs::write(path, "mine\n").expect("writable");
    install_unasked(&bench, &old).await;
    assert_eq!(text(path), "mine\n", "what somebody changed stays");
    assert_eq!(text(&path.with_extension("conf.dpkg-dist")), "old\n");
    std::fs::remove_file(path).expect("removable");
    install_unasked(&bench, &new).await;
    assert!(!path.exists(), "what somebody removed stays away");
    assert_eq!(installed(&bench).await, yes(NEW));
}

#[tokio::test]
#[ignore = "needs root and Debian's dpkg of a machine of its own; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn what_dpkg_says_about_a_failure_is_in_the_error() {
    let bench = bench();
    let control = "Depends: neco-contract-missing\n";
    let deb = Deb { version: OLD, control, ..Deb::default() };
    let package = bench.workshop.build(deb).await;
    let error = bench.dpkg.install(&package).await.expect_err("what it depends on is missing");
    let PackageError::Failed { output, now, .. } = &error else { panic!("{error:?}") };
    assert_eq!(now, &broken(OLD, "unpacked"));
    assert!(output.stdout.contains("Unpacking neco-contract"), "{output:?}");
    for line in ["dependency problems prevent configuration", "depends on neco-contract-missing"] {
        assert!(output.stderr.contains(line), "{output:?}");
    }
    let line = error.to_string();
    for part in ["neco-contract-missing is not installed", "leaving unconfigured", "unpacked"] {
        assert!(line.contains(part), "no {part} in: {line}");
    }
    assert!(!line.contains('\n'), "{line}");

    let error = bench.dpkg.repair().await.expect_err("it is missing still");
    let PackageError::Failed { package, now, .. } = &error else { panic!("{error:?}") };
    assert_eq!((&**package, now), (PACKAGE, &broken(OLD, "unpacked")));
}

#[tokio::test]
#[ignore = "needs root and Debian's dpkg of a machine of its own; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn what_is_only_unpacked_is_repaired() {
    let bench = bench();
    let package = bench.package(&old()).await;
    bench.run(&["--unpack", &package.path().to_string_lossy()]);
    assert_eq!(installed(&bench).await, broken(OLD, "unpacked"));
    let error = bench.dpkg.installed_version(PACKAGE).await.expect_err("not completely");
    assert!(matches!(error, PackageError::NotInstalled { .. }), "{error:?}");
    bench.dpkg.repair().await.expect("repaired");
    assert_eq!(installed(&bench).await, yes(OLD));
    assert_eq!(bench.dpkg.installed_version(PACKAGE).await.expect("completely"), OLD);
}

#[tokio::test]
#[ignore = "needs root and Debian's dpkg of a machine of its own; `cargo xtask dctest drivers-keep-their-contracts` runs it"]
async fn what_was_killed_before_it_was_unpacked_is_installed_again() {
    let bench = bench();
    let (first, second) = (bench.package(&old()).await, bench.package(&version(NEW)).await);
    for package in [first, second] {
        bench.kill_in("preinst", &package).await;
        let found = installed(&bench).await;
        assert!(matches!(&found, Installed::Broken { .. }), "{found}");
        bench.dpkg.repair().await.expect("nothing that could be completed");
        assert_eq!(installed(&bench).await, found, "and nothing that is called complete");
        bench.dpkg.install(&package).await.expect("mended");
        assert_eq!(installed(&bench).await, Installed::Yes(package.version().clone()));
    }
}
