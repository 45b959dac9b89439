//! The one thing that runs: a task with an owner.

use std::time::Duration;

use neco_plan::Doing;
use neco_schema::journal::Entry;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::context::StepError;

/// A running task; it is aborted when this is dropped.
pub(crate) struct Running {
    doing: Doing,
    cancel: CancellationToken,
    handle: JoinHandle<Result<(), StepError>>,
}

/// How it ended.
pub(crate) struct Finished {
    pub(crate) doing: Doing,
    pub(crate) result: Result<(), StepError>,
}

impl Running {
    pub(crate) fn spawn(
        doing: Doing,
        cancel: CancellationToken,
        work: impl Future<Output = Result<(), StepError>> + Send + 'static,
    ) -> Self {
        Self { doing, cancel, handle: tokio::spawn(work) }
    }

    /// Asks it to leave at its next safe point.
    pub(crate) fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Waits for its end. Dropping the future loses nothing.
    pub(crate) async fn join(&mut self) -> Finished {
        let result = flatten((&mut self.handle).await);
        Finished { doing: self.doing.clone(), result }
    }

    /// Lets it go on no further than its next pause, and waits for that at most `within`.
    pub(crate) async fn end(mut self, within: Duration) {
        self.handle.abort();
        let _ = tokio::time::timeout(within, &mut self.handle).await;
    }

    /// Waits for the end of what runs; for ever when nothing does.
    pub(crate) async fn finished(running: &mut Option<Self>) -> Finished {
        match running {
            Some(running) => running.join().await,
            None => std::future::pending().await,
        }
    }
}

impl Finished {
    /// What the journal is to know of it.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        match (&self.doing, &self.result) {
            (Doing::Step { request, step }, Ok(())) => {
                vec![Entry::StepDone { request: request.clone(), step: *step }]
            }
            // A full disk says nothing about the step: it is run again.
            (
                Doing::Step { request, step },
                Err(StepError::Cancelled(_) | StepError::Journal(_) | StepError::Disk(_)),
            ) => {
                vec![Entry::StepCancelled { request: request.clone(), step: *step }]
            }
            (Doing::Step { request, step }, Err(StepError::Failed(cause))) => {
                let (request, cause) = (request.clone(), cause.clone());
                vec![Entry::StepFailed { request, step: *step, cause }]
            }
            (Doing::Install { request }, Err(StepError::Failed(cause))) => {
                let (request, cause) = (request.clone(), cause.clone());
                vec![Entry::StepFailed { request, step: 0, cause }]
            }
            (Doing::Install { .. }, Ok(()) | Err(_)) => Vec::new(),
            // These record their own end.
            (Doing::Restore { .. } | Doing::Complete { .. }, _) => Vec::new(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

fn flatten(joined: Result<Result<(), StepError>, JoinError>) -> Result<(), StepError> {
    match joined {
        Ok(result) => result,
        Err(error) if error.is_cancelled() => {
            Err(StepError::Cancelled("the worker ends".to_owned()))
        }
        Err(error) => Err(StepError::Failed(format!("this is a bug: {error}"))),
    }
}
