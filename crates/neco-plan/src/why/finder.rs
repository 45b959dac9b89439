//! Looks for what stands behind a wait.

use neco_schema::{Alive, Key, Lrn, NecoVersion, Outcome, Timestamp, UpdateRequest, Way};

use super::{Blocker, BlockerKind, Circumstances};
use crate::leader::{outcome, stop_cause};
use crate::waited;
use crate::words::named;
use crate::worker::first_abort;
use crate::{Action, NewRequest, Slot, View, Waiting};

/// Collects blockers.
pub(super) struct Finder<'a> {
    view: &'a View,
    around: &'a Circumstances,
    pub(super) blockers: Vec<Blocker>,
}

/// Records that a decision needs; the others are only named as problems by `status`.
fn is_decided_by(key: &Key) -> bool {
    matches!(
        key,
        Key::Request
            | Key::Status(_)
            | Key::Release
            | Key::Target
            | Key::Pause
            | Key::Epoch
            | Key::Alive(_)
            | Key::Plan(_)
            | Key::Turn(_)
            | Key::Group(_)
            | Key::Seen(_)
    )
}

/// Whether `version` stands in a text as a word of its own, and not as a part of a longer version.
fn names(text: &str, version: &NecoVersion) -> bool {
    let in_a_version = |c: char| c.is_ascii_alphanumeric() || ['.', '-', '+', '~'].contains(&c);
    let mut words = text.split(|c| !in_a_version(c)).map(|word| word.trim_end_matches('.'));
    words.any(|word| word == version.as_str())
}

impl<'a> Finder<'a> {
    pub(super) fn new(view: &'a View, around: &'a Circumstances) -> Self {
        Self { view, around, blockers: Vec::new() }
    }

    fn add(&mut self, kind: BlockerKind, what: String, remedy: &str) -> &mut Blocker {
        let blocker = Blocker {
            kind,
            what,
            servers: Vec::new(),
            step: None,
            key: None,
            since: None,
            remedy: remedy.to_owned(),
            command: None,
        };
        self.blockers.push(blocker);
        // Just pushed.
        self.blockers.last_mut().expect("a blocker")
    }

    pub(super) fn unreadable(&mut self) {
        for problem in &self.view.problems {
            let Ok(key) = problem.key.parse::<Key>() else { continue };
            if !is_decided_by(&key) {
                continue;
            }
            let what = format!("key {} cannot be read: {}", problem.key, problem.error);
            let blocker =
                self.add(BlockerKind::Unreadable, what, &crate::view::remedy(&problem.key));
            blocker.key = Some(problem.key.clone());
            match key {
                Key::Status(lrn) | Key::Alive(lrn) | Key::Plan(lrn) => blocker.servers = vec![lrn],
                Key::Request | Key::Epoch => {
                    blocker.command = Some("necoctl recover --force".to_owned());
                }
                Key::Turn(name) => {
                    blocker.command =
                        Some(format!("necoctl turn release {name} --force --reason TEXT"));
                }
                Key::Pause => blocker.command = Some("necoctl resume".to_owned()),
                Key::Target => blocker.command = Some("necoctl update --unpin".to_owned()),
                _ => {}
            }
        }
    }

    pub(super) fn distrust(&mut self) {
        for (lrn, word) in &self.around.words {
            if !word.distrusts {
                continue;
            }
            let what = format!("boot server {lrn} rests: {}", word.why);
            let remedy =
                "if etcd was restored on purpose, recover so that all start from what it holds";
            let blocker = self.add(BlockerKind::Distrust, what, remedy);
            blocker.servers = vec![*lrn];
            blocker.since = Some(word.since);
            if word.why.contains("recover --force") {
                blocker.command = Some("necoctl recover --force".to_owned());
            }
        }
    }

    pub(super) fn no_leader(&mut self) {
        self.add(
            BlockerKind::NoLeader,
            "no updater leads".to_owned(),
            "start neco-updater on a boot server, and look at its log if it runs",
        )
        .command = Some("systemctl start neco-updater".to_owned());
    }

    pub(super) fn releases(&mut self) {
        let word = self.around.leader.as_ref().filter(|word| !word.release_trouble.is_empty());
        let Some(word) = word else { return };
        self.add(
            BlockerKind::Releases,
            format!("about releases: {}", word.release_trouble),
            "mend it: the leader looks again by itself, and what runs goes on running",
        );
    }

    pub(super) fn pause(&mut self) {
        let (what, since) = match &self.view.pause {
            Slot::Present(pause) => {
                let control = &pause.value;
                (format!("paused by {}: {}", control.by, control.reason), Some(control.at))
            }
            _ => ("paused by a record that cannot be read".to_owned(), None),
        };
        let blocker = self.add(BlockerKind::Pause, what, "resume when its reason is gone");
        blocker.since = since.filter(|at| !at.is_zero());
        blocker.key = Some(Key::Pause.to_string());
        blocker.command = Some("necoctl resume".to_owned());
    }

    pub(super) fn leader_due(&mut self, action: &Action) {
        let what = match action {
            Action::Request(NewRequest { version, .. }) => {
                let word = self.around.leader.as_ref().map(|word| word.waiting_for.as_str());
                match word.filter(|word| names(word, version)) {
                    Some(word) => format!("the leader waits: {word}"),
                    None => format!("the leader is due to request {version}"),
                }
            }
            Action::Stop { cause, .. } => format!("the leader is due to stop the request: {cause}"),
            other => format!("the leader is due to act: {}", other.name()),
        };
        let remedy = "wait a moment; if this stays, look at the leader's log";
        self.add(BlockerKind::LeaderDue, what, remedy).command =
            Some("journalctl -u neco-updater".to_owned());
    }

    pub(super) fn waiting(&mut self, waiting: Waiting) {
        match waiting {
            Waiting::Idle | Waiting::Paused { .. } => {}
            Waiting::Release => self.no_release(),
            Waiting::Recovery { .. } => self.stopped(),
            Waiting::Settling { missing } => {
                for lrn in missing {
                    self.not_settled(lrn);
                }
            }
            Waiting::Workers { step, behind } => self.workers(step, &behind),
            Waiting::Preflight { problems } => self.preflight(problems),
            Waiting::Window { version, next } => self.window(&version, next),
            Waiting::AbortedBefore { version } => self.aborted_before(&version),
            Waiting::Withdrawn { version } => self.withdrawn(&version),
            Waiting::Unreadable { key, error } => {
                if !self.blockers.iter().any(|blocker| blocker.key.as_ref() == Some(&key)) {
                    let what = format!("key {key} cannot be read: {error}");
                    let remedy = crate::view::remedy(&key);
                    self.add(BlockerKind::Unreadable, what, &remedy).key = Some(key);
                }
            }
        }
    }

    fn no_release(&mut self) {
        let follows_none = !self.view.config.contains_key(&neco_schema::ConfigKey::Env);
        let remedy = if follows_none {
            "say which releases to follow: config/env is not set"
        } else {
            "publish a release, or look at the leader's log for why none is found"
        };
        let blocker =
            self.add(BlockerKind::NoRelease, "no release is known yet".to_owned(), remedy);
        blocker.key = Some(Key::Release.to_string());
        blocker.command = follows_none.then(|| "necoctl config set env prod".to_owned());
    }

    fn stopped(&mut self) {
        let Some(request) = self.view.current() else { return };
        let origin = first_abort(self.view, request);
        let ended = outcome(self.view, request);
        let what = format!(
            "the update to {} is stopped: {}",
            request.version,
            stop_cause(self.view, request)
        );
        let (remedy, command) = if self.view.withdrawn.contains_key(&request.version) {
            ("a newer release replaces it, or recover goes to the newest one not withdrawn", "")
        } else if ended == Outcome::Aborted {
            (
                "mend the cause and try the same version again; a newer release replaces it too",
                " --retry",
            )
        } else {
            ("recover starts afresh; a newer release replaces it too", "")
        };
        let since = request.stopped.as_ref().map(|note| note.at).filter(|at| !at.is_zero());
        let members = request.members();
        let blocker = self.add(BlockerKind::Stopped, what, remedy);
        blocker.since = since;
        blocker.key = Some(Key::Request.to_string());
        blocker.command = Some(format!("necoctl recover{command}"));
        if let Some(origin) = origin {
            blocker.servers = vec![origin.lrn];
            blocker.step = Some(origin.step);
        }
        for lrn in members {
            let closed =
                self.view.status_of(request, lrn).is_some_and(|status| status.value.is_closed());
            let alive = self.view.alive.get(&lrn);
            if alive.is_some_and(|alive| !closed || !alive.value.busy.is_empty()) {
                self.not_settled(lrn);
            }
        }
    }

    fn not_settled(&mut self, lrn: Lrn) {
        let Some(alive) = self.view.alive.get(&lrn) else {
            return self.dead(lrn, None);
        };
        let what = if alive.value.busy.is_empty() {
            format!("boot server {lrn} has not settled yet")
        } else {
            format!("boot server {lrn} is busy: {}", alive.value.busy.join(", "))
        };
        let since = self.view.progress.get(&lrn).map(|progress| progress.value.since);
        let blocker = self.add(
            BlockerKind::NotSettled,
            what,
            "wait until it reaches its next safe point; recover waits for it, --force does not",
        );
        blocker.servers = vec![lrn];
        blocker.since = since;
    }

    fn dead(&mut self, lrn: Lrn, step: Option<u32>) {
        let what = format!("boot server {lrn} has no living worker");
        let remedy = "start the server or its neco-worker; if it will not come back, take it out";
        let since = step.and_then(|step| self.step_since(step));
        let blocker = self.add(BlockerKind::DeadServer, what, remedy);
        blocker.servers = vec![lrn];
        blocker.step = step.filter(|step| *step > 0);
        blocker.since = since;
        blocker.command = Some(format!("necoctl leave {lrn}"));
    }

    /// Since when the lowest step is `step`, as the leader has counted; else since the request was made.
    fn step_since(&self, step: u32) -> Option<Timestamp> {
        let request = self.view.current()?;
        let counted = self.view.clocks.get(&request.id()).filter(|clock| clock.value.step == step);
        let since = counted.and_then(|clock| {
            let nanos = i64::try_from(clock.value.step_elapsed).ok()?;
            Some(self.around.now.plus_nanos(-nanos).max(request.started_at))
        });
        Some(since.unwrap_or(request.started_at))
    }

    fn is_dead(&self, lrn: Lrn) -> bool {
        waited::is_dead(self.view, lrn)
    }

    /// The request runs: who is behind, and why.
    fn workers(&mut self, step: u32, behind: &[Lrn]) {
        let view = self.view;
        let Some(request) = view.current() else { return };
        if let Some(neco_schema::RequestKind::Unknown(kind)) = &request.kind {
            let what = format!("the request is of kind {kind:?}, which this version does not know");
            let remedy = "install the version that made it, or stop and recover";
            let blocker = self.add(BlockerKind::UnknownKind, what, remedy);
            blocker.key = Some(Key::Request.to_string());
            blocker.command = Some("necoctl stop".to_owned());
            return;
        }
        self.unfit(behind);
        if step == 0 {
            return self.before_the_first_step(request, behind);
        }
        let no_plan: Vec<Lrn> = if step == 1 {
            let without = |lrn: &Lrn| {
                let ours = view.status_of(request, *lrn).is_some_and(|s| s.value.request.is_some());
                let planned =
                    view.plans.get(lrn).is_some_and(|plan| plan.value.request == request.id());
                ours && !planned
            };
            request.members().into_iter().filter(without).collect()
        } else {
            Vec::new()
        };
        if !no_plan.is_empty() {
            let what = format!(
                "{} did not say what the update would change there",
                named(no_plan.iter().copied())
            );
            let remedy = "wait a moment; if this stays, look at the worker's log";
            let since = self.step_since(step);
            let blocker = self.add(BlockerKind::Plan, what, remedy);
            blocker.servers = no_plan;
            blocker.step = Some(step);
            blocker.since = since;
        }
        for lrn in behind {
            if self.is_dead(*lrn) {
                self.dead(*lrn, Some(step));
            } else {
                self.working(request, *lrn, step);
            }
        }
    }

    /// What those who are behind say of themselves. That the way back is missing holds nobody up who has begun.
    fn unfit(&mut self, behind: &[Lrn]) {
        let view = self.view;
        let alive = behind.iter().filter_map(|lrn| Some((*lrn, view.alive.get(lrn)?)));
        let told =
            alive.flat_map(|(lrn, alive)| alive.value.unfit.iter().map(move |why| (lrn, why)));
        for (lrn, why) in told.filter(|(_, why)| !why.starts_with(Alive::NO_WAY_BACK)) {
            let what = format!("boot server {lrn}: {why}");
            let remedy = "it goes on by itself once this is mended";
            self.add(BlockerKind::Unfit, what, remedy).servers = vec![lrn];
        }
    }

    fn working(&mut self, request: &UpdateRequest, lrn: Lrn, step: u32) {
        let since = waited::progress(self.view, request, lrn, step)
            .map(|progress| progress.since)
            .filter(|since| !since.is_zero())
            .or_else(|| self.step_since(step));
        let does = waited::does(self.view, request, lrn, step).said_of(1);
        let blocker = self.add(
            BlockerKind::Step,
            format!("boot server {lrn} {does}"),
            "wait: the request is stopped by itself when its deadline passes",
        );
        blocker.servers = vec![lrn];
        blocker.step = Some(step);
        blocker.since = since;
        blocker.command = Some("necoctl stop".to_owned());
    }

    /// Somebody has not posted step 1: the package is being installed, or the request has not been seen.
    fn before_the_first_step(&mut self, request: &UpdateRequest, behind: &[Lrn]) {
        let first = waited::first_of_all(self.view, request);
        let (waiting, blocking): (Vec<Lrn>, Vec<Lrn>) = behind
            .iter()
            .partition(|lrn| first.is_some_and(|first| first != **lrn) && !self.is_dead(**lrn));
        for lrn in blocking {
            if self.is_dead(lrn) {
                self.dead(lrn, Some(0));
                continue;
            }
            let waits = if waiting.is_empty() {
                String::new()
            } else {
                format!(
                    "; {} wait{} for it",
                    named(waiting.iter().copied()),
                    if waiting.len() == 1 { "s" } else { "" }
                )
            };
            let kind =
                if first.is_some() { BlockerKind::FirstServer } else { BlockerKind::Install };
            let since = waited::progress(self.view, request, lrn, 0)
                .map(|progress| progress.since)
                .or_else(|| self.step_since(0));
            let does = waited::does(self.view, request, lrn, 0).said_of(1);
            let blocker = self.add(
                kind,
                format!("boot server {lrn} {does}{waits}"),
                "wait; if it fails, it goes back by itself and says so",
            );
            blocker.servers = vec![lrn];
            blocker.since = since;
        }
    }

    fn preflight(&mut self, problems: Vec<String>) {
        for problem in problems {
            let of = |lrn: &&Lrn| {
                let rest = problem.strip_prefix(&format!("boot server {lrn}"));
                rest.is_some_and(|rest| rest.starts_with([' ', ':']))
            };
            let server = self.view.registered.iter().find(of).copied();
            match server {
                Some(lrn) if self.is_dead(lrn) => self.dead(lrn, None),
                _ => {
                    let what = format!("not ready for a request: {problem}");
                    let remedy = "it is looked at again by itself once this is mended";
                    self.add(BlockerKind::Preflight, what, remedy).servers =
                        server.into_iter().collect();
                }
            }
        }
    }

    fn window(&mut self, version: &NecoVersion, next: Option<Timestamp>) {
        let what = match next {
            Some(next) => format!("{version} waits for the release window, which opens at {next}"),
            None => format!("{version} waits for a release window that never opens"),
        };
        let since = self.view.seen.get(version).map(|seen| seen.value.at);
        let blocker = self.add(
            BlockerKind::Window,
            what,
            "wait for the window, change release-time, or name the version to go at once",
        );
        blocker.since = since.filter(|at| !at.is_zero());
        blocker.key = Some(Key::Config(neco_schema::ConfigKey::ReleaseTime).to_string());
        blocker.command = Some(format!("necoctl update --to {version}"));
    }

    pub(super) fn aborted_before(&mut self, version: &NecoVersion) {
        let aborted = self.view.seen.get(version).and_then(|seen| seen.value.aborted.as_ref());
        let record = aborted.and_then(|id| {
            let of = |((_, of), record): (&(_, _), &'a Option<_>)| {
                (of == id).then_some(record.as_ref()).flatten()
            };
            self.view.history.iter().find_map(of)
        });
        let cause = record
            .map(|record| record.cause.clone())
            .filter(|cause| !cause.is_empty())
            .map_or_else(String::new, |cause| format!(": {cause}"));
        let origin = record.and_then(|record| record.origin.as_ref());
        let blocker = self.add(
            BlockerKind::AbortedBefore,
            format!("the update to {version} was aborted before{cause}"),
            "mend the cause and name the version to try it again; a newer release replaces it too",
        );
        blocker.since = record.map(|record| record.ended_at);
        blocker.key = Some(Key::Seen(version.clone()).to_string());
        blocker.command = Some(format!("necoctl update --to {version}"));
        if let Some(origin) = origin {
            blocker.servers = vec![origin.lrn];
            blocker.step = Some(origin.step);
        }
    }

    fn withdrawn(&mut self, version: &NecoVersion) {
        let control = self.view.withdrawn.get(version);
        let by = control
            .filter(|control| !control.by.is_empty())
            .map_or_else(String::new, |control| format!(" by {}: {}", control.by, control.reason));
        let pinned = self.view.target.value().is_some_and(|target| target.version == *version);
        let blocker = self.add(
            BlockerKind::Withdrawn,
            format!("{version} was withdrawn{by}"),
            if pinned { "follow releases again" } else { "publish another release" },
        );
        blocker.since = control.map(|control| control.at).filter(|at| !at.is_zero());
        blocker.key = Some(Key::Withdrawn(version.clone()).to_string());
        blocker.command = pinned.then(|| "necoctl update --unpin".to_owned());
    }

    /// Turns: one of a dead holder is always in the way, one of a living holder while others work.
    pub(super) fn turns(&mut self, idle: bool) {
        for (name, turn) in &self.view.turns {
            let holder = turn.value.lrn;
            let since = Some(turn.value.since).filter(|at| !at.is_zero());
            let (kind, what, remedy, command) = if !self.view.is_alive(holder) {
                (
                    BlockerKind::DeadHolder,
                    format!(
                        "boot server {holder}, which has no living worker, holds the turn {name}"
                    ),
                    "start the server: it goes on and gives the turn back; if it will not come back, release the turn",
                    Some(format!("necoctl turn release {name} --reason TEXT")),
                )
            } else if !idle {
                (
                    BlockerKind::Turn,
                    format!("boot server {holder} holds the turn {name}; the others wait for it"),
                    "wait: it gives the turn back when its part is proven healthy",
                    None,
                )
            } else {
                continue;
            };
            let blocker = self.add(kind, what, remedy);
            blocker.servers = vec![holder];
            blocker.key = Some(Key::Turn(name.clone()).to_string());
            blocker.since = since;
            blocker.command = command;
        }
    }

    /// Groups that go back: services are being started as they were.
    pub(super) fn groups(&mut self) {
        let Some(request) = self.view.current() else { return };
        let id = request.id();
        for (name, group) in &self.view.groups {
            let word = format!("group {name}");
            let open: Vec<Lrn> = self
                .view
                .alive
                .iter()
                .filter(|(_, alive)| alive.value.busy.contains(&word))
                .map(|(lrn, _)| *lrn)
                .collect();
            if group.value.request != id || group.value.way != Way::Back || open.is_empty() {
                continue;
            }
            let what = format!(
                "group {name} goes back: {} start what ran before",
                named(open.iter().copied())
            );
            let blocker = self.add(BlockerKind::Group, what, "wait until it is restored");
            blocker.servers = open;
            blocker.key = Some(Key::Group(name.clone()).to_string());
        }
    }
}
