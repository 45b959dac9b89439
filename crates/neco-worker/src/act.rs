//! Carrying a move out: what writes to etcd, on a fresh view from which the same comes out.

use std::sync::Arc;
use std::time::Duration;

use neco_base::Backoff;
use neco_connect::one_line;
use neco_plan::{
    Doing, IntentState, Move, Post, PostKind, Row, StatusWrite, View, next_move_with_row,
};
use neco_schema::journal::{Effect, Entry, IntentEnd, IntentId};
use neco_schema::{Revision, Way};
use neco_store::{Committed, StoreError};
use tokio_util::sync::CancellationToken;

use crate::context::{StepContext, StepError};
use crate::decision;
use crate::engine::{Age, Engine, mark_of};
use crate::installer::Installer;
use crate::progress::ProgressSink;
use crate::running::Running;
use crate::shared::{Refused, Shared};
use crate::steps::{PlanError, Steps};

/// How long a group is tried to be restored before its service is left as it is: longer than Docker takes to be upgraded.
const RESTORE_WITHIN: Duration = Duration::from_secs(300);
/// How often it is tried at least, however long a try takes.
const RESTORE_TRIES: u32 = 3;
/// Delays in between.
const RESTORE_AGAIN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(20));
/// Delays while the disk refuses what must be written down.
const WRITE_AGAIN: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
/// How long finding out what a request would change may take.
const PLAN_WITHIN: Duration = Duration::from_secs(60);

/// What became of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acted {
    /// It was begun, or is to be decided again because of what this server or the fresh view says: that view stands.
    Begun,
    /// It was carried out in etcd, at this revision.
    Changed(Revision),
    /// It was refused.
    Refused,
}

/// Why a move could not be carried out now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ActError {
    /// etcd.
    #[error("etcd: {}", one_line(.0))]
    Store(#[from] StoreError),
    /// The journal.
    #[error("{}", one_line(.0))]
    Journal(#[from] neco_host::journal::JournalError),
    /// This server.
    #[error("{0}")]
    Host(String),
}

impl Engine {
    /// Carries out a move that does something.
    pub(crate) async fn act(
        &mut self,
        decided: &Move,
        row: Row,
        view: &View,
        age: Age,
        stop: &CancellationToken,
    ) -> Result<Acted, ActError> {
        match decided {
            Move::DropIntent { intent } => {
                self.shared.record(&[Entry::IntentClosed {
                    intent: intent.clone(),
                    end: IntentEnd::Dropped,
                }])?;
                Ok(Acted::Begun)
            }
            Move::CompleteIntent { intent } => Ok(self.complete_intent(intent)),
            Move::Restore { group, request, way, decided: true } => {
                let doing = Doing::Restore { group: group.clone() };
                let work = restore(
                    Arc::clone(&self.shared),
                    Arc::clone(&self.steps),
                    group.clone(),
                    request.clone(),
                    *way,
                );
                self.shared.set_doing(Some(doing.clone()));
                self.running = Some(Running::spawn(doing, CancellationToken::new(), work));
                Ok(Acted::Begun)
            }
            // A step asks for a fresh view itself, before its first effect.
            _ if age == Age::Fresh || matches!(decided, Move::Run { .. }) => {
                self.act_on(decided, row, view, stop).await
            }
            _ => {
                let seen = self.shared.see().await?;
                let (row, again) = next_move_with_row(&seen.view, &self.shared.local());
                let acted = match again == *decided {
                    true => self.act_on(decided, row, &seen.view, stop).await,
                    false => Ok(Acted::Begun),
                };
                // The next decision is made from what this one was made from.
                self.seen = Some(seen);
                acted
            }
        }
    }

    /// Carries out what `row` has decided from `view`.
    async fn act_on(
        &mut self,
        decided: &Move,
        row: Row,
        view: &View,
        stop: &CancellationToken,
    ) -> Result<Acted, ActError> {
        let local = self.shared.local();
        let mut entries =
            vec![Entry::Mark(mark_of(view)), decision::entry(view, local.lrn, row, decided)];
        match decided {
            Move::Post(post) => self.post(view, decided, post, entries).await,
            Move::PublishPlan { .. } => {
                let Some(request) = view.current() else { return Ok(Acted::Refused) };
                let steps = Arc::clone(&self.steps);
                let changes = tokio::select! {
                    biased;
                    () = stop.cancelled() => return Ok(Acted::Refused),
                    changes = tokio::time::timeout(PLAN_WITHIN, steps.changes(request)) => changes,
                };
                let changes = changes.map_err(|_| {
                    ActError::Host(format!(
                        "finding out what would change took longer than {PLAN_WITHIN:?}"
                    ))
                })?;
                let changes = match changes {
                    Ok(changes) => changes,
                    Err(PlanError::NotYet(why)) => return Err(ActError::Host(why)),
                    Err(PlanError::Never(cause)) => {
                        // The own abort, then, which only a failure in the journal brings about.
                        let step = view.status_of(request, local.lrn);
                        let step = step.map_or(0, |status| status.value.step);
                        let request = request.id();
                        entries.push(Entry::StepFailed { request, step, cause });
                        self.shared.record(&entries)?;
                        return Ok(Acted::Begun);
                    }
                };
                self.shared.record(&entries)?;
                let write = StatusWrite { now: self.shared.now(), changes, steps: Vec::new() };
                self.commit(decided, view, &write).await
            }
            Move::ReleaseTurn { .. } | Move::Restore { decided: false, .. } => {
                // Not the mark: these come before it is known whether this etcd is to be trusted.
                self.shared.record(&entries[1..])?;
                let write =
                    StatusWrite { now: self.shared.now(), changes: Vec::new(), steps: Vec::new() };
                self.commit(decided, view, &write).await
            }
            Move::Run { request, step, attempt } => {
                let Some(current) = view.current().cloned() else { return Ok(Acted::Refused) };
                entries.push(Entry::StepBegun {
                    request: request.clone(),
                    step: *step,
                    attempt: *attempt,
                    revision: view.revision,
                });
                // The record of its first effect makes it durable.
                self.shared.note(&entries)?;
                let context = self.context(view, current, *step, *attempt);
                let steps = Arc::clone(&self.steps);
                self.start(
                    Doing::Step { request: request.clone(), step: *step },
                    context,
                    move |context| async move { steps.run(&context).await },
                );
                Ok(Acted::Begun)
            }
            Move::Install { request, version, package, allow_no_way_back } => {
                let Some(current) = view.current().cloned() else { return Ok(Acted::Refused) };
                let installed = self.installer.installed().await.map_err(ActError::Host)?;
                if installed != local.installed {
                    // Somebody else has installed something.
                    self.shared.set_installed(installed);
                    return Ok(Acted::Begun);
                }
                self.shared.record(&entries)?;
                let context = self.context(view, current, 0, 1);
                let (installer, steps) = (Arc::clone(&self.installer), Arc::clone(&self.steps));
                let (version, package, without) =
                    (version.clone(), package.clone(), *allow_no_way_back);
                self.start(
                    Doing::Install { request: request.clone() },
                    context,
                    move |context| async move {
                        let look = steps.note_runs(&context.request);
                        // Without an answer, some may be restarted once.
                        let _ = tokio::time::timeout(PLAN_WITHIN, look).await;
                        installer.install(&context, &version, package, without).await
                    },
                );
                Ok(Acted::Begun)
            }
            Move::CompleteIntent { .. }
            | Move::DropIntent { .. }
            | Move::Restore { .. }
            | Move::Cancel { .. }
            | Move::Keep
            | Move::ExitForNewBinary
            | Move::Rest(_) => Ok(Acted::Refused),
        }
    }

    async fn post(
        &mut self,
        view: &View,
        decided: &Move,
        post: &Post,
        mut entries: Vec<Entry>,
    ) -> Result<Acted, ActError> {
        let local = self.shared.local();
        if let Some(request) = view.current() {
            self.times.follow(&*self.shared.store, request, local.lrn).await?;
        }
        let closing = !matches!(post.kind, PostKind::Running);
        let now = self.shared.now();
        let steps = self.times.after(post.step, closing, now);
        entries.push(Entry::Posting {
            request: post.request.clone(),
            step: post.step,
            cond: post.condition().code(),
        });
        self.shared.record(&entries)?;
        let write = StatusWrite { now, changes: Vec::new(), steps: steps.clone() };
        // What etcd knows, should the answer be lost, is read from there again.
        let times = std::mem::take(&mut self.times);
        let acted = self.commit(decided, view, &write).await?;
        self.times = times;
        if matches!(acted, Acted::Changed(_)) {
            self.times.set(steps);
            tracing::info!(version = %post.version, step = post.step, "posted: {}", post.condition());
            if matches!(post.kind, PostKind::Settled | PostKind::Aborted(_)) {
                self.shared.record(&[Entry::RequestEnded { request: post.request.clone() }])?;
            }
        }
        Ok(acted)
    }

    async fn commit(
        &self,
        decided: &Move,
        view: &View,
        write: &StatusWrite,
    ) -> Result<Acted, ActError> {
        let Some(txn) = decided.txn(view, &self.shared.local(), write) else {
            return Ok(Acted::Refused);
        };
        match self.shared.store.commit(&txn).await? {
            Committed::Done(revision) => Ok(Acted::Changed(revision)),
            Committed::Refused => Ok(Acted::Refused),
        }
    }

    fn context(
        &self,
        view: &View,
        request: neco_schema::UpdateRequest,
        step: u32,
        attempt: u32,
    ) -> StepContext {
        let progress = ProgressSink::new(
            request.id(),
            view.request.mod_revision(),
            step,
            attempt,
            self.shared.now(),
        );
        StepContext {
            shared: Arc::clone(&self.shared),
            cancel: CancellationToken::new(),
            progress,
            request,
            step,
            attempt,
            lrn: self.shared.local().lrn,
        }
    }

    /// Runs `work` as the one thing that runs, with its progress published beside it.
    fn start<F>(&mut self, doing: Doing, context: StepContext, work: impl FnOnce(StepContext) -> F)
    where
        F: Future<Output = Result<(), StepError>> + Send + 'static,
    {
        self.shared.set_doing(Some(doing.clone()));
        let cancel = context.cancel.clone();
        let publish = ProgressSink::publish(context.progress.words(), Arc::clone(&self.shared));
        let tell = context.progress.clone().tell_what_is_waited_for(self.shared.waits_for());
        let again = DiskWait {
            shared: Arc::clone(&self.shared),
            progress: context.progress.clone(),
            cancel: cancel.clone(),
            pause: self.disk_retry.pause(),
        };
        let work = again.after(work(context));
        let both = async move {
            tokio::select! {
                biased;
                result = work => result,
                () = publish => std::future::pending().await,
                () = tell => std::future::pending().await,
            }
        };
        self.running = Some(Running::spawn(doing, cancel, both));
    }

    fn complete_intent(&mut self, intent: &IntentId) -> Acted {
        let local = self.shared.local();
        let Some(state) = local.journal.intents.get(intent).cloned() else { return Acted::Refused };
        let doing = Doing::Complete { intent: intent.clone() };
        let work = complete(
            Arc::clone(&self.shared),
            Arc::clone(&self.steps),
            Arc::clone(&self.installer),
            intent.clone(),
            state,
        );
        self.shared.set_doing(Some(doing.clone()));
        self.running = Some(Running::spawn(doing, CancellationToken::new(), work));
        Acted::Begun
    }
}

/// What a step that the disk has refused something waits for before it is begun again.
struct DiskWait {
    shared: Arc<Shared>,
    progress: ProgressSink,
    cancel: CancellationToken,
    pause: Duration,
}

impl DiskWait {
    /// Waits after `work`, where that came to its end because of the disk, and says so to everybody.
    async fn after(
        self,
        work: impl Future<Output = Result<(), StepError>>,
    ) -> Result<(), StepError> {
        let result = work.await;
        if let Err(StepError::Disk(why)) = &result {
            self.shared.note_refused(Refused::Work, Some(why.clone()));
            self.progress.waiting(why);
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => {}
                () = tokio::time::sleep(self.pause) => {}
            }
        }
        result
    }
}

/// Brings a begun effect to its end and closes its intent; a failure aborts the request it was for.
pub(crate) async fn complete(
    shared: Arc<Shared>,
    steps: Arc<dyn Steps>,
    installer: Arc<dyn Installer>,
    intent: IntentId,
    state: IntentState,
) -> Result<(), StepError> {
    if matches!(state.effect, Effect::Install { .. }) {
        // The unit that installs closes the intent itself.
        return installer.await_verdict(&intent).await;
    }
    let mut retry = WRITE_AGAIN.retry();
    loop {
        let completed = steps.complete(&state.effect).await;
        let recorded = match &completed {
            Ok(()) => shared.record(&[Entry::IntentClosed {
                intent: intent.clone(),
                end: IntentEnd::Completed,
            }]),
            Err(StepError::Failed(cause) | StepError::Cancelled(cause)) => shared.record(&[
                Entry::StepFailed {
                    request: state.request.clone(),
                    step: state.step,
                    cause: cause.clone(),
                },
                Entry::IntentClosed {
                    intent: intent.clone(),
                    end: IntentEnd::Failed { cause: cause.clone() },
                },
            ]),
            // It is done, or it is not: what counts is that the journal knows.
            Err(StepError::Journal(error)) => {
                shared.wait_for_disk(Refused::Journal, one_line(error), &mut retry).await;
                continue;
            }
            Err(StepError::Disk(why)) => {
                shared.wait_for_disk(Refused::Work, why.clone(), &mut retry).await;
                continue;
            }
        };
        match recorded {
            Ok(()) => {
                shared.note_refused(Refused::Work, None);
                return completed;
            }
            Err(error) => {
                shared.wait_for_disk(Refused::Journal, one_line(&error), &mut retry).await;
            }
        }
    }
}

/// Restores a group; after some time it is left as it is, and the request's abort says what of it stays stopped.
async fn restore(
    shared: Arc<Shared>,
    steps: Arc<dyn Steps>,
    group: String,
    request: neco_schema::RequestId,
    way: Way,
) -> Result<(), StepError> {
    let (mut tries, mut again, mut retry) = (0, RESTORE_AGAIN.retry(), WRITE_AGAIN.retry());
    let began = shared.clock.monotonic();
    let failed = loop {
        match steps.restore(&group, &request, way).await {
            Ok(()) => break None,
            Err(StepError::Journal(error)) => {
                shared.wait_for_disk(Refused::Journal, one_line(&error), &mut retry).await;
            }
            Err(StepError::Disk(why)) => {
                shared.wait_for_disk(Refused::Work, why, &mut retry).await;
            }
            Err(error) => {
                tries += 1;
                let took = shared.clock.monotonic().saturating_sub(began);
                if tries >= RESTORE_TRIES && took >= RESTORE_WITHIN {
                    break Some(not_restored(&group, &error, &steps.left(&group).await));
                }
                tracing::warn!(%group, error = %error, "restoring failed, trying again");
                shared.note_waiting(&format!("restoring group {group} again: {error}"));
                tokio::time::sleep(again.pause()).await;
            }
        }
    };
    shared.note_refused(Refused::Work, None);
    shared.note_waiting("");
    let closed = Entry::GroupClosed { group, request: request.clone(), way };
    let entries = match &failed {
        None => vec![closed],
        Some(cause) => vec![Entry::StepFailed { request, step: 0, cause: cause.clone() }, closed],
    };
    while let Err(error) = shared.record(&entries) {
        shared.wait_for_disk(Refused::Journal, one_line(&error), &mut retry).await;
    }
    failed.map_or(Ok(()), |cause| Err(StepError::Failed(cause)))
}

/// Why a group was not restored, and what to do about the units that it has `left`.
fn not_restored(group: &str, error: &StepError, left: &[String]) -> String {
    if left.is_empty() {
        return format!("group {group} is not restored: {error}");
    }
    let units = left.join(" ");
    format!(
        "group {group} stays stopped: {error}; once that is mended, run \
         'systemctl enable --now {units}' on this server"
    )
}
