//! Rules that a run leaves out, to see that the checks notice.

use neco_plan::testing::Planted;

/// A rule of the update protocol that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// One in the decisions.
    Decision(Planted),
    /// No fence is asked: what was begun goes on.
    FenceLeftOut,
    /// A write does not decide again on the view that it compares.
    DecidedOnce,
    /// A group's service is started without deciding the way for all.
    WayLeftOut,
    /// A group's stop leaves the unit enabled.
    UnitStaysEnabled,
    /// Whether a service changed is asked of the disk instead of what it was started with.
    ComparedWithDisk,
    /// A turn is not given back unless the step that took it ends.
    TurnKept,
    /// etcd is restarted without taking a turn.
    TurnLeftOut,
    /// A turn is taken over as soon as its holder is not alive.
    TurnByLease,
    /// The health of the others is not asked before the own etcd is stopped.
    HealthLeftOut,
    /// Whether the turn is still held is not asked before the own etcd is stopped.
    TurnNotReread,
    /// The installation dies with the machine: no unit goes on after a reboot.
    InstallForgotten,
    /// An intent whose effect has not begun is completed all the same.
    UnbegunCompleted,
    /// Intents are completed only after etcd has answered.
    IntentsWaitForEtcd,
    /// A leader's write compares neither its leadership nor the request.
    LeaderUnguarded,
    /// The deadline is computed from the wall clock.
    WallClockDeadline,
    /// A release is requested whatever the window.
    WindowIgnored,
    /// No deadline is counted.
    DeadlineLeftOut,
    /// Members of etcd are removed only if a majority of the old size is healthy.
    OldSizeMajority,
}

impl Bug {
    /// The bug in the decisions, if it is one.
    pub fn planted(bug: Option<Self>) -> Option<Planted> {
        match bug {
            Some(Self::Decision(planted)) => Some(planted),
            _ => None,
        }
    }
}
