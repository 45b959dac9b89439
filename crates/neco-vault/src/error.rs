//! What can go wrong with Vault, and what to do about it.

use std::time::Duration;

use neco_schema::Severity;

/// Why Vault did not do what it was asked.
///
/// Addresses in messages carry neither users nor queries. What Vault says is shortened to one line; it names no secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// A setting of the client cannot be used.
    #[error("{option}: {problem}")]
    Option {
        /// Which setting.
        option: &'static str,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// The connection could not be made or broke.
    #[error("connection to Vault at {url} failed; does it run?")]
    Transport {
        /// What was asked for.
        url: String,
        /// What the transport says.
        #[source]
        source: reqwest::Error,
    },
    /// The server at the address has no certificate that is trusted.
    #[error(
        "Vault at {url} has a certificate that is not trusted here; compare it and its CA with the CA given: {why}"
    )]
    Untrusted {
        /// What was asked for.
        url: String,
        /// What is wrong with the certificate.
        why: String,
    },
    /// No answer in time.
    #[error("Vault at {url} was silent for {after:?}")]
    Silent {
        /// What was asked for.
        url: String,
        /// For how long nothing came.
        after: Duration,
    },
    /// The server waits for its key.
    #[error("Vault at {url} is sealed; unseal it with `necoctl vault unseal` on its server")]
    Sealed {
        /// What was asked for.
        url: String,
    },
    /// The server has no key yet.
    #[error("Vault at {url} is not initialised")]
    NotInitialised {
        /// What was asked for.
        url: String,
    },
    /// The server has a key, and gives no other.
    #[error("Vault at {url} is initialised already; its key was given when that was done")]
    AlreadyInitialised {
        /// What was asked for.
        url: String,
    },
    /// Whether the server was initialised is unknown; if it was, the key is lost.
    #[error(
        "it is unknown whether Vault at {url} was initialised; if `bao operator init -status` or `vault operator init \
         -status` says so its key is lost: empty its storage and begin again"
    )]
    InitUnknown {
        /// What was asked for.
        url: String,
        /// What came instead of the key.
        #[source]
        source: Box<VaultError>,
    },
    /// The key is not the one of this server.
    #[error(
        "Vault at {url} refuses the unseal key: {reason}; store the one it was initialised with"
    )]
    KeyRefused {
        /// What was asked for.
        url: String,
        /// What Vault says.
        reason: String,
    },
    /// One share of the key is not enough.
    #[error(
        "Vault at {url} needs {threshold} shares of its key, and one is stored; unseal it by hand"
    )]
    MoreShares {
        /// What was asked for.
        url: String,
        /// How many it needs.
        threshold: u32,
    },
    /// Nobody leads.
    #[error("Vault at {url} has no leader: {why}")]
    NoLeader {
        /// What was asked for.
        url: String,
        /// What is known of it.
        why: String,
    },
    /// 403.
    #[error(
        "Vault at {url} answered 403: {}",
        if *.token_sent { "the token is not valid or its policies do not allow this" } else { "this needs a token" }
    )]
    Forbidden {
        /// What was asked for.
        url: String,
        /// Whether a token went along.
        token_sent: bool,
    },
    /// User and password do not fit.
    #[error("Vault at {url} refuses the login of {user:?}: wrong user name or password")]
    LoginRefused {
        /// What was asked for.
        url: String,
        /// The user.
        user: String,
    },
    /// Something else is there under that name.
    #[error(
        "Vault at {url} has a {found} at {path}, where a {wanted} should be; remove it if nobody needs it"
    )]
    Conflict {
        /// What was asked for.
        url: String,
        /// Where.
        path: String,
        /// What is there.
        found: String,
        /// What should be.
        wanted: String,
    },
    /// Any other refusal.
    #[error("Vault at {url} answered {status}: {reason}")]
    Refused {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
        /// What Vault says.
        reason: String,
    },
    /// 5xx and the like.
    #[error("Vault at {url} has trouble and answered {status}: {reason}")]
    Server {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
        /// What Vault says.
        reason: String,
    },
    /// A redirect that is not followed.
    #[error("Vault at {url} redirects {problem}; compare the api_addr of its servers")]
    Redirect {
        /// What was asked for.
        url: String,
        /// Why it is not followed.
        problem: String,
    },
    /// A success that lacks what was asked for.
    #[error("Vault at {url} answered without data: it may have forwarded to a leader that is gone")]
    Empty {
        /// What was asked for.
        url: String,
    },
    /// Something else than Vault's JSON.
    #[error("{url} answered something that Vault does not say; is the address right?")]
    Malformed {
        /// What was asked for.
        url: String,
        /// Where it went wrong.
        #[source]
        source: serde_json::Error,
    },
    /// More bytes than any answer has.
    #[error("{url} sends more than {limit} bytes; is the address right?")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// The cap.
        limit: u64,
    },
    /// What was waited for did not come.
    #[error("{what} did not come within {within:?}")]
    Deadline {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        within: Duration,
        /// What was in the way at last; none if there was no answer at all.
        #[source]
        last: Option<Box<VaultError>>,
    },
}

impl VaultError {
    /// What to do about it.
    pub fn severity(&self) -> Severity {
        match self {
            Self::Transport { .. }
            | Self::Silent { .. }
            | Self::Sealed { .. }
            | Self::NoLeader { .. }
            | Self::Server { .. }
            | Self::Empty { .. }
            | Self::Deadline { .. } => Severity::TryAgain,
            Self::Option { .. }
            | Self::Untrusted { .. }
            | Self::NotInitialised { .. }
            | Self::AlreadyInitialised { .. }
            | Self::InitUnknown { .. }
            | Self::KeyRefused { .. }
            | Self::MoreShares { .. }
            | Self::Forbidden { .. }
            | Self::LoginRefused { .. }
            | Self::Conflict { .. }
            | Self::Refused { .. }
            | Self::Redirect { .. }
            | Self::Malformed { .. }
            | Self::TooLarge { .. } => Severity::AskAPerson,
        }
    }

    /// Whether waiting may help. A server that joins a cluster is not initialised until it has found it.
    pub(crate) fn passes(&self) -> bool {
        self.severity() == Severity::TryAgain || matches!(self, Self::NotInitialised { .. })
    }

    /// Whether the same request may succeed a moment later: worth another try within one call.
    pub(crate) fn passes_soon(&self) -> bool {
        matches!(
            self,
            Self::Transport { .. }
                | Self::Silent { .. }
                | Self::NoLeader { .. }
                | Self::Server { .. }
                | Self::Empty { .. }
        )
    }

    /// Whether the request did not leave this machine.
    pub(crate) fn was_not_sent(&self) -> bool {
        matches!(self, Self::Transport { source, .. } if source.is_connect())
    }
}
