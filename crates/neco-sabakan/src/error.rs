//! Errors of sabakan's client.

use std::time::Duration;

use neco_schema::Severity;

use crate::name::NameError;

/// Why sabakan did not do what it was asked.
///
/// A `call` is method and address, such as `PUT http://127.0.0.1:10080/api/v1/config/dhcp`, without queries.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SabakanError {
    /// A setting of the client cannot be used.
    #[error("{option}: {problem}")]
    Option {
        /// Which setting.
        option: &'static str,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// A query that asks for machines with and without the same condition.
    #[error(
        "a query for machines has conditions with and without {key}; sabakan takes one of them"
    )]
    Contradiction {
        /// The condition.
        key: &'static str,
    },
    /// A name that sabakan gave is none.
    #[error("{call} answered with a name that cannot be used")]
    Name {
        /// What was asked.
        call: String,
        /// The name.
        #[source]
        source: NameError,
    },
    /// 403: the request came from elsewhere.
    #[error(
        "{call} is forbidden: sabakan takes changes from its own machine only; ask the sabakan of this boot server, at \
         127.0.0.1"
    )]
    Forbidden {
        /// What was asked.
        call: String,
    },
    /// 404: what was to be changed is not there.
    #[error("{call}: there is no such thing ({error})")]
    NotFound {
        /// What was asked.
        call: String,
        /// What sabakan said.
        error: String,
    },
    /// 409: it is there already, it was deleted before, or somebody changed it at the same time.
    #[error(
        "{call}: it is there already, was deleted before, or was changed by somebody else ({error})"
    )]
    Conflict {
        /// What was asked.
        call: String,
        /// What sabakan said.
        error: String,
    },
    /// Any other status that is neither success nor trouble of the server.
    #[error("{call} was refused with {status}: {error}")]
    Refused {
        /// What was asked.
        call: String,
        /// The status.
        status: u16,
        /// What sabakan said.
        error: String,
    },
    /// 5xx: trouble of the server; also what sabakan answers where it should refuse.
    #[error("{call} failed in sabakan with {status}: {error}")]
    Server {
        /// What was asked.
        call: String,
        /// The status.
        status: u16,
        /// What sabakan said.
        error: String,
    },
    /// No answer, or no further byte taken.
    #[error("{call}: nothing moved for {after:?}; does sabakan run, or does its disk hang?")]
    Silent {
        /// What was asked.
        call: String,
        /// For how long.
        after: Duration,
    },
    /// The whole took too long.
    #[error("{call} did not end within {after:?}")]
    TimedOut {
        /// What was asked.
        call: String,
        /// The limit.
        after: Duration,
    },
    /// The connection could not be made or broke.
    #[error("{call}: sabakan cannot be reached; does it run?")]
    Transport {
        /// What was asked.
        call: String,
        /// What the transport says.
        #[source]
        source: reqwest::Error,
    },
    /// The other side is not who it should be.
    #[error(
        "{call}: the certificate is not trusted ({why}); check the CA that is configured, and sabakan's certificate"
    )]
    Certificate {
        /// What was asked.
        call: String,
        /// What TLS says.
        why: String,
    },
    /// More bytes come than are taken.
    #[error("{call} answered more than {limit} bytes; is that sabakan?")]
    TooLarge {
        /// What was asked.
        call: String,
        /// The cap.
        limit: u64,
    },
    /// Something else than what was asked for.
    #[error("{call} answered what sabakan does not say; is that sabakan?")]
    Malformed {
        /// What was asked.
        call: String,
        /// Where it went wrong.
        #[source]
        source: serde_json::Error,
    },
    /// What is to be uploaded cannot be read, or is not as long as announced.
    #[error("{call}: what is to be uploaded cannot be read")]
    Content {
        /// What was asked.
        call: String,
        /// What went wrong.
        #[source]
        source: std::io::Error,
    },
    /// What is to be uploaded is larger than sabakan takes.
    #[error("{what} has {size} bytes, and no more than {limit} are taken")]
    Oversized {
        /// What.
        what: String,
        /// How many bytes it has.
        size: u64,
        /// How many are taken.
        limit: u64,
    },
    /// What lies in sabakan is not what was sent.
    #[error(
        "{call}: sabakan has SHA-256 {found} where {expected} was sent; something changed it on the way"
    )]
    WrongDigest {
        /// What was asked.
        call: String,
        /// What was sent.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A refusal inside an answer of GraphQL.
    #[error("{call}: {message}")]
    Graphql {
        /// What was asked, with the name of the operation.
        call: String,
        /// What kind of refusal.
        problem: GraphqlProblem,
        /// What sabakan said.
        message: String,
    },
    /// One machine was looked for, and there are none or several.
    #[error(
        "sabakan knows {found} {query} where there must be one; register or correct them with sabactl"
    )]
    NotOne {
        /// What was looked for.
        query: String,
        /// How many there are.
        found: usize,
    },
    /// A machine without an address.
    #[error("machine {serial} has no address in sabakan; set ipam and register it again")]
    NoAddress {
        /// The machine.
        serial: String,
    },
}

/// The kinds of refusals of GraphQL (external-apis §1.8).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GraphqlProblem {
    /// `INVALID_STATE_NAME`.
    InvalidStateName,
    /// `INVALID_STATE_TRANSITION`: the machine is in a state from which no way leads there.
    InvalidStateTransition,
    /// `ENCRYPTION_KEY_EXISTS`: disk keys must be deleted first.
    EncryptionKeyExists,
    /// `MACHINE_NOT_FOUND`.
    MachineNotFound,
    /// `INTERNAL_SERVER_ERROR`.
    InternalServerError,
    /// Another one, or none that was told.
    Other(Option<String>),
}

impl From<Option<&str>> for GraphqlProblem {
    fn from(kind: Option<&str>) -> Self {
        match kind {
            Some("INVALID_STATE_NAME") => Self::InvalidStateName,
            Some("INVALID_STATE_TRANSITION") => Self::InvalidStateTransition,
            Some("ENCRYPTION_KEY_EXISTS") => Self::EncryptionKeyExists,
            Some("MACHINE_NOT_FOUND") => Self::MachineNotFound,
            Some("INTERNAL_SERVER_ERROR") => Self::InternalServerError,
            other => Self::Other(other.map(str::to_owned)),
        }
    }
}

impl SabakanError {
    /// What this error asks for.
    pub fn severity(&self) -> Severity {
        match self {
            Self::Server { .. }
            | Self::Silent { .. }
            | Self::TimedOut { .. }
            | Self::Transport { .. }
            | Self::Content { .. }
            | Self::WrongDigest { .. }
            | Self::Graphql { problem: GraphqlProblem::InternalServerError, .. } => {
                Severity::TryAgain
            }
            Self::Option { .. }
            | Self::Name { .. }
            | Self::Forbidden { .. }
            | Self::NotFound { .. }
            | Self::Conflict { .. }
            | Self::Refused { .. }
            | Self::Certificate { .. }
            | Self::TooLarge { .. }
            | Self::Malformed { .. }
            | Self::Oversized { .. }
            | Self::Graphql { .. }
            | Self::NotOne { .. }
            | Self::NoAddress { .. } => Severity::AskAPerson,
            Self::Contradiction { .. } => Severity::Bug,
        }
    }

    /// Whether what was asked for is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(
            self,
            Self::NotFound { .. } | Self::Graphql { problem: GraphqlProblem::MachineNotFound, .. }
        )
    }

    /// Whether it is there already, or somebody else was quicker.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }

    /// Whether a machine is in a state from which no way leads to the one that was set (neco-daemons §3.5).
    pub fn is_invalid_transition(&self) -> bool {
        matches!(self, Self::Graphql { problem: GraphqlProblem::InvalidStateTransition, .. })
    }
}
