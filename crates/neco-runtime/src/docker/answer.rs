//! What became of a request, before it is known what the request was for.

use std::error::Error as StdError;
use std::io;
use std::path::Path;
use std::time::Duration;

use bollard::errors::Error;

use crate::RuntimeError;

/// Why Docker did not do what it was asked.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It is not there, or went away in the middle.
    Away(String),
    /// It does not listen to this user.
    Forbidden,
    /// It said nothing for so long.
    Silent(Duration),
    /// It refused.
    Refused {
        /// The status, where it came before anything else.
        status: Option<u16>,
        /// Its words.
        message: String,
    },
}

impl Trouble {
    /// Whether Docker refused with this status.
    pub(super) fn is(&self, wanted: u16) -> bool {
        matches!(self, Self::Refused { status: Some(status), .. } if *status == wanted)
    }

    /// What to tell of a call that Docker at `socket` did not do.
    pub(super) fn of(self, socket: &Path, call: &str, command: &[String]) -> RuntimeError {
        let away = |why| RuntimeError::Away { socket: socket.to_owned(), why };
        match self {
            Self::Away(why) => away(why),
            Self::Silent(after) => away(format!("it was silent for {after:?} on `{call}`")),
            Self::Forbidden => RuntimeError::Forbidden { socket: socket.to_owned() },
            Self::Refused { message, .. } => RuntimeError::Failed {
                call: call.to_owned(),
                command: command.to_vec(),
                status: None,
                stderr: message,
            },
        }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        match error {
            // A restart may have brought another Docker, with which nothing was agreed yet.
            Error::DockerResponseServerError { status_code: 400, message }
                if message.contains("client version") =>
            {
                Self::Away(format!("it is another version than before: {message}"))
            }
            Error::DockerResponseServerError { status_code, message } => {
                Self::Refused { status: Some(status_code), message }
            }
            Error::DockerStreamError { error } => Self::Refused { status: None, message: error },
            Error::SocketNotFoundError(_) => Self::Away("its socket is not there".to_owned()),
            Error::RequestTimeoutError => Self::Away("it is silent".to_owned()),
            Error::IOError { .. }
            | Error::HyperResponseError { .. }
            | Error::HyperLegacyError { .. } => match denied(&error) {
                true => Self::Forbidden,
                false => Self::Away(innermost(&error)),
            },
            other => Self::Refused { status: None, message: other.to_string() },
        }
    }
}

fn causes(error: &Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    let first: &(dyn StdError + 'static) = error;
    std::iter::successors(Some(first), |error| (*error).source())
}

fn denied(error: &Error) -> bool {
    causes(error)
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::PermissionDenied)
}

/// The last cause: those above it tell of the client's insides.
fn innermost(error: &Error) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}
