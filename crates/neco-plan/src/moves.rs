//! What a boot server may be told to do next.

use neco_schema::journal::IntentId;
use neco_schema::{
    Condition, Lrn, NecoVersion, Origin, PackageRef, RecipeDigest, RequestId, Revision, Way,
};

/// What one boot server should do next.
///
/// Two looks that give the same move agree: that is what a fence asks for, so a move holds everything it decided by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Move {
    /// Bring a begun effect of an earlier process to its end.
    CompleteIntent {
        /// Which.
        intent: IntentId,
    },
    /// Forget an intent whose effect has not begun.
    DropIntent {
        /// Which.
        intent: IntentId,
    },
    /// End an open outage group without its apply step.
    Restore {
        /// Which.
        group: String,
        /// The request that opened it.
        request: RequestId,
        /// The way to go; decided for all members.
        way: Way,
        /// Whether `group/<name>` says so already; if not it is written first.
        decided: bool,
    },
    /// Leave what runs at its next safe point.
    Cancel {
        /// Why.
        why: String,
    },
    /// What runs is right.
    Keep,
    /// Give a turn back that nothing needs any more.
    ReleaseTurn {
        /// Which.
        name: String,
        /// The revision at which it was taken.
        create_revision: Revision,
    },
    /// Publish what this request would change here.
    PublishPlan {
        /// The request.
        request: RequestId,
    },
    /// Write the own status.
    Post(Post),
    /// Install the package.
    Install {
        /// The request.
        request: RequestId,
        /// The version to install.
        version: NecoVersion,
        /// Its package; absent when a Go leader made the request.
        package: Option<PackageRef>,
        /// Whether the way back may be missing.
        allow_no_way_back: bool,
    },
    /// End with exit code 3: the installed version is the requested one and this process is another.
    ExitForNewBinary,
    /// Run a step.
    Run {
        /// The request.
        request: RequestId,
        /// The step.
        step: u32,
        /// How often it was begun here, this one included.
        attempt: u32,
    },
    /// Do nothing and look again when something changes.
    Rest(Rest),
}

impl Move {
    /// The move in a word, for logs, metrics and counters.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CompleteIntent { .. } => "complete-intent",
            Self::DropIntent { .. } => "drop-intent",
            Self::Restore { .. } => "restore",
            Self::Cancel { .. } => "cancel",
            Self::Keep => "keep",
            Self::ReleaseTurn { .. } => "release-turn",
            Self::PublishPlan { .. } => "publish-plan",
            Self::Post(_) => "post",
            Self::Install { .. } => "install",
            Self::ExitForNewBinary => "exit-for-new-binary",
            Self::Run { .. } => "run",
            Self::Rest(_) => "rest",
        }
    }
}

/// A status to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// The request it belongs to.
    pub request: RequestId,
    /// Its version.
    pub version: NecoVersion,
    /// The step.
    pub step: u32,
    /// What is posted.
    pub kind: PostKind,
}

/// What a status says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PostKind {
    /// Ended orderly without finishing.
    Settled,
    /// Running the step, or waiting at its barrier.
    Running,
    /// Everything is done and the versions are right.
    Complete,
    /// Given up; where it began.
    Aborted(Origin),
}

impl Post {
    /// The condition on the wire.
    pub fn condition(&self) -> Condition {
        match self.kind {
            PostKind::Settled => Condition::NotRunning,
            PostKind::Running => Condition::Running,
            PostKind::Complete => Condition::Complete,
            PostKind::Aborted(_) => Condition::Abort,
        }
    }
}

/// Why a boot server rests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Nothing is requested.
    NoRequest,
    /// The request is for others.
    NotAMember,
    /// The server has left.
    NotRegistered,
    /// This server is through with the request.
    Closed(Condition),
    /// The request was seen to end; it never runs again.
    Ended,
    /// Another etcd cluster answers than the one this server knows.
    OtherCluster,
    /// etcd has gone back in time.
    OlderRevision {
        /// What etcd says.
        revision: Revision,
        /// What this server has seen.
        seen: Revision,
    },
    /// The epoch is older than one that this server has seen.
    OlderEpoch {
        /// What etcd says.
        epoch: u64,
        /// What this server has seen.
        seen: u64,
    },
    /// A record cannot be read.
    Unreadable {
        /// Its key.
        key: String,
        /// What is wrong.
        error: String,
    },
    /// The request is of a kind that this version does not know.
    UnknownKind(String),
    /// Another machine uses this logical rack number.
    HeldByAnotherMachine {
        /// Its machine id.
        machine_id: String,
    },
    /// An operator paused everything.
    Paused {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// Another server installs first.
    FirstServer(Lrn),
    /// Other members have not come to this step yet.
    Barrier {
        /// The step.
        step: u32,
        /// The members that are missing.
        missing: Vec<Lrn>,
    },
    /// Other members have not published their plans yet.
    Plans {
        /// The members that are missing.
        missing: Vec<Lrn>,
    },
}

impl std::fmt::Display for Rest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoRequest => f.write_str("nothing is requested"),
            Self::NotAMember => f.write_str("this server is no member of the request"),
            Self::NotRegistered => f.write_str("this server has left the cluster"),
            Self::Closed(Condition::NotRunning) => f.write_str("settled"),
            Self::Closed(cond) => cond.fmt(f),
            Self::Ended => f.write_str("the request has ended"),
            Self::OtherCluster => {
                f.write_str("etcd is another cluster than the one this server knows: if it was restored on purpose, run 'necoctl recover --force'")
            }
            Self::OlderRevision { revision, seen } => write!(
                f,
                "etcd was restored from a backup (revision {revision}, this server has seen {seen}): run 'necoctl recover --force'"
            ),
            Self::OlderEpoch { epoch, seen } => write!(
                f,
                "etcd was restored from a backup (epoch {epoch}, this server has seen {seen}): run 'necoctl recover --force'"
            ),
            Self::Unreadable { key, error } => {
                write!(f, "key {key} cannot be read: {error}; {}", crate::view::remedy(key))
            }
            Self::UnknownKind(kind) => write!(f, "the request is of kind {kind:?}, which this version does not know"),
            Self::HeldByAnotherMachine { machine_id } => {
                write!(f, "machine {machine_id} uses this logical rack number too: correct /etc/neco/rack on one of them")
            }
            Self::Paused { by, reason } => write!(f, "paused by {by}: {reason}"),
            Self::FirstServer(lrn) => write!(f, "boot server {lrn} installs first"),
            Self::Barrier { step, missing } => write!(f, "waiting at step {step} for {}", list(missing)),
            Self::Plans { missing } => write!(f, "waiting for the plans of {}", list(missing)),
        }
    }
}

fn list(servers: &[Lrn]) -> String {
    let names: Vec<String> = servers.iter().map(|lrn| format!("boot server {lrn}")).collect();
    names.join(", ")
}

/// The digest of a recipe as it stands in a message.
pub(crate) fn short(digest: &RecipeDigest) -> &str {
    digest.0.get(..12).unwrap_or(&digest.0)
}
