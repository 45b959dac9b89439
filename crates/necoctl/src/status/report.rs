//! The report itself, made from one consistent view.

use neco_connect::Settings;
use neco_plan::{Slot, View, aborted_releases, outcome};
use neco_schema::{Condition, Key, Lrn, NecoVersion, Outcome, Snapshot, Timestamp, abridged};
use serde::Serialize;

use super::StepNames;
use crate::words::one_line;

/// How much of a stray key is shown.
const LONGEST_KEY: usize = 200;

/// How everything stands at one revision of etcd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The version of this form.
    pub format: u32,
    /// The revision of etcd.
    pub revision: i64,
    /// How the update stands.
    pub state: State,
    /// The newest known release.
    pub release: Option<NecoVersion>,
    /// Why the updater on this server, which leads, finds no newer release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release_trouble: Option<String>,
    /// The version an operator asked for.
    pub target: Option<TargetReport>,
    /// Who paused everything, if somebody did.
    pub paused: Option<Notice>,
    /// Versions that were withdrawn.
    pub withdrawn: Vec<Notice>,
    /// Newer releases that are not chosen by themselves because their update was aborted, newest first.
    pub aborted: Vec<NecoVersion>,
    /// The host of the updater that leads.
    pub leader: Option<String>,
    /// The hosts of the updaters that would lead after it.
    pub candidates: Vec<String>,
    /// The current request.
    pub request: Option<RequestReport>,
    /// The registered servers and the members of the request.
    pub servers: Vec<ServerReport>,
    /// Turns that are taken.
    pub turns: Vec<TurnReport>,
    /// Keys that are none of Neco's, and values that cannot be read.
    pub problems: Vec<StrayOrMalformed>,
}

/// How the update stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Nothing is requested.
    Clear,
    /// The request cannot be read.
    Unreadable,
    /// Members work.
    Running,
    /// A member aborted, or the leader stopped it because it failed.
    Aborted,
    /// An operator stopped it.
    Stopped,
    /// A member left; a request without it follows.
    Superseded,
    /// Every member has completed it.
    Completed,
}

impl State {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Clear => "nothing is requested",
            Self::Unreadable => "the request cannot be read",
            Self::Running => "running",
            Self::Aborted => "aborted",
            Self::Stopped => "stopped",
            Self::Superseded => "superseded",
            Self::Completed => "completed",
        }
    }

    /// The state of what `view` shows.
    pub fn of(view: &View) -> Self {
        let request = match &view.request {
            Slot::Absent => return Self::Clear,
            Slot::Unreadable { .. } => return Self::Unreadable,
            Slot::Present(request) => &request.value,
        };
        match outcome(view, request) {
            Outcome::Completed => Self::Completed,
            Outcome::Aborted => Self::Aborted,
            Outcome::Superseded => Self::Superseded,
            Outcome::Stopped if request.stop => Self::Stopped,
            Outcome::Stopped => Self::Running,
        }
    }
}

/// The version an operator asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TargetReport {
    /// The version.
    pub version: NecoVersion,
    /// Whether newer releases are not followed.
    pub pinned: bool,
    /// Whether it may be older than what runs.
    pub allow_downgrade: bool,
    /// Who asked.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// Somebody's order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// The version it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<NecoVersion>,
    /// Who gave it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// The current request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RequestReport {
    /// Its identity.
    pub id: String,
    /// The version every member is to run.
    pub version: NecoVersion,
    /// Why it was made; absent when a Go leader made it.
    pub kind: Option<String>,
    /// The members.
    pub members: Vec<Lrn>,
    /// When it was made.
    pub started_at: Timestamp,
    /// Whether it is stopped.
    pub stop: bool,
    /// Who stopped it, where that is known.
    pub stopped: Option<Notice>,
    /// How many steps there are, where that is known.
    pub steps: Option<u32>,
}

/// One boot server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerReport {
    /// Its number.
    pub lrn: Lrn,
    /// Whether it is registered.
    pub registered: bool,
    /// Whether the request lists it.
    pub member: bool,
    /// Whether it has a living worker.
    pub alive: bool,
    /// The version that worker runs.
    pub version: Option<NecoVersion>,
    /// Where it is.
    pub address: Option<String>,
    /// The step it has posted for this request.
    pub step: Option<u32>,
    /// The step's name, where it is known.
    pub step_name: Option<String>,
    /// How it stands there.
    pub condition: Option<String>,
    /// Why, when it aborted.
    pub message: String,
    /// What it is doing.
    pub progress: Option<Progress>,
    /// What must not be cut off.
    pub busy: Vec<String>,
    /// Why it could not take an update now.
    pub unfit: Vec<String>,
}

/// What a server is doing inside a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// The step; 0 while the package is being installed.
    pub step: u32,
    /// How often this step was begun.
    pub attempt: u32,
    /// What is being done.
    pub doing: String,
    /// Bytes done so far.
    pub bytes: Option<u64>,
    /// Bytes in all.
    pub total_bytes: Option<u64>,
    /// Since when.
    pub since: Timestamp,
}

/// A turn that is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TurnReport {
    /// Its name.
    pub name: String,
    /// Its holder.
    pub lrn: Lrn,
    /// Whether the holder is alive.
    pub alive: bool,
    /// The request it was taken for.
    pub request: String,
    /// Since when.
    pub since: Timestamp,
}

/// A key that is none of Neco's, or whose value cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StrayOrMalformed {
    /// The key, relative to the prefix.
    pub key: String,
    /// What is wrong.
    pub error: String,
    /// Whether it is a key of Neco at all.
    pub stray: bool,
    /// What to do.
    pub remedy: String,
}

impl Report {
    /// Makes the report. `names` tells the steps, where they are known.
    pub fn new(view: &View, snapshot: &Snapshot, names: Option<&StepNames>) -> Self {
        let names = names.and_then(|names| names.for_view(view));
        let (leader, candidates) = updaters(snapshot);
        Self {
            format: 1,
            revision: view.revision.0,
            state: State::of(view),
            release: view.release.clone(),
            release_trouble: None,
            target: view.target.value().map(|target| TargetReport {
                version: target.version.clone(),
                pinned: target.pinned,
                allow_downgrade: target.allow_downgrade,
                by: one_line(&target.by),
                reason: one_line(&target.reason),
                at: target.at,
            }),
            paused: paused(view),
            withdrawn: view
                .withdrawn
                .iter()
                .map(|(version, control)| Notice {
                    version: Some(version.clone()),
                    by: one_line(&control.by),
                    reason: one_line(&control.reason),
                    at: control.at,
                })
                .collect(),
            aborted: aborted_releases(view).into_iter().cloned().collect(),
            leader,
            candidates,
            request: request(view, names),
            servers: servers(view, names),
            turns: turns(view),
            problems: problems(view),
        }
    }

    /// Whether a stored value cannot be read. A stray key harms nobody.
    pub fn is_malformed(&self) -> bool {
        self.problems.iter().any(|problem| !problem.stray)
    }
}

/// The turns that are taken.
pub(crate) fn turns(view: &View) -> Vec<TurnReport> {
    let report = |(name, turn): (&String, &neco_plan::Versioned<neco_schema::Turn>)| TurnReport {
        name: name.clone(),
        lrn: turn.value.lrn,
        alive: view.is_alive(turn.value.lrn),
        request: one_line(turn.value.request.as_str()),
        since: turn.value.since,
    };
    view.turns.iter().map(report).collect()
}

fn paused(view: &View) -> Option<Notice> {
    match &view.pause {
        Slot::Absent => None,
        Slot::Present(pause) => Some(Notice {
            version: None,
            by: one_line(&pause.value.by),
            reason: one_line(&pause.value.reason),
            at: pause.value.at,
        }),
        Slot::Unreadable { .. } => Some(Notice {
            version: None,
            by: "a record that cannot be read".to_owned(),
            reason: String::new(),
            at: Timestamp::ZERO,
        }),
    }
}

fn request(view: &View, names: Option<&StepNames>) -> Option<RequestReport> {
    let request = view.current()?;
    Some(RequestReport {
        id: request.id().to_string(),
        version: request.version.clone(),
        kind: request.kind.as_ref().map(ToString::to_string),
        members: request.servers.clone(),
        started_at: request.started_at,
        stop: request.stop,
        stopped: request.stopped.as_ref().map(|note| Notice {
            version: None,
            by: one_line(&note.by),
            reason: one_line(&note.reason),
            at: note.at,
        }),
        steps: names.map(StepNames::count),
    })
}

fn servers(view: &View, names: Option<&StepNames>) -> Vec<ServerReport> {
    let members = view.current().map(|request| request.members()).unwrap_or_default();
    let mut all = view.registered.clone();
    all.extend(&members);
    all.into_iter().map(|lrn| server(view, lrn, members.contains(&lrn), names)).collect()
}

fn server(view: &View, lrn: Lrn, member: bool, names: Option<&StepNames>) -> ServerReport {
    let alive = view.alive.get(&lrn).map(|alive| &alive.value);
    let request = view.current();
    let status = request
        .filter(|_| member)
        .and_then(|request| view.status_of(request, lrn))
        .map(|status| &status.value);
    let progress = view.progress.get(&lrn).map(|progress| &progress.value).filter(|progress| {
        let installing = status.is_none() && progress.step == 0;
        let working = status.is_some_and(|status| {
            status.cond == Condition::Running && status.step == progress.step
        });
        request.is_some_and(|request| request.id() == progress.request) && (installing || working)
    });
    let step = status.map(|status| status.step);
    let lines =
        |texts: &Vec<String>| texts.iter().map(|text| one_line(text)).collect::<Vec<String>>();
    ServerReport {
        lrn,
        registered: view.registered.contains(&lrn),
        member,
        alive: alive.is_some(),
        version: alive.map(|alive| alive.version.clone()),
        address: alive.map(|alive| one_line(&alive.address)).filter(|address| !address.is_empty()),
        step,
        step_name: names.zip(step).and_then(|(names, step)| names.name(step)).map(str::to_owned),
        condition: status.map(|status| match status.cond {
            // Ours ends orderly; the original's has not begun.
            Condition::NotRunning if status.request.is_some() => "settled".to_owned(),
            cond => cond.to_string(),
        }),
        message: status.map(|status| one_line(&status.message)).unwrap_or_default(),
        progress: progress.map(|progress| Progress {
            step: progress.step,
            attempt: progress.attempt,
            doing: one_line(&progress.doing),
            bytes: progress.bytes,
            total_bytes: progress.total_bytes,
            since: progress.since,
        }),
        busy: alive.map(|alive| lines(&alive.busy)).unwrap_or_default(),
        unfit: alive.map(|alive| lines(&alive.unfit)).unwrap_or_default(),
    }
}

/// The leader's host and the hosts of the other candidates, in the order in which they would follow it.
pub(crate) fn updaters(snapshot: &Snapshot) -> (Option<String>, Vec<String>) {
    let is_updater = |key: &str| matches!(key.parse(), Ok(Key::Candidate { election, .. }) if election == "updater");
    let mut candidates: Vec<_> = snapshot.kvs.values().filter(|kv| is_updater(&kv.key)).collect();
    candidates.sort_by_key(|kv| kv.create_revision);
    let mut hosts = candidates.into_iter().map(|kv| one_line(&String::from_utf8_lossy(&kv.value)));
    (hosts.next(), hosts.collect())
}

fn problems(view: &View) -> Vec<StrayOrMalformed> {
    let report = |problem: &neco_plan::Problem| {
        let stray = problem.key.parse::<Key>().is_err();
        StrayOrMalformed {
            key: abridged(&problem.key, LONGEST_KEY),
            error: if stray { "no key of Neco".to_owned() } else { one_line(&problem.error) },
            stray,
            remedy: if stray {
                "delete it if nobody else uses it".to_owned()
            } else {
                problem.remedy()
            },
        }
    };
    let settings = Settings::read(&view.config).problems.into_iter().map(|problem| {
        let remedy = format!("'necoctl config set {}' takes {}", problem.key, problem.key.form());
        StrayOrMalformed {
            key: Key::Config(problem.key).to_string(),
            error: one_line(&problem.what),
            stray: false,
            remedy,
        }
    });
    view.problems.iter().map(report).chain(settings).collect()
}
