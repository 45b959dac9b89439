//! The loop of a worker: look, decide, act.
//!
//! Events only say "look again". One thing runs at a time, in a task of its own, so that a stop is heard in the middle of
//! a step. Nothing that etcd, the journal or a step does ends the loop; only a signal and a new binary do.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use neco_base::{Backoff, Retry};
use neco_connect::{Outage, one_line};
use neco_host::journal::JournalError;
use neco_plan::{Doing, Local, Move, Rest, Row, View, next_move_with_row, worker_ranges};
use neco_schema::journal::{Effect, Entry, IntentEnd, Mark};
use neco_schema::{Alive, Condition, Revision};
use neco_store::alive::ALIVE_TTL;
use neco_store::{Beat, Follower, Heard, Heart, StoreError};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::act::{ActError, Acted};
use crate::context::StepError;
use crate::decision::{self, Kind};
use crate::installer::Installer;
use crate::kept::kept;
use crate::running::{Finished, Running};
use crate::seen::Seen;
use crate::shared::{Refused, Shared};
use crate::steps::Steps;
use crate::times::Times;

/// Delays after something did not work.
const TRY_AGAIN: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
/// How long is waited for the news of what this server has itself written, before it looks for it.
const HEARD_WITHIN: Duration = Duration::from_millis(250);
/// How long a running step may take to its next safe point once this process is to end.
const GRACE: Duration = Duration::from_secs(5);

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It was told to.
    Stopped,
    /// A new binary is installed; whoever supervises this process starts it.
    NewBinary,
}

/// One boot server's worker.
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
    pub(crate) steps: Arc<dyn Steps>,
    pub(crate) installer: Arc<dyn Installer>,
    pub(crate) running: Option<Running>,
    pub(crate) times: Times,
    /// What was seen last, brought forward by every change that was heard of, unless that is not known. What is decided from
    /// it and acts takes a fresh view before.
    pub(crate) seen: Option<Seen>,
    retry: Retry,
    /// The pauses of work that the disk refuses something, however often it is begun.
    pub(crate) disk_retry: Retry,
    last: Option<(Row, Move)>,
    /// What kind of decision the journal knows of.
    journalled: Option<Kind>,
    outage: Outage,
    /// What was last said to be waited for.
    told: Mutex<String>,
    /// Who this server says it is while it lives.
    identity: Identity,
    /// How long it is taken for alive after its last sign of life.
    alive_ttl: Duration,
}

/// What a living server tells about itself.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The kernel's boot id.
    pub boot_id: String,
    /// The server's address, for people.
    pub address: String,
}

impl Engine {
    /// A worker on `shared` state that follows `steps` and installs packages through `installer`.
    pub fn new(
        shared: Arc<Shared>,
        steps: Arc<dyn Steps>,
        installer: Arc<dyn Installer>,
        identity: Identity,
    ) -> Self {
        let (retry, disk_retry) = (TRY_AGAIN.retry(), TRY_AGAIN.retry());
        Self {
            shared,
            steps,
            installer,
            running: None,
            times: Times::default(),
            seen: None,
            retry,
            disk_retry,
            last: None,
            journalled: None,
            outage: Outage::default(),
            told: Mutex::default(),
            identity,
            alive_ttl: ALIVE_TTL,
        }
    }

    /// Lets a sign of life last this long.
    #[must_use]
    pub fn with_alive_ttl(self, alive_ttl: Duration) -> Self {
        Self { alive_ttl, ..self }
    }

    /// Runs until `stop` is cancelled or a new binary is to take over.
    pub async fn run(mut self, stop: CancellationToken) -> Exit {
        let local = self.shared.local();
        let started = Entry::ProcessStarted {
            version: local.running.clone(),
            boot_id: self.identity.boot_id.clone(),
            pid: std::process::id(),
        };
        // What was taken away is given back even while the disk is full.
        let noted = self.shared.record(std::slice::from_ref(&started)).is_ok();
        // Before the first call to etcd: this server may have stopped its own etcd and died.
        if !self.complete_leftovers(&stop).await
            || !(noted || self.persist(&[started], &stop).await)
        {
            return Exit::Stopped;
        }
        let mut tasks = JoinSet::new();
        let (shared, identity, installer, ttl) = (
            Arc::clone(&self.shared),
            self.identity.clone(),
            Arc::clone(&self.installer),
            self.alive_ttl,
        );
        tasks.spawn(kept("sign of life", move || {
            keep_alive(Arc::clone(&shared), identity.clone(), Arc::clone(&installer), ttl)
        }));
        let mut follower = Follower::new(Arc::clone(&self.shared.store), worker_ranges());
        loop {
            if stop.is_cancelled() {
                break self.wind_down().await;
            }
            let next = match self.newest().await {
                Ok((seen, age)) => self.turn(seen, age, &stop).await,
                Err(error) => {
                    self.without_etcd(&error);
                    Next::Again
                }
            };
            match next {
                Next::Decide => self.retry.reset(),
                Next::Hear(written) => {
                    self.retry.reset();
                    self.hear_of(written, &mut follower, &stop).await;
                }
                Next::Exit => {
                    let _ = self
                        .persist(
                            &[Entry::PlannedExit { why: "a new binary is installed".to_owned() }],
                            &stop,
                        )
                        .await;
                    break Exit::NewBinary;
                }
                Next::Wait => {
                    self.retry.reset();
                    self.wait(&mut follower, &stop).await;
                }
                Next::Again => {
                    self.seen = None;
                    let delay = self.retry.pause();
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => {}
                        finished = Running::finished(&mut self.running) => self.ended(finished, &stop).await,
                        () = tokio::time::sleep(delay) => {}
                    }
                }
            }
        }
    }

    /// What is kept, or a fresh look.
    async fn newest(&mut self) -> Result<(Seen, Age), StoreError> {
        if let Some(seen) = self.seen.take() {
            return Ok((seen, Age::Kept));
        }
        let seen = self.shared.see().await?;
        self.outage.answered();
        Ok((seen, Age::Fresh))
    }

    /// One look: decides and acts.
    async fn turn(&mut self, seen: Seen, age: Age, stop: &CancellationToken) -> Next {
        let next = self.decide_and_act(&seen.view, age, stop).await;
        // What acted has kept the fresher view that it acted on.
        self.seen.get_or_insert(seen);
        next
    }

    async fn decide_and_act(&mut self, view: &View, age: Age, stop: &CancellationToken) -> Next {
        self.shared.note_seen(view.revision);
        let local = self.shared.local();
        let (row, decided) = next_move_with_row(view, &local);
        self.note(view, &local, row, &decided);
        match self.take_note(view, &local, &decided) {
            Ok(true) => return Next::Decide,
            Ok(false) => {}
            Err(error) => {
                self.without_disk(&error);
                return Next::Again;
            }
        }
        match decided {
            Move::Rest(_) | Move::Keep => {
                if local.doing.is_none() {
                    // Nobody is going to try it again.
                    self.shared.note_refused(Refused::Work, None);
                }
                self.goes_on();
                Next::Wait
            }
            Move::Cancel { .. } => {
                if let Some(running) = &self.running {
                    running.cancel();
                }
                Next::Wait
            }
            Move::ExitForNewBinary => Next::Exit,
            decided => match self.act(&decided, row, view, age, stop).await {
                Ok(Acted::Begun) => {
                    self.goes_on();
                    Next::Decide
                }
                Ok(Acted::Changed(revision)) => {
                    self.goes_on();
                    Next::Hear(revision)
                }
                Ok(Acted::Refused) => Next::Again,
                Err(ActError::Store(error)) => {
                    self.without_etcd(&error);
                    Next::Again
                }
                Err(ActError::Journal(error)) => {
                    self.without_disk(&error);
                    Next::Again
                }
                Err(ActError::Host(why)) => {
                    self.waiting(why);
                    Next::Again
                }
            },
        }
    }

    /// Tells what was decided, once.
    fn note(&mut self, view: &View, local: &Local, row: Row, decided: &Move) {
        let waiting_for = match decided {
            Move::Rest(rest) => rest.to_string(),
            Move::Cancel { why } => format!("leaving at a safe point: {why}"),
            // What runs may wait for systemd or Docker.
            _ => self.shared.waits_for().borrow().clone(),
        };
        let now = self.shared.now();
        let changed = self.last.as_ref() != Some(&(row, decided.clone()));
        self.shared.observe(|observation| {
            observation.revision = view.revision.0;
            observation.row = row.0;
            decided.name().clone_into(&mut observation.decided);
            observation.busy = local.busy();
            observation.waiting_for.clone_from(&waiting_for);
            observation.note_problems(&view.problems);
            if changed {
                observation.since = now;
            }
            if local.doing.is_none() {
                observation.doing.clear();
            }
        });
        if changed {
            tracing::info!(lrn = %local.lrn, row = row.0, revision = view.revision.0, why = %waiting_for, "decided: {}", decided.name());
            self.last = Some((row, decided.clone()));
        }
        let kind = Kind::of(row, decided);
        if matches!(decided, Move::Keep) || self.journalled == Some(kind) {
            return;
        }
        // Nothing hangs on it: while the disk refuses, it is written with a later look.
        let written = !decision::is_all_there_is(decided)
            || self.shared.note(&[decision::entry(view, local.lrn, row, decided)]).is_ok();
        if written {
            self.journalled = Some(kind);
        }
    }

    /// Waits for what is not there, and says so once until something succeeds.
    fn waiting(&self, why: String) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if *told != why {
            tracing::warn!(%why, "waiting");
            told.clone_from(&why);
        }
        self.shared.observe(|observation| observation.waiting_for = why);
    }

    /// The journal cannot be written; that was logged when it was tried.
    fn without_disk(&self, error: &JournalError) {
        self.shared.observe(|observation| observation.waiting_for = one_line(error));
    }

    /// Something succeeded: should it fail again, that is news.
    fn goes_on(&self) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// etcd does not answer: that is said once, though the words change from try to try.
    fn without_etcd(&self, error: &StoreError) {
        let why = self.outage.failed(error);
        self.shared.observe(|observation| observation.waiting_for = why);
    }

    /// Takes note of a newer epoch, or of the first cluster ever seen: from here on older ones are distrusted. And of the
    /// end of a request here, which a crash may have kept out of the journal. Says whether there was something.
    fn take_note(&self, view: &View, local: &Local, decided: &Move) -> Result<bool, JournalError> {
        if matches!(decided, Move::CompleteIntent { .. } | Move::DropIntent { .. }) {
            return Ok(false);
        }
        let mark = local.journal.mark;
        if view.epoch > mark.epoch || (mark.cluster_id == 0 && view.cluster_id != 0) {
            self.shared.record(&[Entry::Mark(mark_of(view))])?;
            return Ok(true);
        }
        let closed =
            matches!(decided, Move::Rest(Rest::Closed(Condition::Abort | Condition::NotRunning)));
        if let Some(request) = view.current().filter(|_| closed)
            && !local.journal.ended.contains(&request.id())
        {
            self.shared.record(&[Entry::RequestEnded { request: request.id() }])?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Waits until something may have changed.
    async fn wait(&mut self, follower: &mut Follower, stop: &CancellationToken) {
        let seen = self.seen_up_to();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            finished = Running::finished(&mut self.running) => self.ended(finished, stop).await,
            heard = follower.heard_since(seen) => self.hear(heard),
        }
    }

    /// Waits until what this server has written at `written` is seen; not for long: a look shows it, too.
    async fn hear_of(
        &mut self,
        written: Revision,
        follower: &mut Follower,
        stop: &CancellationToken,
    ) {
        let heard_of = async {
            while self.seen.is_some() && self.seen_up_to() < written {
                let heard = follower.heard_since(self.seen_up_to()).await;
                self.hear(heard);
            }
        };
        let in_time = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            heard = tokio::time::timeout(HEARD_WITHIN, heard_of) => heard.is_ok(),
        };
        if !in_time {
            self.seen = None;
        }
    }

    fn hear(&mut self, heard: Heard) {
        self.seen = match heard {
            Heard::Changes(changes) => self.seen.take().map(|seen| seen.with(changes)),
            Heard::Look => None,
        };
    }

    fn seen_up_to(&self) -> Revision {
        self.seen.as_ref().map_or(Revision(0), |seen| seen.view.revision)
    }

    /// Records how what ran has ended.
    async fn ended(&mut self, finished: Finished, stop: &CancellationToken) {
        self.running = None;
        if finished.result.is_err() {
            // Its fence may have seen what is not heard of yet, and it is not to be begun again from what is kept.
            self.seen = None;
        }
        match &finished.result {
            // That was said when it began to wait, and is said once.
            Err(StepError::Disk(_)) => {}
            result => {
                self.disk_retry.reset();
                self.shared.note_refused(Refused::Work, None);
                if let Err(error) = result {
                    tracing::warn!(error = %one_line(error), "{} ended", finished.doing);
                }
            }
        }
        let entries = finished.entries();
        let noted = match &entries[..] {
            // Durable with what is posted about it; a power cut before lets the step run once more.
            [Entry::StepDone { .. }] => self.shared.note(&entries).is_ok(),
            entries => entries.is_empty(),
        };
        if !noted && !self.persist(&entries, stop).await {
            return;
        }
        if matches!(finished.doing, Doing::Install { .. } | Doing::Complete { .. }) {
            self.refresh(stop).await;
        }
        self.shared.set_doing(None);
    }

    /// Reads again what another process may have changed: the journal and the installed version.
    pub(crate) async fn refresh(&self, stop: &CancellationToken) {
        match self.installer.installed().await {
            Ok(version) => self.shared.set_installed(version),
            // It is asked again before anything is installed.
            Err(error) => tracing::warn!(%error, "the installed version is not known"),
        }
        let mut retry = TRY_AGAIN.retry();
        while let Err(error) = self.shared.reload() {
            self.waiting(format!("the journal cannot be read: {}", one_line(&error)));
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(retry.pause()) => {}
            }
        }
    }

    /// Row 1, before the first call to etcd: brings begun effects of earlier processes to their end, drops the others.
    async fn complete_leftovers(&mut self, stop: &CancellationToken) -> bool {
        let mut retry = TRY_AGAIN.retry();
        loop {
            let local = self.shared.local();
            let Some((intent, state)) = local.journal.intents.iter().next() else { return true };
            if state.begun {
                tracing::info!(%intent, "completing what an earlier process began");
                let completing = format!("completing {}", local.busy().join(", "));
                self.shared.observe(|observation| observation.waiting_for = completing);
                let completed = crate::act::complete(
                    Arc::clone(&self.shared),
                    Arc::clone(&self.steps),
                    Arc::clone(&self.installer),
                    intent.clone(),
                    state.clone(),
                );
                let completed = tokio::select! {
                    biased;
                    () = stop.cancelled() => return false,
                    completed = completed => completed,
                };
                self.refresh(stop).await;
                if let Err(error) = completed {
                    tracing::error!(%intent, error = %one_line(&error), "could not be completed");
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => {}
                        () = tokio::time::sleep(retry.pause()) => {}
                    }
                }
            } else {
                let dropped =
                    Entry::IntentClosed { intent: intent.clone(), end: IntentEnd::Dropped };
                if !self.persist(&[dropped], stop).await {
                    return false;
                }
            }
            if stop.is_cancelled() {
                return false;
            }
        }
    }

    /// Writes entries, again and again while the disk refuses; false when this process is to end first.
    async fn persist(&self, entries: &[Entry], stop: &CancellationToken) -> bool {
        let mut retry = TRY_AGAIN.retry();
        loop {
            match self.shared.record(entries) {
                Ok(()) => return true,
                Err(error) => self.without_disk(&error),
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return self.shared.record(entries).is_ok(),
                () = tokio::time::sleep(retry.pause()) => {}
            }
        }
    }

    /// Whether a unit of its own installs the package: it goes on without this process, which it may be about to end.
    fn installation_runs(&self) -> bool {
        let intents = self.shared.local().journal.intents;
        intents.values().any(|open| open.begun && matches!(open.effect, Effect::Install { .. }))
    }

    /// An orderly end: what runs gets a moment to come to a safe point; the next process resumes it.
    async fn wind_down(&mut self) -> Exit {
        let installs = self.installation_runs();
        if let Some(mut running) = self.running.take().filter(|_| !installs) {
            running.cancel();
            match tokio::time::timeout(GRACE, running.join()).await {
                Err(_) => running.end(GRACE).await,
                Ok(Finished { result: Err(StepError::Cancelled(_)), .. }) => {}
                Ok(finished) => {
                    if let Err(error) = self.shared.record(&finished.entries()) {
                        tracing::warn!(error = %one_line(&error), "what came of {} is lost", finished.doing);
                    }
                }
            }
        }
        // Last: nothing begins after it.
        if let Err(error) =
            self.shared.record(&[Entry::PlannedExit { why: "told to stop".to_owned() }])
        {
            tracing::warn!(error = %one_line(&error), "the exit will count as a crash");
        }
        Exit::Stopped
    }
}

/// How old a view is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    /// It was read for the decision at hand, and nothing was waited for since.
    Fresh,
    /// It is of an earlier decision.
    Kept,
}

enum Next {
    /// Something changed here by our own doing: the view stands.
    Decide,
    /// Something changed in etcd by our own doing, at this revision.
    Hear(Revision),
    /// Nothing to do until something changes.
    Wait,
    /// It did not work; try again after a while.
    Again,
    /// A new binary is to take over.
    Exit,
}

/// The newest state of etcd that `view` shows.
pub(crate) fn mark_of(view: &View) -> Mark {
    Mark { cluster_id: view.cluster_id, revision: view.revision, epoch: view.epoch }
}

/// Why this server could not take an update now.
async fn unfit(shared: &Shared, installer: &dyn Installer) -> Vec<String> {
    let mut unfit = shared.refused();
    unfit.extend(installer.unfit().await);
    unfit
}

/// Tells everybody that this server lives, as long as the engine does.
async fn keep_alive(
    shared: Arc<Shared>,
    identity: Identity,
    installer: Arc<dyn Installer>,
    ttl: Duration,
) {
    /// How soon a change of what is open is told.
    const NOTICE_WITHIN: Duration = Duration::from_millis(250);
    let mut heart = Heart::new(Arc::clone(&shared.store), shared.local().lrn).lasting(ttl);
    let mut told: Option<(Alive, Duration)> = None;
    let mut retry = TRY_AGAIN.retry();
    loop {
        let local = shared.local();
        let alive = Alive {
            machine_id: local.machine_id.clone(),
            boot_id: identity.boot_id.clone(),
            version: local.running.clone(),
            address: identity.address.clone(),
            busy: local.busy(),
            unfit: unfit(&shared, &*installer).await,
            unknown: serde_json::Map::new(),
        };
        let now = shared.clock.monotonic();
        let fresh = told
            .as_ref()
            .is_some_and(|(said, at)| *said == alive && now < *at + heart.beat_every());
        let mut pause = NOTICE_WITHIN;
        if !fresh {
            match heart.beat(&alive).await {
                Ok(Beat::Ours) => {
                    retry.reset();
                    told = Some((alive, now));
                }
                // The engine rests for the same reason and says so.
                Ok(Beat::HeldByOther(_)) => pause = retry.pause(),
                Err(error) => {
                    tracing::debug!(error = %one_line(&error), "the sign of life was not renewed");
                    pause = retry.pause();
                }
            }
        }
        tokio::time::sleep(pause).await;
    }
}
