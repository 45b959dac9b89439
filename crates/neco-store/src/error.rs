//! What goes wrong between us and etcd, told so that a person can mend it.

use std::sync::Arc;
use std::time::Duration;

use neco_schema::{LeaseId, Revision, Severity};

/// The error beneath.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// Why the store did not answer, or refused.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// No server answered in time.
    #[error("etcd does not answer at {} within {:.1}s{}", list(endpoints), within.as_secs_f64(), hint(reason))]
    Unreachable {
        /// The endpoints that were tried.
        endpoints: Vec<String>,
        /// How long.
        within: Duration,
        /// The last thing heard.
        reason: String,
        /// The error beneath.
        #[source]
        source: Option<Cause>,
    },
    /// The answer to a transaction was lost.
    #[error(
        "it is not known whether etcd{} executed the transaction{}",
        at(endpoints),
        hint(reason)
    )]
    Unknown {
        /// The endpoints that were tried.
        endpoints: Vec<String>,
        /// The last thing heard.
        reason: String,
        /// The error beneath.
        #[source]
        source: Option<Cause>,
    },
    /// The connection cannot be made for a reason that stays.
    #[error("no trusted connection to etcd at {endpoint}: {reason}; {remedy}")]
    Tls {
        /// The endpoint.
        endpoint: String,
        /// What the handshake said.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
    /// User or password are wrong, or missing.
    #[error(
        "etcd at {endpoint} does not let {} in: {reason}; check username and password in the configuration file",
        who(user)
    )]
    Unauthenticated {
        /// The endpoint.
        endpoint: String,
        /// The user, if one is configured.
        user: Option<String>,
        /// What the server said.
        reason: String,
    },
    /// The user may not do this.
    #[error(
        "etcd at {endpoint} does not permit {} to do this; grant the user a role for the prefix",
        who(user)
    )]
    PermissionDenied {
        /// The endpoint.
        endpoint: String,
        /// The user, if one is configured.
        user: Option<String>,
    },
    /// The configuration cannot be used.
    #[error("the etcd configuration is not usable: {}; correct the configuration file", problems.join("; "))]
    Options {
        /// Every problem, with the setting it is about.
        problems: Vec<String>,
    },
    /// The revision was compacted.
    #[error("revision {revision} is compacted; list again at the newest revision")]
    Compacted {
        /// The revision that was asked for.
        revision: Revision,
    },
    /// The revision is not there yet: the cluster was restored from a backup, or is another one.
    #[error(
        "revision {revision} is in the future of this etcd cluster; was it restored from a backup?"
    )]
    FutureRevision {
        /// The revision that was asked for.
        revision: Revision,
    },
    /// The lease is gone.
    #[error("lease {:x} has ended", lease.0)]
    LeaseGone {
        /// The lease.
        lease: LeaseId,
    },
    /// A transaction touches a key twice.
    #[error("the transaction touches a key twice")]
    DuplicateKey,
    /// A transaction has more operations than the server takes.
    #[error(
        "the transaction has {operations} conditions and writes, more than etcd's --max-txn-ops"
    )]
    TooManyOperations {
        /// How many.
        operations: usize,
    },
    /// A transaction is larger than the server takes.
    #[error(
        "the transaction has {bytes} bytes, more than etcd takes in one request (--max-request-bytes, 1.5 MiB)"
    )]
    TooLarge {
        /// Its size, keys and values alone.
        bytes: usize,
    },
    /// The database is full.
    #[error(
        "etcd at {endpoint} has no space left; compact and defragment it, then disarm its alarm"
    )]
    NoSpace {
        /// The endpoint.
        endpoint: String,
    },
    /// The cluster is not well enough for what was asked.
    #[error("etcd at {endpoint} does not do this now: {reason}")]
    NotNow {
        /// The endpoint.
        endpoint: String,
        /// What it said.
        reason: String,
    },
    /// There is a member with this address.
    #[error("etcd has a member with this address already")]
    MemberExists,
    /// The member is not there.
    #[error("etcd has no such member")]
    MemberGone,
    /// The server said something else.
    #[error("etcd at {endpoint} refused the call: {reason}")]
    Refused {
        /// The endpoint.
        endpoint: String,
        /// What it said.
        reason: String,
        /// The error beneath.
        #[source]
        source: Option<Cause>,
    },
    /// A value in the store cannot be read.
    #[error(
        "the value of {key} is not usable: {reason}; see `necoctl` or etcdctl to repair or delete it"
    )]
    Malformed {
        /// The key, relative to the prefix.
        key: String,
        /// What is wrong.
        reason: String,
    },
}

impl StoreError {
    /// How to react.
    pub fn severity(&self) -> Severity {
        match self {
            Self::Unreachable { .. }
            | Self::Unknown { .. }
            | Self::Compacted { .. }
            | Self::NotNow { .. }
            | Self::MemberExists
            | Self::MemberGone
            | Self::LeaseGone { .. } => Severity::TryAgain,
            Self::Tls { .. }
            | Self::Unauthenticated { .. }
            | Self::PermissionDenied { .. }
            | Self::Options { .. }
            | Self::FutureRevision { .. }
            | Self::NoSpace { .. }
            | Self::Malformed { .. }
            | Self::Refused { .. } => Severity::AskAPerson,
            Self::DuplicateKey | Self::TooManyOperations { .. } | Self::TooLarge { .. } => {
                Severity::Bug
            }
        }
    }

    /// The same trouble as the reason why the outcome of a transaction is not known.
    pub(crate) fn into_unknown(self) -> Self {
        match self {
            Self::Unknown { .. } => self,
            Self::Unreachable { endpoints, reason, source, .. } => {
                Self::Unknown { endpoints, reason, source }
            }
            other => Self::Unknown {
                endpoints: Vec::new(),
                reason: other.to_string(),
                source: Some(Arc::new(other)),
            },
        }
    }
}

fn list(endpoints: &[String]) -> String {
    endpoints.join(", ")
}

fn at(endpoints: &[String]) -> String {
    if endpoints.is_empty() { String::new() } else { format!(" at {}", list(endpoints)) }
}

fn hint(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {reason}") }
}

fn who(user: &Option<String>) -> String {
    match user {
        Some(user) => format!("user {user:?}"),
        None => "a client without a user".to_owned(),
    }
}
