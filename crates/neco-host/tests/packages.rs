//! What every package manager promises, on the fake, on the sandbox and on real dpkg below a root of its own; and
//! what each does on a bad day.

mod common;

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use common::dpkg::{DpkgBench, hold_locks_where_asked, options, prepare};
use common::workshop::{Workshop, an_installation_goes_on_when_nobody_waits, end};
use common::{Deb, Place, verified, version};
use neco_host::package::contract::{self, Bench, Held, PACKAGE};
use neco_host::{
    Dpkg, DpkgOptions, FakeInstall, FakePackages, Installed, PackageError, PackageManager,
    SANDBOX_RECORD, Sandbox, VerifiedPackage,
};
use neco_schema::NecoVersion;

const V1: &str = "2026.11.20-40151";
const V2: &str = "2026.11.21-40152";

/// No script of these tests runs longer, but those that never end.
const LONG: Duration = Duration::from_secs(300);

fn yes(text: &str) -> Installed {
    Installed::Yes(version(text))
}

/// dpkg below the root of `place`, as any user.
fn dpkg(place: &Place, within: Duration) -> Dpkg {
    prepare(place.root.path());
    Dpkg::new(DpkgOptions { within, ..options(Some(place.root.path())) })
}

async fn installed(manager: &dyn PackageManager) -> Installed {
    manager.installed("neco").await.expect("an answer")
}

/// The fake, with packages of the workshop.
struct FakeBench {
    workshop: Workshop,
    packages: FakePackages,
    impatient: FakePackages,
}

impl FakeBench {
    fn new() -> Self {
        let packages = FakePackages::new();
        let impatient = packages.clone().lock_within(Duration::ZERO);
        Self { workshop: Workshop::new(), packages, impatient }
    }
}

#[async_trait(?Send)]
impl Bench for FakeBench {
    fn packages(&self) -> &dyn PackageManager {
        &self.packages
    }

    fn impatient(&self) -> &dyn PackageManager {
        &self.impatient
    }

    fn root(&self) -> Option<PathBuf> {
        None
    }

    async fn package(&self, version: &NecoVersion) -> VerifiedPackage {
        self.workshop.package(version).await
    }

    fn fail(&self, version: &NecoVersion, message: Option<&str>) {
        self.packages.fail(version, message);
    }

    async fn interrupt(&self, package: &VerifiedPackage) {
        self.packages.next(FakeInstall::Break);
        self.packages.install(package).await.expect_err("it was told to break");
    }

    async fn remove(&self) {
        self.packages.set(PACKAGE, Installed::No);
    }

    async fn hold(&self) -> Held {
        let holder = "somebody else".to_owned();
        Held { guard: Box::new(self.packages.hold(&holder)), holder }
    }
}

/// A sandbox in a directory.
struct SandboxBench {
    workshop: Workshop,
    place: Place,
    packages: Sandbox,
    impatient: Sandbox,
}

impl SandboxBench {
    fn new() -> Self {
        let place = Place::new();
        let packages = Sandbox::new(place.root.clone());
        let impatient = packages.clone().lock_within(Duration::ZERO);
        Self { workshop: Workshop::new(), place, packages, impatient }
    }
}

#[async_trait(?Send)]
impl Bench for SandboxBench {
    fn packages(&self) -> &dyn PackageManager {
        &self.packages
    }

    fn impatient(&self) -> &dyn PackageManager {
        &self.impatient
    }

    fn root(&self) -> Option<PathBuf> {
        Some(self.place.root.path().to_owned())
    }

    async fn package(&self, version: &NecoVersion) -> VerifiedPackage {
        self.workshop.package(version).await
    }

    fn fail(&self, version: &NecoVersion, message: Option<&str>) {
        self.workshop.fail("postinst", version, message);
    }

    /// The one who calls the script is this process, so that the script itself is killed.
    async fn interrupt(&self, package: &VerifiedPackage) {
        let mark = self.workshop.hang("postinst", package.version());
        let kill = async {
            end(self.workshop.hangs("postinst", package.version()).await.script);
        };
        let (ended, ()) = tokio::join!(self.packages.install(package), kill);
        ended.expect_err("its script was killed");
        std::fs::remove_file(mark).expect("removable");
    }

    /// No engine of a sandbox removes anything, so that this is done by hand.
    async fn remove(&self) {
        std::fs::remove_file(self.place.root.join(SANDBOX_RECORD)).expect("removable");
        for dir in ["/usr/bin", "/usr/share/neco-contract"] {
            std::fs::remove_dir_all(self.place.root.join(dir)).expect("removable");
        }
    }

    /// An installation that lasts, and comes to nothing.
    async fn hold(&self) -> Held {
        let version = version("2026.11.1-1");
        let (package, packages) = (self.package(&version).await, self.packages.clone());
        let mark = self.workshop.hang("preinst", &version);
        self.workshop.fail("preinst", &version, Some("enough"));
        tokio::spawn(async move { packages.install(&package).await });
        self.workshop.hangs("preinst", &version).await;
        let guard = Box::new(tempfile::TempPath::try_from_path(mark).expect("an absolute path"));
        Held { holder: format!("process {}", std::process::id()), guard }
    }
}

#[tokio::test]
async fn the_fake_keeps_the_contract() {
    contract::holds(FakeBench::new).await;
}

#[tokio::test]
async fn the_sandbox_keeps_the_contract() {
    contract::holds(SandboxBench::new).await;
}

#[tokio::test]
async fn dpkg_keeps_the_contract() {
    contract::holds(DpkgBench::below).await;
}

#[test]
fn another_process_holds_locks_where_it_is_asked() {
    hold_locks_where_asked();
}

#[tokio::test]
async fn an_installation_goes_on_even_when_nobody_waits_for_it() {
    let (sandbox, dpkg) = (SandboxBench::new(), DpkgBench::below());
    an_installation_goes_on_when_nobody_waits(&sandbox.workshop, &sandbox.packages).await;
    an_installation_goes_on_when_nobody_waits(&dpkg.workshop, &dpkg.dpkg).await;
}

#[tokio::test]
async fn a_sandbox_records_what_it_holds() {
    let place = Place::new();
    let sandbox = Sandbox::new(place.root.clone());
    sandbox
        .install(&verified(&place, &Deb { version: V1, ..Deb::default() }).await)
        .await
        .expect("installed");
    let record = std::fs::read(place.root.join(SANDBOX_RECORD)).expect("a record");
    let record: serde_json::Value = serde_json::from_slice(&record).expect("json");
    assert_eq!((&record["package"], &record["version"]), (&"neco".into(), &V1.into()));
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
async fn a_removed_package_whose_configuration_stays_has_no_version() {
    let bench = DpkgBench::below();
    let package = bench.package(&version(V1)).await;
    bench.dpkg.install(&package).await.expect("installed");
    assert_eq!(bench.dpkg.installed_version(PACKAGE).await.expect("installed"), V1);
    bench.remove().await;
    let error = bench.dpkg.installed_version(PACKAGE).await.expect_err("removed");
    assert!(matches!(error, PackageError::NotInstalled { found: Installed::No, .. }), "{error:?}");
}

#[tokio::test]
async fn a_script_that_does_not_end_is_killed_and_the_way_back_works() {
    let place = Place::new();
    let patient = dpkg(&place, LONG);
    let good = verified(&place, &Deb { version: V1, ..Deb::default() }).await;
    patient.install(&good).await.expect("installed");
    let stuck =
        Deb { version: V2, scripts: &[("postinst", "#!/bin/sh\nsleep 600\n")], ..Deb::default() };
    let stuck = verified(&place, &stuck).await;
    let options =
        DpkgOptions { within: Duration::from_secs(3), ..options(Some(place.root.path())) };
    let error = Dpkg::new(options).install(&stuck).await.expect_err("it never ends");
    assert!(matches!(error, PackageError::Command(_)), "{error:?}");
    assert_ne!(installed(&patient).await, yes(V2));
    patient.install(&good).await.expect("the way back");
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
    let by_dpkg = calls(&real, &dpkg(&real, LONG)).await;
    let by_sandbox = calls(&imitated, &Sandbox::new(imitated.root.clone())).await;
    assert_eq!(by_sandbox, by_dpkg);
    assert_eq!(by_dpkg[0], ["preinst of 1.0.0-1: install", "postinst of 1.0.0-1: configure "]);
    assert!(by_dpkg[2].contains(&"postinst of 1.0.0-2: abort-upgrade 1.0.0-3".to_owned()));
}
