//! What only one server may do at a time: invariants 15 and 18.

use neco_schema::journal::{Effect, Entry};
use neco_schema::{Key, Lrn, Revision, Turn};

use super::liveness::World;
use super::server::Line;
use super::state::State;
use super::verdict::Verdicts;
use super::{Change, Fact, Rules, Writer};
use crate::words::named;

pub(super) fn judge_change(change: &Change<'_>, verdicts: &mut Verdicts) {
    turn_not_stolen(change, verdicts);
}

pub(super) fn judge_line(line: &Line<'_>, verdicts: &mut Verdicts) {
    restart_under_turn(line, verdicts);
}

pub(super) fn judge_fact(
    fact: &Fact,
    world: &World,
    state: &State,
    rules: &Rules,
    verdicts: &mut Verdicts,
) {
    one_restart_at_a_time(fact, world, state, rules, verdicts);
}

/// 15, in the journals: a unit that takes a turn is stopped from a view in which this server held it.
fn restart_under_turn(line: &Line<'_>, verdicts: &mut Verdicts) {
    let Entry::IntentBegun { intent, revision } = line.entry else { return };
    let Some(open) = line.server.journal.intents.get(intent) else { return };
    let Effect::Restart { unit, .. } = &open.effect else { return };
    let Some(turn) = line.rules.turns.get(unit).filter(|_| line.state.covers(*revision)) else {
        return;
    };
    let held = line.state.held_turn(turn, line.lrn, *revision);
    let wrong = (!held).then(|| {
        format!("boot server {} stopped {unit} without holding the turn {turn}", line.lrn)
    });
    verdicts.safety(15, *revision, &[&format!("turn/{turn}")], wrong);
}

/// 15, by facts: a unit is not taken down on two servers at once. Units that fail by themselves are no restarts. An
/// operator who takes a turn by force from a server that is about to stop the unit answers for both; so does one who
/// releases the turn of a server that died with the unit stopped.
fn one_restart_at_a_time(
    fact: &Fact,
    world: &World,
    state: &State,
    rules: &Rules,
    verdicts: &mut Verdicts,
) {
    let Fact::Service { lrn, unit, up: false, planned: true } = fact else { return };
    let turn = rules.turns.get(unit);
    let overruled = |lrn: Lrn| turn.is_some_and(|turn| state.lost_turn_by_force(turn, lrn));
    let left_down = |lrn: Lrn, since: Revision| {
        turn.is_some_and(|turn| state.lost_turn_to_operator(turn, lrn, since))
    };
    let others = world
        .taken_down(unit)
        .filter(|(other, since)| other != lrn && !overruled(*other) && !left_down(*other, *since));
    let others = others.map(|(other, _)| other).collect::<Vec<_>>();
    let wrong = (!others.is_empty() && !overruled(*lrn)).then(|| {
        format!("{unit} was stopped on boot server {lrn} while it was down on {}", named(others))
    });
    verdicts.safety(15, state.revision, &[], wrong);
}

/// 18: a turn has no lease, is never written over, and is deleted by its holder or an operator.
fn turn_not_stolen(change: &Change<'_>, verdicts: &mut Verdicts) {
    for changed in &change.event.changes {
        let Some(Key::Turn(name)) = &changed.key else { continue };
        let before = changed.then::<Turn>().map(|turn| turn.lrn);
        let wrong = match &changed.after {
            Some(kv) if kv.lease.is_some() => {
                Some(format!("turn {name} is bound to a lease and would pass on with it"))
            }
            Some(_) => before
                .map(|holder| format!("turn {name} was taken while boot server {holder} held it")),
            None => match (change.event.writer(), before) {
                (Some(Writer::Worker(by)), Some(holder)) if by != holder => Some(format!(
                    "boot server {by} deleted the turn {name}, which boot server {holder} held"
                )),
                (Some(Writer::Leader), Some(holder)) => Some(format!(
                    "an updater deleted the turn {name}, which boot server {holder} held"
                )),
                _ => None,
            },
        };
        verdicts.safety(18, change.revision(), &[&changed.name], wrong);
    }
}
