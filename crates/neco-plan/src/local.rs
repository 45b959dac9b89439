//! What one boot server knows about itself: the folded journal and what it is doing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use neco_schema::journal::{Effect, Entry, IntentEnd, IntentId, Mark};
use neco_schema::{Condition, Lrn, NecoVersion, RecipeShape, RequestId};
use serde::{Deserialize, Serialize};

/// How many requests a journal remembers; older ones are long replaced.
const REMEMBERED_REQUESTS: usize = 16;

/// One boot server's own state, beside the view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Its logical rack number.
    pub lrn: Lrn,
    /// Its machine id.
    pub machine_id: String,
    /// The version of the installed package.
    pub installed: NecoVersion,
    /// The version of this process.
    pub running: NecoVersion,
    /// The shape of the recipe this process follows.
    pub recipe: RecipeShape,
    /// What the journal says.
    pub journal: JournalState,
    /// What runs right now.
    pub doing: Option<Doing>,
    /// A bug planted by a test.
    #[cfg(feature = "testing")]
    pub planted: Option<crate::testing::Planted>,
}

impl Local {
    /// A server with an empty journal that does nothing.
    pub fn new(
        lrn: Lrn,
        machine_id: impl Into<String>,
        version: NecoVersion,
        recipe: RecipeShape,
    ) -> Self {
        Self {
            lrn,
            machine_id: machine_id.into(),
            installed: version.clone(),
            running: version,
            recipe,
            journal: JournalState::default(),
            doing: None,
            #[cfg(feature = "testing")]
            planted: None,
        }
    }

    /// What must not be cut off, in words; empty when nothing is open.
    pub fn busy(&self) -> Vec<String> {
        let intents = self.journal.intents.values().map(|intent| match &intent.effect {
            Effect::Restart { unit, .. } => format!("restart of {unit}"),
            Effect::Install { to, .. } => format!("install of {to}"),
        });
        let groups = self.journal.groups.keys().map(|group| format!("group {group}"));
        let doing = self.doing.as_ref().map(ToString::to_string);
        intents.chain(groups).chain(doing).collect()
    }
}

/// What runs right now in this process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Doing {
    /// A step.
    Step {
        /// For which request.
        request: RequestId,
        /// Which.
        step: u32,
    },
    /// The installation of the package, from download to verdict.
    Install {
        /// For which request.
        request: RequestId,
    },
    /// The restoration of an outage group.
    Restore {
        /// Which.
        group: String,
    },
    /// The completion of an intent left over from a crash.
    Complete {
        /// Which.
        intent: IntentId,
    },
}

impl std::fmt::Display for Doing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Step { step, .. } => write!(f, "step {step}"),
            Self::Install { .. } => f.write_str("install"),
            Self::Restore { group } => write!(f, "restore of group {group}"),
            Self::Complete { intent } => write!(f, "completion of {intent}"),
        }
    }
}

/// The state that follows from a journal's entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalState {
    /// Open intents.
    pub intents: BTreeMap<IntentId, IntentState>,
    /// Open outage groups.
    pub groups: BTreeMap<String, OpenGroup>,
    /// What was done for recent requests.
    pub requests: BTreeMap<RequestId, RequestState>,
    /// The order in which requests were first heard of, oldest first.
    order: VecDeque<RequestId>,
    /// The newest state of etcd that was seen.
    pub mark: Mark,
    /// Requests for which nothing is started again.
    pub ended: BTreeSet<RequestId>,
    /// The digest each managed process was started with.
    pub started_with: BTreeMap<String, String>,
    /// The run of a unit that began with that digest, where it is known.
    #[serde(default)]
    pub runs: BTreeMap<String, String>,
    /// Whether the last exit was planned.
    planned_exit: bool,
    /// The kernel's boot id when the process last began to run.
    #[serde(default)]
    boot_id: String,
}

/// An open intent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntentState {
    /// For which request.
    pub request: RequestId,
    /// In which step; 0 for the package.
    pub step: u32,
    /// What it is.
    pub effect: Effect,
    /// Whether its effect has begun: then it must be completed, otherwise dropped.
    pub begun: bool,
}

/// An outage group that is open on this server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenGroup {
    /// For which request.
    pub request: RequestId,
}

/// What was done for one request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestState {
    /// The last status other than an abort that was posted or about to be: step and condition.
    pub posted: Option<(u32, i64)>,
    /// The highest step that is done.
    pub done: u32,
    /// The step that was begun and has not ended.
    pub running: Option<u32>,
    /// How often the newest step was begun.
    pub attempts: u32,
    /// The step that `attempts` and `crashes` count.
    pub counted: u32,
    /// How often this process died in that step.
    pub crashes: u32,
    /// What failed: the step (0 for the package) and why.
    pub failed: Option<(u32, String)>,
}

impl JournalState {
    /// Folds a whole journal.
    pub fn fold<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut state = Self::default();
        for entry in entries {
            state.apply(entry);
        }
        state
    }

    /// The entry that stands for everything folded so far.
    pub fn checkpoint(&self) -> Entry {
        // A map with text keys throughout; serialisation cannot fail.
        Entry::Checkpoint { state: serde_json::to_value(self).unwrap_or_default() }
    }

    /// What was done for `request`.
    pub fn of(&self, request: &RequestId) -> RequestState {
        self.requests.get(request).cloned().unwrap_or_default()
    }

    /// Folds one more entry.
    pub fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Checkpoint { state } => {
                if let Ok(state) = serde_json::from_value(state.clone()) {
                    *self = state;
                }
            }
            Entry::ProcessStarted { boot_id, .. } => self.process_started(boot_id),
            Entry::PlannedExit { .. } => self.planned_exit = true,
            Entry::Mark(mark) => self.mark = *mark,
            Entry::Posting { request, step, cond } => {
                let state = self.request(request);
                // Giving up proves nothing about the steps before it: on a new disk that may be all there is.
                if Condition::from_code(*cond) != Condition::Abort {
                    state.posted = Some((*step, *cond));
                }
            }
            Entry::StepBegun { request, step, attempt, .. } => {
                let state = self.request(request);
                if state.counted != *step {
                    (state.counted, state.crashes) = (*step, 0);
                }
                (state.running, state.attempts) = (Some(*step), *attempt);
            }
            Entry::StepDone { request, step } => {
                let state = self.request(request);
                state.running = None;
                state.done = state.done.max(*step);
            }
            Entry::StepFailed { request, step, cause } => {
                let state = self.request(request);
                state.running = None;
                match &mut state.failed {
                    None => state.failed = Some((*step, cause.clone())),
                    // What has come of it since, such as a service that stays stopped.
                    Some((_, causes)) if !causes.contains(cause.as_str()) => {
                        causes.push_str("; ");
                        causes.push_str(cause);
                    }
                    Some(_) => {}
                }
            }
            Entry::StepCancelled { request, .. } => self.request(request).running = None,
            Entry::IntentOpened { intent, request, step, effect } => {
                let state = IntentState {
                    request: request.clone(),
                    step: *step,
                    effect: effect.clone(),
                    begun: false,
                };
                self.intents.insert(intent.clone(), state);
            }
            Entry::IntentBegun { intent, .. } => {
                if let Some(open) = self.intents.get_mut(intent) {
                    open.begun = true;
                }
            }
            Entry::IntentClosed { intent, end } => self.intent_closed(intent, end),
            Entry::GroupOpened { group, request, .. } => {
                self.groups.insert(group.clone(), OpenGroup { request: request.clone() });
            }
            Entry::GroupClosed { group, .. } => {
                self.groups.remove(group);
            }
            Entry::Started { unit, digest, run } => {
                self.started_with.insert(unit.clone(), digest.clone());
                match run {
                    Some(run) => self.runs.insert(unit.clone(), run.clone()),
                    None => self.runs.remove(unit),
                };
            }
            Entry::RequestEnded { request } => {
                self.request(request);
                self.ended.insert(request.clone());
            }
            Entry::Decision { .. } | Entry::Effect { .. } => {}
        }
    }

    fn request(&mut self, id: &RequestId) -> &mut RequestState {
        if !self.requests.contains_key(id) {
            self.order.push_back(id.clone());
            if self.order.len() > REMEMBERED_REQUESTS
                && let Some(oldest) = self.order.pop_front()
            {
                self.requests.remove(&oldest);
                self.ended.remove(&oldest);
            }
        }
        self.requests.entry(id.clone()).or_default()
    }

    fn process_started(&mut self, boot_id: &str) {
        if self.boot_id != boot_id {
            // A boot starts every process anew, with whatever stands on the disk then.
            self.started_with.clear();
            self.runs.clear();
            boot_id.clone_into(&mut self.boot_id);
        }
        let crashed = !std::mem::take(&mut self.planned_exit);
        for state in self.requests.values_mut() {
            if state.running.take().is_some() && crashed {
                state.crashes += 1;
            }
        }
    }

    fn intent_closed(&mut self, intent: &IntentId, end: &IntentEnd) {
        let Some(open) = self.intents.remove(intent) else { return };
        if let (Effect::Install { .. }, IntentEnd::Failed { cause }) = (&open.effect, end) {
            self.request(&open.request).failed.get_or_insert_with(|| (0, cause.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use neco_schema::Revision;

    use super::*;

    fn id(text: &str) -> RequestId {
        RequestId::claimed(text)
    }

    fn started() -> Entry {
        Entry::ProcessStarted {
            version: "1.0.0".parse().expect("a version"),
            boot_id: "b".into(),
            pid: 1,
        }
    }

    fn begun(step: u32, attempt: u32) -> Entry {
        Entry::StepBegun { request: id("a"), step, attempt, revision: Revision(1) }
    }

    #[test]
    fn a_start_after_a_begun_step_is_a_crash_and_after_a_planned_exit_it_is_not() {
        let mut state = JournalState::fold(&[started(), begun(3, 1), started(), begun(3, 2)]);
        assert_eq!(state.of(&id("a")).crashes, 1);
        state.apply(&Entry::PlannedExit { why: "new binary".into() });
        state.apply(&started());
        assert_eq!(state.of(&id("a")).crashes, 1);
        assert_eq!(state.of(&id("a")).attempts, 2);
    }

    #[test]
    fn a_boot_starts_processes_with_what_nobody_wrote_down() {
        let unit = Entry::Started {
            unit: "etcd.service".into(),
            digest: "d".into(),
            run: Some("r".into()),
        };
        let mut state = JournalState::fold(&[started(), unit, started()]);
        assert!(state.started_with.contains_key("etcd.service"));
        assert_eq!(state.runs["etcd.service"], "r");
        state.apply(&Entry::ProcessStarted {
            version: "1.0.0".parse().expect("a version"),
            boot_id: "after the power cut".into(),
            pid: 1,
        });
        assert!(state.started_with.is_empty());
        assert!(state.runs.is_empty());
    }

    #[test]
    fn crashes_are_counted_per_step() {
        let done = Entry::StepDone { request: id("a"), step: 3 };
        let state = JournalState::fold(&[
            begun(3, 1),
            started(),
            begun(3, 2),
            started(),
            begun(3, 3),
            done,
            begun(4, 1),
            started(),
        ]);
        assert_eq!((state.of(&id("a")).crashes, state.of(&id("a")).done), (1, 3));
    }

    #[test]
    fn a_checkpoint_stands_for_everything_before_it() {
        let effect = Effect::Restart { unit: "etcd.service".into(), digest: None };
        let entries = [
            started(),
            begun(3, 1),
            Entry::IntentOpened { intent: IntentId("i".into()), request: id("a"), step: 3, effect },
            Entry::IntentBegun { intent: IntentId("i".into()), revision: Revision(5) },
            Entry::GroupOpened { group: "vault".into(), request: id("a"), revision: Revision(4) },
            Entry::Started { unit: "serf.service".into(), digest: "d".into(), run: None },
            Entry::RequestEnded { request: id("z") },
        ];
        let state = JournalState::fold(&entries);
        assert_eq!(JournalState::fold(&[state.checkpoint()]), state);
        assert!(state.intents[&IntentId("i".into())].begun);
    }

    #[test]
    fn a_failed_install_marks_the_request() {
        let version: NecoVersion = "1.0.0".parse().expect("a version");
        let package = neco_schema::PackageRef {
            file: "f".into(),
            size: 1,
            sha256: "0".repeat(64),
            unknown: Default::default(),
        };
        let effect =
            Effect::Install { from: version.clone(), to: version, package, way_back: None };
        let intent = IntentId("i".into());
        let state = JournalState::fold(&[
            Entry::IntentOpened { intent: intent.clone(), request: id("a"), step: 0, effect },
            Entry::IntentClosed { intent, end: IntentEnd::Failed { cause: "postinst".into() } },
        ]);
        assert_eq!(state.of(&id("a")).failed, Some((0, "postinst".to_owned())));
        assert!(state.intents.is_empty());
    }

    #[test]
    fn what_has_come_of_a_failure_stands_beside_its_cause() {
        let failed = |step: u32, cause: &str| Entry::StepFailed {
            request: id("a"),
            step,
            cause: cause.to_owned(),
        };
        let stays = failed(0, "group vault stays stopped");
        let state = JournalState::fold(&[failed(4, "no seal"), stays.clone(), stays]);
        let causes = "no seal; group vault stays stopped".to_owned();
        assert_eq!(state.of(&id("a")).failed, Some((4, causes)));
    }

    #[test]
    fn old_requests_are_forgotten() {
        let mut state = JournalState::default();
        for at in 0..40 {
            state.apply(&Entry::RequestEnded { request: id(&at.to_string()) });
        }
        assert_eq!(
            (state.requests.len(), state.ended.len()),
            (REMEMBERED_REQUESTS, REMEMBERED_REQUESTS)
        );
        assert!(state.ended.contains(&id("39")));
    }
}
