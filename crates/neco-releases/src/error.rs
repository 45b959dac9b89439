//! What can go wrong between here and a release, and what to do about it.

use std::path::PathBuf;
use std::time::Duration;

use neco_schema::{Severity, Timestamp};

/// Why a release could not be found, resolved or downloaded.
///
/// URLs in messages carry neither user information nor queries: both may hold secrets.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// A setting of the client cannot be used.
    #[error("{option}: {problem}")]
    Option {
        /// Which setting.
        option: &'static str,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// Too many requests; none is sent before `until`.
    #[error("{url} limits the rate of requests until {until}; a token raises the limit")]
    RateLimited {
        /// What was asked for.
        url: String,
        /// When to ask again.
        until: Timestamp,
    },
    /// 401: the token is wrong, or one is missing.
    #[error(
        "{url} answered 401: {}; set a valid one with `necoctl config set github-token`",
        if *.token_sent { "the GitHub token was refused" } else { "a GitHub token is needed" }
    )]
    Unauthorized {
        /// What was asked for.
        url: String,
        /// Whether a token went along.
        token_sent: bool,
    },
    /// 403 that is no rate limit.
    #[error(
        "{url} answered 403: {}",
        if *.token_sent { "the GitHub token may not read this repository; give it read access to contents" }
        else { "access needs a GitHub token; set one with `necoctl config set github-token`" }
    )]
    Forbidden {
        /// What was asked for.
        url: String,
        /// Whether a token went along.
        token_sent: bool,
    },
    /// The repository itself is not there.
    #[error(
        "{url} answered 404: there is no such repository, or the token may not see it; check release.owner, \
         release.repository and release.api_url in config.yml, and github-token"
    )]
    NoRepository {
        /// What was asked for.
        url: String,
    },
    /// A file or release is not there (any more).
    #[error(
        "{url} answered {status}: the release or file was deleted or replaced; look for releases again"
    )]
    Gone {
        /// What was asked for.
        url: String,
        /// 404 or 410.
        status: u16,
    },
    /// 5xx.
    #[error("{url} answered {status}: the server has trouble; it is asked again later")]
    Server {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
    },
    /// Any other status that is no success.
    #[error(
        "{url} answered {status}, which is neither a release nor a known refusal; check release.api_url and proxy"
    )]
    Status {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
    },
    /// A redirect that is not followed.
    #[error("{url} redirects {problem}; check release.api_url and proxy")]
    Redirect {
        /// What was asked for first.
        url: String,
        /// Why it is not followed.
        problem: String,
    },
    /// A page for people, or something else that was not asked for.
    #[error(
        "{url} answered {content_type} instead of {expected}: a login page or proxy is in between, or \
         release.api_url is no API; check both"
    )]
    WrongContent {
        /// What was asked for.
        url: String,
        /// What should have come.
        expected: &'static str,
        /// What the answer calls itself.
        content_type: String,
    },
    /// JSON that is cut off, or of another form.
    #[error("{url} answered JSON that does not describe releases; check release.api_url")]
    Malformed {
        /// What was asked for.
        url: String,
        /// Where it went wrong.
        #[source]
        source: serde_json::Error,
    },
    /// More bytes come than allowed. Whoever sends them need not be the server that was asked: it says nothing about the
    /// release.
    #[error(
        "{url} sends more than the {limit} bytes that are {}; check release.api_url and proxy",
        match .announced { true => "announced", false => "allowed" }
    )]
    TooLarge {
        /// What was asked for.
        url: String,
        /// The cap.
        limit: u64,
        /// Whether the cap is the size that was announced, rather than a limit of ours.
        announced: bool,
    },
    /// No answer, or no further byte.
    #[error("{url} was silent for {after:?}; is the network or the proxy down?")]
    Silent {
        /// What was asked for.
        url: String,
        /// For how long nothing came.
        after: Duration,
    },
    /// The whole took too long.
    #[error("{url} did not end within {after:?}; it goes on from there next time")]
    TimedOut {
        /// What was asked for.
        url: String,
        /// The limit.
        after: Duration,
    },
    /// The connection could not be made or broke.
    #[error("connection to {url} failed; is the network or the proxy down?")]
    Transport {
        /// What was asked for.
        url: String,
        /// What the transport says.
        #[source]
        source: reqwest::Error,
    },
    /// The body ended early.
    #[error("{url} ended after {got} of {expected} bytes; is the network or the proxy down?")]
    Truncated {
        /// What was asked for.
        url: String,
        /// What came.
        got: u64,
        /// What was announced.
        expected: u64,
    },
    /// The file in the release is not the one that was asked for.
    #[error(
        "{file}: the release has {what} {found}, but {expected} was requested: the release was replaced; withdraw \
         the version or publish a new one"
    )]
    Replaced {
        /// The file.
        file: String,
        /// Size or digest.
        what: &'static str,
        /// As requested.
        expected: String,
        /// As the release has it now.
        found: String,
    },
    /// The release lists a file that is larger than any is fetched.
    #[error(
        "{file}: the release has {size} bytes, but no more than {limit} are fetched; withdraw the version or publish a \
         smaller one"
    )]
    Oversized {
        /// The file.
        file: String,
        /// As the release has it.
        size: u64,
        /// The cap.
        limit: u64,
    },
    /// The bytes are not the ones that were asked for.
    #[error(
        "{url} sent bytes with SHA-256 {found} instead of {expected}; nothing was kept; check the proxy, or publish the \
         release anew if it was changed"
    )]
    WrongDigest {
        /// What was asked for.
        url: String,
        /// As requested or announced.
        expected: String,
        /// What came.
        found: String,
    },
    /// The release has no package.
    #[error("release {tag} has no file {name}_*.deb; publish it with its package")]
    NoPackage {
        /// The release.
        tag: String,
        /// The package.
        name: String,
    },
    /// Somebody else downloads to the same place.
    #[error("{} is being downloaded by another process", .path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// The disk refuses.
    #[error("{action} {}; check space and permissions", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

/// An error with its causes, on one line.
#[cfg(feature = "mirror")]
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

impl ReleaseError {
    /// What to do about it. Never [`Severity::Bug`]: everything here depends on the world outside.
    pub fn severity(&self) -> Severity {
        match self {
            Self::RateLimited { .. }
            | Self::Server { .. }
            | Self::Silent { .. }
            | Self::TimedOut { .. }
            | Self::Transport { .. }
            | Self::Truncated { .. }
            | Self::Gone { .. }
            | Self::Busy { .. }
            | Self::Io { .. } => Severity::TryAgain,
            Self::Option { .. }
            | Self::Unauthorized { .. }
            | Self::Forbidden { .. }
            | Self::NoRepository { .. }
            | Self::Status { .. }
            | Self::Redirect { .. }
            | Self::WrongContent { .. }
            | Self::Malformed { .. }
            | Self::TooLarge { .. }
            | Self::Replaced { .. }
            | Self::Oversized { .. }
            | Self::WrongDigest { .. }
            | Self::NoPackage { .. } => Severity::AskAPerson,
        }
    }

    /// Whether the release itself is not what was requested: it stays so until another one is published or requested.
    /// Everything else lies between here and there, and passes when that is mended.
    pub fn is_about_the_release(&self) -> bool {
        matches!(self, Self::Replaced { .. } | Self::Oversized { .. } | Self::NoPackage { .. })
    }

    /// Whether the same request may succeed a moment later: worth another try within one call.
    pub(crate) fn passes_soon(&self) -> bool {
        matches!(
            self,
            Self::Server { .. }
                | Self::Silent { .. }
                | Self::Transport { .. }
                | Self::Truncated { .. }
        )
    }
}
