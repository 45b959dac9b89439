//! What keeps a site from being built, or from getting where it should.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why something about a site failed.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// Something is missing on this machine.
    #[error("{what}; run `{remedy}`")]
    Missing {
        /// What.
        what: String,
        /// The one command that brings it.
        remedy: &'static str,
    },
    /// A file operation failed.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A program cannot be started.
    #[error("starting {program}")]
    Spawn {
        /// Which.
        program: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No packages of this version were given.
    #[error("there is no {what} package of version {version} in {}", dir.display())]
    NoPackage {
        /// `sound` or `bad`.
        what: &'static str,
        /// The version.
        version: String,
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// What should have come about has not.
    #[error("it is not so that {what}:\n{state}")]
    Unproven {
        /// What.
        what: String,
        /// How things stand.
        state: String,
    },
    /// etcd does not run.
    #[error("etcd")]
    Etcd(#[from] neco_etcd::Error),
    /// etcd does not answer.
    #[error("talking to etcd")]
    Store(#[from] neco_store::StoreError),
    /// A release cannot be signed or published.
    #[error("publishing a release")]
    Publish(#[from] neco_releases::mirror::MirrorError),
    /// The keys that releases are verified with cannot be read.
    #[error("the release keys of boot server {lrn}")]
    Keys {
        /// Whose.
        lrn: u32,
        /// Why not.
        #[source]
        source: neco_host::KeysError,
    },
    /// A package is not what it should be.
    #[error("verifying a package")]
    Verify(#[from] neco_host::VerifyError),
    /// A package cannot be unpacked.
    #[error("installing a package")]
    Install(#[from] neco_host::PackageError),
    /// A unit that outlives its starter cannot be started.
    #[error("booting boot server {lrn}")]
    Boot {
        /// Which.
        lrn: u32,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The journal of a server cannot be read.
    #[error("the journal in {}", dir.display())]
    Journal {
        /// Where it lies.
        dir: PathBuf,
        /// Why not.
        #[source]
        source: neco_host::JournalError,
    },
    /// There can be no such unit.
    #[error("naming a unit")]
    Unit(#[from] neco_systemd::UnitNameError),
    /// The sandbox of a server cannot be told to fail or hang.
    #[error("changing the faults of a sandbox")]
    Faults(#[from] neco_sandbox::FaultError),
    /// What was waited for did not come.
    #[error("{what} did not come within {} s\n{state}", within.as_secs())]
    Deadline {
        /// What was waited for.
        what: String,
        /// How long.
        within: Duration,
        /// How things stood in the end.
        state: String,
    },
    /// An update came to another end than the one that was waited for.
    #[error("the update to {version} did not complete\n{state}")]
    Ended {
        /// To which version.
        version: String,
        /// How things stand.
        state: String,
    },
    /// Work that blocks was lost.
    #[error("a task of the playground panicked")]
    Task(#[from] tokio::task::JoinError),
}

impl SiteError {
    /// Whether this machine lacks something, so that nothing could be tried.
    pub fn cannot_run(&self) -> bool {
        let no_etcd = |error: &neco_etcd::Error| {
            use neco_etcd::Error::{NotEtcd, NotFound, Unusable};
            matches!(error, NotFound { .. } | Unusable { .. } | NotEtcd { .. })
        };
        match self {
            Self::Missing { .. } => true,
            Self::Etcd(error) => no_etcd(error),
            _ => false,
        }
    }

    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
