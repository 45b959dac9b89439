//! The package of the contract, whose scripts fail and hang on request.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use neco_host::package::contract::{CONFIGURATION, PACKAGE, files};
use neco_host::{
    Expected, Installed, PackageManager, TrustedKeys, Unsigned, VerifiedPackage, verify_package,
};
use neco_schema::NecoVersion;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Deb;

/// How long what happens beside may take.
const SOON: Duration = Duration::from_secs(60);

/// A directory with packages, and with marks that tell their scripts what to do.
pub(crate) struct Workshop {
    dir: tempfile::TempDir,
}

/// A script that hangs.
pub(crate) struct Hanging {
    pub(crate) script: Pid,
    /// Who called it.
    pub(crate) caller: Pid,
}

impl Workshop {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a directory") }
    }

    /// Makes the package of the contract.
    pub(crate) async fn package(&self, version: &NecoVersion) -> VerifiedPackage {
        let files = files(version);
        let mut all: Vec<_> =
            files.iter().map(|it| (it.path.as_str(), it.text.as_str(), it.mode)).collect();
        let conffiles = format!("{CONFIGURATION}\n");
        all.push((CONFIGURATION, "made by a test\n", 0o644));
        all.push(("/DEBIAN/conffiles", &conffiles, 0o644));
        let deb = Deb { version: version.as_str(), files: &all, ..Deb::default() };
        self.build(deb).await
    }

    /// Makes another package of that name, with the same scripts.
    pub(crate) async fn build(&self, deb: Deb<'_>) -> VerifiedPackage {
        let version: NecoVersion = deb.version.parse().expect("a version");
        let scripts = ["preinst", "postinst"].map(|name| (name, self.script(name, &version)));
        let scripts: Vec<_> = scripts.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let scripts = if deb.scripts.is_empty() { &scripts[..] } else { deb.scripts };
        // Each in a folder of its own: one that was made before stays as it is.
        let folder = tempfile::tempdir_in(self.dir.path()).expect("writable").keep();
        let path = Deb { package: PACKAGE, scripts, ..deb }.build(&folder);
        let expected = Expected { package: PACKAGE.to_owned(), ..Expected::neco(version) };
        verify_package(&path, &[], &TrustedKeys::default(), &expected, Unsigned::Allow)
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// From now on this script of `version` fails with a message, or no longer.
    pub(crate) fn fail(&self, script: &str, version: &NecoVersion, message: Option<&str>) {
        let mark = self.mark(script, version, "fail");
        match message {
            Some(message) => std::fs::write(mark, format!("{message}\n")).expect("writable"),
            None => std::fs::remove_file(mark).expect("removable"),
        }
    }

    /// From now on this script of `version` hangs until the mark that this returns is removed, or the workshop is.
    pub(crate) fn hang(&self, script: &str, version: &NecoVersion) -> PathBuf {
        let mark = self.mark(script, version, "hang");
        std::fs::write(&mark, "").expect("writable");
        mark
    }

    /// Waits until it hangs.
    pub(crate) async fn hangs(&self, script: &str, version: &NecoVersion) -> Hanging {
        let mark = self.mark(script, version, "hangs");
        let mut text = String::new();
        until("the script to hang", async || {
            text = std::fs::read_to_string(&mark).unwrap_or_default();
            !text.is_empty()
        })
        .await;
        std::fs::remove_file(&mark).expect("removable");
        let mut ids = text.split_whitespace().map(|id| Pid::from_raw(id.parse().expect("an id")));
        let mut id = || ids.next().filter(|id| id.as_raw() > 1).expect("an id");
        Hanging { script: id(), caller: id() }
    }

    fn mark(&self, script: &str, version: &NecoVersion, what: &str) -> PathBuf {
        self.dir.path().join(format!("{script}-{version}.{what}"))
    }

    fn script(&self, name: &str, version: &NecoVersion) -> String {
        let mark = |what| self.mark(name, version, what).display().to_string();
        let (fail, hang, hangs) = (mark("fail"), mark("hang"), mark("hangs"));
        format!(
            "#!/bin/sh\ncase $1 in configure | install | upgrade) ;; *) exit 0 ;; esac\n\
             if test -e {hang}; then\n  echo $$ $PPID > {hangs}.new && mv {hangs}.new {hangs}\n  \
             while test -e {hang}; do sleep 0.02; done\nfi\n\
             if test -e {fail}; then cat {fail} >&2; exit 1; fi\n"
        )
    }
}

pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds().await {
        assert!(Instant::now() < deadline, "waited for: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn alive(pid: Pid) -> bool {
    kill(pid, None).is_ok()
}

pub(crate) fn end(pid: Pid) {
    kill(pid, Signal::SIGKILL).expect("there");
}

/// Who stops waiting for an installation does not interrupt it.
pub(crate) async fn an_installation_goes_on_when_nobody_waits(
    workshop: &Workshop,
    packages: &dyn PackageManager,
) {
    let version: NecoVersion = "2026.11.20-40151".parse().expect("a version");
    let package = workshop.package(&version).await;
    let mark = workshop.hang("postinst", &version);
    {
        let installing = packages.install(&package);
        let begun = workshop.hangs("postinst", &version);
        let hanging = tokio::select! {
            biased;
            ended = installing => panic!("its script hangs: {ended:?}"),
            hanging = begun => hanging,
        };
        assert!(alive(hanging.script) && alive(hanging.caller));
    }
    let found = packages.installed(PACKAGE).await.expect("an answer");
    assert!(matches!(found, Installed::Broken { .. }), "{found}");
    std::fs::remove_file(mark).expect("removable");
    let done = Installed::Yes(version);
    until("the installation to be complete", async || {
        packages.installed(PACKAGE).await.expect("an answer") == done
    })
    .await;
}
