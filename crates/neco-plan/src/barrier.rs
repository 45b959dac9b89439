//! Who has come how far.

use std::collections::BTreeSet;

use neco_schema::{Condition, Lrn, UpdateRequest};

use crate::{GroupShape, View};

/// The members of `request` that have not recorded arrival at `step`.
pub(crate) fn missing_at(view: &View, request: &UpdateRequest, step: u32) -> Vec<Lrn> {
    let arrived: BTreeSet<Lrn> = view
        .member_statuses(request)
        .filter(|(_, status)| {
            status.value.step >= step
                && matches!(status.value.cond, Condition::Running | Condition::Complete)
        })
        .map(|(lrn, _)| lrn)
        .collect();
    request.members().difference(&arrived).copied().collect()
}

/// The lowest step that any member is in; 0 when one has not begun.
pub fn lowest_step(view: &View, request: &UpdateRequest) -> u32 {
    let steps: Vec<u32> =
        view.member_statuses(request).map(|(_, status)| status.value.step).collect();
    let all_began = steps.len() == request.members().len();
    steps.into_iter().min().filter(|_| all_began).unwrap_or(0)
}

/// Whether an outage group is open in the view: from when every member has posted its stop step until every member has
/// posted past its apply step. A pause waits for its end, and deadlines count in it.
pub fn group_is_open(view: &View, request: &UpdateRequest, groups: &[GroupShape]) -> bool {
    let past = |step: u32| {
        let statuses: Vec<_> = view.member_statuses(request).collect();
        statuses.len() == request.members().len()
            && statuses.iter().all(|(_, status)| {
                status.value.step > step || status.value.cond == Condition::Complete
            })
    };
    groups
        .iter()
        .any(|group| missing_at(view, request, group.stop).is_empty() && !past(group.apply))
}
