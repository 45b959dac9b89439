//! What can go wrong between the wish for an etcd server and its last word.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::server::Exit;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an etcd server could not be found, started, or kept running.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No etcd binary on this machine.
    #[error(
        "no etcd binary found (looked at {looked}); run `cargo xtask setup`, or set {} to one",
        crate::binary::ENV
    )]
    NotFound {
        /// The places that were looked at.
        looked: String,
    },
    /// The binary exists but could not be run.
    #[error("running `{} --version`", path.display())]
    Unusable {
        /// The binary.
        path: PathBuf,
        /// Why it did not run.
        #[source]
        source: io::Error,
    },
    /// The binary ran, but did not answer like etcd.
    #[error(
        "`{} --version` does not look like etcd: {output:?}; set {} to an etcd binary",
        path.display(),
        crate::binary::ENV
    )]
    NotEtcd {
        /// The binary.
        path: PathBuf,
        /// The first line it printed.
        output: String,
    },
    /// The configuration cannot work; every problem is listed.
    #[error("configuration of etcd member {name}: {problems}")]
    Invalid {
        /// The member's name as configured.
        name: String,
        /// Everything that is wrong with it.
        problems: Problems,
    },
    /// A directory or file that this crate itself needs could not be made or read.
    #[error("preparing {} for etcd", path.display())]
    Prepare {
        /// What was touched.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// No free port could be found on loopback.
    #[error("looking for a free port on {host}")]
    NoPort {
        /// The host on which a port was wanted.
        host: String,
        /// What the last attempt to bind said.
        #[source]
        source: io::Error,
    },
    /// The child could not be spawned.
    #[error("spawning {}", path.display())]
    Spawn {
        /// The binary.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The server ended before it was ready.
    #[error("etcd member {} ended while starting ({}): {}", .0.member, .0.how(), .0.words)]
    EarlyExit(Exit),
    /// The server did not become ready in time.
    #[error("etcd member {name} was not ready within {within:?}; its last word: {words}")]
    NotReady {
        /// The member.
        name: String,
        /// How long it had.
        within: Duration,
        /// What it said last.
        words: String,
    },
    /// The server ended after it had been ready, and nobody asked it to.
    #[error(
        "etcd member {} ended unexpectedly ({}); its last word: {}",
        .0.member,
        .0.how(),
        .0.words
    )]
    Died(Exit),
    /// The operation needs a running server.
    #[error("etcd member {name} is not running")]
    NotRunning {
        /// The member.
        name: String,
    },
    /// The server was killed, and the kernel has not let go of it.
    #[error("etcd member {name} is still there {after:?} after it was killed; does its disk hang?")]
    Stuck {
        /// The member.
        name: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The kernel refused a signal.
    #[error("sending {signal} to etcd member {name}")]
    Signal {
        /// The member.
        name: String,
        /// The signal.
        signal: &'static str,
        /// The kernel's answer.
        #[source]
        source: nix::Error,
    },
}

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The setting, as its builder method is called.
    pub setting: &'static str,
    /// What is wrong, and what would be right.
    pub what: String,
}

/// All problems of one configuration, in the order of its settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    pub(crate) fn add(&mut self, setting: &'static str, what: impl Into<String>) {
        self.0.push(Problem { setting, what: what.into() });
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Problem { setting, what }) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}{setting}: {what}")?;
        }
        Ok(())
    }
}
