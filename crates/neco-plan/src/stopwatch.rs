//! Time as a number: how long a request has been led and not paused.

use std::collections::BTreeMap;
use std::time::Duration;

use neco_schema::{ClockRecord, Key, Lrn, Op, RequestId, Revision, Txn};

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
    /// The revisions by which members show that they move.
    signs: BTreeMap<Lrn, (Revision, Revision)>,
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
        let sign = |lrn: Lrn| {
            let status = view.statuses.get(&lrn).map(|status| status.mod_revision);
            let progress = view.progress.get(&lrn).map(|progress| progress.mod_revision);
            (lrn, (status.unwrap_or_default(), progress.unwrap_or_default()))
        };
        let signs: BTreeMap<_, _> = request.members().into_iter().map(sign).collect();
        let counts = !request.stop && (!view.is_paused() || group_is_open(view, request, groups));
        let counted = match self.counted.take().filter(|counted| counted.request == id) {
            Some(mut counted) => {
                if counts {
                    counted.elapsed += passed;
                    counted.step_elapsed += passed;
                }
                if counted.signs != signs || counted.step != step {
                    (counted.step, counted.step_elapsed, counted.signs) =
                        (step, Duration::ZERO, signs);
                }
                counted
            }
            None => {
                let written =
                    view.clocks.get(&id).map(|clock| clock.value.clone()).unwrap_or_default();
                let same_step = written.step == step;
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
