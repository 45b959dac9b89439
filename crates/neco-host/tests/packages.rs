//! What every package manager promises, on the fake, on the sandbox and on real dpkg below a root of its own; and
//! what each does on a bad day.

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{Deb, Place, verified, version};
use neco_host::{
    Dpkg, DpkgOptions, FakeInstall, FakePackages, Installed, PackageError, PackageManager,
    SANDBOX_RECORD, Sandbox, VerifiedPackage,
};

const V1: &str = "2026.11.20-40151";
const V2: &str = "2026.11.21-40152";

fn yes(text: &str) -> Installed {
    Installed::Yes(version(text))
}

/// dpkg below the root of `place`, as any user.
fn dpkg(place: &Place, adjust: impl FnOnce(&mut DpkgOptions)) -> Dpkg {
    let admin = place.root.join("/var/lib/dpkg");
    for dir in ["info", "updates"] {
        std::fs::create_dir_all(admin.join(dir)).expect("room");
    }
    std::fs::write(admin.join("status"), "").expect("room");
    let mut options = DpkgOptions {
        root: Some(place.root.path().to_owned()),
        arguments: ["--force-not-root", "--force-script-chrootless", "--log=/dev/null"]
            .map(str::to_owned)
            .to_vec(),
        lock_within: Duration::from_secs(60),
        within: Duration::from_secs(300),
    };
    adjust(&mut options);
    Dpkg::new(options)
}

async fn installed(manager: &dyn PackageManager) -> Installed {
    manager.installed("neco").await.expect("an answer")
}

/// The two versions of the contract. `below` is where their files appear, if they do.
async fn contract(place: &Place, manager: &dyn PackageManager, below: Option<&Path>) {
    let one = Deb {
        version: V1,
        files: &[
            ("/usr/bin/neco-worker", "#!/bin/sh\necho 1\n", 0o755),
            ("/usr/share/neco/VERSION", "1\n", 0o644),
            ("/usr/share/neco/old/only", "in 1\n", 0o444),
        ],
        ..Deb::default()
    };
    let two = Deb {
        version: V2,
        files: &[
            ("/usr/bin/neco-worker", "#!/bin/sh\necho 2\n", 0o755),
            ("/usr/share/neco/VERSION", "2\n", 0o600),
            ("/usr/share/neco/new/only", "in 2\n", 0o644),
        ],
        ..Deb::default()
    };
    let (one, two) = (verified(place, &one).await, verified(place, &two).await);
    let look = |path: &str, wanted: Option<(&str, u32)>| {
        use std::os::unix::fs::PermissionsExt;
        let Some(below) = below else { return };
        let path = below.join(path);
        let found = std::fs::read_to_string(&path).ok();
        let mode = path.metadata().ok().map(|found| found.permissions().mode() & 0o7777);
        let found = found.as_deref().zip(mode);
        assert_eq!(found, wanted, "{}", path.display());
    };

    assert_eq!(installed(manager).await, Installed::No);
    manager.repair().await.expect("nothing to repair");

    manager.install(&one).await.expect("installed");
    assert_eq!(installed(manager).await, yes(V1));
    assert_eq!(manager.installed("other").await.expect("an answer"), Installed::No);
    look("usr/share/neco/VERSION", Some(("1\n", 0o644)));
    look("usr/share/neco/old/only", Some(("in 1\n", 0o444)));
    if let Some(below) = below {
        std::fs::write(below.join("usr/share/neco/site"), "not the package's\n").expect("room");
    }

    manager.install(&two).await.expect("upgraded");
    assert_eq!(installed(manager).await, yes(V2));
    look("usr/bin/neco-worker", Some(("#!/bin/sh\necho 2\n", 0o755)));
    look("usr/share/neco/VERSION", Some(("2\n", 0o600)));
    look("usr/share/neco/new/only", Some(("in 2\n", 0o644)));
    look("usr/share/neco/old/only", None);
    look("usr/share/neco/site", Some(("not the package's\n", 0o644)));
    if let Some(below) = below {
        assert!(!below.join("usr/share/neco/old").exists(), "an empty directory goes too");
    }

    manager.install(&two).await.expect("the same once more");
    manager.install(&one).await.expect("the way back");
    assert_eq!(installed(manager).await, yes(V1));
    look("usr/share/neco/new/only", None);
    look("usr/share/neco/VERSION", Some(("1\n", 0o644)));

    // A package that is not the verified one any more is not touched.
    let mut bytes = std::fs::read(two.path()).expect("there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(two.path(), bytes).expect("room");
    let error = manager.install(&two).await.expect_err("changed");
    assert!(matches!(error, PackageError::NotVerified(_)), "{error:?}");
    assert!(!error.is_transient());
    assert_eq!(installed(manager).await, yes(V1));
    look("usr/share/neco/VERSION", Some(("1\n", 0o644)));
}

#[tokio::test]
async fn the_fake_keeps_the_contract() {
    let fake = FakePackages::new();
    contract(&Place::new(), &fake, None).await;
    let versions: Vec<_> = fake.log().into_iter().map(|(_, version)| version.to_string()).collect();
    assert_eq!(versions, [V1, V2, V2, V1]);
}

#[tokio::test]
async fn the_sandbox_keeps_the_contract() {
    let place = Place::new();
    contract(&place, &Sandbox::new(place.root.clone()), Some(place.root.path())).await;
    let record = std::fs::read(place.root.join(SANDBOX_RECORD)).expect("a record");
    let record: serde_json::Value = serde_json::from_slice(&record).expect("json");
    assert_eq!((&record["package"], &record["version"]), (&"neco".into(), &V1.into()));
}

#[tokio::test]
async fn dpkg_keeps_the_contract() {
    let place = Place::new();
    contract(&place, &dpkg(&place, |_| {}), Some(place.root.path())).await;
}

// reference/neco-cd-core.md §12.5, row "installed version of bash; of a non-existent package".
#[tokio::test]
async fn the_version_of_any_installed_package_is_known_and_that_of_none_is_an_error() {
    let dpkg = Dpkg::system();
    let version = dpkg.installed_version("bash").await.expect("every Debian has it");
    assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{version}");
    let error = dpkg.installed_version("no-such-package-at-all").await.expect_err("absent");
    assert!(matches!(error, PackageError::NotInstalled { found: Installed::No, .. }), "{error:?}");
    assert!(error.to_string().contains("no-such-package-at-all is not installed"), "{error}");
    assert_eq!(dpkg.installed("no-such-package-at-all").await.expect("an answer"), Installed::No);
}

#[tokio::test]
async fn a_removed_package_whose_configuration_stays_is_not_installed() {
    let place = Place::new();
    let dpkg = dpkg(&place, |_| {});
    let deb = Deb {
        version: V1,
        files: &[("/etc/neco/x", "x\n", 0o644), ("/DEBIAN/conffiles", "/etc/neco/x\n", 0o644)],
        ..Deb::default()
    };
    dpkg.install(&verified(&place, &deb).await).await.expect("installed");
    let status = std::process::Command::new("dpkg")
        .arg(format!("--root={}", place.root.path().display()))
        .args([
            "--force-not-root",
            "--force-script-chrootless",
            "--log=/dev/null",
            "--remove",
            "neco",
        ])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .expect("dpkg");
    assert!(status.status.success(), "{status:?}");
    assert!(place.root.join("/etc/neco/x").exists());
    assert_eq!(installed(&dpkg).await, Installed::No);
    assert!(dpkg.installed_version("neco").await.is_err());
}

#[tokio::test]
async fn a_maintainer_script_that_fails_is_told_and_repaired_when_it_can_be() {
    let place = Place::new();
    let dpkg = dpkg(&place, |_| {});
    dpkg.install(&verified(&place, &Deb { version: V1, ..Deb::default() }).await)
        .await
        .expect("installed");
    let script = format!("#!/bin/sh\ntest -e {}\n", place.path("cured").display());
    let bad = Deb { version: V2, scripts: &[("postinst", &script)], ..Deb::default() };
    let bad = verified(&place, &bad).await;
    let error = dpkg.install(&bad).await.expect_err("its script fails");
    let PackageError::Failed { output, now, .. } = &error else { panic!("{error:?}") };
    let broken = Installed::Broken { version: V2.to_owned(), state: "half-configured".to_owned() };
    assert_eq!(now, &broken);
    assert!(output.argv.contains(&"--install".to_owned()), "{output:?}");
    assert!(output.stderr.contains("post-installation script"), "{output:?}");
    let text = error.to_string();
    assert!(text.contains("half-configured") && !text.contains('\n'), "{text}");
    assert_eq!(installed(&dpkg).await, broken);

    assert!(matches!(dpkg.repair().await, Err(PackageError::Failed { .. })));
    std::fs::write(place.path("cured"), "").expect("room");
    dpkg.repair().await.expect("cured");
    assert_eq!(installed(&dpkg).await, yes(V2));
}

#[tokio::test]
async fn a_script_that_does_not_end_is_killed_and_the_way_back_works() {
    let place = Place::new();
    let patient = dpkg(&place, |_| {});
    let good = verified(&place, &Deb { version: V1, ..Deb::default() }).await;
    patient.install(&good).await.expect("installed");
    let stuck =
        Deb { version: V2, scripts: &[("postinst", "#!/bin/sh\nsleep 600\n")], ..Deb::default() };
    let stuck = verified(&place, &stuck).await;
    let options = DpkgOptions {
        root: Some(place.root.path().to_owned()),
        arguments: ["--force-not-root", "--force-script-chrootless", "--log=/dev/null"]
            .map(str::to_owned)
            .to_vec(),
        within: Duration::from_secs(3),
        ..DpkgOptions::default()
    };
    let error = Dpkg::new(options).install(&stuck).await.expect_err("it never ends");
    assert!(matches!(error, PackageError::Command(_)), "{error:?}");
    assert_ne!(installed(&patient).await, yes(V2));
    patient.install(&good).await.expect("the way back");
    assert_eq!(installed(&patient).await, yes(V1));
}

/// A process of its own that holds dpkg's lock: locks of one process do not shut itself out.
fn hold_lock(lock: &Path) -> std::process::Child {
    let script = "import fcntl,sys\nf=open(sys.argv[1],'w')\nfcntl.lockf(f,fcntl.LOCK_EX)\n\
                  print('held',flush=True)\nsys.stdin.read()\n";
    let mut child = std::process::Command::new("python3")
        .args(["-c", script])
        .arg(lock)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("python3");
    let mut line = String::new();
    let stdout = child.stdout.as_mut().expect("piped");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).expect("held");
    assert_eq!(line, "held\n");
    child
}

#[tokio::test]
async fn a_lock_of_another_process_is_waited_for_and_then_named() {
    let place = Place::new();
    let impatient = dpkg(&place, |options| options.lock_within = Duration::ZERO);
    let patient = dpkg(&place, |_| {});
    let package = verified(&place, &Deb { version: V1, ..Deb::default() }).await;
    let mut holder = hold_lock(&place.root.join("/var/lib/dpkg/lock-frontend"));
    let error = impatient.install(&package).await.expect_err("locked");
    assert!(matches!(&error, PackageError::Locked { .. }), "{error:?}");
    assert!(error.is_transient());
    assert!(error.to_string().contains(&holder.id().to_string()), "{error}");
    assert_eq!(installed(&impatient).await, Installed::No);

    let release = async {
        tokio::task::yield_now().await;
        drop(holder.stdin.take());
    };
    let (done, ()) = tokio::join!(patient.install(&package), release);
    done.expect("the lock came free");
    holder.wait().expect("it ends with its input");
    assert_eq!(installed(&patient).await, yes(V1));
}

#[tokio::test]
async fn success_without_the_wanted_version_is_no_success() {
    let place = Place::new();
    let package = verified(&place, &Deb { version: V2, ..Deb::default() }).await;
    let fake = FakePackages::new();
    fake.set("neco", yes(V1));
    fake.next(FakeInstall::DoNothing);
    let error = fake.install(&package).await.expect_err("nothing was done");
    assert!(
        matches!(&error, PackageError::NotTaken { found, .. } if *found == yes(V1)),
        "{error:?}"
    );
    fake.next(FakeInstall::Break);
    fake.install(&package).await.expect_err("half done");
    assert!(matches!(installed(&fake).await, Installed::Broken { .. }));
    fake.repair().await.expect("repaired");
    assert_eq!(installed(&fake).await, yes(V2));
}

/// A sandbox in which the installation of `V2` over `V1` was broken off by a directory in the way.
async fn broken_sandbox() -> (Place, Sandbox, PathBuf) {
    let place = Place::new();
    let sandbox = Sandbox::new(place.root.clone());
    let files = [("/opt/a", "1\n", 0o644), ("/opt/gone", "1\n", 0o644)];
    let one = Deb { version: V1, files: &files, ..Deb::default() };
    sandbox.install(&verified(&place, &one).await).await.expect("installed");
    let obstacle = place.root.join("/opt/b");
    std::fs::create_dir_all(obstacle.join("full")).expect("room");
    let files = [("/opt/a", "2\n", 0o644), ("/opt/b", "2\n", 0o644), ("/opt/c", "2\n", 0o644)];
    let two = Deb { version: V2, files: &files, ..Deb::default() };
    let error = sandbox.install(&verified(&place, &two).await).await.expect_err("in the way");
    assert!(matches!(error, PackageError::File(_)), "{error:?}");
    let broken = Installed::Broken { version: V2.to_owned(), state: "half-installed".to_owned() };
    assert_eq!(installed(&sandbox).await, broken);
    (place, sandbox, obstacle)
}

#[tokio::test]
async fn a_sandbox_completes_what_was_broken_off() {
    let (place, sandbox, obstacle) = broken_sandbox().await;
    assert!(sandbox.repair().await.is_err(), "still in the way");
    std::fs::remove_dir_all(&obstacle).expect("there");
    sandbox.repair().await.expect("nothing in the way");
    assert_eq!(installed(&sandbox).await, yes(V2));
    for file in ["a", "b", "c"] {
        let found = std::fs::read_to_string(place.root.join(format!("/opt/{file}")));
        assert_eq!(found.expect("there"), "2\n");
    }
    assert!(!place.root.join("/opt/gone").exists());
    sandbox.repair().await.expect("nothing to repair");
}

#[tokio::test]
async fn a_sandbox_goes_back_after_what_was_broken_off() {
    let (place, sandbox, _obstacle) = broken_sandbox().await;
    let one = Deb { version: V1, files: &[("/opt/a", "1\n", 0o644)], ..Deb::default() };
    sandbox.install(&verified(&place, &one).await).await.expect("the way back");
    assert_eq!(installed(&sandbox).await, yes(V1));
    assert_eq!(std::fs::read_to_string(place.root.join("/opt/a")).expect("there"), "1\n");
    assert!(!place.root.join("/opt/gone").exists(), "no version that is there has it");
    assert!(!place.root.join("/opt/c").exists(), "of the broken version nothing stays");
}

#[tokio::test]
async fn a_sandbox_that_cannot_complete_says_so_instead_of_pretending() {
    let (place, sandbox, obstacle) = broken_sandbox().await;
    // A second attempt that dies while it unpacks: what the first had unpacked is gone.
    let bad = Deb { version: V2, ..Deb::default() };
    let bad = verified(&place, &bad).await;
    let path = place.path("garbage");
    std::fs::write(&path, "garbage").expect("room");
    let garbage = VerifiedPackage::unverified(path, "neco", version(V2)).expect("readable");
    let error = sandbox.install(&garbage).await.expect_err("no package");
    assert!(matches!(error, PackageError::Failed { .. }), "{error:?}");
    std::fs::remove_dir_all(&obstacle).expect("there");
    let error = sandbox.repair().await.expect_err("the files are gone");
    assert!(matches!(error, PackageError::NotInstalled { .. }), "{error:?}");
    sandbox.install(&bad).await.expect("a fresh installation mends it");
    assert_eq!(installed(&sandbox).await, yes(V2));
}

#[tokio::test]
async fn a_sandbox_follows_links_of_its_root_and_keeps_a_file_with_two_names() {
    let place = Place::new();
    let sandbox = Sandbox::new(place.root.clone());
    std::fs::create_dir_all(place.root.join("/usr/lib")).expect("room");
    std::os::unix::fs::symlink("usr/lib", place.root.join("/lib")).expect("a link");
    let one = Deb { version: V1, files: &[("/lib/x", "1\n", 0o644)], ..Deb::default() };
    let two = Deb { version: V2, files: &[("/usr/lib/x", "2\n", 0o644)], ..Deb::default() };
    sandbox.install(&verified(&place, &one).await).await.expect("installed");
    assert!(place.root.join("/lib").is_symlink());
    sandbox.install(&verified(&place, &two).await).await.expect("installed");
    assert_eq!(std::fs::read_to_string(place.root.join("/usr/lib/x")).expect("there"), "2\n");
    let other = Deb { package: "other", version: V1, ..Deb::default() };
    let error = sandbox.install(&verified(&place, &other).await).await.expect_err("one only");
    assert!(matches!(error, PackageError::OtherPackage { .. }), "{error:?}");
}

/// Scripts that write down how they are called in `log`; those named in `failing` fail unless the file `cured` is there.
async fn scripted(place: &Place, text: &str, failing: &[&str]) -> VerifiedPackage {
    let (log, cured) = (place.path("called"), place.path("cured"));
    let script = |name: &str| {
        let call = format!("echo \"{name} of {text}: $*\" >> {}\n", log.display());
        let end = if failing.contains(&name) {
            format!("test -e {} || {{ echo 'not like this' >&2; exit 1; }}\n", cured.display())
        } else {
            String::new()
        };
        format!("#!/bin/sh\ntest -n \"$DPKG_ROOT\" || exit 9\n{call}{end}")
    };
    let scripts = ["preinst", "postinst", "prerm", "postrm"].map(|name| (name, script(name)));
    let scripts: Vec<_> = scripts.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let name = format!("/usr/share/neco/{text}");
    let files = [(name.as_str(), text, 0o644)];
    verified(place, &Deb { version: text, files: &files, scripts: &scripts, ..Deb::default() })
        .await
}

/// Installs well and badly, and gives how the scripts were called.
async fn calls(place: &Place, manager: &dyn PackageManager) -> Vec<Vec<String>> {
    let (mut calls, log) = (Vec::new(), place.path("called"));
    let mut called = || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let _ = std::fs::remove_file(&log);
        calls.push(text.lines().map(str::to_owned).collect());
    };
    let refused = |error: PackageError, now: Installed| {
        let PackageError::Failed { now: found, .. } = &error else { panic!("{error:?}") };
        assert_eq!(found, &now);
        let text = error.to_string();
        assert!(!text.contains('\n') && text.contains("exit status"), "{text}");
    };
    let broken = |text: &str, state: &str| Installed::Broken {
        version: text.to_owned(),
        state: state.to_owned(),
    };
    let v1 = scripted(place, "1.0.0-1", &[]).await;
    manager.install(&v1).await.expect("installed");
    called();
    let v2 = scripted(place, "1.0.0-2", &[]).await;
    manager.install(&v2).await.expect("upgraded");
    called();

    let bad = scripted(place, "1.0.0-3", &["preinst"]).await;
    refused(manager.install(&bad).await.expect_err("its preinst fails"), yes("1.0.0-2"));
    called();
    let bad = scripted(place, "1.0.0-4", &["postinst"]).await;
    let half = broken("1.0.0-4", "half-configured");
    refused(manager.install(&bad).await.expect_err("its postinst fails"), half.clone());
    refused(manager.repair().await.expect_err("still so"), half);
    called();
    manager.install(&v2).await.expect("the way back");
    assert_eq!(installed(manager).await, yes("1.0.0-2"));
    called();

    // A version that does not leave willingly.
    let stays = scripted(place, "1.0.0-5", &["prerm"]).await;
    manager.install(&stays).await.expect("upgraded");
    called();
    let bad = scripted(place, "1.0.0-6", &["prerm"]).await;
    refused(manager.install(&bad).await.expect_err("neither lets go"), yes("1.0.0-5"));
    called();
    let knows = scripted(place, "1.0.0-7", &["postinst"]).await;
    manager.install(&knows).await.expect_err("the new prerm lets go, its postinst fails");
    called();
    std::fs::write(place.path("cured"), "").expect("room");
    manager.repair().await.expect("cured");
    assert_eq!(installed(manager).await, yes("1.0.0-7"));
    called();
    calls
}

#[tokio::test]
async fn a_sandbox_calls_maintainer_scripts_as_dpkg_does() {
    let (real, imitated) = (Place::new(), Place::new());
    let by_dpkg = calls(&real, &dpkg(&real, |_| {})).await;
    let by_sandbox = calls(&imitated, &Sandbox::new(imitated.root.clone())).await;
    assert_eq!(by_sandbox, by_dpkg);
    assert_eq!(by_dpkg[0], ["preinst of 1.0.0-1: install", "postinst of 1.0.0-1: configure "]);
    assert!(by_dpkg[2].contains(&"postinst of 1.0.0-2: abort-upgrade 1.0.0-3".to_owned()));
}
