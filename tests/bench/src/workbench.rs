//! What measurements have in common: sites, and words about what goes on.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use neco_playground::{Packages, Site, SiteError, SiteOptions};
use neco_process::exit::{ExitCode, Failure};
use neco_schema::NecoVersion;

/// How long anything may take: the machine may be busy with other things.
pub(crate) const LONG: Duration = Duration::from_secs(180);

/// Says what goes on, to whoever watches.
pub(crate) fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "bench: {what}");
}

/// A site whose servers have completed their first update.
pub(crate) struct Bench {
    pub(crate) site: Site,
    pub(crate) version: NecoVersion,
}

impl Bench {
    /// Builds a site with the packages in `dir`.
    ///
    /// # Errors
    /// Something is missing on this machine, or the site does not get that far.
    pub(crate) async fn begin(dir: &Path, servers: u32) -> Result<Self, Failure> {
        let packages = Packages::read(dir).map_err(failure)?;
        let version = packages.first().clone();
        let options = SiteOptions::new(packages, servers);
        let site = Site::start(options).await.map_err(failure)?;
        site.wait_completed(&version, LONG, |_| {}).await.map_err(failure)?;
        Ok(Self { site, version })
    }

    /// The `necoctl` that is installed on the first server.
    pub(crate) fn necoctl(&self) -> PathBuf {
        self.site.server(0).root().join("usr/bin/necoctl")
    }
}

/// A failure of a site; where this machine lacks something, it says so by its code.
pub(crate) fn failure(error: SiteError) -> Failure {
    let code = if error.cannot_run() { ExitCode::CannotRun } else { ExitCode::No };
    let failure = Failure::new(code, error);
    if code == ExitCode::CannotRun {
        failure.with_hint("`cargo xtask bench` brings etcd and packages, and starts this program")
    } else {
        failure
    }
}

/// Fails unless `program` can be started; `package` is what brings it.
pub(crate) fn need(program: &str, package: &str) -> Result<(), Failure> {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        _ => {
            let error = anyhow::anyhow!("there is no {program} on this machine");
            let hint = format!("run `apt-get install {package}`, or name other measurements");
            Err(Failure::new(ExitCode::CannotRun, error).with_hint(hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_missing_is_named_with_what_brings_it() {
        assert!(need("true", "coreutils").is_ok());
        let failure = need("no-such-program", "some-package").expect_err("there is none");
        assert_eq!(failure.code, ExitCode::CannotRun);
        let text = failure.to_string();
        assert!(text.contains("no-such-program"), "{text}");
        assert!(text.contains("apt-get install some-package"), "{text}");
    }

    #[test]
    fn too_few_packages_cannot_be_measured() {
        let dir = tempfile::tempdir().expect("a directory");
        let failure = failure(Packages::read(dir.path()).expect_err("none"));
        assert_eq!(failure.code, ExitCode::CannotRun);
        assert!(failure.to_string().contains("cargo xtask bench"), "{failure}");
    }
}
