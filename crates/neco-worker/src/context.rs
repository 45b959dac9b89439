//! What a step may use: fences, journalled effects, intents, turns, progress.

use std::sync::Arc;
use std::time::Duration;

use neco_base::{Backoff, Retry};
use neco_connect::one_line;
use neco_host::disk_trouble;
use neco_host::journal::JournalError;
use neco_plan::{Fence, View, fence};
use neco_schema::journal::{Effect, Entry, IntentEnd, IntentId, Phase};
use neco_schema::{Key, Lrn, Revision, Turn, UpdateRequest, Way};
use neco_store::{Committed, StoreError};
use tokio_util::sync::CancellationToken;

use crate::progress::ProgressSink;
use crate::shared::{Refused, Shared};

/// Delays of a step that waits for something that nobody announces.
const ASK_AGAIN: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
/// How long a step waits for the next change of etcd before it looks again all the same.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// How long it waits at least.
const NOT_AT_ONCE: Duration = Duration::from_millis(20);

/// Why a step did not get done.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// It was left at a safe point because its request ended.
    #[error("cancelled: {0}")]
    Cancelled(String),
    /// It failed; the request is to be aborted with this cause.
    #[error("{0}")]
    Failed(String),
    /// The journal cannot be written: nothing may begin.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The disk is full or read-only. That says nothing about the step: it is begun again, and what it has open is completed
    /// before.
    #[error("{0}")]
    Disk(String),
}

impl StepError {
    /// A failure told with its causes; one that passes once the disk takes something again is [`Self::Disk`].
    pub fn failed(
        context: impl std::fmt::Display,
        error: &(dyn std::error::Error + 'static),
    ) -> Self {
        let cause = format!("{context}: {}", one_line(error));
        match disk_trouble(error) {
            None => Self::Failed(cause),
            Some(remedy) if cause.contains(remedy) => Self::Disk(cause),
            Some(remedy) => Self::Disk(format!("{cause}{remedy}")),
        }
    }
}

/// The pauses of one series of tries.
pub struct Pauses(Retry);

impl Pauses {
    /// The next pause is the shortest.
    pub fn new() -> Self {
        Self(ASK_AGAIN.retry())
    }
}

impl Default for Pauses {
    fn default() -> Self {
        Self::new()
    }
}

/// The surroundings of one running step.
pub struct StepContext {
    pub(crate) shared: Arc<Shared>,
    pub(crate) cancel: CancellationToken,
    pub(crate) progress: ProgressSink,
    /// The request.
    pub request: UpdateRequest,
    /// The step, from 1; 0 for the package.
    pub step: u32,
    /// How often it was begun here.
    pub attempt: u32,
    /// This server.
    pub lrn: Lrn,
}

impl StepContext {
    /// A safe point: returns with a fresh view once the next effect may begin.
    ///
    /// While etcd does not answer, or the view asks to wait, this waits. A request that ended cancels.
    ///
    /// # Errors
    /// [`StepError::Cancelled`].
    pub async fn fence(&self) -> Result<View, StepError> {
        let mut pauses = Pauses::new();
        loop {
            if self.cancel.is_cancelled() {
                return Err(StepError::Cancelled("left at a safe point".to_owned()));
            }
            match self.shared.look().await {
                // It may have been asked to leave while etcd was asked.
                Ok(_) if self.cancel.is_cancelled() => {}
                Ok(view) => match fence(&view, &self.shared.local()) {
                    Fence::Go => return Ok(view),
                    Fence::Cancel(why) => return Err(StepError::Cancelled(why)),
                    Fence::Wait(why) => {
                        self.progress.waiting(&why);
                        self.changed(&view).await;
                    }
                },
                Err(error) => {
                    let why = format!("etcd does not answer: {}", one_line(&error));
                    self.progress.waiting(&why);
                    self.pause(&mut pauses).await;
                }
            }
        }
    }

    /// Waits for as long as the request lasts, because somebody else has to do something about it.
    ///
    /// # Errors
    /// [`StepError::Cancelled`], always: that is what ends the waiting.
    pub async fn wait_for_the_end(&self, why: &str) -> Result<std::convert::Infallible, StepError> {
        loop {
            let view = self.fence().await?;
            self.progress.waiting(why);
            self.changed(&view).await;
        }
    }

    /// Says what is being done.
    pub fn doing(&self, what: impl Into<String>) {
        self.progress.doing(what.into());
    }

    /// Says what is being waited for.
    pub fn waiting(&self, why: &str) {
        self.progress.waiting(why);
    }

    /// Says how many bytes are done.
    pub fn bytes(&self, done: u64, total: Option<u64>) {
        self.progress.bytes(done, total);
    }

    /// Whether the step was asked to leave at its next safe point.
    pub fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Writes entries into the journal.
    ///
    /// # Errors
    /// They are not durable: nothing may begin.
    pub fn record(&self, entries: &[Entry]) -> Result<(), StepError> {
        Ok(self.shared.record(entries)?)
    }

    /// Notes the begin of an effect, for the auditor.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn effect_begins(&self, what: &str, view: &View) -> Result<(), StepError> {
        self.record(&[self.effect(what, Phase::Begin, view.revision)])
    }

    /// Notes the end of an effect, for the auditor, and whether it succeeded: then the disk refuses this work no more.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn effect_ends(&self, what: &str, view: &View, succeeded: bool) -> Result<(), StepError> {
        if succeeded {
            self.shared.note_refused(Refused::Work, None);
        }
        self.record(&[self.effect(what, Phase::End, view.revision)])
    }

    fn effect(&self, what: &str, phase: Phase, revision: Revision) -> Entry {
        Entry::Effect {
            request: self.request.id(),
            step: self.step,
            attempt: self.attempt,
            what: what.to_owned(),
            phase,
            revision,
        }
    }

    /// Opens an intent: what follows takes something away, or must not be cut off.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn open_intent(&self, name: &str, effect: Effect) -> Result<IntentId, StepError> {
        let intent =
            IntentId(format!("{}-{}-{}-{name}", self.request.id(), self.step, self.attempt));
        self.record(&[Entry::IntentOpened {
            intent: intent.clone(),
            request: self.request.id(),
            step: self.step,
            effect,
        }])?;
        Ok(intent)
    }

    /// From here the intent's effect, `what`, must be completed, whatever happens.
    ///
    /// # Errors
    /// The journal cannot be written: the effect must not begin.
    pub fn begin_intent(
        &self,
        intent: &IntentId,
        what: &str,
        view: &View,
    ) -> Result<(), StepError> {
        self.record(&[
            Entry::IntentBegun { intent: intent.clone(), revision: view.revision },
            self.effect(what, Phase::Begin, view.revision),
        ])
    }

    /// The intent is over.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn close_intent(&self, intent: &IntentId, end: IntentEnd) -> Result<(), StepError> {
        self.record(&[Entry::IntentClosed { intent: intent.clone(), end }])
    }

    /// Takes the turn `name`, waiting for it as long as the request lasts. A turn of one's own is held.
    ///
    /// # Errors
    /// [`StepError::Cancelled`].
    pub async fn take_turn(&self, name: &str) -> Result<Turn, StepError> {
        let mut pauses = Pauses::new();
        loop {
            let view = self.fence().await?;
            if let Some(why) = view.why_unreadable(&Key::Turn(name.to_owned())) {
                self.progress.waiting(&why);
                self.changed(&view).await;
                continue;
            }
            match view.turns.get(name) {
                Some(turn) if turn.value.lrn == self.lrn => return Ok(turn.value.clone()),
                Some(turn) => {
                    self.progress
                        .waiting(&format!("boot server {} holds the turn {name}", turn.value.lrn));
                    self.changed(&view).await;
                }
                None => {
                    let txn = neco_plan::take_turn(
                        &view,
                        name,
                        self.lrn,
                        &self.request.id(),
                        self.shared.now(),
                    );
                    // Whether or not it was taken: the next look tells.
                    if !matches!(self.commit(&txn).await, Ok(Committed::Done(_))) {
                        self.pause(&mut pauses).await;
                    }
                }
            }
        }
    }

    /// Whether this server holds the turn `name` in `view`.
    pub fn holds_turn(&self, view: &View, name: &str) -> bool {
        view.turns.get(name).is_some_and(|turn| turn.value.lrn == self.lrn)
    }

    /// Gives the turn `name` back, waiting until etcd has taken note.
    ///
    /// # Errors
    /// [`StepError::Cancelled`]; then the engine gives it back.
    pub async fn release_turn(&self, name: &str) -> Result<(), StepError> {
        let mut pauses = Pauses::new();
        loop {
            if self.cancel.is_cancelled() {
                return Err(StepError::Cancelled("left at a safe point".to_owned()));
            }
            if let Ok(view) = self.shared.look().await {
                let Some(turn) = view.turns.get(name).filter(|turn| turn.value.lrn == self.lrn)
                else {
                    return Ok(());
                };
                if self.commit(&neco_plan::release_turn(name, turn.create_revision)).await.is_ok() {
                    continue;
                }
            }
            self.pause(&mut pauses).await;
        }
    }

    /// Decides that `group` goes `way`, unless the way of this request is decided already; says which it is.
    ///
    /// # Errors
    /// [`StepError::Cancelled`].
    pub async fn decide_way(&self, group: &str, way: Way) -> Result<Way, StepError> {
        let mut pauses = Pauses::new();
        loop {
            let view = self.fence().await?;
            let id = self.request.id();
            if let Some(decided) = view.groups.get(group).filter(|group| group.value.request == id)
            {
                return Ok(decided.value.way);
            }
            let txn = neco_plan::decide_way(&view, group, &id, way);
            if !matches!(self.commit(&txn).await, Ok(Committed::Done(_))) {
                self.pause(&mut pauses).await;
            }
        }
    }

    /// Executes a transaction of the step's own.
    ///
    /// # Errors
    /// etcd did not answer, or it is unknown whether it happened.
    pub async fn commit(&self, txn: &neco_schema::Txn) -> Result<Committed, StoreError> {
        self.shared.store.commit(txn).await
    }

    /// Waits until etcd has changed since `view`, or until the step is cancelled; at most a while.
    pub async fn changed(&self, view: &View) {
        let changed = async {
            tokio::time::sleep(NOT_AT_ONCE).await;
            self.shared.changed_since(view.revision).await;
        };
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => {}
            () = changed => {}
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }

    /// Waits a moment that grows from time to time, or until the step is cancelled.
    pub async fn pause(&self, pauses: &mut Pauses) {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => {}
            () = tokio::time::sleep(pauses.0.pause()) => {}
        }
    }

    /// Does `work`, or leaves it as soon as the step is cancelled.
    ///
    /// # Errors
    /// [`StepError::Cancelled`], or what the work says.
    pub async fn unless_cancelled<T>(
        &self,
        what: &str,
        work: impl Future<Output = Result<T, StepError>>,
    ) -> Result<T, StepError> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(StepError::Cancelled(format!("while {what}"))),
            result = work => result,
        }
    }

    /// The store, for steps that keep records of their own.
    pub fn store(&self) -> &Arc<dyn neco_store::Store> {
        &self.shared.store
    }

    /// The wall clock; for people.
    pub fn now(&self) -> neco_schema::Timestamp {
        self.shared.now()
    }
}
