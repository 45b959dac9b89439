//! What can go wrong between here and an image, and what to do about it.

use std::time::Duration;

use neco_schema::Severity;

use crate::digest::Digest;
use crate::name::{ImageName, Repository};

/// Why a registry did not give what it was asked for.
///
/// URLs in messages carry neither user information nor queries: both may hold secrets.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// A setting of the client cannot be used.
    #[error("{option}: {problem}")]
    Option {
        /// Which setting.
        option: &'static str,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// Credentials cannot be had.
    #[error("cannot read the login for registry {registry}: {why}")]
    Credentials {
        /// The registry.
        registry: String,
        /// Where they were sought, what is wrong and what to do; holds no secret.
        why: String,
    },
    /// The registry wants another login, or one at all.
    #[error(
        "{url} answered {status}: registry {registry} {}; {remedy}",
        if *.login_sent { "refuses the login" } else { "wants a login, or has no such repository" }
    )]
    Unauthorized {
        /// What was asked for.
        url: String,
        /// 401, or 403 where tokens are made.
        status: u16,
        /// The registry, as logins are known by it.
        registry: String,
        /// Whether a login went along.
        login_sent: bool,
        /// What a person does.
        remedy: String,
    },
    /// 403.
    #[error(
        "{url} answered 403: who asks may not read it; give that user the right to pull, or check the proxy"
    )]
    Forbidden {
        /// What was asked for.
        url: String,
    },
    /// The registry asks for ways of authentication that are not known here, or that are not safe.
    #[error("registry {registry} asks for a login {problem}")]
    Challenge {
        /// The registry.
        registry: String,
        /// In which way, why that is not followed, and what to do.
        problem: String,
    },
    /// Too many requests.
    #[error(
        "{url} answered 429: it limits the rate of requests{}; a login may raise the limit",
        .after.map(|after| format!(" and wants to be left alone for {after:?}")).unwrap_or_default()
    )]
    RateLimited {
        /// What was asked for.
        url: String,
        /// For how long it wants to be left alone, where it said so.
        after: Option<Duration>,
    },
    /// 5xx.
    #[error("{url} answered {status}: the registry has trouble")]
    Server {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
        /// For how long it wants to be left alone, where it said so.
        after: Option<Duration>,
    },
    /// Any other status that is no success.
    #[error(
        "{url} answered {status}, which no registry should; check the image's name and the proxy"
    )]
    Status {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
    },
    /// A redirect that is not followed.
    #[error("{url} redirects {problem}; check the image's name and the proxy")]
    Redirect {
        /// What was asked for first.
        url: String,
        /// Why it is not followed.
        problem: String,
    },
    /// There are no tags.
    #[error(
        "there is no repository {repository}, or it may not be seen without a login; check its name"
    )]
    NoRepository {
        /// Which.
        repository: Repository,
    },
    /// There is no manifest.
    #[error(
        "there is no image {image}, or it may not be seen without a login; check its name and tag"
    )]
    NoImage {
        /// Which.
        image: ImageName,
    },
    /// There is an image, but not all of it.
    #[error("{url} answered 404: the registry has lost a part of the image; push it again")]
    NoBlob {
        /// What was asked for.
        url: String,
    },
    /// There is an image, but for other machines.
    #[error("image {image} is not for linux/amd64 but for {found}; choose another one")]
    OtherPlatform {
        /// Which.
        image: ImageName,
        /// For which ones it is.
        found: String,
    },
    /// There is something that no archive can be made of.
    #[error("image {image} {problem}")]
    Unsupported {
        /// Which.
        image: ImageName,
        /// What it has, and what to do.
        problem: String,
    },
    /// A page for people, or something else that was not asked for.
    #[error(
        "{url} answered {content_type} instead of {expected}: a login page or proxy is in between, or this is no registry; check both"
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
    #[error("{url} answered JSON that is no {expected}")]
    Malformed {
        /// What was asked for.
        url: String,
        /// What should have come.
        expected: &'static str,
        /// Where it went wrong.
        #[source]
        source: serde_json::Error,
    },
    /// More bytes come than allowed.
    #[error(
        "{url} sends more than the {limit} bytes that are allowed for a {what}; check the image's name and the proxy"
    )]
    TooLarge {
        /// What was asked for.
        url: String,
        /// What should have come.
        what: &'static str,
        /// The cap.
        limit: u64,
    },
    /// A body is announced with another size than the manifest says.
    #[error(
        "{url} has {found} bytes where the image's manifest says {expected}; push the image again, or check the proxy"
    )]
    WrongSize {
        /// What was asked for.
        url: String,
        /// As the manifest has it.
        expected: u64,
        /// As the answer has it.
        found: u64,
    },
    /// The bytes are not the ones that were asked for.
    #[error(
        "{url} sent bytes with digest {found} instead of {expected}; push the image again, or check the proxy"
    )]
    WrongDigest {
        /// What was asked for.
        url: String,
        /// As requested.
        expected: Digest,
        /// What came.
        found: Digest,
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
    #[error("{what} did not end within {after:?}; is the registry too slow, or whoever takes it?")]
    TimedOut {
        /// Which archive, or which part of an image.
        what: String,
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
}

impl RegistryError {
    /// What to do about it. Never [`Severity::Bug`]: everything here depends on the world outside.
    pub fn severity(&self) -> Severity {
        match self {
            Self::RateLimited { .. }
            | Self::Server { .. }
            | Self::Silent { .. }
            | Self::TimedOut { .. }
            | Self::Transport { .. }
            | Self::Truncated { .. } => Severity::TryAgain,
            Self::Option { .. }
            | Self::Credentials { .. }
            | Self::Unauthorized { .. }
            | Self::Forbidden { .. }
            | Self::Challenge { .. }
            | Self::Status { .. }
            | Self::Redirect { .. }
            | Self::NoRepository { .. }
            | Self::NoImage { .. }
            | Self::NoBlob { .. }
            | Self::OtherPlatform { .. }
            | Self::Unsupported { .. }
            | Self::WrongContent { .. }
            | Self::Malformed { .. }
            | Self::TooLarge { .. }
            | Self::WrongSize { .. }
            | Self::WrongDigest { .. } => Severity::AskAPerson,
        }
    }

    /// Whether the same request may succeed a moment later, and how long the registry wants to be left alone before it;
    /// `None` if it is not worth another try within one call.
    pub(crate) fn passes_soon(&self, longest: Duration) -> Option<Duration> {
        match self {
            Self::RateLimited { after, .. } | Self::Server { after, .. } => {
                Some(after.unwrap_or_default()).filter(|after| *after <= longest)
            }
            Self::Silent { .. } | Self::Transport { .. } | Self::Truncated { .. } => {
                Some(Duration::ZERO)
            }
            _ => None,
        }
    }
}
