//! What was decided and from what, for the journal: an update can be explained afterwards from any server's own records.

use std::mem::{Discriminant, discriminant};

use neco_plan::{Move, Rest, Row, View};
use neco_schema::journal::Entry;
use neco_schema::{Key, Lrn, Revision, Way};

/// What tells one decision from the next. Words that change with every look, such as who is still missing at a barrier,
/// do not make a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    row: Row,
    decided: Discriminant<Move>,
    rest: Option<(Discriminant<Rest>, u32)>,
}

impl Kind {
    pub(crate) fn of(row: Row, decided: &Move) -> Self {
        let rest = match decided {
            Move::Rest(rest @ Rest::Barrier { step, .. }) => Some((discriminant(rest), *step)),
            Move::Rest(rest) => Some((discriminant(rest), 0)),
            _ => None,
        };
        Self { row, decided: discriminant(decided), rest }
    }
}

/// Whether nothing but the decision itself is written down: what acts on etcd or begins a step is journalled with what it
/// does, from the fresh view that it acts on.
pub(crate) fn is_all_there_is(decided: &Move) -> bool {
    match decided {
        Move::Rest(_)
        | Move::Cancel { .. }
        | Move::CompleteIntent { .. }
        | Move::DropIntent { .. }
        | Move::ExitForNewBinary
        | Move::Restore { decided: true, .. } => true,
        Move::Keep
        | Move::Restore { .. }
        | Move::ReleaseTurn { .. }
        | Move::PublishPlan { .. }
        | Move::Post(_)
        | Move::Install { .. }
        | Move::Run { .. } => false,
    }
}

/// The entry that says so.
pub(crate) fn entry(view: &View, lrn: Lrn, row: Row, decided: &Move) -> Entry {
    Entry::Decision {
        revision: view.revision,
        decided: format!("row {} {}", row.0, words(decided)),
        keys: keys(view, lrn, row),
    }
}

fn words(decided: &Move) -> String {
    let name = decided.name();
    match decided {
        Move::Post(post) => format!("{name} step {}, {}", post.step, post.condition()),
        Move::Run { step, attempt, .. } => format!("{name} step {step}, attempt {attempt}"),
        Move::Install { version, .. } => format!("{name} {version}"),
        Move::ReleaseTurn { name: turn, .. } => format!("{name} {turn}"),
        Move::Restore { group, way: Way::Back, .. } => format!("{name} {group} back"),
        Move::Restore { group, way: Way::Forward, .. } => format!("{name} {group} forward"),
        Move::CompleteIntent { intent } | Move::DropIntent { intent } => format!("{name} {intent}"),
        Move::Cancel { why } => format!("{name}: {why}"),
        Move::Rest(rest) => format!("{name}: {rest}"),
        Move::Keep | Move::PublishPlan { .. } | Move::ExitForNewBinary => name.to_owned(),
    }
}

/// The keys that the table has read when `row` decides, each with the revision of its last change.
fn keys(view: &View, lrn: Lrn, row: Row) -> Vec<String> {
    let mut keys = Vec::new();
    let mut saw = |from_row: u8, key: Key, revision: Revision| {
        if row.0 >= from_row && revision > Revision(0) {
            keys.push(format!("{key}@{revision}"));
        }
    };
    saw(2, Key::Request, view.request.mod_revision());
    for (lrn, status) in &view.statuses {
        saw(2, Key::Status(*lrn), status.mod_revision);
    }
    for (name, group) in &view.groups {
        saw(2, Key::Group(name.clone()), group.mod_revision);
    }
    if let Some(alive) = view.alive.get(&lrn) {
        saw(4, Key::Alive(lrn), alive.mod_revision);
    }
    for (name, turn) in view.turns_of(lrn) {
        saw(4, Key::Turn(name.to_owned()), turn.mod_revision);
    }
    saw(5, Key::Epoch, view.epoch_revision);
    for (lrn, plan) in &view.plans {
        saw(12, Key::Plan(*lrn), plan.mod_revision);
    }
    saw(13, Key::Pause, view.pause.mod_revision());
    for (key, unreadable) in &view.unreadable {
        saw(5, key.clone(), unreadable.mod_revision);
    }
    keys.sort_unstable();
    // What cannot be read may stand in its own place as well.
    keys.dedup();
    keys
}
