//! How long a machine has been bad, and what is made of what it is found to be (neco-daemons §3.5). Pure: times are
//! arguments.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use neco_sabakan::{Machine, MachineState, Serial};
use neco_schema::Timestamp;

use crate::decide::Verdict;

/// Since when machines are bad.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timers(BTreeMap<Serial, Timer>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Timer {
    /// By the wall clock, for whoever leads next.
    since: Timestamp,
    /// How long it had been bad when this process saw it first.
    before: Duration,
    /// When this process saw it first, by the clock that never goes back.
    seen: Duration,
}

/// What time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// By a clock that never goes back, which is what is counted.
    pub monotonic: Duration,
    /// By the clock on the wall, which is what is written down.
    pub wall: Timestamp,
}

/// A state that is to be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Of which machine.
    pub serial: Serial,
    /// The state that it has.
    pub from: MachineState,
    /// The state that it is to have.
    pub to: MachineState,
    /// Why, in words.
    pub why: String,
}

impl Timers {
    /// What is made of a verdict: a state to set, or nothing. `grace` is that of the machine's type, none if that is unknown.
    pub fn settle(
        &mut self,
        machine: &Machine,
        verdict: &Verdict,
        grace: Duration,
        now: Now,
    ) -> Option<Move> {
        let (serial, from) = (&machine.spec.serial, machine.status.state);
        let (to, why) = match verdict {
            Verdict::Unchanged(_) => (from, ""),
            Verdict::Healthy => (MachineState::Healthy, "all is well"),
            Verdict::Unhealthy { why, .. } => (MachineState::Unhealthy, why.as_str()),
            Verdict::Unreachable(why) => (MachineState::Unreachable, why.as_str()),
        };
        // Sabakan refuses the other ways, as from uninitialized to anything bad.
        if !from.may_become(to) {
            self.0.remove(serial);
            return None;
        }
        let patient = matches!(verdict, Verdict::Unhealthy { at_once: false, .. });
        if patient && !self.is_over(serial, grace, now) {
            return None;
        }
        if !patient {
            self.0.remove(serial);
        }
        Some(Move { serial: serial.clone(), from, to, why: why.to_owned() })
    }

    /// Whether a machine has been bad for longer than `grace`; at first sight it begins to count.
    fn is_over(&mut self, serial: &Serial, grace: Duration, now: Now) -> bool {
        let Some(timer) = self.0.get(serial) else {
            let timer = Timer { since: now.wall, before: Duration::ZERO, seen: now.monotonic };
            self.0.insert(serial.clone(), timer);
            return false;
        };
        timer.before + now.monotonic.saturating_sub(timer.seen) > grace
    }

    /// Forgets machines that sabakan knows no more.
    pub fn keep(&mut self, known: &BTreeSet<&Serial>) {
        self.0.retain(|serial, _| known.contains(serial));
    }

    /// Since when machines are bad, by the wall clock: for the next leader, and for people.
    pub fn since(&self) -> BTreeMap<String, Timestamp> {
        self.0.iter().map(|(serial, timer)| (serial.to_string(), timer.since)).collect()
    }

    /// The timers that a leader before has written down. A time that is yet to come begins now.
    pub fn recalled(since: &BTreeMap<String, Timestamp>, now: Now) -> Self {
        let timer = |(serial, &since): (&String, &Timestamp)| {
            let serial = Serial::new(serial.clone()).ok()?;
            let before = now.wall.get().duration_since(since.get());
            let before = Duration::try_from(before).unwrap_or_default();
            let since = since.min(now.wall);
            Some((serial, Timer { since, before, seen: now.monotonic }))
        };
        Self(since.iter().filter_map(timer).collect())
    }

    /// How many run.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none runs.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use MachineState::{Healthy, Unhealthy, Uninitialized, Unreachable};

    use super::*;
    use crate::decide::tests::machine;

    const HOUR: Duration = Duration::from_secs(3600);

    /// So many minutes after some moment.
    fn at(minutes: i64) -> Now {
        let wall = Timestamp::from_unix(1_795_000_000 + 60 * minutes);
        Now {
            monotonic: Duration::from_secs(u64::try_from(60 * minutes + 999).expect("later")),
            wall,
        }
    }

    fn ill() -> Verdict {
        Verdict::Unhealthy { at_once: false, why: "cpu".to_owned() }
    }

    fn urgent() -> Verdict {
        Verdict::Unhealthy { at_once: true, why: "alert".to_owned() }
    }

    fn gone() -> Verdict {
        Verdict::Unreachable("failed".to_owned())
    }

    fn same() -> Verdict {
        Verdict::Unchanged("starting".to_owned())
    }

    /// What comes of these verdicts on one machine in this state, one after the other.
    fn all(state: MachineState, verdicts: &[(i64, Verdict)]) -> Vec<Option<MachineState>> {
        let mut timers = Timers::default();
        let machine = machine("abc", "t", state);
        let settled = |(minutes, verdict): &(i64, Verdict)| {
            timers.settle(&machine, verdict, HOUR, at(*minutes)).map(|to| to.to)
        };
        verdicts.iter().map(settled).collect()
    }

    #[test]
    fn what_is_ill_is_borne_for_its_grace_and_a_moment_of_health_begins_it_anew() {
        let ills = |minutes: &[i64]| -> Vec<_> { minutes.iter().map(|&m| (m, ill())).collect() };
        let unhealthy = Some(Unhealthy);
        assert_eq!(all(Healthy, &ills(&[0, 30, 60, 70])), [None, None, None, unhealthy]);
        // What was set is set again as long as sabakan has not taken it.
        assert_eq!(all(Healthy, &ills(&[0, 70, 71])), [None, unhealthy, unhealthy]);
        for between in [Verdict::Healthy, same()] {
            let verdicts = [(0, ill()), (50, between), (55, ill()), (70, ill()), (116, ill())];
            assert_eq!(all(Healthy, &verdicts), [None, None, None, None, unhealthy]);
        }
        let verdicts = [(0, ill()), (50, gone()), (55, ill()), (70, ill())];
        assert_eq!(all(Healthy, &verdicts), [None, Some(Unreachable), None, None]);
    }

    #[test]
    fn the_rest_is_told_at_once_and_what_is_so_already_is_not() {
        for (state, verdict, expected) in [
            (Healthy, Verdict::Healthy, None),
            (Healthy, urgent(), Some(Unhealthy)),
            (Healthy, gone(), Some(Unreachable)),
            (Healthy, same(), None),
            (Unhealthy, Verdict::Healthy, Some(Healthy)),
            (Unhealthy, urgent(), None),
            (Unhealthy, ill(), None),
            (Unhealthy, gone(), Some(Unreachable)),
            (Unreachable, Verdict::Healthy, Some(Healthy)),
            (Unreachable, urgent(), Some(Unhealthy)),
            (Unreachable, gone(), None),
            (Uninitialized, Verdict::Healthy, Some(Healthy)),
            (Uninitialized, same(), None),
            // Sabakan knows no such way.
            (Uninitialized, gone(), None),
            (Uninitialized, urgent(), None),
        ] {
            assert_eq!(all(state, &[(0, verdict.clone())]), [expected], "{state} {verdict:?}");
        }
        // From unreachable to unhealthy there is a grace, too.
        assert_eq!(all(Unreachable, &[(0, ill()), (70, ill())]), [None, Some(Unhealthy)]);
        // What sabakan would not take is not counted.
        assert_eq!(all(Uninitialized, &[(0, ill()), (70, ill())]), [None, None]);
    }

    #[test]
    fn machines_are_counted_each_for_itself_and_forgotten_with_sabakan() {
        let (one, other) = (machine("one", "t", Healthy), machine("other", "t", Healthy));
        let mut timers = Timers::default();
        assert_eq!(timers.settle(&one, &ill(), HOUR, at(0)), None);
        assert_eq!(timers.settle(&other, &ill(), HOUR, at(50)), None);
        let moved = timers.settle(&one, &ill(), HOUR, at(70)).expect("it is time");
        assert_eq!((moved.from, moved.to, moved.why.as_str()), (Healthy, Unhealthy, "cpu"));
        assert_eq!(timers.settle(&other, &ill(), HOUR, at(70)), None);
        // A type that nobody knows has no grace: the second sight is enough.
        assert_eq!(
            timers.settle(&other, &ill(), Duration::ZERO, at(71)).map(|m| m.to),
            Some(Unhealthy)
        );
        timers.keep(&[&other.spec.serial].into());
        assert_eq!(Vec::from_iter(timers.since().into_keys()), ["other"]);
    }

    #[test]
    fn the_next_leader_goes_on_counting() {
        let machine = machine("abc", "t", Healthy);
        let mut timers = Timers::default();
        timers.settle(&machine, &ill(), HOUR, at(0));
        let record = timers.since();
        // Another process, whose clock began elsewhere.
        let later = |minutes| Now { monotonic: Duration::from_secs(5), ..at(minutes) };
        let settle =
            |mut timers: Timers, now: Now| timers.settle(&machine, &ill(), HOUR, now).is_some();
        assert!(!settle(Timers::recalled(&record, later(40)), later(40)));
        assert!(settle(Timers::recalled(&record, later(61)), later(61)));
        let mut on = Timers::recalled(&record, later(40));
        assert_eq!(on.since(), record);
        let ended = Now { monotonic: Duration::from_secs(5 + 21 * 60), ..at(0) };
        assert!(on.settle(&machine, &ill(), HOUR, ended).is_some(), "its own clock counts");
        // A clock that was set back, and a serial that is none.
        let mut record = record;
        record.insert(String::new(), at(0).wall);
        let early = Timers::recalled(&record, Now { wall: at(-10).wall, ..later(0) });
        assert_eq!(early.since(), [("abc".to_owned(), at(-10).wall)].into());
        assert!(!settle(early, later(0)));
    }
}
