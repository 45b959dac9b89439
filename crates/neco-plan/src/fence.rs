//! The question asked at every safe point: may what runs here go on?

use crate::{Local, Move, View, next_move};

/// The answer of a fence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fence {
    /// The next effect may begin.
    Go,
    /// Not now; ask again when something changes.
    Wait(String),
    /// Not any more: leave at this safe point.
    Cancel(String),
}

/// Whether what `me` is doing may begin its next effect, seen from a fresh view.
///
/// The decision is taken again, on everything; only if it comes out as before does the work go on.
pub fn fence(view: &View, me: &Local) -> Fence {
    match next_move(view, me) {
        Move::Keep => Fence::Go,
        Move::Cancel { why } => Fence::Cancel(why),
        Move::Rest(rest) => Fence::Wait(rest.to_string()),
        other => Fence::Cancel(format!("{} comes first", other.name())),
    }
}
