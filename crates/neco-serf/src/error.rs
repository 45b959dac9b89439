//! Errors of serf's client.

use std::io;
use std::time::Duration;

use neco_schema::Severity;

/// Why an agent has not answered what it was asked. `address` is where it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SerfError {
    /// No connection, or it broke.
    #[error("the serf agent at {address} cannot be asked for {command}; does serf.service run?")]
    Transport {
        /// Where.
        address: String,
        /// What was asked.
        command: &'static str,
        /// What the transport says.
        #[source]
        source: io::Error,
    },
    /// It took too long.
    #[error("the serf agent at {address} has not answered {command} within {within:?}")]
    TimedOut {
        /// Where.
        address: String,
        /// What was asked.
        command: &'static str,
        /// The limit.
        within: Duration,
    },
    /// The agent ended the connection before the answer was whole.
    #[error(
        "the serf agent at {address} ended the connection in the middle of {command}; was it restarted?"
    )]
    Cut {
        /// Where.
        address: String,
        /// What was asked.
        command: &'static str,
    },
    /// The agent said no.
    #[error("the serf agent at {address} refuses {command}: {said}{}", hint(said))]
    Refused {
        /// Where.
        address: String,
        /// What was asked.
        command: &'static str,
        /// Its words.
        said: String,
    },
    /// The answer is larger than any cluster's.
    #[error(
        "what answers at {address} sends more than {limit} bytes for {command}; is that a serf agent?"
    )]
    TooLarge {
        /// Where.
        address: String,
        /// What was asked.
        command: &'static str,
        /// The cap.
        limit: usize,
    },
    /// The answer is none of serf's.
    #[error(
        "what answers at {address} does not speak as a serf agent to {command} ({why}); correct the address"
    )]
    Malformed {
        /// Where.
        address: String,
        /// What was asked.
        command: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// What to do about a refusal, where that is known.
fn hint(said: &str) -> &'static str {
    match said {
        "Authentication required" | "Invalid authentication token" => {
            "; give the key of the agent's 'rpc_auth'"
        }
        "Unsupported IPC version" => "; it speaks another version of the RPC than 1",
        _ => "",
    }
}

impl SerfError {
    /// What this error asks for.
    pub fn severity(&self) -> Severity {
        match self {
            Self::Transport { .. } | Self::TimedOut { .. } | Self::Cut { .. } => Severity::TryAgain,
            Self::Refused { .. } | Self::TooLarge { .. } | Self::Malformed { .. } => {
                Severity::AskAPerson
            }
        }
    }
}
