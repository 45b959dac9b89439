//! What the leader may have to do next.

use neco_schema::{
    Compare, Ending, Lrn, NecoVersion, PackageRef, RequestId, RequestKind, Timestamp,
};

/// What the leader should do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write down that a release was seen.
    NoteSeen {
        /// The release.
        version: NecoVersion,
    },
    /// Write the finished request into the history.
    Record {
        /// The request.
        request: RequestId,
    },
    /// Make a request, and end the one before it in the same transaction.
    Request(NewRequest),
    /// Stop the current request.
    Stop {
        /// The request.
        request: RequestId,
        /// How it is to end.
        ending: Option<Ending>,
        /// Why.
        cause: String,
    },
    /// Do nothing and look again when something changes.
    Wait(Waiting),
}

/// A request to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRequest {
    /// The version.
    pub version: NecoVersion,
    /// The members, in the order of the original: by their decimal text.
    pub servers: Vec<Lrn>,
    /// Why.
    pub kind: RequestKind,
    /// Whether members may go back.
    pub allow_downgrade: bool,
    /// Whether members may go without a way back.
    pub allow_no_way_back: bool,
    /// The request that this one replaces.
    pub replaces: Option<RequestId>,
}

impl Action {
    /// The action in a word, for logs, metrics and counters; the original's names where it has the action.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoteSeen { .. } => "note-seen",
            Self::Record { .. } => "record",
            Self::Request(request) if request.kind == RequestKind::Reconfigure => "reconfigure",
            Self::Request(_) => "request-update",
            Self::Stop { .. } => "request-stop",
            Self::Wait(Waiting::Release) => "wait-for-info",
            Self::Wait(Waiting::Recovery { .. }) => "wait-for-user-recovery",
            Self::Wait(Waiting::Workers { .. }) => "wait-for-workers",
            Self::Wait(_) => "wait",
        }
    }
}

/// What the leader waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// A first release.
    Release,
    /// `recover`, or a newer release.
    Recovery {
        /// Why the request was stopped.
        cause: String,
    },
    /// The members to settle before the request is replaced.
    Settling {
        /// The members that have not, or are busy.
        missing: Vec<Lrn>,
    },
    /// The members to work.
    Workers {
        /// The lowest step any member is in.
        step: u32,
        /// The members in that step.
        behind: Vec<Lrn>,
    },
    /// Something that must be right before a request is made.
    Preflight {
        /// What is not.
        problems: Vec<String>,
    },
    /// The next release window.
    Window {
        /// The version that is due then.
        version: NecoVersion,
        /// When it opens; absent when it never does.
        next: Option<Timestamp>,
    },
    /// The end of a pause.
    Paused {
        /// The version that would be requested.
        version: NecoVersion,
    },
    /// `recover --retry`, `update --to` or a newer release: the request for this version was aborted before.
    AbortedBefore {
        /// The version.
        version: NecoVersion,
    },
    /// Every known release was withdrawn.
    Withdrawn {
        /// The newest of them.
        version: NecoVersion,
    },
    /// An unreadable record.
    Unreadable {
        /// Its key.
        key: String,
        /// What is wrong.
        error: String,
    },
    /// A newer release: everything is done.
    Idle,
}

impl std::fmt::Display for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |servers: &[Lrn]| {
            servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        match self {
            Self::Release => f.write_str("no release is known yet"),
            Self::Recovery { cause } => write!(
                f,
                "the request was stopped ({cause}): waiting for a newer release or 'necoctl recover'"
            ),
            Self::Settling { missing } => {
                write!(f, "waiting for boot servers {} to settle", list(missing))
            }
            Self::Workers { step, behind } => {
                write!(f, "waiting for boot servers {} in step {step}", list(behind))
            }
            Self::Preflight { problems } => {
                write!(f, "not ready for a request: {}", problems.join("; "))
            }
            Self::Window { version, next: Some(next) } => {
                write!(f, "{version} waits for the release window at {next}")
            }
            Self::Window { version, next: None } => write!(
                f,
                "{version} waits for a release window that never opens: check 'necoctl config get release-time'"
            ),
            Self::Paused { version } => write!(f, "{version} waits for 'necoctl resume'"),
            Self::AbortedBefore { version } => write!(
                f,
                "the request for {version} was aborted before: waiting for a newer release, 'necoctl recover --retry' or 'necoctl update --to {version}'"
            ),
            Self::Withdrawn { version } => {
                write!(f, "{version} was withdrawn and no other release is known")
            }
            Self::Unreadable { key, error } => {
                write!(f, "key {key} cannot be read: {error}; {}", crate::view::remedy(key))
            }
            Self::Idle => f.write_str("everything is up to date"),
        }
    }
}

/// What the leader adds to an action to make it a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderContext {
    /// The condition that proves leadership: the own election key.
    pub leadership: Compare,
    /// The leader's wall clock; for people.
    pub now: Timestamp,
    /// The leader's host name.
    pub host: String,
    /// The package of the version to be requested, where it has been resolved.
    pub package: Option<PackageRef>,
}
