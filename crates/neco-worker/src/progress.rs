//! What a step is doing, published at most once per 2 s.

use std::sync::Arc;
use std::time::Duration;

use neco_schema::{Compare, Key, Op, Progress, RequestId, Revision, Timestamp, Txn};
use tokio::sync::watch;

use crate::shared::Shared;

/// How often progress is written at most.
const AT_MOST_EVERY: Duration = Duration::from_secs(2);

/// Where a step says what it is doing. Cheap; the newest word wins.
#[derive(Clone, Debug)]
pub struct ProgressSink {
    sender: watch::Sender<Option<Progress>>,
    request_revision: Revision,
}

impl ProgressSink {
    /// A sink for the step of a request, last changed at `request_revision`, that begins now.
    pub fn new(
        request: RequestId,
        request_revision: Revision,
        step: u32,
        attempt: u32,
        since: Timestamp,
    ) -> Self {
        let progress = Progress {
            request,
            step,
            attempt,
            doing: String::new(),
            bytes: None,
            total_bytes: None,
            since,
            unknown: serde_json::Map::new(),
        };
        Self { sender: watch::Sender::new(Some(progress)), request_revision }
    }

    /// Says what is being done.
    pub fn doing(&self, what: String) {
        self.change(|progress| {
            (progress.doing, progress.bytes, progress.total_bytes) = (what, None, None);
        });
    }

    /// Says what is being waited for; the bytes done so far stand.
    pub fn waiting(&self, why: &str) {
        let what = format!("waiting: {why}");
        self.change(|progress| progress.doing = what);
    }

    /// Says, until it is dropped, what is waited for outside of etcd, and after that again what was being done.
    pub(crate) async fn tell_what_is_waited_for(self, mut waits_for: watch::Receiver<String>) {
        let mut before = None;
        loop {
            let why = waits_for.borrow_and_update().clone();
            if why.is_empty() {
                if let Some(doing) = before.take() {
                    self.change(|progress| progress.doing = doing);
                }
            } else {
                let doing = || self.sender.borrow().as_ref().map(|now| now.doing.clone());
                before = before.or_else(doing);
                self.waiting(&why);
            }
            if waits_for.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Says how many bytes are done.
    pub fn bytes(&self, done: u64, total: Option<u64>) {
        self.change(|progress| (progress.bytes, progress.total_bytes) = (Some(done), total));
    }

    fn change(&self, change: impl FnOnce(&mut Progress)) {
        self.sender.send_if_modified(|progress| {
            let Some(progress) = progress else { return false };
            let before = progress.clone();
            change(progress);
            *progress != before
        });
    }

    /// Writes what is said into etcd until the sink is dropped. Progress is a courtesy: an error is tried again with the
    /// next word.
    pub(crate) async fn publish(
        sink: (watch::Receiver<Option<Progress>>, Revision),
        shared: Arc<Shared>,
    ) {
        let (mut words, request_revision) = sink;
        while words.changed().await.is_ok() {
            let said = |progress: &Option<Progress>| {
                let said = progress.as_ref().map(|progress| progress.doing.clone());
                said.filter(|doing| !doing.is_empty())
            };
            let Some(doing) = said(&words.borrow()) else { continue };
            shared.observe(|observation| observation.doing = doing);
            // Steps that are quick come one after another: the pause is the server's, not the step's.
            tokio::time::sleep(shared.until_progress(AT_MOST_EVERY)).await;
            let Some(progress) = words.borrow_and_update().clone() else { continue };
            shared.observe(|observation| observation.doing.clone_from(&progress.doing));
            let lrn = shared.local().lrn;
            // A request that was replaced took the progress of its members with it: nothing is left behind.
            let txn = Txn::default()
                .when(Compare::unchanged(&Key::Request, request_revision))
                .then(Op::put(&Key::Progress(lrn), &progress));
            shared.note_progress();
            if let Err(error) = shared.store.commit(&txn).await {
                tracing::debug!(%error, "progress was not published");
            }
        }
    }

    pub(crate) fn words(&self) -> (watch::Receiver<Option<Progress>>, Revision) {
        (self.sender.subscribe(), self.request_revision)
    }
}
