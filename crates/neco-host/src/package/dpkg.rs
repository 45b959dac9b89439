//! The real engine: dpkg.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use neco_base::Backoff;
use tokio::time::Instant;

use super::{Installed, PackageError, PackageManager, check_intact};
use crate::command::{self, CommandOutput, OnDrop, complaint};
use crate::{CommandError, VerifiedPackage};

/// How long asking dpkg's data base may take.
const QUERY_WITHIN: Duration = Duration::from_secs(60);

/// Between two attempts while dpkg is locked.
const LOOK_AGAIN: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// How dpkg is run.
#[derive(Clone, Debug)]
pub struct DpkgOptions {
    /// A root other than `/`, with its own data base in `var/lib/dpkg`.
    pub root: Option<PathBuf>,
    /// Further arguments, such as `--force-not-root`.
    pub arguments: Vec<String>,
    /// How long to wait while another process holds dpkg's lock.
    pub lock_within: Duration,
    /// How long one run may take, maintainer scripts included; after that it is killed.
    pub within: Duration,
}

impl Default for DpkgOptions {
    fn default() -> Self {
        Self {
            root: None,
            arguments: Vec::new(),
            lock_within: Duration::from_secs(300),
            within: Duration::from_secs(900),
        }
    }
}

/// Installs with dpkg.
#[derive(Clone, Debug, Default)]
pub struct Dpkg {
    options: DpkgOptions,
}

impl Dpkg {
    /// The system's dpkg.
    pub fn system() -> Self {
        Self::default()
    }

    /// A dpkg that is run in this way.
    pub fn new(options: DpkgOptions) -> Self {
        Self { options }
    }

    /// The installed version of any package, in dpkg's own form; an error if it is not completely installed.
    pub async fn installed_version(&self, package: &str) -> Result<String, PackageError> {
        let found = self.query(package).await?;
        let not_installed =
            |found| PackageError::NotInstalled { package: package.to_owned(), found };
        match found {
            None => Err(not_installed(Installed::No)),
            Some(found) if found.is_complete() => Ok(found.version),
            Some(found) => Err(not_installed(found.broken())),
        }
    }

    /// Whether a package of anybody is completely installed, in whatever version.
    ///
    /// # Errors
    /// The data base cannot be asked.
    pub async fn is_installed(&self, package: &str) -> Result<bool, PackageError> {
        Ok(self.query(package).await?.is_some_and(|found| found.is_complete()))
    }

    /// Installs the file `path` of a package of somebody else, whose versions have any form. What was left half done before
    /// is completed first. Whether the file is what it should be, the caller has seen to.
    ///
    /// # Errors
    /// dpkg is locked, says no, or `package` is not completely installed after that.
    pub async fn install_other(&self, package: &str, path: &Path) -> Result<(), PackageError> {
        let text = path.to_str().ok_or_else(|| {
            let source = std::io::ErrorKind::InvalidFilename.into();
            CommandError::Start { argv: vec!["dpkg".to_owned()], source }
        })?;
        let output = self.run(&["--install", "--", text]).await?;
        let found = self.query(package).await?;
        match found {
            Some(found) if output.status.success() && found.is_complete() => Ok(()),
            found => Err(PackageError::Failed {
                package: package.to_owned(),
                output: Box::new(output),
                now: found.map_or(Installed::No, Found::broken),
            }),
        }
    }

    /// What the data base says about a package that was ever there.
    async fn query(&self, package: &str) -> Result<Option<Found>, PackageError> {
        const FORMAT: &str = "${db:Status-Status}|${db:Status-Eflag}|${Version}\\n";
        let admin = self.options.root.as_ref().map(|root| {
            let dir = root.join("var/lib/dpkg");
            format!("--admindir={}", dir.display())
        });
        let mut argv = vec!["dpkg-query"];
        argv.extend(admin.as_deref());
        argv.extend(["-W", "-f", FORMAT, "--", package]);
        let output = command::run(&argv, &[], QUERY_WITHIN, OnDrop::Kill).await?;
        if output.status.code() == Some(1) && output.stderr.contains("no packages found") {
            return Ok(None);
        }
        let line = output.stdout.lines().next().unwrap_or_default().to_owned();
        let fields: Vec<_> = line.splitn(3, '|').collect();
        match fields[..] {
            [status, flag, version] if output.status.success() => Ok(Some(Found {
                status: status.to_owned(),
                flag: flag.to_owned(),
                version: version.to_owned(),
            })),
            _ => Err(PackageError::Answer { output: Box::new(output) }),
        }
    }

    /// Runs dpkg; waits while it is locked.
    async fn run(&self, action: &[&str]) -> Result<CommandOutput, PackageError> {
        let root = self.options.root.as_ref().map(|root| format!("--root={}", root.display()));
        let mut argv = vec!["dpkg", "--force-confdef", "--force-confold"];
        argv.extend(root.as_deref());
        argv.extend(self.options.arguments.iter().map(String::as_str));
        argv.extend(action);
        let env = [("DEBIAN_FRONTEND", "noninteractive")];
        let deadline = Instant::now() + self.options.lock_within;
        let mut retry = LOOK_AGAIN.retry();
        loop {
            let output = command::run(&argv, &env, self.options.within, OnDrop::Leave).await?;
            tracing::debug!(argv = ?output.argv, status = %output.status, "dpkg has run");
            let Some(holder) = lock_holder(&output) else { return Ok(output) };
            if Instant::now() >= deadline {
                let within = self.options.lock_within;
                return Err(PackageError::Locked { within, holder: holder.to_owned() });
            }
            tracing::info!(holder, "waiting for the lock of dpkg");
            tokio::time::sleep(retry.pause()).await;
        }
    }
}

#[async_trait]
impl PackageManager for Dpkg {
    async fn installed(&self, package: &str) -> Result<Installed, PackageError> {
        match self.query(package).await? {
            Some(found) if found.is_complete() => match found.version.parse() {
                Ok(version) => Ok(Installed::Yes(version)),
                Err(source) => Err(PackageError::Version { package: package.to_owned(), source }),
            },
            Some(found) if found.is_absent() => Ok(Installed::No),
            Some(found) => Ok(found.broken()),
            None => Ok(Installed::No),
        }
    }

    async fn install(&self, package: &VerifiedPackage) -> Result<(), PackageError> {
        let name = package.package();
        let path = package.path().to_str().ok_or_else(|| {
            let source = std::io::ErrorKind::InvalidFilename.into();
            CommandError::Start { argv: vec!["dpkg".to_owned()], source }
        })?;
        check_intact(package).await?;
        let output = self.run(&["--install", "--", path]).await?;
        let found = self.installed(name).await?;
        if !output.status.success() {
            let (package, output) = (name.to_owned(), Box::new(output));
            return Err(PackageError::Failed { package, output, now: found });
        }
        if found != Installed::Yes(package.version().clone()) {
            let wanted = package.version().clone();
            return Err(PackageError::NotTaken { package: name.to_owned(), wanted, found });
        }
        Ok(())
    }

    async fn repair(&self) -> Result<(), PackageError> {
        let output = self.run(&["--configure", "--pending"]).await?;
        if output.status.success() {
            return Ok(());
        }
        let package = failed_package(&output).map(str::to_owned);
        let output = Box::new(output);
        let Some(package) = package else { return Err(PackageError::NotRepaired { output }) };
        let now = match self.query(&package).await? {
            // It may be anybody's, with a version of any form.
            Some(found) if found.is_complete() => return Err(PackageError::NotRepaired { output }),
            Some(found) => found.broken(),
            None => Installed::No,
        };
        Err(PackageError::Failed { package, output, now })
    }
}

/// What the data base says about a package.
struct Found {
    status: String,
    flag: String,
    version: String,
}

impl Found {
    fn is_complete(&self) -> bool {
        self.status == "installed" && self.flag == "ok"
    }

    fn is_absent(&self) -> bool {
        matches!(&*self.status, "not-installed" | "config-files") && self.flag == "ok"
    }

    fn broken(self) -> Installed {
        match &*self.status {
            _ if self.is_absent() => Installed::No,
            // Complete but for the flag: a reinstallation is required.
            "installed" => Installed::Broken { version: self.version, state: self.flag },
            _ => Installed::Broken { version: self.version, state: self.status },
        }
    }
}

/// The first package that dpkg could not get ready, by its list at the end of what it said.
fn failed_package(output: &CommandOutput) -> Option<&str> {
    const HEAD: &str = "Errors were encountered while processing:";
    let mut list = output.stderr.lines().skip_while(|line| *line != HEAD).skip(1);
    list.next()?.strip_prefix(' ').map(str::trim)
}

/// What dpkg says about who holds its lock, if that is why it failed.
fn lock_holder(output: &CommandOutput) -> Option<&str> {
    let locked = ["lock was locked by another process", "is locked by another process"];
    let line = output.stderr.lines().find(|line| locked.iter().any(|what| line.contains(what)));
    line.filter(|_| output.status.code() == Some(2)).and_then(complaint)
}
