//! Installing the package: what every engine promises, and why it may fail.

#[cfg(feature = "testing")]
pub mod contract;
mod dpkg;
#[cfg(feature = "testing")]
mod fake;
mod sandbox;
mod scripts;

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use neco_sandbox::FaultError;
use neco_schema::{NecoVersion, VersionError};

pub use self::dpkg::{Dpkg, DpkgOptions};
#[cfg(feature = "testing")]
pub use self::fake::{FakeInstall, FakeLock, FakePackages};
pub use self::sandbox::{SANDBOX_RECORD, Sandbox};
pub use self::scripts::sandbox_script;
use crate::command::is_about_the_disk;
use crate::{CommandError, CommandOutput, FileError, VerifiedPackage, VerifyError, disk_trouble};

/// Installs packages and knows which are.
#[async_trait]
pub trait PackageManager: fmt::Debug + Send + Sync {
    /// What is installed of `package`.
    async fn installed(&self, package: &str) -> Result<Installed, PackageError>;

    /// Installs this package over whatever version there is, a newer one too: whether that is wanted was decided
    /// before. It looks once more whether the file is the one that was verified, and believes in success only when
    /// the version is read back. Dropping the future does not interrupt an installation that has begun.
    async fn install(&self, package: &VerifiedPackage) -> Result<(), PackageError>;

    /// Completes what an interrupted installation left half done. What did not come far enough to be completed is left as
    /// it is: [`installed`](Self::installed) says so, and installing it again mends it.
    async fn repair(&self) -> Result<(), PackageError>;
}

/// What is installed of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Installed {
    /// Nothing, or configuration files of an earlier installation only.
    No,
    /// This version, completely.
    Yes(NecoVersion),
    /// An installation was begun and not completed.
    Broken {
        /// The version that was to be installed, as the package manager has it.
        version: String,
        /// How far it came, such as `half-configured`.
        state: String,
    },
}

impl fmt::Display for Installed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.write_str("not installed"),
            Self::Yes(version) => write!(f, "{version}"),
            Self::Broken { version, state } => write!(f, "{version} ({state})"),
        }
    }
}

/// Why a package could not be installed, or nothing can be said about it.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The file is no longer the one that was verified; nothing was done.
    #[error("the package was not installed, because it is not the one that was verified")]
    NotVerified(#[from] VerifyError),
    /// Another process is installing something.
    #[error("the package manager is locked by another process for more than {}s: {holder}", within.as_secs())]
    Locked {
        /// How long it was waited for.
        within: Duration,
        /// What is known about the other process.
        holder: String,
    },
    /// The package manager said no.
    #[error("{output} (now {package} is: {now}; see `dpkg --audit`)")]
    Failed {
        /// The package.
        package: String,
        /// What it said.
        output: Box<CommandOutput>,
        /// What is installed after that.
        now: Installed,
    },
    /// What was left half done could not be completed, and the package manager names no package as the reason.
    #[error("what was left half done could not be completed: {output}")]
    NotRepaired {
        /// What it said.
        output: Box<CommandOutput>,
    },
    /// The package manager reported success, but another version is there.
    #[error("{package} {wanted} was installed without an error, but what is there is: {found}")]
    NotTaken {
        /// The package.
        package: String,
        /// The version that should be there.
        wanted: NecoVersion,
        /// What is there.
        found: Installed,
    },
    /// The package manager could not be run to its end.
    #[error("the package manager gave no result")]
    Command(#[from] CommandError),
    /// The package manager answered something that is not understood.
    #[error("the package manager's answer is not understood: {output}")]
    Answer {
        /// What it said.
        output: Box<CommandOutput>,
    },
    /// The package is not installed.
    #[error("package {package} is not installed (what is there: {found})")]
    NotInstalled {
        /// The package.
        package: String,
        /// What is there of it.
        found: Installed,
    },
    /// The installed version is not one that Neco understands.
    #[error("package {package} is installed in a version of another form")]
    Version {
        /// The package.
        package: String,
        /// What is wrong with it.
        #[source]
        source: VersionError,
    },
    /// A file operation failed.
    #[error("the package was not installed")]
    File(#[from] FileError),
    /// The record of a sandbox holds something else.
    #[error("{} is no record of a sandbox's package (remove it to install afresh)", path.display())]
    Record {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A sandbox was asked for a failure.
    #[error("the package was not installed: {0}")]
    Asked(#[from] FaultError),
    /// A sandbox holds one package, and this is another.
    #[error("this sandbox holds package {holds}, so {package} cannot be installed into it")]
    OtherPackage {
        /// The package it holds.
        holds: String,
        /// The other one.
        package: String,
    },
}

impl PackageError {
    /// Whether the same may succeed later without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Locked { .. } => true,
            _ => self.is_disk_trouble(),
        }
    }

    /// Whether the disk is full, over its quota or read-only: who makes room need do nothing else.
    pub fn is_disk_trouble(&self) -> bool {
        match self {
            Self::Failed { output, .. } | Self::NotRepaired { output } => {
                is_about_the_disk(&output.stderr)
            }
            _ => disk_trouble(self).is_some(),
        }
    }
}

/// Waits for blocking work; a panic in it becomes an error.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PackageError> + Send + 'static,
) -> Result<T, PackageError> {
    ended(tokio::task::spawn_blocking(work)).await
}

/// Waits for work that goes on to its end if this future is dropped; a panic in it becomes an error.
async fn unbroken<T: Send + 'static>(
    work: impl Future<Output = Result<T, PackageError>> + Send + 'static,
) -> Result<T, PackageError> {
    ended(tokio::spawn(work)).await
}

async fn ended<T>(
    work: tokio::task::JoinHandle<Result<T, PackageError>>,
) -> Result<T, PackageError> {
    work.await.unwrap_or_else(|error| {
        let error = std::io::Error::other(error);
        Err(FileError::new("installing", "the package", error).into())
    })
}

/// Looks whether the package is still the one that was verified.
async fn check_intact(package: &VerifiedPackage) -> Result<(), PackageError> {
    let package = package.clone();
    blocking(move || Ok(package.still_intact()?)).await
}
