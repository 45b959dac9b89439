//! What every engine of [`PackageManager`] keeps: a suite to run against each.

use std::any::Any;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use neco_schema::NecoVersion;

use super::{Installed, PackageError, PackageManager};
use crate::VerifiedPackage;

/// The package that the suite installs.
pub const PACKAGE: &str = "neco-contract";

/// The configuration file of every version of it.
pub const CONFIGURATION: &str = "/etc/neco-contract.conf";

/// A machine with an engine under test, on which nothing of [`PACKAGE`] is installed. Where it is a real one, dropping the
/// bench removes what a clause left.
#[async_trait(?Send)]
pub trait Bench: Sync {
    /// The engine, which waits for the lock as long as a test may take.
    fn packages(&self) -> &dyn PackageManager;

    /// The same, which does not wait for the lock.
    fn impatient(&self) -> &dyn PackageManager;

    /// Where the files of the package appear; `None` if the engine keeps none.
    fn root(&self) -> Option<PathBuf>;

    /// Makes a package [`PACKAGE`] of this version with these [`files`] and [`CONFIGURATION`], and verifies it.
    async fn package(&self, version: &NecoVersion) -> VerifiedPackage;

    /// From now on packages of `version` cannot be got ready to run, and say so with this message; `None` ends that.
    fn fail(&self, version: &NecoVersion, message: Option<&str>);

    /// Installs a package and kills whoever gets it ready in the middle of that.
    async fn interrupt(&self, package: &VerifiedPackage);

    /// Removes what is installed and leaves its configuration.
    async fn remove(&self);

    /// Has another installer take the lock.
    async fn hold(&self) -> Held;
}

/// A lock that another installer holds; dropping this releases it.
pub struct Held {
    /// What a person needs to find the holder, such as its process id.
    pub holder: String,
    /// Releases the lock when it is dropped.
    pub guard: Box<dyn Any + Send>,
}

/// A file of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageFile {
    /// Where it appears below the root.
    pub path: String,
    /// What it holds.
    pub text: String,
    /// Its permissions.
    pub mode: u32,
}

const OLD: &str = "2026.11.20-40151";
const NEW: &str = "2026.11.21-40152";
const STAMP: &str = "/usr/share/neco-contract/VERSION";
const ONLY: &str = "/usr/share/neco-contract/only";

/// What [`PACKAGE`] of this version consists of, its configuration left out.
pub fn files(version: &NecoVersion) -> Vec<PackageFile> {
    let file = |path: &str, text: String, mode| PackageFile { path: path.to_owned(), text, mode };
    vec![
        file("/usr/bin/neco-contract", format!("#!/bin/sh\necho {version}\n"), 0o755),
        file(STAMP, format!("{version}\n"), if version.as_str() == OLD { 0o644 } else { 0o600 }),
        file(&format!("{ONLY}/{version}/file"), format!("in {version}\n"), 0o444),
    ]
}

/// Runs every clause on a machine of its own; panics at the first that is broken.
pub async fn holds<B: Bench>(new: impl Fn() -> B) {
    where_nothing_is_installed_there_is_no_version(&new()).await;
    what_was_installed_is_read_back_exactly(&new()).await;
    a_newer_version_replaces_an_older_one_and_an_older_one_a_newer(&new()).await;
    a_file_that_changed_after_it_was_verified_is_refused(&new()).await;
    a_package_that_cannot_be_got_ready_is_told_with_its_cause(&new()).await;
    what_failed_is_completed_when_its_cause_is_gone(&new()).await;
    what_was_interrupted_is_completed(&new()).await;
    the_way_back_after_a_failure_gives_the_old_package_back_whole(&new()).await;
    the_way_back_after_an_interruption_gives_the_old_package_back_whole(&new()).await;
    an_installer_waits_for_another_and_names_it_if_that_takes_too_long(&new()).await;
    of_two_installers_at_once_one_comes_after_the_other(&new()).await;
    configuration_alone_is_no_installation(&new()).await;
}

fn version(text: &str) -> NecoVersion {
    text.parse().expect("a version")
}

fn half_configured(version: &str) -> Installed {
    Installed::Broken { version: version.to_owned(), state: "half-configured".to_owned() }
}

async fn installed(bench: &impl Bench) -> Installed {
    bench.packages().installed(PACKAGE).await.expect("an answer")
}

async fn made(bench: &impl Bench, text: &str) -> VerifiedPackage {
    bench.package(&version(text)).await
}

async fn install(bench: &impl Bench, text: &str) {
    let package = made(bench, text).await;
    bench.packages().install(&package).await.unwrap_or_else(|error| panic!("{error}"));
    is_whole(bench, text).await;
}

/// This version is there, with all its files and none of another.
async fn is_whole(bench: &impl Bench, text: &str) {
    assert_eq!(installed(bench).await, Installed::Yes(version(text)));
    has_files_of(bench, text);
}

fn has_files_of(bench: &impl Bench, text: &str) {
    let Some(root) = bench.root() else { return };
    for PackageFile { path, text, mode } in files(&version(text)) {
        let path = below(&root, &path);
        let found = std::fs::read_to_string(&path);
        assert_eq!(found.as_deref().ok(), Some(&*text), "{}", path.display());
        let found = path.metadata().expect("there").permissions().mode() & 0o7777;
        assert_eq!(found, mode, "{}", path.display());
    }
    let only = std::fs::read_dir(below(&root, ONLY)).expect("there");
    let names: Vec<_> = only.map(|entry| entry.expect("readable").file_name()).collect();
    assert_eq!(names, [text], "what only another version has");
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// The package cannot be got ready; the error says so with the cause, in one line.
fn tells(error: &PackageError, text: &str, cause: &str) {
    let PackageError::Failed { package, output, now } = error else { panic!("{error:?}") };
    assert_eq!((&**package, now), (PACKAGE, &half_configured(text)));
    assert!(output.stderr.contains(cause), "{output:?}");
    let line = error.to_string();
    assert!(line.contains(cause) && line.contains("half-configured"), "{line}");
    assert!(!line.contains('\n'), "{line}");
    assert!(!error.is_transient(), "somebody has to do something");
}

async fn where_nothing_is_installed_there_is_no_version(bench: &impl Bench) {
    assert_eq!(installed(bench).await, Installed::No);
    bench.packages().repair().await.expect("nothing to complete");
    assert_eq!(installed(bench).await, Installed::No);
}

async fn what_was_installed_is_read_back_exactly(bench: &impl Bench) {
    install(bench, OLD).await;
    install(bench, OLD).await;
    let other = bench.packages().installed("neco-contract-other").await.expect("an answer");
    assert_eq!(other, Installed::No);
    bench.packages().repair().await.expect("nothing to complete");
    is_whole(bench, OLD).await;
}

async fn a_newer_version_replaces_an_older_one_and_an_older_one_a_newer(bench: &impl Bench) {
    install(bench, OLD).await;
    let site = bench.root().map(|root| below(&root, "/usr/share/neco-contract/site"));
    if let Some(site) = &site {
        std::fs::write(site, "not the package's\n").expect("writable");
    }
    install(bench, NEW).await;
    install(bench, OLD).await;
    if let Some(site) = &site {
        assert_eq!(std::fs::read_to_string(site).expect("there"), "not the package's\n");
        std::fs::remove_file(site).expect("removable");
    }
}

async fn a_file_that_changed_after_it_was_verified_is_refused(bench: &impl Bench) {
    install(bench, OLD).await;
    let package = made(bench, NEW).await;
    let good = std::fs::read(package.path()).expect("readable");
    let mut changed = good.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    for bad in [&changed[..], &good[..good.len() - 1], b""] {
        std::fs::write(package.path(), bad).expect("writable");
        let error = bench.packages().install(&package).await.expect_err("it changed");
        assert!(matches!(error, PackageError::NotVerified(_)), "{error:?}");
        assert!(!error.is_transient());
        is_whole(bench, OLD).await;
    }
    std::fs::write(package.path(), good).expect("writable");
    bench.packages().install(&package).await.expect("it is as it was");
    is_whole(bench, NEW).await;
}

async fn a_package_that_cannot_be_got_ready_is_told_with_its_cause(bench: &impl Bench) {
    install(bench, OLD).await;
    bench.fail(&version(NEW), Some("the vault is sealed"));
    let package = made(bench, NEW).await;
    for _ in 0..2 {
        let error = bench.packages().install(&package).await.expect_err("it cannot be got ready");
        tells(&error, NEW, "the vault is sealed");
        assert_eq!(installed(bench).await, half_configured(NEW));
    }
}

async fn what_failed_is_completed_when_its_cause_is_gone(bench: &impl Bench) {
    install(bench, OLD).await;
    bench.fail(&version(NEW), Some("the vault is sealed"));
    let package = made(bench, NEW).await;
    bench.packages().install(&package).await.expect_err("it cannot be got ready");
    bench.fail(&version(NEW), Some("the vault is locked"));
    let error = bench.packages().repair().await.expect_err("it still cannot");
    tells(&error, NEW, "the vault is locked");
    assert_eq!(installed(bench).await, half_configured(NEW));
    bench.fail(&version(NEW), None);
    bench.packages().repair().await.expect("the cause is gone");
    is_whole(bench, NEW).await;
}

async fn what_was_interrupted_is_completed(bench: &impl Bench) {
    // With nothing there before, and over another version.
    for text in [OLD, NEW] {
        bench.interrupt(&made(bench, text).await).await;
        assert_eq!(installed(bench).await, half_configured(text));
        for _ in 0..2 {
            bench.packages().repair().await.expect("completed");
            is_whole(bench, text).await;
        }
    }
}

async fn the_way_back_after_a_failure_gives_the_old_package_back_whole(bench: &impl Bench) {
    install(bench, OLD).await;
    bench.fail(&version(NEW), Some("the vault is sealed"));
    let package = made(bench, NEW).await;
    bench.packages().install(&package).await.expect_err("it cannot be got ready");
    install(bench, OLD).await;
    bench.packages().repair().await.expect("nothing to complete");
    is_whole(bench, OLD).await;
    bench.fail(&version(NEW), None);
    install(bench, NEW).await;
}

async fn the_way_back_after_an_interruption_gives_the_old_package_back_whole(bench: &impl Bench) {
    install(bench, OLD).await;
    bench.interrupt(&made(bench, NEW).await).await;
    install(bench, OLD).await;
    install(bench, NEW).await;
}

async fn an_installer_waits_for_another_and_names_it_if_that_takes_too_long(bench: &impl Bench) {
    let package = made(bench, OLD).await;
    let held = bench.hold().await;
    let others = async {
        for result in [bench.impatient().install(&package).await, bench.impatient().repair().await]
        {
            let error = result.expect_err("it is locked");
            assert!(matches!(error, PackageError::Locked { .. }), "{error:?}");
            assert!(error.to_string().contains(&held.holder), "no {} in: {error}", held.holder);
            assert!(error.is_transient());
        }
        // Looking needs no lock, and who waits has done nothing yet.
        assert_eq!(installed(bench).await, Installed::No);
        drop(held);
    };
    let (waited, ()) = tokio::join!(bench.packages().install(&package), others);
    waited.expect("the lock was released");
    is_whole(bench, OLD).await;
    bench.impatient().install(&package).await.expect("nobody holds the lock");
}

async fn of_two_installers_at_once_one_comes_after_the_other(bench: &impl Bench) {
    let (old, new) = (made(bench, OLD).await, made(bench, NEW).await);
    let (first, second) =
        tokio::join!(bench.packages().install(&old), bench.packages().install(&new));
    let last = match installed(bench).await {
        Installed::Yes(last) => last,
        other => panic!("{other}: {first:?}, {second:?}"),
    };
    is_whole(bench, last.as_str()).await;
    for (package, result) in [(old, first), (new, second)] {
        match result {
            Ok(()) => {}
            // It was there, but not for long.
            Err(PackageError::NotTaken { .. }) if *package.version() != last => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

async fn configuration_alone_is_no_installation(bench: &impl Bench) {
    install(bench, OLD).await;
    bench.remove().await;
    if let Some(root) = bench.root() {
        assert!(below(&root, CONFIGURATION).exists(), "it stays");
        assert!(!below(&root, STAMP).exists(), "it goes");
    }
    assert_eq!(installed(bench).await, Installed::No);
    bench.packages().repair().await.expect("nothing to complete");
    assert_eq!(installed(bench).await, Installed::No);
    install(bench, NEW).await;
}
