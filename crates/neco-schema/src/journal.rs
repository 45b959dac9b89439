//! What one boot server writes down about itself, in `/var/lib/neco/journal/`.
//!
//! An entry is written *before* what it announces (`…Opened`, `…Begun`, `Posting`) or *after* what it reports
//! (`…Done`, `…Closed`). The state that follows from a list of entries is folded by `neco-plan`.

use serde::{Deserialize, Serialize};

use crate::{NecoVersion, PackageRef, RequestId, Revision, Way};

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "kebab-case")]
pub enum Entry {
    /// Everything that follows from the entries before: written first in a new segment, so that old ones may go.
    Checkpoint {
        /// The folded state, in the form of the crate that folds it.
        state: serde_json::Value,
    },
    /// The worker began to run. Whatever step was begun and not ended before this, without a planned exit, crashed.
    ProcessStarted {
        /// The version it runs as.
        version: NecoVersion,
        /// The kernel's boot id.
        boot_id: String,
        /// Its process id.
        pid: u32,
    },
    /// The worker is about to end on purpose; its next start is no crash.
    PlannedExit {
        /// Why.
        why: String,
    },
    /// The newest state of etcd that was seen.
    Mark(Mark),
    /// A status is about to be posted.
    Posting {
        /// For which request.
        request: RequestId,
        /// Which step.
        step: u32,
        /// Which condition, as its number.
        cond: i64,
    },
    /// A step is about to run.
    StepBegun {
        /// For which request.
        request: RequestId,
        /// Which step.
        step: u32,
        /// How often it was begun here, this one included.
        attempt: u32,
        /// The revision of the view that allowed it.
        revision: Revision,
    },
    /// A step has been done.
    StepDone {
        /// For which request.
        request: RequestId,
        /// Which step.
        step: u32,
    },
    /// A step has failed.
    StepFailed {
        /// For which request.
        request: RequestId,
        /// Which step.
        step: u32,
        /// Why.
        cause: String,
    },
    /// A step was left at a safe point, because its request ended.
    StepCancelled {
        /// For which request.
        request: RequestId,
        /// Which step.
        step: u32,
    },
    /// Something is about to be taken away that must be given back, or must not be cut off.
    IntentOpened {
        /// Names it in the entries that follow.
        intent: IntentId,
        /// For which request.
        request: RequestId,
        /// In which step; 0 for the package.
        step: u32,
        /// What it is.
        effect: Effect,
    },
    /// The effect of an intent is about to begin: from here it must be completed.
    IntentBegun {
        /// Which.
        intent: IntentId,
        /// The revision of the view that allowed it.
        revision: Revision,
    },
    /// An intent is over.
    IntentClosed {
        /// Which.
        intent: IntentId,
        /// How it ended.
        end: IntentEnd,
    },
    /// An outage group is about to act on this server.
    GroupOpened {
        /// The group's name.
        group: String,
        /// For which request.
        request: RequestId,
        /// The revision of the view that allowed it.
        revision: Revision,
    },
    /// An outage group is over on this server.
    GroupClosed {
        /// The group's name.
        group: String,
        /// For which request.
        request: RequestId,
        /// Which way it went.
        way: Way,
    },
    /// A managed process was started with this definition.
    Started {
        /// The unit.
        unit: String,
        /// Digest of everything it was started with.
        digest: String,
        /// The run that began so, in systemd's word (its invocation ID): one that began since then began with something
        /// that does not stand here. `None` where nobody asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        run: Option<String>,
    },
    /// A request ended; nothing is started for it again.
    RequestEnded {
        /// Which.
        request: RequestId,
    },
    /// What was decided, and from what.
    Decision {
        /// The revision of the view.
        revision: Revision,
        /// The move, in one word and its arguments.
        decided: String,
        /// The keys that decided; values of secret keys do not stand here.
        keys: Vec<String>,
    },
    /// An effect on this server, for the auditor: begun and ended.
    Effect {
        /// For which request.
        request: RequestId,
        /// In which step; 0 for the package.
        step: u32,
        /// Which attempt.
        attempt: u32,
        /// What, such as `stop vault` or `write /etc/motd`.
        what: String,
        /// Whether it begins or ends.
        phase: Phase,
        /// The revision of the view that allowed it.
        revision: Revision,
    },
}

impl Entry {
    /// The request that it is about, where it names one.
    pub fn request(&self) -> Option<&RequestId> {
        match self {
            Self::Posting { request, .. }
            | Self::StepBegun { request, .. }
            | Self::StepDone { request, .. }
            | Self::StepFailed { request, .. }
            | Self::StepCancelled { request, .. }
            | Self::IntentOpened { request, .. }
            | Self::GroupOpened { request, .. }
            | Self::GroupClosed { request, .. }
            | Self::RequestEnded { request }
            | Self::Effect { request, .. } => Some(request),
            Self::Checkpoint { .. }
            | Self::ProcessStarted { .. }
            | Self::PlannedExit { .. }
            | Self::Mark(_)
            | Self::IntentBegun { .. }
            | Self::IntentClosed { .. }
            | Self::Started { .. }
            | Self::Decision { .. } => None,
        }
    }
}

/// The newest state of etcd that a server has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The cluster's identity.
    pub cluster_id: u64,
    /// The highest revision.
    pub revision: Revision,
    /// The epoch set by operators; 0 when there is none.
    pub epoch: u64,
}

/// Names an intent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IntentId(pub String);

impl std::fmt::Display for IntentId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

/// What an intent is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "kebab-case")]
pub enum Effect {
    /// A unit was stopped and is to be started again within this step.
    Restart {
        /// The unit.
        unit: String,
        /// Digest of everything it is to be started with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
    },
    /// The package is being installed by a unit of its own.
    Install {
        /// The version installed before.
        from: NecoVersion,
        /// The version to install.
        to: NecoVersion,
        /// The package to install.
        package: PackageRef,
        /// The file name of the way back in the cache; absent when the request allows none.
        way_back: Option<String>,
    },
}

/// How an intent ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "kebab-case")]
pub enum IntentEnd {
    /// As it was meant.
    Completed,
    /// Its effect never began.
    Dropped,
    /// It failed; what was taken has been given back as far as possible.
    Failed {
        /// Why.
        cause: String,
    },
}

/// Whether an effect begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// About to begin.
    Begin,
    /// Over.
    End,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_one_line_of_json() {
        let entry = Entry::IntentOpened {
            intent: IntentId("a-1".to_owned()),
            request: RequestId::claimed("43eef0a3d1a72173"),
            step: 3,
            effect: Effect::Restart { unit: "vault.service".to_owned(), digest: None },
        };
        let line = serde_json::to_string(&entry).expect("plain data");
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Entry>(&line).expect("its own form"), entry);
    }
}
