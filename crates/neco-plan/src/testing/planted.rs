//! Bugs that a check must catch before it is trusted.

use neco_schema::{Lrn, UpdateRequest};

use crate::{Local, View};

/// A bug planted in the decisions of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Planted {
    /// A barrier is passed when a majority has arrived.
    BarrierByMajority,
    /// After a crash the step that was running counts as done.
    ResumeAtNext,
    /// Status writes compare nothing.
    GuardLeftOut,
    /// A status of an earlier request for the same version counts at the barrier.
    EarlierStatusCounts,
    /// A stop is settled before an open group is restored.
    StopBeforeRestore,
    /// A request that cannot be read counts as none: open groups go back.
    UnreadableIsAbsent,
}

/// The members missing at a barrier, as a planted bug sees them.
pub fn planted_barrier(
    view: &View,
    me: &Local,
    request: &UpdateRequest,
    step: u32,
    missing: Vec<Lrn>,
) -> Vec<Lrn> {
    match me.planted {
        Some(Planted::BarrierByMajority) if missing.len() * 2 < request.members().len() => {
            Vec::new()
        }
        Some(Planted::EarlierStatusCounts) => missing
            .into_iter()
            .filter(|lrn| {
                let earlier =
                    view.statuses.get(lrn).filter(|status| status.value.version == request.version);
                earlier.is_none_or(|status| status.value.step < step)
            })
            .collect(),
        _ => missing,
    }
}
