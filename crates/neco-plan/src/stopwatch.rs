//! Time as a number: how long a request has been led and not paused.

use std::collections::BTreeMap;
use std::time::Duration;

use neco_schema::{ClockRecord, Key, Lrn, Op, RequestId, Revision, Txn, UpdateRequest};

use crate::barrier::{group_is_open, lowest_step};
use crate::leader::is_finished;
use crate::{GroupShape, View};

/// How long the current request has taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Elapsed {
    /// In all.
    pub request: Duration,
    /// In the present step, since a member last made progress.
    pub step: Duration,
}

/// Counts, for one leader, how long the current request has been led; goes on from where the last leader wrote it down.
///
/// Wall clocks play no part: the caller reports how much of its monotonic time has passed between two looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stopwatch {
    counted: Option<Counted>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Counted {
    request: RequestId,
    elapsed: Duration,
    step: u32,
    step_elapsed: Duration,
    signs: Signs,
}

/// By what members show that they move: their statuses, and downloads that get further than before. Words do not count:
/// whoever only tries again has new ones each time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Signs {
    statuses: BTreeMap<Lrn, Revision>,
    /// How far downloads have come, by step, member and size: one that begins again is no news.
    furthest: BTreeMap<(u32, Lrn, Option<u64>), u64>,
}

impl Signs {
    /// Takes note of what there is to see; says whether that is more than before.
    fn look(&mut self, view: &View, request: &UpdateRequest) -> bool {
        let id = request.id();
        let mut moved = false;
        for lrn in request.members() {
            let status = view.statuses.get(&lrn).map_or(Revision(0), |status| status.mod_revision);
            moved |= self.statuses.insert(lrn, status) != Some(status);
            let progress = view.progress.get(&lrn).map(|progress| &progress.value);
            let Some(progress) = progress.filter(|progress| progress.request == id) else {
                continue;
            };
            let bytes = progress.bytes.unwrap_or(0);
            let download = (progress.step, lrn, progress.total_bytes);
            let furthest = self.furthest.entry(download).or_default();
            moved |= bytes > *furthest;
            *furthest = bytes.max(*furthest);
        }
        moved
    }
}

impl Stopwatch {
    /// Takes a look: adds the time that `passed` since the last one, if it counts, and says how much that makes.
    pub fn look(&mut self, view: &View, groups: &[GroupShape], passed: Duration) -> Elapsed {
        let Some(request) = view.current() else {
            self.counted = None;
            return Elapsed::default();
        };
        let id = request.id();
        let step = lowest_step(view, request);
        let counts = !request.stop && (!view.is_paused() || group_is_open(view, request, groups));
        let counted = match self.counted.take().filter(|counted| counted.request == id) {
            Some(mut counted) => {
                if counts {
                    counted.elapsed += passed;
                    counted.step_elapsed += passed;
                }
                if counted.step != step {
                    counted.signs.furthest.retain(|(of, ..), _| *of >= step);
                }
                if counted.signs.look(view, request) || counted.step != step {
                    (counted.step, counted.step_elapsed) = (step, Duration::ZERO);
                }
                counted
            }
            None => {
                let written =
                    view.clocks.get(&id).map(|clock| clock.value.clone()).unwrap_or_default();
                let same_step = written.step == step;
                let mut signs = Signs::default();
                signs.look(view, request);
                Counted {
                    request: id,
                    elapsed: Duration::from_nanos(written.elapsed),
                    step,
                    step_elapsed: if same_step {
                        Duration::from_nanos(written.step_elapsed)
                    } else {
                        Duration::ZERO
                    },
                    signs,
                }
            }
        };
        let elapsed = Elapsed { request: counted.elapsed, step: counted.step_elapsed };
        self.counted = Some(counted);
        elapsed
    }

    /// The write that lets the next leader go on; the caller adds its leadership as a condition.
    ///
    /// Nothing for a request that is stopped or finished: its record went, or goes, with its end.
    pub fn txn(&self, view: &View) -> Option<Txn> {
        view.current().filter(|request| !request.stop && !is_finished(view, request))?;
        let counted = self.counted.as_ref()?;
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let record = ClockRecord {
            elapsed: nanos(counted.elapsed),
            step: counted.step,
            step_elapsed: nanos(counted.step_elapsed),
            unknown: serde_json::Map::new(),
        };
        let request = neco_schema::Compare::unchanged(&Key::Request, view.request.mod_revision());
        Some(
            Txn::default()
                .when(request)
                .then(Op::put(&Key::Clock(counted.request.clone()), &record)),
        )
    }
}
