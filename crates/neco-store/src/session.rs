//! A lease that is kept alive, and the news of its end.

use std::sync::Arc;
use std::time::Duration;

use neco_base::Backoff;
use neco_schema::{LeaseId, Txn};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::{Committed, KeepAlive, Store, StoreError};

/// How long the orderly end of a session may take; after it the lease runs out by itself.
const END_WITHIN: Duration = Duration::from_secs(5);

/// How many deletions of candidates may wait: a session takes part in a few elections at a time.
const FAREWELLS: usize = 16;

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionLost {
    /// The server said that the lease has ended.
    #[error("the lease of the session has ended")]
    Expired,
    /// No answer came for the whole time of the lease, so that it must be taken to have ended.
    #[error("etcd did not answer for the whole {}s of the session's lease", ttl.as_secs())]
    Silent {
        /// The time of the lease.
        ttl: Duration,
    },
    /// The session was closed.
    #[error("the session was closed")]
    Closed,
}

/// A lease that a task of its own renews every third of its time.
///
/// Dropping it leaves the lease to run out; [`Session::close`] revokes it.
pub struct Session {
    store: Arc<dyn Store>,
    lease: LeaseId,
    ttl: Duration,
    lost: watch::Receiver<Option<SessionLost>>,
    farewells: mpsc::Sender<Txn>,
    keeper: JoinHandle<()>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (lease, ttl, lost) = (self.lease, self.ttl, self.is_lost());
        f.debug_struct("Session")
            .field("lease", &lease)
            .field("ttl", &ttl)
            .field("lost", &lost)
            .finish_non_exhaustive()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Session {
    /// Grants a lease and begins to keep it alive.
    ///
    /// # Errors
    /// Whatever keeps the store from answering.
    pub async fn open(store: Arc<dyn Store>, ttl: Duration) -> Result<Self, StoreError> {
        // The lease counts from some moment after this one, so that we give up before etcd does.
        let asked = Instant::now();
        let lease = store.grant(ttl).await?;
        let (report, lost) = watch::channel(None);
        let (farewells, orders) = mpsc::channel(FAREWELLS);
        let keeper = Keeper { store: store.clone(), lease, ttl, report, orders };
        let keeper = tokio::spawn(keeper.run(asked + ttl));
        Ok(Self { store, lease, ttl, lost, farewells, keeper })
    }

    /// The lease.
    pub fn lease(&self) -> LeaseId {
        self.lease
    }

    /// Its time.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Why the session is over, if it is.
    pub fn is_lost(&self) -> Option<SessionLost> {
        self.lost.borrow().clone()
    }

    /// Resolves when the session is over. The future does not borrow the session.
    pub fn lost(&self) -> impl Future<Output = SessionLost> + Send + 'static {
        let mut lost = self.lost.clone();
        async move {
            match lost.wait_for(Option::is_some).await {
                Ok(why) => why.clone().unwrap_or(SessionLost::Closed),
                Err(_) => SessionLost::Closed,
            }
        }
    }

    /// Ends the session: the lease is revoked and its keys go at once.
    ///
    /// # Errors
    /// The store did not answer; then the lease runs out by itself.
    pub async fn close(self) -> Result<(), StoreError> {
        self.keeper.abort();
        match timeout(END_WITHIN, self.store.revoke(self.lease)).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Unreachable {
                endpoints: Vec::new(),
                within: END_WITHIN,
                reason: "the lease could not be revoked and will run out".to_owned(),
                source: None,
            }),
        }
    }

    /// Has a transaction executed by the session's task, at the first opportunity: what must not be
    /// forgotten when a future is dropped.
    pub(crate) fn say_farewell(&self) -> mpsc::Sender<Txn> {
        self.farewells.clone()
    }
}

struct Keeper {
    store: Arc<dyn Store>,
    lease: LeaseId,
    ttl: Duration,
    report: watch::Sender<Option<SessionLost>>,
    orders: mpsc::Receiver<Txn>,
}

impl Keeper {
    /// Renews the lease until it is over. `end` is when it ends if no answer comes.
    async fn run(mut self, mut end: Instant) {
        let mut next = Instant::now() + self.ttl / 3;
        let mut retry = Backoff::new(FIRST_WAIT, LONGEST_WAIT.min(self.ttl / 3)).retry();
        let why = loop {
            // Of the two, the deadline is looked at first: a process that was stopped for long and
            // goes on must not take the next answer for a good sign.
            let order = tokio::select! {
                biased;
                () = sleep_until(end) => break SessionLost::Silent { ttl: self.ttl },
                Some(order) = self.orders.recv() => Some(order),
                () = sleep_until(next) => None,
            };
            if let Some(order) = order {
                self.execute(order, end).await;
                continue;
            }
            let asked = Instant::now();
            match timeout_at(end, self.store.keep_alive(self.lease)).await {
                Ok(Ok(KeepAlive::Alive(ttl))) => {
                    self.ttl = ttl;
                    end = asked + ttl;
                    next = asked + ttl / 3;
                    retry.reset();
                }
                Ok(Ok(KeepAlive::Expired)) => break SessionLost::Expired,
                Ok(Err(error)) => {
                    tracing::debug!(lease = self.lease.0, %error, "a lease was not renewed");
                    next = Instant::now() + retry.pause();
                }
                Err(_) => break SessionLost::Silent { ttl: self.ttl },
            }
        };
        tracing::warn!(lease = self.lease.0, reason = %why, "a session is over");
        self.report.send_replace(Some(why));
    }

    async fn execute(&self, txn: Txn, end: Instant) {
        match timeout_at(end, self.store.commit(&txn)).await {
            Ok(Ok(Committed::Done(_) | Committed::Refused)) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "a candidate was not deleted, it ends with its lease");
            }
            Err(_) => {}
        }
    }
}
